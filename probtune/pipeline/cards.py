"""Cards of a run's models, and the upload of one of them with its card."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ProbtuneError, UsageError
from ..files import MANIFEST, replace_in_folder
from ..models.card import Card, Measured, model_card
from ..objectives import Objective
from ..options import arguments_of
from ..records import environment
from ..reports.verdict import headline
from ..settings import TuneSettings
from ..terminal import Terminal
from .preparation import Prepared, slug

__all__ = ["check_hub", "run_card", "title_of", "update_card", "upload"]

_SHOWN = (
    *("learning_rate", "epochs", "max_steps", "batch_size", "gradient_accumulation"),
    *("scheduler", "warmup_ratio", "weight_decay", "normalizer", "lora_rank", "weights", "packing"),
    "seed",
)


def run_card(
    objective: Objective,
    settings: TuneSettings,
    prepared: Prepared,
    probe: Mapping[str, Any],
    scout: Mapping[str, Any] | None,
    record: Mapping[str, Any] | None = None,
) -> str:
    """Return the card of an objective's model.

    Args:
        probe, scout: records of the probe, and of the scout with the probe after it.
        record: the record of the run, once its models are measured.
    """
    shown = {name: getattr(settings, name) for name in _SHOWN}
    shown = {k: v for k, v in shown.items() if v not in (0, False) or k == "seed"}
    if settings.max_steps > 0:
        shown.pop("epochs")
    else:
        shown.pop("max_steps")
    return model_card(
        Card(
            objective=objective,
            base=settings.model,
            title=title_of(objective, settings),
            adapter=settings.lora_rank > 0,
            data=settings.data,
            data_sha256=prepared.rows.sha256,
            rows=len(prepared.train.rows),
            probe=probe,
            scouted=scout["probe"] if scout else {},
            heldout=_measured(record),
            result=_result(objective, record),
            hyperparameters=shown,
            command=shlex.join(["probtune", "tune", *arguments_of(settings)]),
            versions=environment()["versions"],
        )
    )


def title_of(objective: Objective, settings: TuneSettings) -> str:
    """Return a name for an objective's model: that of the run's folder, and the objective."""
    return f"{settings.folder.resolve().name}-{slug(objective)}"


def _measured(record: Mapping[str, Any] | None) -> list[Measured]:
    if record is None:
        return []
    rows = record["data"]["heldout"]["rows"]
    return [
        Measured(
            "base model" if run["name"] == "base" else run["name"], run["heldout"]["metrics"], rows
        )
        for run in record["runs"]
    ]


def _result(objective: Objective, record: Mapping[str, Any] | None) -> str:
    """Return the run's result in words, in the card of the objective that it is about."""
    if record is None or record["choice"]["objective"] != str(objective):
        return ""
    return headline(record)


def update_card(folder: Path, text: str) -> None:
    """Replace the card of a model that is on the disk, if it is another one."""
    path = folder / "README.md"
    if not (folder / MANIFEST).is_file():  # its arm was not taken
        return
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        replace_in_folder(folder, path.name, text)


def check_hub(settings: TuneSettings) -> None:
    """Refuse an upload that cannot work, before any work.

    Raises:
        UsageError: with the way out.
    """
    if not settings.push_to_hub:
        if settings.hub_model_id or settings.hub_private_repo:
            raise UsageError("--hub-model-id and --hub-private-repo belong to --push-to-hub.")
        return
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise UsageError("--push-to-hub needs the network, and HF_HUB_OFFLINE is set; unset it.")
    if get_token() is None:
        raise UsageError("--push-to-hub needs a token: run `hf auth login`, or set HF_TOKEN.")


def upload(
    folder: Path, objective: Objective, settings: TuneSettings, terminal: Terminal
) -> str | None:
    """Upload a model with its card, and return its address; None where it was not asked for.

    Raises:
        ProbtuneError: the hub refused, with its reason. The model stays where it is.
    """
    if not settings.push_to_hub:
        return None
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    name = settings.hub_model_id or title_of(objective, settings)
    try:
        api = HfApi()
        repository = api.create_repo(
            name, private=settings.hub_private_repo or None, exist_ok=True
        ).repo_id
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            ignore_patterns=[MANIFEST],
            commit_message=f"{objective}, by probtune",
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ProbtuneError(
            f"{folder} was not uploaded to {name}: {reason} The model is whole; give the same"
            " command again, or upload it by `hf upload`."
        ) from error
    terminal.say(f"uploaded to https://huggingface.co/{repository}")
    return repository
