"""Trackers of experiments: `--report-to tensorboard,wandb,trackio,mlflow`.

A run of probtune is a group, and the base model and each objective are a run in it, which is open
while the objective is trained, and again when its model is measured. Files stand in `OUT/logs`,
outside of the checkpoints, which a finished training removes; Trackio keeps its own in its cache.

    OUT/logs/<objective>/   TensorBoard
    OUT/logs/wandb/         Weights & Biases, its local copy
    OUT/logs/mlflow.db      MLflow, unless MLFLOW_TRACKING_URI names a server; its histograms
                            stand in OUT/logs/mlflow/

Other trackers that transformers knows are its own: `--training report_to=comet_ml`.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ..errors import UsageError
from ..files import hash_file
from ..settings import TuneSettings

__all__ = ["PACKAGES", "Tracked", "Trackers", "check_trackers", "edges", "foreign", "tracker_names"]

PACKAGES = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "trackio": "trackio",
    "mlflow": "mlflow",
}
"""Tracker -> the package that it needs."""
PROJECT = "probtune"
"""Project in W&B and Trackio, unless WANDB_PROJECT or --training project=NAME says otherwise."""


class Tracked(Protocol):
    """One run in one tracker."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers."""
        ...

    def histogram(self, name: str, counts: Sequence[int], step: int) -> None:
        """Log counts of p in equal bins from 0 to 1."""
        ...

    def close(self) -> None:
        """End the run, or this part of it."""
        ...


def tracker_names(settings: TuneSettings) -> tuple[str, ...]:
    """Return the trackers of ours that the settings name.

    Raises:
        UsageError: a name that is none of ours.
    """
    names = [name.strip() for name in settings.report_to.split(",") if name.strip()]
    unknown = [name for name in names if name not in (*PACKAGES, "none")]
    if unknown:
        raise UsageError(
            f"--report-to takes {', '.join(PACKAGES)}, got {', '.join(unknown)}; for another"
            " tracker of transformers write --training report_to=NAME."
        )
    names += [name for name in _of_training(settings) if name in PACKAGES]
    return tuple(dict.fromkeys(name for name in names if name != "none"))


def foreign(settings: TuneSettings) -> list[str] | str:
    """Return the trackers of `--training report_to` that are transformers' own, as its field."""
    return [name for name in _of_training(settings) if name not in PACKAGES] or "none"


def _of_training(settings: TuneSettings) -> list[str]:
    value = settings.training.get("report_to", "none")
    return [str(name) for name in (value if isinstance(value, list) else [value]) if name != "none"]


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers whose package is not there, or that would ask for a key.

    Raises:
        UsageError: with the line that installs the package.
    """
    missing = [PACKAGES[name] for name in names if importlib.util.find_spec(PACKAGES[name]) is None]
    if missing:
        raise UsageError(
            f"--report-to {','.join(names)} needs {' and '.join(missing)}, which"
            f" {'are' if len(missing) > 1 else 'is'} not installed: pip install"
            f" {' '.join(missing)}"
        )
    offline = os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun")
    if "wandb" in names and not offline:
        import wandb  # pyright: ignore[reportMissingImports]

        if not wandb.api.api_key:
            raise UsageError(
                "--report-to wandb needs a key: run `wandb login`, set WANDB_API_KEY, or set"
                " WANDB_MODE=offline to keep the run on this machine."
            )


class Trackers:
    """The trackers of a run of probtune, one run in each for the base model and every objective."""

    def __init__(self, names: Sequence[str], folder: Path, project: str | None = None):
        self._names, self._folder = tuple(names), folder
        self._project = project or PROJECT

    @contextmanager
    def run(self, name: str, slug: str, config: Mapping[str, Any]) -> Iterator[list[Tracked]]:
        """Open the run of an objective in every tracker, a new one or the one that there is.

        Args:
            name: the objective, or `base`.
            slug: the same as the name of a folder.
            config: what the tracker lists beside the run.
        """
        opened: list[Tracked] = []
        try:
            for tracker in self._names:
                opened.append(_OPEN[tracker](self, name, slug, config))
            yield opened
        finally:
            for run in opened:
                run.close()

    def log(
        self,
        name: str,
        slug: str,
        values: Mapping[str, float],
        step: int,
        histograms: Mapping[str, Sequence[int]] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Log numbers once, in a run that is opened for it."""
        if not self._names:
            return
        with self.run(name, slug, config or {}) as runs:
            for run in runs:
                for what, counts in (histograms or {}).items():
                    run.histogram(what, counts, step)
                run.scalars(values, step)

    @property
    def files(self) -> Path:
        """The folder of the trackers' files."""
        return self._folder / "logs"

    @property
    def group(self) -> str:
        """The name of the group: that of the run's folder."""
        return self._folder.resolve().name

    def identity(self, slug: str) -> str:
        """Return a name that is this run's alone, and the same when it is taken up again."""
        written = hash_file(self._folder / "run.json")[:6]
        return f"{self.group}-{slug}-{written}"


