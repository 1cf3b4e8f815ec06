"""Errors a user can meet. Each message names the rule, the value, the place and the way out.

    ProbtuneError            the work could not be done               command line: exit status 1
    ├── DataError            rows that cannot be trained on           (file and line in the message)
    ├── TrainingError        training stopped; checkpoints are kept
    │   └── Interrupted      ... by a signal, with a checkpoint       command line: 130 or 143
    ├── EvaluationError      an evaluation stopped; what was generated and graded is kept
    └── UsageError           the request itself is wrong              command line: exit status 2
        └── ObjectiveError   an objective's text or parameter is wrong

All of them are also `ValueError` or `RuntimeError`, so that callers of the Python API may catch
those.
"""

__all__ = [
    "DataError",
    "EvaluationError",
    "Interrupted",
    "ObjectiveError",
    "ProbtuneError",
    "TrainingError",
    "UsageError",
]


class ProbtuneError(Exception):
    """The work could not be done: unusable data, a full disk, training that diverged."""

    exit_status = 1


class DataError(ProbtuneError, ValueError):
    """Rows that cannot be trained on."""


class TrainingError(ProbtuneError, RuntimeError):
    """Training stopped before its end; the last good checkpoint is kept."""


class Interrupted(TrainingError):
    """A signal stopped the work in an orderly way; the same request goes on from there."""

    def __init__(self, message: str, *, signal: int):
        super().__init__(message)
        self.exit_status = 128 + signal


class EvaluationError(ProbtuneError, RuntimeError):
    """An evaluation stopped before its end: a server that died, a model that cannot be asked."""


class UsageError(ProbtuneError, ValueError):
    """The request itself is wrong: an unknown option, a parameter out of range."""

    exit_status = 2


class ObjectiveError(UsageError):
    """An objective's text cannot be read, or a parameter is out of range."""
