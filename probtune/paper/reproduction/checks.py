"""Checks before a reproduction begins, since a refusal after hours costs more: access to models and
datasets, packages, memory, disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ...data import hub
from ...errors import DataError, ProbtuneError, UsageError
from ...evaluation.tasks.table import find_tasks
from ..corpora import corpus
from ..corpora.hub import check as check_parts
from .cost import Cost, cost_of
from .plan import CellPlan

__all__ = [
    "accelerators",
    "check_disk",
    "check_hub",
    "check_memory",
    "check_packages",
    "resolve",
]


def resolve(plan: CellPlan) -> list[str]:
    """Make everything that a plan names, without a download: trainer settings, benchmarks, prompts.

    Returns:
        the prompts of training and evaluation, one line each.

    Raises:
        UsageError: an option is wrong.
    """
    from ...data.prompts import PromptSpec
    from ...objectives import objective as read_objective
    from ...pipeline.fine_tuning import training_config
    from ...pipeline.preparation import inner_prompt_of

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
            if "base_quantile" not in meant.kinds:
                training_config(Path("unused"), meant, settings)
        if run.evaluation is None:
            continue
        for task in find_tasks(run.evaluation.tasks):
            for protocol in run.evaluation.protocols:
                question = task.protocols[protocol].prompt(run.backbone.family).render("QUESTION")
                prompts[f"{protocol:10s}  {question!r}"] = None
    return list(prompts)


def check_hub(plans: Sequence[CellPlan], out: Path) -> None:
    """Check with the hub that every model, training set and benchmark can be downloaded.

    Raises:
        DataError: the hub cannot be reached, a licence must be accepted first, or a commit is gone.
    """
    for model in {run.backbone.name: run.backbone for plan in plans for run in plan.runs}.values():
        if not _cached(model.hub):
            _ask(model.hub, "model", None, licence=model.licence if model.gated else None)
    texts = dict.fromkeys(run.training.data for plan in plans for run in plan.runs)
    parts = [
        part
        for text in texts
        for part in corpus(text.removeprefix("corpus:")).parts
        if part.dataset != "generated"
    ]
    check_parts(parts, out)
    if hub.offline():  # the benchmarks' rows may be in the cache; reading them says so
        return
    names = dict.fromkeys(
        run.evaluation.tasks for plan in plans for run in plan.runs if run.evaluation
    )
    tasks = {task.name: task for text in names for task in find_tasks(text)}
    for dataset, revision in dict.fromkeys(
        (task.source.dataset, task.source.revision) for task in tasks.values() if task.make is None
    ):
        _ask(dataset, "dataset", revision)


def check_packages(plans: Sequence[CellPlan]) -> None:
    """Check that the packages for evaluation are installed, before hours of training.

    Raises:
        UsageError: a package is missing; the message holds the command that installs it.
    """
    from importlib.util import find_spec

    evaluations = [run.evaluation for plan in plans for run in plan.runs if run.evaluation]
    domains = {task.domain for evaluation in evaluations for task in find_tasks(evaluation.tasks)}
    trained = {corpus(run.training.data[7:]).domain for plan in plans for run in plan.runs}
    needed = {"lm_eval": "-e '.[eval]'"} if evaluations else {}
    needed |= {"evalplus": "-e '.[code]'"} if "code" in domains else {}
    needed |= {"reasoning_gym": "-e '.[figlet]'"} if "figlet" in domains | trained else {}
    needed |= (
        {"vllm": "vllm"} if any(evaluation.backend == "vllm" for evaluation in evaluations) else {}
    )
    for module, package in needed.items():
        if find_spec(module) is None:
            raise UsageError(f"{module} is needed and not installed: pip install {package}.")


def check_memory(plan: CellPlan, devices: Sequence[float]) -> None:
    """Check that the largest run fits into the devices that train together.

    Args:
        devices: bytes of each accelerator.

    Raises:
        UsageError: the run does not fit; the message names options that do.
    """
    cell, count = plan.recipe.cell, plan.processes
    if not devices:
        raise UsageError(
            f"there is no accelerator here, and the models of {cell} do not train on a CPU; see the"
            " plan with --dry-run, try the path with --miniature, or submit it with --slurm."
        )
    cost = cost_of(plan, device_bytes=min(devices))
    if count > len(devices):
        raise UsageError(
            f"{cell} is planned for {count} devices, and there are {len(devices)} here; give --gpus"
            " for fewer, or submit it with --slurm."
        )
    if cost.devices > count:
        raise UsageError(
            f"{cell}: the largest run needs about {cost.peak_bytes / 1e9:.0f} GB of device memory,"
            f" and {count} of {min(devices) / 1e9:.0f} GB are given; use --gpus {cost.devices}, or"
            " fewer rows a pass (batch_size, gradient_accumulation) in a copy of the recipe."
        )


def check_disk(cost: Cost, out: Path) -> None:
    """Check that models and downloads fit on the disk.

    Raises:
        ProbtuneError: they do not fit.
    """
    free = hub.free_bytes(out)
    if free < cost.disk_bytes:
        raise ProbtuneError(
            f"{out} has {free / 1e9:.0f} GB free, and the plan needs about"
            f" {cost.disk_bytes / 1e9:.0f} GB; choose another --out, or reproduce one cell at a"
            " time. Downloads go to HF_HOME."
        )


def accelerators() -> list[float]:
    """Return the bytes of memory of each accelerator of this machine."""
    import torch

    count = torch.cuda.device_count()
    return [float(torch.cuda.get_device_properties(i).total_memory) for i in range(count)]


def _cached(hub: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub, "config.json"), str)


def _ask(
    name: str,
    kind: Literal["model", "dataset"],
    revision: str | None,
    *,
    licence: str | None = None,
) -> None:
    """Refuse a model or dataset that the hub lacks, or does not give to us."""
    command = f"hf download {name}{' --repo-type dataset' if kind == 'dataset' else ''}"
    if hub.offline():
        raise DataError(
            f"{name} is not on this machine, and HF_HUB_OFFLINE forbids to ask for it; fetch it"
            f" once with `HF_HUB_OFFLINE=0 {command}`."
        )
    hub.ask(
        name,
        kind,
        revision,
        unreachable=f"Where it can, run `{command}`, and bring HF_HOME to this machine (then"
        " HF_HUB_OFFLINE=1).",
        gone="Results would not compare.",
        licence=licence,
    )
