"""A run: its stages in their order, each with its record."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data.encoding import Encoded
from ..errors import UsageError
from ..measure.compare import compare as compare_heldout
from ..measure.heldout import HeldOut
from ..models.loading import default_device, load_tokenizer, token_table
from ..models.store import LogprobStore
from ..objectives import Objective, objective_list
from ..objectives import objective as read_objective
from ..probe.capability import sample
from ..probe.choosing import rank_race
from ..records import environment, make_record, read_record, write_record, write_text
from ..reports.report import render
from ..settings import TuneSettings
from ..terminal import Terminal
from .fine_tuning import check_adapter, number_columns, train_stage, training_config
from .measuring import measure_heldout, measure_tokens, probe_rows, probe_with_scout
from .own_objectives import check_names, check_sources, sources_of
from .preparation import (
    Locate,
    Prepared,
    check_vocabulary,
    encode_rows,
    max_length_of,
    prepare,
    read,
    slug,
)

__all__ = ["Run", "probe_only", "train", "tune"]

_RACE_ROWS = 96
_RACE_SHARE = 0.1
"""At most this many rows, and this share of the training rows, are set aside to decide a race."""


def tune(
    settings: TuneSettings,
    terminal: Terminal | None = None,
    *,
    locate: Locate | None = None,
    objective: Objective | None = None,
    compare: Sequence[Objective] = (),
) -> dict[str, Any]:
    """Run all stages and return the run's record. See the module; `settings.folder` holds
    everything afterwards.

    Args:
        objective, compare: objectives of your own, in place of the texts in the settings.

    Raises:
        UsageError: a setting is wrong, or the folder holds another run.
        DataError: the data cannot be used; nothing was loaded or written but the folder.
        TrainingError: training diverged; what was finished is kept.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "probtune tune runs in one process; to train on several, launch `probtune train`, or a"
            " script with ProbTuneTrainer."
        )
    run = Run(settings, terminal, locate=locate, objective=objective, compare=compare)
    run.begin()
    objectives = run.choose()
    heldout = {"base": run.measure_base()}
    trained = {}
    for member, with_thresholds in objectives.items():
        trained[str(member)] = run.train(member, with_thresholds)
        heldout[str(member)] = run.measure(member)
    return run.finish(trained, heldout)


def train(
    settings: TuneSettings,
    terminal: Terminal | None = None,
    *,
    locate: Locate | None = None,
    objective: Objective | None = None,
    compare: Sequence[Objective] = (),
) -> dict[str, Path]:
    """Only train: the same stages as `tune`, without measuring and comparing, in the same folder,
    so that `tune` with the same settings goes on from there. Also on several processes, started by
    torchrun or accelerate.

    Returns:
        Objective -> folder of its model.

    Raises:
        UsageError, DataError, TrainingError: as `tune`; also when the objective is left to the
            probe and the probe would race two of them.
    """
    from accelerate import PartialState

    state = PartialState(cpu=default_device() == "cpu")
    terminal = terminal if state.is_main_process else Terminal(quiet=True)
    run = Run(settings, terminal, locate=locate, objective=objective, compare=compare)
    with state.main_process_first():
        run.begin()
    if run.undecided:
        race = run.suggestion["race"]
        raise UsageError(
            f"the probe cannot decide between {' and '.join(race)}; name one with --objective, or"
            " let probtune tune race them."
        )
    models = {}
    for member, with_thresholds in run.choose().items():
        state.wait_for_everyone()
        run.train(member, with_thresholds)
        models[str(member)] = run.model_folder(member)
    return models