def edges(bins: int) -> list[float]:
    """Return the limits of equal bins from 0 to 1."""
    return [index / bins for index in range(bins + 1)]


class _TensorBoard:
    def __init__(self, trackers: Trackers, name: str, slug: str, config: Mapping[str, Any]):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(log_dir=str(trackers.files / slug))
        if config:
            lines = "\n".join(f"| {key} | {value} |" for key, value in config.items())
            self._writer.add_text("settings", f"| | |\n|---|---|\n{lines}")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def histogram(self, name: str, counts: Sequence[int], step: int) -> None:
        limits, total = edges(len(counts)), sum(counts)
        middles = [(low + high) / 2 for low, high in zip(limits, limits[1:], strict=False)]
        moments = [
            sum(count * middle**power for count, middle in zip(counts, middles, strict=True))
            for power in (1, 2)
        ]
        self._writer.add_histogram_raw(
            name,
            min=0.0,
            max=1.0,
            num=total,
            sum=moments[0],
            sum_squares=moments[1],
            bucket_limits=limits[1:],
            bucket_counts=list(counts),
            global_step=step,
        )

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, trackers: Trackers, name: str, slug: str, config: Mapping[str, Any]):
        import wandb  # pyright: ignore[reportMissingImports]

        trackers.files.mkdir(parents=True, exist_ok=True)
        self._wandb = wandb
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", trackers._project),
            group=trackers.group,
            name=name,
            id=trackers.identity(slug),
            resume="allow",
            dir=str(trackers.files),
            config=dict(config),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, "step": step})

    def histogram(self, name: str, counts: Sequence[int], step: int) -> None:
        histogram = self._wandb.Histogram(np_histogram=(list(counts), edges(len(counts))))
        self._run.log({name: histogram, "step": step})

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    def __init__(self, trackers: Trackers, name: str, slug: str, config: Mapping[str, Any]):
        import trackio  # pyright: ignore[reportMissingImports]

        self._trackio = trackio
        self._run: Any = trackio.init(
            project=trackers._project,
            name=trackers.identity(slug),
            group=trackers.group,
            config={"objective": name, **config},
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def histogram(self, name: str, counts: Sequence[int], step: int) -> None:
        import numpy as np

        pair = (np.asarray(counts), np.asarray(edges(len(counts))))
        self._run.log({name: self._trackio.Histogram(np_histogram=pair)}, step=step)

    def close(self) -> None:
        self._trackio.finish()


class _Mlflow:
    def __init__(self, trackers: Trackers, name: str, slug: str, config: Mapping[str, Any]):
        import mlflow  # pyright: ignore[reportMissingImports]

        trackers.files.mkdir(parents=True, exist_ok=True)
        self._mlflow = mlflow
        experiment_name = os.environ.get("MLFLOW_EXPERIMENT_NAME", trackers.group)
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            files = trackers.files.resolve()
            mlflow.set_tracking_uri(f"sqlite:///{files / 'mlflow.db'}")
            if mlflow.get_experiment_by_name(experiment_name) is None:
                # Its own place for the histograms is ./mlruns, wherever the command was given.
                artifacts = (files / "mlflow").as_uri()
                mlflow.create_experiment(experiment_name, artifact_location=artifacts)
        experiment = mlflow.set_experiment(experiment_name)
        identity = trackers.identity(slug)
        runs = mlflow.search_runs(
            [experiment.experiment_id],
            filter_string=f"tags.probtune = '{identity}'",
            output_format="list",
        )
        if runs:
            mlflow.start_run(run_id=runs[0].info.run_id)
        else:
            mlflow.start_run(run_name=name, tags={"probtune": identity, "group": trackers.group})
            mlflow.log_params(dict(config))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        # MLflow refuses other characters in a name, such as those of a group of rows.
        self._mlflow.log_metrics(
            {re.sub(r"[^\w\-. :/]", "_", name): value for name, value in values.items()}, step=step
        )

    def histogram(self, name: str, counts: Sequence[int], step: int) -> None:
        content = {"edges": edges(len(counts)), "counts": list(counts)}
        self._mlflow.log_dict(content, f"histograms/{name.replace('/', '-')}-{step}.json")

    def close(self) -> None:
        self._mlflow.end_run()


_OPEN: dict[str, Any] = {
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
    "trackio": _Trackio,
    "mlflow": _Mlflow,
}
