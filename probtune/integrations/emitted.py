"""`probtune probe --emit ENGINE`: the lines that train an objective in another engine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import yaml

from ..errors import UsageError

__all__ = ["ENGINES", "lines"]


def _axolotl(objective: str, model: str, data: str) -> str:
    return "# add to the configuration of axolotl train\n" + _yaml(
        {
            "plugins": ["probtune.integrations.axolotl.Plugin"],
            "probtune_objective": objective,
        }
    )


def _swift(objective: str, model: str, data: str) -> str:
    command = [
        *("swift", "sft", "--model", model, "--dataset", data),
        *("--external_plugins", "probtune_loss.py", "--loss_type", "probtune"),
    ]
    return (
        "# probtune_loss.py\n"
        "from probtune.integrations.swift import register\n"
        f"register({objective!r})\n\n"
        f"# in a shell\n{shlex.join(command)}"
    )


def _trl(objective: str, model: str, data: str) -> str:
    return (
        "# in place of trl.SFTTrainer and trl.SFTConfig\n"
        "from probtune import ProbTuneConfig, ProbTuneTrainer\n"
        f"trainer = ProbTuneTrainer({model!r}, ProbTuneConfig('out', objective={objective!r}),"
        " train_dataset=rows)"
    )


def _verl(objective: str, model: str, data: str) -> str:
    files = str(Path(data).with_suffix(".parquet"))
    command = [
        *("torchrun", "--nproc_per_node=8", "-m", "probtune.integrations.verl", objective),
        *(f"data.train_files={files}", f"model.path={model}"),
    ]
    return (
        f"# in a shell; with verl's other settings, and the rows as Parquet\n{shlex.join(command)}"
    )


def _llamafactory(objective: str, model: str, data: str) -> str:
    command = ["python", "-m", "probtune.integrations.llamafactory", objective, "train.yaml"]
    return f"# in place of llamafactory-cli train train.yaml\n{shlex.join(command)}"


ENGINES = {
    "axolotl": _axolotl,
    "swift": _swift,
    "trl": _trl,
    "verl": _verl,
    "llamafactory": _llamafactory,
}
"""Engine -> function of (objective, model, data) that returns the lines."""

_LOGPROBS_ALONE = frozenset({"verl"})
"""Engines that tell a loss neither their steps nor which tokens are special."""


def lines(engine: str, objective: str, model: str, data: str) -> str:
    """Return the lines to paste. An engine that cannot train what `auto` puts around its choice
    gets the choice, and is told to begin with NLL.

    >>> print(lines("axolotl", "power(0.5)", "my-model", "rows.jsonl"))
    # add to the configuration of axolotl train
    plugins:
    - probtune.integrations.axolotl.Plugin
    probtune_objective: power(0.5)

    Raises:
        UsageError: the engine is unknown.
    """
    if engine not in ENGINES:
        raise UsageError(f"--emit {engine}: known engines are {', '.join(ENGINES)}.")
    chosen, first = _alone(engine, objective) if engine in _LOGPROBS_ALONE else (objective, "")
    return first + ENGINES[engine](chosen, model, data)


def _alone(engine: str, text: str) -> tuple[str, str]:
    """Return (the objective without `anneal` and `nll_on_special` around it, what to do first)."""
    from ..objectives import anneal, nll_on_special, objective

    whole = chosen = objective(text)
    share = 0.1
    while isinstance(chosen, anneal | nll_on_special):
        if isinstance(chosen, anneal):
            share = chosen.end
        chosen = chosen.g if isinstance(chosen, anneal) else chosen.f
    if chosen is whole:
        return text, ""
    return str(chosen), (
        f"# {whole}\n"
        f"# fits best, but {engine} tells neither its steps nor which tokens are special. Train the"
        f"\n# first {share:.0%} of the steps with nll(), and go on from that model with:\n"
    )


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False).rstrip()