def probe_only(
    settings: TuneSettings,
    terminal: Terminal | None = None,
    *,
    store: Path | None = None,
    locate: Locate | None = None,
    warmup: bool = False,
) -> dict[str, Any]:
    """Run the probe alone, on all rows of the data; return its record, and write it where
    `settings.out` names a file. With `store`, the log-probabilities of the rows that were read are
    written there, for objectives that compare with them. With `warmup`, a scout is sent as well,
    and the record holds the probe after it under `scout`.
    """
    terminal = terminal or Terminal()
    rows = read(settings, settings.data, terminal, locate=locate)
    tokenizer = load_tokenizer(settings.model, settings.chat_template)
    max_length = max_length_of(settings, terminal)
    examples = sample(
        rows.examples, None if settings.all else settings.probe_examples, seed=settings.seed
    )
    encoding = encode_rows(examples, tokenizer, settings, rows.schema, max_length, terminal)
    check_vocabulary(settings.model, encoding)
    probe = probe_rows(
        settings, tokenizer, encoding.rows, terminal, of_examples=len(rows), store=store
    )
    if store is not None:
        terminal.show(f"log-probabilities of {len(encoding.rows)} rows  {store}", wrap=False)
    content = {
        "model": settings.model,
        "data": rows.source,
        "sha256": rows.sha256,
        "environment": environment(),
        **probe,
    }
    if warmup:
        everything = encode_rows(
            rows.examples, tokenizer, settings, rows.schema, max_length, terminal
        )
        end = probe["end_token"]
        content["scout"] = probe_with_scout(
            settings,
            tokenizer,
            everything.rows,
            terminal,
            end_p=None if end is None else end.mean_p.value,
        )
    if settings.out is not None:
        return write_record(Path(settings.out), "probe", content)
    return make_record("probe", content)


