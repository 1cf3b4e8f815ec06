"""Checkpoints by the clock."""

from __future__ import annotations

import time

from transformers import TrainerCallback

__all__ = ["CheckpointClock"]


class CheckpointClock(TrainerCallback):
    """Writes a checkpoint whenever `minutes` have passed since the last one: little lost, little
    written.

    With `stop_after_save()` training ends at the next step with a checkpoint, for interruptions.
    `stopped` is True once it has.
    """

    signal: int = 2
    """The signal that asked for it."""

    def __init__(self, minutes: float):
        self.minutes = minutes
        self.stopping = self.stopped = False
        self._last = time.monotonic()

    def stop_after_save(self, signal: int = 2) -> None:
        self.stopping, self.signal = True, signal

    def on_train_begin(self, args, state, control, **kwargs):
        self._last = time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        due = time.monotonic() - self._last >= 60.0 * self.minutes
        if self.stopping or (due and state.global_step < state.max_steps):
            control.should_save = True
            self.stopped = self.stopping
            control.should_training_stop = control.should_training_stop or self.stopping

    def on_save(self, args, state, control, **kwargs):
        self._last = time.monotonic()
