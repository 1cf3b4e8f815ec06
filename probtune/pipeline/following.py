"""A training that can be followed while it runs: a bar on a terminal, a line for every log entry
elsewhere, `metrics.jsonl`, and the trackers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, TrainerCallback

from ..terminal import Terminal, duration
from .metrics import HELDOUT, MetricsFile, Turn
from .trackers import Tracked

__all__ = ["follow"]


_OF_THE_WHOLE = (
    *("train_runtime", "train_samples_per_second", "train_steps_per_second"),
    *("train_loss", "total_flos"),
)
"""Numbers of the whole training, which transformers logs with the last steps."""


@contextmanager
def follow(
    trainer: Any,
    terminal: Terminal,
    objective: str,
    turn: Turn,
    metrics: Path,
    runs: Sequence[Tracked],
) -> Iterator[None]:
    """Show a training in place of the dictionaries that transformers prints.

    Args:
        metrics: the file of log entries.
        runs: the objective's runs in the trackers.
    """
    trainer.remove_callback(PrinterCallback)
    of = f" ({turn.number} of {turn.of})" if turn.of > 1 else ""
    follower = _Follower(trainer, terminal, f"{objective}{of}", turn, MetricsFile(metrics), runs)
    trainer.add_callback(follower)
    if terminal.quiet or not terminal.attached:
        yield
        return
    with terminal.track(f"training {objective}{of}", 0) as follower.advance:
        yield


class _Follower(TrainerCallback):
    """Says, writes and reports what the trainer logs."""

    def __init__(
        self,
        trainer: Any,
        terminal: Terminal,
        name: str,
        turn: Turn,
        metrics: MetricsFile,
        runs: Sequence[Tracked],
    ):
        self._trainer, self._terminal, self._name = trainer, terminal, name
        self._turn, self._metrics, self._runs = turn, metrics, runs
        self.advance: Any = None
        """Advances the bar; None where lines are printed."""

    def on_train_begin(self, args, state, control, **kwargs):
        self._began = self._logged = time.monotonic()
        self._first = state.global_step
        self._tokens = self._trainer._total_train_tokens
        if self.advance is not None:
            self.advance(state.global_step, total=state.max_steps)
        if state.is_world_process_zero:
            self._metrics.begin(state.global_step)

    def on_step_end(self, args, state, control, **kwargs):
        if self.advance is not None:
            self.advance(1)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and logs.get("grad_norm") == 0:
            self._terminal.say(f"step {state.global_step}: no token has a weight, gradient 0.")
        if not logs or not state.is_world_process_zero:
            return
        if "eval_nll" in logs:
            self._add_heldout(logs, state)
        if "nll" not in logs:
            return
        if "train_runtime" in logs and state.global_step < state.max_steps:
            return  # the sum of an interrupted training, which goes on
        tokens_per_second = self._speed(self._trainer._total_train_tokens)
        self._say(logs, state, tokens_per_second)
        numbers = {k: v for k, v in logs.items() if isinstance(v, int | float)}
        numbers = {k: v for k, v in numbers.items() if k not in _OF_THE_WHOLE}
        # A training that goes on from its last step has no step that would count them.
        numbers.setdefault("num_tokens", float(self._trainer._total_train_tokens))
        numbers["tokens_per_second"] = tokens_per_second
        self._metrics.add(
            {
                "step": state.global_step,
                "of": state.max_steps,
                "seconds": round(time.monotonic() - self._began, 3),
                **numbers,
                "p_histogram": self._trainer.p_histogram,
                **({"groups": self._trainer.by_group} if self._trainer.by_group else {}),
            }
        )
        for run in self._runs:
            if self._trainer.p_histogram is not None:
                run.histogram("train/p", self._trainer.p_histogram, state.global_step)
            scalars = {f"train/{k}": float(v) for k, v in numbers.items()}
            for group, values in self._trainer.by_group.items():
                scalars |= {f"train/{k} of {group}": values[k] for k in ("nll", "mean_p")}
            run.scalars(scalars, state.global_step)

    def _add_heldout(self, logs: Mapping[str, Any], state: Any) -> None:
        """Write and report what was measured on the held-out rows."""
        numbers = {name: logs[f"eval_{name}"] for name in HELDOUT}
        groups = self._trainer.heldout_by_group
        entry = {"step": state.global_step, "of": state.max_steps, "heldout": numbers}
        self._metrics.add(entry | ({"heldout_groups": groups} if groups else {}))
        scalars = {f"heldout/{name}": float(value) for name, value in numbers.items()}
        for group, values in groups.items():
            scalars |= {f"heldout/{name} of {group}": values[name] for name in ("nll", "mean_p")}
        for run in self._runs:
            run.scalars(scalars, state.global_step)

    def _speed(self, tokens: float) -> float:
        """Return the tokens per second since the last log entry."""
        now = time.monotonic()
        speed = (tokens - self._tokens) / max(now - self._logged, 1e-9)
        self._logged, self._tokens = now, tokens
        return speed

    def _say(self, logs: Mapping[str, Any], state: Any, tokens_per_second: float) -> None:
        per_step = (time.monotonic() - self._began) / max(state.global_step - self._first, 1)
        training = per_step * (state.max_steps - state.global_step)
        of_all = ""
        if self._turn.of > 1 or self._turn.between:
            of_all = f"{duration(self._turn.left(training, per_step * state.max_steps))} of all"
        numbers = (
            f"nll {logs['nll']:.3f}  mean p {logs['mean_p']:.3f}  {tokens_per_second:,.0f} tokens/s"
        )
        if self.advance is not None:  # the bar itself says what is left of this training
            self.advance(0, note=f"{of_all}  {numbers}".lstrip())
            return
        left = f"{duration(training)} left{', ' if of_all else ''}{of_all}"
        self._terminal.say(
            f"{self._name}  step {state.global_step} of {state.max_steps}  {numbers}  {left}"
        )