class Run:
    """One run in its folder, with its stages as methods.

    A stage leaves a record, and where the record exists the stage reads it instead of working, so
    that an interrupted run goes on. `begin` does what comes before training; then `choose`, and
    `train` and `measure` for each objective, and `finish`.
    """

    prepared: Prepared
    """The data, since `prepare`; a race takes some of its training rows away."""
    files: dict[str, str]
    """Files of log-probabilities that the objectives need, by the trainer's names for them, since
    `store_logprobs`. That of the model before training is written by the probe.
    """
    probe_record: dict[str, Any]
    """The record of the probe, since `probe`."""
    scout_record: dict[str, Any] | None
    """The record of the scout and the probe after it, since `scout`; None if none was sent."""
    race_record: dict[str, Any] | None
    """The record of the race, since `choose`; None if there was none."""
    chosen: Objective
    """The objective that the user asked for or the probe or the race chose, since `choose`."""

    def __init__(
        self,
        settings: TuneSettings,
        terminal: Terminal | None = None,
        *,
        locate: Locate | None = None,
        objective: Objective | None = None,
        compare: Sequence[Objective] = (),
    ):
        if objective is not None and settings.objective == "auto":
            settings = replace(settings, objective=str(objective))
        if compare and not settings.compare.strip():
            settings = replace(settings, compare=", ".join(map(str, compare)))
        self.settings = settings
        self.terminal = terminal or Terminal()
        self.locate = locate
        self.folder = settings.folder
        self.started = time.monotonic()
        if objective is None and settings.objective != "auto":
            objective = read_objective(settings.objective)
        self.requested = objective
        """The objective that the user asked for; None leaves it to the probe."""
        if not compare and settings.compare.strip():
            compare = objective_list(settings.compare)
        self.others = tuple(compare)
        """Further objectives to train and compare."""
        self.scout_record = self.race_record = None

    @property
    def named(self) -> tuple[Objective, ...]:
        """The objectives that the settings name, NLL standing for the probe's choice."""
        return (self.requested or read_objective("nll"), *self.others)

    @property
    def needs(self) -> frozenset[str]:
        """The signals that the named objectives need."""
        return frozenset().union(*(objective.needs for objective in self.named))

    @property
    def undecided(self) -> bool:
        """True if the objective is left to the probe, and the probe would race two."""
        return self.requested is None and self.suggestion["undecided"]

    @property
    def suggestion(self) -> dict[str, Any]:
        """The suggestion to act on: that of the probe after the scout, if one was sent."""
        return (self.scout_record or {"probe": self.probe_record})["probe"]["suggestion"]

    def model_folder(self, objective: Objective) -> Path:
        """Return the folder of an objective's model."""
        return self.folder / slug(objective) / "model"

    # --- before training ------------------------------------------------------------------------

    def begin(self) -> None:
        """Do all that comes before training.

        Raises:
            UsageError, DataError: a request that cannot be honoured, before any model is loaded.
        """
        self.check()
        self.prepare()
        self.store_logprobs()
        self.probe()
        self.scout()
        self.terminal.say(self._explanation())

    def check(self) -> None:
        """Refuse a wrong request before any work."""
        check_names(self.named)
        self._check_folder()
        self._check_needs()
        check_adapter(self.settings)

    def prepare(self) -> None:
        """Read, split and tokenize the data, and write what the run is, or check that the folder's
        run is the same.
        """
        numbers = sorted({n for objective in self.named for n in number_columns(objective)})
        self.prepared = prepare(self.settings, self.terminal, numbers=numbers, locate=self.locate)
        if "answer" in self.needs and self.prepared.answer_rule == "none":
            raise UsageError(
                "nll_on_answer needs to know the answer, and no rule finds one in nine of ten"
                " held-out responses; give --answer, such as 'regex:answer is (.+)'."
            )
        for objective in self.named:
            training_config(self.folder, objective, self.settings)
        self._check_rows()
        path = self.folder / "run.json"
        if not path.is_file():
            content = {
                "settings": self.settings.to_dict(),
                "hashes": self.prepared.hashes,
                "sources": sources_of(self.named),
            }
            write_record(path, "run", content)
        elif read_record(path, "run")["hashes"] != self.prepared.hashes:
            raise UsageError(
                f"the data has changed since the run in {self.folder} began; choose another --out."
            )

    def store_logprobs(self) -> None:
        """Measure the better model where an objective compares with one, and name the files of
        log-probabilities.
        """
        self.files = {}
        if {"reference", "sequence_gain", "sequence_weight"} & self.needs:
            self.files["reference"] = self.settings.reference or str(
                self.folder / "reference.arrow"
            )
        if "better" not in self.needs:
            return
        better = self.settings.better
        assert better is not None
        self.files["better"] = better
        if not better.endswith(".arrow"):
            path = self.folder / "better.arrow"
            self.files["better"] = str(path)
            if not path.is_file():
                label = "measuring the better model"
                rows = self.prepared.train.rows
                measure_tokens(better, rows, self.terminal, label=label, store=path)

    def probe(self) -> None:
        """Probe the base model, on all rows where their log-probabilities are needed."""
        path = self.folder / "probe.json"
        store = None
        if "reference" in self.files and self.settings.reference is None:
            store = Path(self.files["reference"])
        if path.is_file() and (store is None or store.is_file()):
            self.probe_record = read_record(path, "probe")
            return
        rows = self.prepared.train.rows
        size = None if self.settings.all or store is not None else self.settings.probe_examples
        probe = probe_rows(
            self.settings,
            self.prepared.tokenizer,
            sample(rows, size, seed=self.settings.seed),
            self.terminal,
            of_examples=len(rows),
            store=store,
            files=self.files,
        )
        self.probe_record = write_record(path, "probe", probe)

    def scout(self) -> None:
        """Send a scout and probe again after it, where the choice is left to the probe."""
        if self.requested is not None or self.settings.scout_steps == 0:
            return
        path = self.folder / "scout.json"
        if path.is_file():
            self.scout_record = read_record(path, "scout")
            return
        end = self.probe_record["end_token"]
        scouted = probe_with_scout(
            self.settings,
            self.prepared.tokenizer,
            self.prepared.train.rows,
            self.terminal,
            end_p=None if end is None else end["mean_p"]["value"],
        )
        self.scout_record = write_record(path, "scout", scouted)

    # --- the objectives -------------------------------------------------------------------------

    def choose(self) -> dict[Objective, Objective]:
        """Settle on an objective, by a race where the probe is undecided.

        Returns:
            The objectives to train, the chosen one first, each with what it is with shares of
            tokens as thresholds of the base model.
        """
        suggestion = self.suggestion
        if self.undecided:
            self.race_record = suggestion = self.race()
        self.chosen = self.requested or read_objective(suggestion["objective"])
        percentiles = self.probe_record["percentiles"]
        objectives = {
            objective: objective.fixed(lambda share: _quantile(percentiles, share))
            for objective in (self.chosen, *self.others)
        }
        for objective, with_thresholds in objectives.items():
            if with_thresholds != objective:
                self.terminal.say(
                    f"{objective} is {with_thresholds}, by the base model's quantiles."
                )
        return objectives

    def race(self) -> dict[str, Any]:
        """Train each objective of the probe's suggestion for a share of the planned steps, and
        choose the best on rows that none of them trains on; it trains on from where it stopped.

        Returns:
            The race's record. The rows set aside are taken from `prepared` for every objective.
        """
        rows = self.prepared.train.rows
        number = min(_RACE_ROWS, max(1, math.floor(_RACE_SHARE * len(rows))))
        aside = sample(rows, number, seed=self.settings.seed)
        self._set_aside(aside)
        path = self.folder / "race.json"
        if path.is_file():
            return read_record(path, "race")
        suggestion = self.probe_record["suggestion"]
        until = max(1, math.ceil(suggestion["race_share"] * self.probe_record["features"]["steps"]))
        scores = {name: self._race_leg(name, aside, until) for name in suggestion["race"]}
        first, *rest = rank_race(scores)
        listed = ", ".join(f"{o} {scores[o]['token_accuracy']:.3f}" for o in scores)
        reason = (
            f"{suggestion['reason']} The race after {until} steps, token accuracy on {number} rows"
            f" set aside: {listed}."
        )
        self.terminal.say(f"Race: {listed}. Training {first}.")
        record = write_record(
            path,
            "race",
            {
                "objective": first,
                "reason": reason,
                "steps": until,
                "rows": number,
                "scores": scores,
            },
        )
        for name in rest:
            folder = self.folder / slug(read_objective(name))
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return record

    def _race_leg(self, name: str, rows: Sequence[Encoded], until: int) -> dict[str, float]:
        """Return the scores of an objective on these rows after `until` steps."""
        objective = read_objective(name)
        path = self.folder / slug(objective) / "race.json"
        if path.is_file():
            return read_record(path, "race-leg")["score"]

        def score(model: Any) -> dict[str, float]:
            import numpy as np

            table = token_table(model, rows)
            mean_p = float(np.exp(table.logp).mean())
            return {"token_accuracy": float(table.is_top1.mean()), "mean_p": mean_p}

        content = train_stage(
            path.parent, objective, self.settings, self.prepared, self.terminal, {},
            until=until, measure=score,
        )  # fmt: skip
        return write_record(path, "race-leg", {"score": content})["score"]

    def _set_aside(self, aside: Sequence[Encoded]) -> None:
        """Take rows from the training rows."""
        identities = {id(row) for row in aside}
        train = self.prepared.train
        rest = tuple(row for row in train.rows if id(row) not in identities)
        self.prepared = replace(self.prepared, train=replace(train, rows=rest))

    # --- training and measuring -----------------------------------------------------------------

    def train(self, objective: Objective, with_thresholds: Objective) -> dict[str, Any]:
        """Train an objective and return the record; its folder has the name that the user wrote."""
        return train_stage(
            self.model_folder(objective).parent,
            with_thresholds,
            self.settings,
            self.prepared,
            self.terminal,
            self.files,
        )

    def measure_base(self) -> HeldOut:
        """Measure the base model on the held-out rows."""
        return self._measure(self.folder / "base", self.settings.model, "base model")

    def measure(self, objective: Objective) -> HeldOut:
        """Measure an objective's model on the held-out rows."""
        model = self.model_folder(objective)
        return self._measure(model.parent, str(model), str(objective))

    def _measure(self, folder: Path, model_name: str, label: str) -> HeldOut:
        path = folder / "heldout.json"
        if path.is_file():
            return HeldOut.from_dict(read_record(path, "heldout"))
        heldout = measure_heldout(
            model_name, self.prepared, self.settings, self.terminal, label=f"measuring {label}"
        )
        write_record(path, "heldout", heldout.to_dict())
        return heldout

    def finish(
        self, trained: dict[str, dict[str, Any]], heldout: dict[str, HeldOut]
    ) -> dict[str, Any]:
        """Compare the models, write the record and the report, and return the record."""
        reason = (self.race_record or self.suggestion)["reason"]
        record = write_record(
            self.folder / "record.json",
            "tune",
            {
                "settings": self.settings.to_dict(),
                "environment": environment(),
                "data": self.prepared.to_dict(),
                "probe": self.probe_record,
                "scout": self.scout_record,
                "choice": {
                    "objective": str(self.chosen),
                    "sources": sources_of(self.named),
                    "asked": self.settings.objective,
                    "reason": reason if self.requested is None else "asked for",
                    "race": self.race_record,
                },
                "runs": [
                    {"name": name, "train": trained.get(name), "heldout": result.to_dict()}
                    for name, result in heldout.items()
                ],
                "comparisons": compare_heldout(heldout),
                "seconds": time.monotonic() - self.started,
            },
        )
        write_text(self.folder / "report.html", render([record]))
        return record

    # --- checks and words -----------------------------------------------------------------------

    def _check_folder(self) -> None:
        """Refuse a folder that holds something else."""
        folder = self.folder
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return
        if not (folder / "run.json").is_file():
            raise UsageError(f"{folder} exists and is not a run of probtune; choose another --out.")
        # Settings that came later than the run had no other value than their default.
        later = type(self.settings)(self.settings.model, self.settings.data).to_dict()
        recorded = {**later, **read_record(folder / "run.json", "run")["settings"]}
        different = [
            f"{name} ({recorded[name]!r} there, {value!r} here)"
            for name, value in self.settings.to_dict().items()
            if recorded[name] != value
        ]
        if different:
            raise UsageError(
                f"{folder} holds another run: it differs in {', '.join(different)}. Choose another"
                " --out."
            )
        earlier = read_record(folder / "run.json", "run").get("sources", {})
        check_sources(earlier, self.named, folder)

    def _check_needs(self) -> None:
        """Refuse what the settings cannot provide."""
        if "better" in self.needs and self.settings.better is None:
            raise UsageError(
                "token_cleaning and rho1 compare with a better model; name it with --better."
            )
        for path in self._named_files():
            LogprobStore(path)

    def _check_rows(self) -> None:
        """Refuse files of log-probabilities that lack a training row."""
        rows = self.prepared.train.rows
        for path in self._named_files():
            LogprobStore(path).columns(
                ((row.input_ids, row.labels) for row in rows), names=[row.where for row in rows]
            )

    def _named_files(self) -> list[str]:
        """Return the files of log-probabilities that the user named."""
        better = self.settings.better
        files = [self.settings.reference]
        if better is not None and better.endswith(".arrow"):
            files.append(better)
        return [path for path in files if path is not None]

    def _explanation(self) -> str:
        """Return what the probe says, and what is trained for it."""
        suggestion = self.suggestion
        where = "Probe" if self.scout_record is None else "Probe after a scout"
        lines = [
            f"{where}: {suggestion['verdict']}. {suggestion['reason']}",
            *suggestion["cautions"],
        ]
        if self.requested is not None:
            lines.append(f"Training {self.requested}, as asked for.")
        elif suggestion["undecided"]:
            race, share = " and ".join(suggestion["race"]), suggestion["race_share"]
            lines.append(f"Undecided: racing {race} for {share:.0%} of the steps.")
        else:
            lines.append(f"Training {suggestion['objective']}.")
        return "\n".join(lines)


def _quantile(percentiles: Sequence[float], share: float) -> float:
    """Return the base model's quantile of p, between the probe's percentiles by a straight line."""
    import numpy as np

    return float(np.interp(100.0 * share, np.arange(101), percentiles))
