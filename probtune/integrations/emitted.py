"""`probtune probe --emit ENGINE`: the lines that train an objective in another engine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import yaml

from ..errors import UsageError
from ..objectives import objective as read_objective

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


def lines(engine: str, objective: str, model: str, data: str) -> str:
    """Return the lines to paste. No other engine sends the scouts that weigh rows: for an objective
    that needs them the lines train NLL, and a comment says so, and what to do.

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
    note = ""
    if "sequence_weight" in read_objective(objective).needs:
        note = (
            f"# {objective} has two scouts weigh every row, which probtune tune alone does; these\n"
            "# lines train nll(): mend the rows that look wrong, or leave them out, before.\n"
        )
        objective = "nll()"
    return note + ENGINES[engine](objective, model, data)


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False).rstrip()
