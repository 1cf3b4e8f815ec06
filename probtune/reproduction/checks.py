"""What would stop a reproduction after hours is said before it begins: a model or dataset that the
hub does not give, too little memory, too little disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import DataError, ProbtuneError, UsageError
from ..evaluation.tasks.table import find_tasks
from .backbones import Backbone
from .cost import Cost
from .plan import CellPlan

__all__ = ["accelerators", "check_disk", "check_hub", "check_memory", "resolve"]


def resolve(plan: CellPlan) -> list[str]:
    """Make everything that a plan names, without a download: trainer settings, benchmarks, prompts.
    What training and evaluation ask, one line a prompt.

    Raises:
        UsageError: an option is wrong.
    """
    from ..objectives import objective as read_objective
    from ..pipeline.fine_tuning import training_config
    from ..pipeline.preparation import inner_prompt_of
    from ..prompts import PromptSpec

    prompts: dict[str, None] = {}
    for run in plan.runs:
        settings = run.training
        if settings.prompt_format is None:
            raise UsageError(f"{plan.recipe.cell}: prompt_format is missing.")
        spec = PromptSpec(settings.prompt_format, settings.system, settings.instruction)
        inner = inner_prompt_of(settings)
        text = spec.render("QUESTION" if inner is None else inner.render("QUESTION"))
        prompts[f"trained on  {text!r}"] = None
        if run.trains:
            meant = read_objective(settings.objective)
            if not meant.open_cuts():
                training_config(Path("unused"), meant, settings)
        if run.evaluation is None:
            continue
        for task in find_tasks(run.evaluation.tasks):
            for protocol in run.evaluation.protocols:
                asked = task.protocols[protocol].prompt(run.backbone.family).render("QUESTION")
                prompts[f"{protocol:10s}  {asked!r}"] = None
    return list(prompts)


def check_hub(plans: Sequence[CellPlan]) -> None:
    """Whether every model and dataset can be had, asked of the hub before anything is fetched.

    Raises:
        DataError: the hub cannot be reached, or a licence must be accepted first.
    """
    models = {run.backbone.name: run.backbone for plan in plans for run in plan.runs}
    for model in models.values():
        if not _cached(model.hub):
            _allowed(model.hub, "model", model)
    seen: set[str] = set()
    for plan in plans:
        for name in _datasets(plan):
            if name not in seen:
                seen.add(name)
                _allowed(name, "dataset", None)


def check_memory(cost: Cost, devices: Sequence[float], processes: int) -> None:
    """Whether the largest run fits into the devices that train together.

    Args:
        devices: bytes of each accelerator.

    Raises:
        UsageError: it does not, with what does.
    """
    if not devices:
        raise UsageError(
            "there is no accelerator here, and these models do not train on a CPU; see the plan"
            " with --dry-run, try the path with --miniature, or submit it with --slurm."
        )
    smallest = min(devices)
    if processes > len(devices):
        raise UsageError(f"--gpus {processes}, but there are {len(devices)} here.")
    room = 0.9 * smallest * processes
    if cost.peak_bytes > room:
        raise UsageError(
            f"the largest run needs about {cost.peak_bytes / 1e9:.0f} GB of device memory, and"
            f" {processes} of {smallest / 1e9:.0f} GB are given; use --gpus"
            f" {cost.devices}, or smaller rows a pass (batch_size, gradient_accumulation) in a copy"
            " of the recipe."
        )


def check_disk(cost: Cost, out: Path) -> None:
    """Whether models and downloads fit.

    Raises:
        ProbtuneError: they do not.
    """
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < cost.disk_bytes:
        raise ProbtuneError(
            f"{out} has {free / 1e9:.0f} GB free, and the plan needs about"
            f" {cost.disk_bytes / 1e9:.0f} GB; choose another --out, or reproduce one cell at a"
            " time. Downloads go to HF_HOME."
        )


def accelerators() -> list[float]:
    """Bytes of memory of each accelerator here."""
    import torch

    count = torch.cuda.device_count()
    return [float(torch.cuda.get_device_properties(i).total_memory) for i in range(count)]


def _datasets(plan: CellPlan) -> Iterable[str]:
    from ..corpora import corpus

    for run in plan.runs:
        for part in corpus(run.training.data.removeprefix("corpus:")).parts:
            if part.dataset != "generated":
                yield part.dataset
        for task in find_tasks(run.evaluation.tasks) if run.evaluation else []:
            if task.make is None:
                yield task.source.dataset


def _cached(hub: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub, "config.json"), str)


def _allowed(name: str, kind: str, model: Backbone | None) -> None:
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    where = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{name}"
    command = f"hf download {name}{' --repo-type dataset' if kind == 'dataset' else ''}"
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        if kind == "dataset":  # its files may be in the cache; reading them says so
            return
        raise DataError(
            f"{name} is not on this machine, and HF_HUB_OFFLINE forbids to ask for it; fetch it"
            f" once with `HF_HUB_OFFLINE=0 {command}`."
        )
    gated = model is not None and model.gated
    if gated and not get_token():
        raise DataError(
            f"{name} is shown only to those who accepted its licence"
            f" ({model.licence if model else ''}): accept it on {where}, then log in with `hf auth"
            " login` or set HF_TOKEN."
        )
    try:
        HfApi().auth_check(name, repo_type=kind)
    except GatedRepoError:
        raise DataError(
            f"{name} is shown only to those who accepted its terms: accept them on {where}, then"
            " log in with `hf auth login` or set HF_TOKEN."
        ) from None
    except RepositoryNotFoundError:
        raise DataError(f"the hub has no {kind} {name} (any more, or for you): {where}.") from None
    except (OSError, HfHubHTTPError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"the hub cannot be reached ({reason}); where it can, run `{command}`, and bring"
            " HF_HOME here."
        ) from None
