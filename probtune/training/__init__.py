"""Training: TRL's `SFTTrainer` with any objective of the family.

config      ProbTuneConfig: the objective and what it needs
trainer     ProbTuneTrainer: the loss, and what is logged
passes      forward passes besides the one that trains
frozen      a copy of the model before training, for those that compare with it
signals     one function for each signal that is no column
masking     rows as tokens with labels
isolation   rows without padding, which must not see each other
columns     numbers per token that come with the data
stored      log-probabilities measured before training
head_choice which fused head computes the loss
selfcheck   the head's proof on the device it trains on
trl_head    TRL's fused head
counts      sums over the tokens of a step, of a log entry
opening     a model that is given by name, read whole
clock       checkpoints by the clock
card        the model card that a trainer writes
checkpoints checkpoints that are whole or not there
progress    what is summed between log entries, kept with a checkpoint
origin      the training that a checkpoint is of
sources     the code of a user's own objective, kept with a checkpoint
requests    what the trainer would refuse late
saving      a whole model, however it was spread over ranks
"""

from .checkpoints import newest_whole, step_of, telling_write_errors
from .clock import CheckpointClock
from .config import CHECKPOINTING, ProbTuneConfig
from .isolation import reads_boundaries
from .requests import Planned, check_launch, check_trainer
from .saving import forget_sharding, gather_when_saved, save_whole
from .trainer import ProbTuneTrainer

__all__ = [
    "CHECKPOINTING",
    "CheckpointClock",
    "Planned",
    "ProbTuneConfig",
    "ProbTuneTrainer",
    "check_launch",
    "check_trainer",
    "forget_sharding",
    "gather_when_saved",
    "newest_whole",
    "reads_boundaries",
    "save_whole",
    "step_of",
    "telling_write_errors",
]
