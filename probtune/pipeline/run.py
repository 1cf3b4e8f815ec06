"""A run: its stages in their order, each with its record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import TrainingError, UsageError
from ..files import check_new_folder, damage
from ..lock import FolderLock
from ..measure.answers import read_rule
from ..measure.compare import compare as compare_heldout
from ..measure.heldout import HeldOut
from ..models.identity import tokenizer_identity
from ..models.kinds import check_decoder_folder
from ..models.loading import check_attention
from ..models.ranks import ALONE, Ranks, start_ranks
from ..objectives import Objective
from ..objectives import objective as read_objective
from ..probe.capability import sample
from ..probe.scout import check_enough
from ..records import environment, read_record, write_record, write_text
from ..reports.report import render
from ..settings import TuneSettings
from ..terminal import Terminal
from .cards import check_hub, run_card, update_card, upload
from .fine_tuning import number_columns, train_stage, training_config
from .folder import check_folder, check_model, claim_folder, model_hashes
from .measuring import measure_heldout
from .metrics import Turn
from .own_objectives import check_names, sources_of
from .preparation import Locate, Prepared, check_prompt, prepare, slug
from .probing import probe_rows, probe_with_scout
from .refusals import check_adapter
from .selecting import as_launched, cost, is_select, named_objectives, remove_models, select
from .sense import base_quantile, check_parameters, check_weights
from .stores import check_rows, check_stores, store_logprobs
from .trackers import Trackers, check_trackers, tracker_names
from .viewing import heldout_tokens, weights_of
from .weighing import in_words, weigh_rows, weighed_by_scouts, weights_of_rows

__all__ = ["Run", "train", "tune"]


def tune(
    settings: TuneSettings,
    terminal: Terminal | None = None,
    *,
    locate: Locate | None = None,
    objective: Objective | None = None,
    compare: Sequence[Objective] = (),
) -> dict[str, Any]:
    """Run all stages and return the run's record. See the module; `settings.folder` holds
    everything afterwards. On several processes, started by torchrun or accelerate, probing and
    measuring are split and training is distributed; the first writes.

    Args:
        objective, compare: objectives of your own, in place of the texts in the settings.

    Raises:
        UsageError: a setting is wrong, or the folder holds another run.
        DataError: the data cannot be used; nothing was loaded or written but the folder.
        TrainingError: training diverged; what was finished is kept.
    """
    ranks = start_ranks()
    run = Run(settings, terminal, locate=locate, objective=objective, compare=compare, ranks=ranks)
    with closing(run):
        run.begin()
        objectives = run.choose()
        run.weigh()
        heldout = {"base": run.measure_base()}
        trained = {}
        for number, (member, with_thresholds) in enumerate(objectives.items(), start=1):
            turn = Turn(number, len(objectives), heldout["base"].seconds)
            trained[str(member)] = run.train(member, with_thresholds, turn)
            heldout[str(member)] = run.measure(member)
        run.select(heldout)
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
        UsageError, DataError, TrainingError: as `tune`; also for `select:`, which compares.
    """
    if is_select(settings.objective):
        raise UsageError(
            f"--objective {settings.objective} compares after training, which probtune train does"
            " not; use probtune tune."
        )
    ranks = start_ranks()
    run = Run(settings, terminal, locate=locate, objective=objective, compare=compare, ranks=ranks)
    with closing(run):
        run.begin()
        models = {}
        objectives = run.choose()
        run.weigh()
        for number, (member, with_thresholds) in enumerate(objectives.items(), start=1):
            run.train(member, with_thresholds, Turn(number, len(objectives)))
            models[str(member)] = run.model_folder(member)
    return models


class Run:
    """One run in its folder, with its stages as methods.

    A stage leaves a record, and where the record exists the stage reads it instead of working, so
    that an interrupted run goes on. `begin` does what comes before training; then `choose`, and
    `train` and `measure` for each objective, and `finish`.
    """

    prepared: Prepared
    """The data, since `prepare`."""
    files: dict[str, str]
    """Files of log-probabilities that the objectives need, by the trainer's names for them, since
    `store_logprobs`. That of the model before training is written by the probe.
    """
    probe_record: dict[str, Any]
    """The record of the probe, since `probe`."""
    scout_record: dict[str, Any] | None
    """The record of the scout and the probe after it, since `scout`; None if none was sent."""
    weights_record: dict[str, Any] | None
    """The record of the training rows' weights, since `weigh`; None if no objective needs them."""
    candidates: tuple[Objective, ...]
    """The arms as objectives, `auto` settled, since `choose`."""
    select_record: dict[str, Any] | None
    """The record of the selection, since `select`; None where one arm was trained."""
    chosen: Objective
    """The objective that the user asked for, or that the probe or the selection chose, since
    `choose`; with several candidates since `select`."""

    def __init__(
        self,
        settings: TuneSettings,
        terminal: Terminal | None = None,
        *,
        locate: Locate | None = None,
        objective: Objective | None = None,
        compare: Sequence[Objective] = (),
        ranks: Ranks = ALONE,
    ):
        """Make a run, which `begin` begins.

        Args:
            ranks: the processes that share the run. The first holds the folder's lock until
                `close`, writes and speaks; all of them call the stages in the same order.
        """
        if objective is not None and settings.objective == "auto":
            settings = replace(settings, objective=str(objective))
        if compare and not settings.compare.strip():
            settings = replace(settings, compare=", ".join(map(str, compare)))
        self.settings = settings
        self.ranks = ranks
        self.terminal = terminal or Terminal()
        if not ranks.is_first:
            self.terminal = Terminal(quiet=True)
        self.locate = locate
        self.folder = settings.folder
        self.started = time.monotonic()
        self._lock = FolderLock(self.folder) if ranks.is_first else None
        self.arms, self.others = named_objectives(settings, objective, compare)
        """The objectives to choose from after training, of which None leaves one to the probe; and
        further ones to train and compare.
        """
        self.scout_record = self.weights_record = self.select_record = None
        names = tracker_names(settings) if ranks.is_first else ()
        self.trackers = Trackers(names, self.folder, settings.training.get("project"))

    @property
    def named(self) -> tuple[Objective, ...]:
        """The objectives that the settings name, NLL standing for the probe's choice."""
        nll = read_objective("nll")
        return tuple(dict.fromkeys((*(arm or nll for arm in self.arms), *self.others)))

    @property
    def needs(self) -> frozenset[str]:
        """The signals that the named objectives need."""
        return frozenset().union(*(objective.needs for objective in self.named))

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
        with self.ranks.first():
            self.check()
            self.prepare()
        self.store_logprobs()
        self.probe()
        self.scout()
        self.terminal.say(self._explanation())

    def close(self) -> None:
        """Give the folder back to other processes."""
        if self._lock is not None:
            self._lock.release()

    def check(self) -> None:
        """Refuse a wrong request before any work, and a folder in which another process works."""
        check_names(self.named)
        check_trackers(tracker_names(self.settings))
        check_hub(self.settings)
        for objective in self.named:
            check_parameters(objective)
        check_decoder_folder(self.settings.model)
        check_prompt(self.settings)
        if self.settings.answer not in ("auto", "none"):
            read_rule(self.settings.answer)
        for objective in self.named:
            training_config(self.folder, objective, self.settings)
        check_folder(self.folder, self.settings, self.named)
        check_new_folder(self.folder, "--out")
        if self._lock is not None and self.folder.exists():
            self._lock.take()
        check_stores(self.settings, self.needs)
        check_adapter(self.settings)
        if self.settings.attention is not None:
            check_attention(self.settings.model, self.settings.attention)

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
        check_rows(self.settings, self.prepared.train.rows)
        number = len(self.prepared.train.rows)
        if self.ranks.number > number:
            raise UsageError(
                f"{self.ranks.number} processes share {number} training rows, and each needs one;"
                " start fewer (--nproc_per_node)."
            )
        if None in self.arms and self.settings.scout_steps:
            check_enough(number)
        if self._lock is not None:
            self._lock.take()
        hashes = model_hashes(self.settings) | tokenizer_identity(self.prepared.tokenizer)
        claim_folder(self.folder, self.settings, self.named, self.prepared.hashes, hashes)

    def store_logprobs(self) -> None:
        """Measure the better model where an objective compares with one, and name the files of
        log-probabilities.
        """
        self._check_model()
        self.files = store_logprobs(
            self.folder,
            self.settings,
            self.needs,
            self.prepared.train.rows,
            self.terminal,
            self.ranks,
        )

    def probe(self) -> None:
        """Probe the base model, on all rows where their log-probabilities are needed."""
        path = self.folder / "probe.json"
        store = None
        if "reference" in self.files and self.settings.reference is None:
            store = Path(self.files["reference"])
        rows = self.prepared.train.rows
        size = None if self.settings.all or store is not None else self.settings.probe_examples

        def probe() -> dict[str, Any]:
            self._check_model()
            return probe_rows(
                self.settings,
                self.prepared.tokenizer,
                sample(rows, size, seed=self.settings.seed),
                self.terminal,
                of_examples=len(rows),
                store=store,
                files=self.files,
                ranks=self.ranks,
                groups=self.prepared.rows.groups,
            )

        done = path.is_file() and (store is None or store.is_file())
        self.probe_record = self._recorded(path, "probe", probe, done=done, together=True)

    def scout(self) -> None:
        """Send a scout and probe again after it, where the choice is left to the probe."""
        if None not in self.arms or self.settings.scout_steps == 0:
            return
        path = self.folder / "scout.json"

        def scout() -> dict[str, Any]:
            self._check_model()
            return probe_with_scout(
                self.settings,
                self.prepared.tokenizer,
                self.prepared.train.rows,
                self.terminal,
                before=self.probe_record,
                ranks=self.ranks,
            )

        self.scout_record = self._recorded(path, "scout", scout, done=path.is_file())

    def _recorded(
        self,
        path: Path,
        kind: str,
        work: Callable[[], dict[str, Any]],
        *,
        done: bool,
        together: bool = False,
    ) -> dict[str, Any]:
        """Return a stage's record; if it is not done, of its work, which the first process writes.

        Args:
            together: all processes share the work; else the first does it, and the others wait.
        """
        self.ranks.wait()  # until all have looked at the record
        record = None
        if not done and (together or self.ranks.is_first):
            content = work()
            if self.ranks.is_first:
                record = write_record(path, kind, content)
        self.ranks.wait()
        return read_record(path, kind) if record is None else record

    # --- the objectives -------------------------------------------------------------------------

    def choose(self) -> dict[Objective, Objective]:
        """Settle on the objectives to train.

        Returns:
            The candidates first, then those of `compare`, each with what it is with shares of
            tokens as thresholds of the base model.
        """
        suggested = as_launched(read_objective(self.suggestion["objective"]), self.terminal)
        self.candidates = tuple(dict.fromkeys(arm or suggested for arm in self.arms))
        self.chosen = self.candidates[0]
        if len(self.arms) > 1:
            steps = self.probe_record["features"]["steps"]
            rows = len(self.prepared.heldout.rows)
            self.terminal.say(cost(self.candidates, steps, rows))
        percentiles = self.probe_record["percentiles"]
        objectives = {
            objective: objective.fixed(lambda share: base_quantile(percentiles, share))
            for objective in (*self.candidates, *self.others)
        }
        for objective, with_thresholds in objectives.items():
            try:
                check_weights(with_thresholds, percentiles)
            except UsageError as error:
                if objective in self.arms:
                    raise
                self.terminal.say(f"Warning: {error}")  # of a comparison it is a result
            if with_thresholds != objective:
                self.terminal.say(
                    f"{objective} is {with_thresholds}, by the base model's quantiles."
                )
        return objectives

    def weigh(self) -> None:
        """Weigh the training rows by two scouts, where an objective needs their weights."""
        if not weighed_by_scouts(self.settings, (*self.candidates, *self.others)):
            return
        path, prepared = self.folder / "weights.json", self.prepared

        def weigh() -> dict[str, Any]:
            self._check_model()
            rows, terminal = prepared.train.rows, self.terminal
            return weigh_rows(self.settings, prepared.tokenizer, rows, terminal, ranks=self.ranks)

        done = path.is_file()
        self.weights_record = self._recorded(path, "weights", weigh, done=done, together=True)
        self.terminal.say(in_words(self.weights_record))

    def select(self, heldout: dict[str, HeldOut]) -> None:
        """Take the candidate with the best held-out rows, where there are several, and remove the
        models of the others if the settings say so.

        Args:
            heldout: the measurements of all models by their names.
        """
        if len(self.candidates) == 1:
            return
        with self.ranks.first():  # the others read its record
            self.select_record = select(
                self.folder / "select.json",
                {str(objective): heldout[str(objective)] for objective in self.candidates},
                decoding=self.settings.decoding,
                steps=self.probe_record["features"]["steps"],
            )
        taken = self.select_record["objective"]
        self.chosen = next(o for o in self.candidates if str(o) == taken)
        self.terminal.say(f"{self.select_record['reason']} Taking {taken}.")
        if self.settings.keep == "taken" and self.ranks.is_first:
            losers = {*self.candidates} - {self.chosen, *self.others}
            remove_models([self.model_folder(objective) for objective in losers])

    # --- training and measuring -----------------------------------------------------------------

    def train(
        self, objective: Objective, with_thresholds: Objective, turn: Turn | None = None
    ) -> dict[str, Any]:
        """Train an objective and return the record; its folder has the name that the user wrote."""
        self._check_model()
        self.ranks.wait()
        record = train_stage(
            self.model_folder(objective).parent,
            with_thresholds,
            self.settings,
            self.prepared,
            self.terminal,
            self.files,
            turn=turn,
            trackers=self.trackers,
            card=self._card(objective),
            row_weights=weights_of_rows(self.weights_record),
        )
        self.ranks.wait()
        return record

    def measure_base(self) -> HeldOut:
        """Measure the base model on the held-out rows."""
        return self._measure(self.folder / "base", self.settings.model, "base model")

    def measure(self, objective: Objective) -> HeldOut:
        """Measure an objective's model on the held-out rows."""
        model = self.model_folder(objective)
        return self._measure(model.parent, str(model), str(objective))

    def _measure(self, folder: Path, model_name: str, label: str) -> HeldOut:
        path = folder / "heldout.json"
        done = path.is_file()
        self.ranks.wait()
        if done:
            return HeldOut.from_dict(read_record(path, "heldout"))
        if folder.name == "base":
            self._check_model()
        else:
            self._check_trained(Path(model_name))
        heldout = measure_heldout(
            model_name,
            self.prepared,
            self.settings,
            self.terminal,
            label=f"measuring {label}",
            ranks=self.ranks,
            tokens=folder / "tokens.json",
            base_tokens=self.folder / "base" / "tokens.json",
        )
        if self.ranks.is_first:
            record = write_record(path, "heldout", heldout.to_dict())
            self._report(folder, label, record)
        self.ranks.wait()
        return heldout

    def _report(self, folder: Path, name: str, heldout: dict[str, Any]) -> None:
        """Report a measurement to the trackers; of the base model also the probe."""
        values = {f"heldout/{k}": v["value"] for k, v in heldout["metrics"].items()}
        values |= {f"heldout/{k}": v["value"] for k, v in heldout["rates"].items()}
        if folder.name == "base":
            names = ("mean_p", "nll", "entropy", "token_accuracy", "below_0_1")
            values |= {f"probe/{name}": self.probe_record[name]["value"] for name in names}
            histograms, step = {"probe/p": self.probe_record["histogram"]}, 0
        else:
            histograms, step = {}, read_record(folder / "train.json", "train")["steps"]
        values = {name: value for name, value in values.items() if value is not None}
        self.trackers.log(name, folder.name, values, step, histograms)

    def _check_model(self) -> None:
        """Refuse a base model that is not the one the run began with."""
        check_model(self.folder, self.settings)

    def _check_trained(self, model: Path) -> None:
        """Refuse a fine-tuned model that is not the one that was saved.

        Raises:
            TrainingError: with the file and the way out.
        """
        reason = damage(model)
        if reason is not None:
            raise TrainingError(
                f"{model} is not the model that was trained: {reason}. Remove"
                f" {model.parent / 'train.json'}, and the same command trains it again."
            )

    def finish(
        self, trained: dict[str, dict[str, Any]], heldout: dict[str, HeldOut]
    ) -> dict[str, Any]:
        """Compare the models, write the record and the report, and return the record."""
        reason = "asked for" if self.arms[0] is not None else self.suggestion["reason"]
        if self.select_record is not None:
            reason = self.select_record["reason"]

        def content() -> dict[str, Any]:
            return {
                "settings": self.settings.to_dict(),
                "environment": environment(),
                "data": self.prepared.to_dict(),
                "probe": self.probe_record,
                "scout": self.scout_record,
                "row_weights": self.weights_record,
                "choice": {
                    "objective": str(self.chosen),
                    "sources": sources_of(self.named),
                    "asked": self.settings.objective,
                    "reason": reason,
                    "select": self.select_record,
                },
                "runs": [
                    {"name": name, "train": trained.get(name), "heldout": result.to_dict()}
                    for name, result in heldout.items()
                ],
                "comparisons": compare_heldout(heldout),
                "tokens_of_rows": self._tokens(heldout),
                "weights": weights_of([read_objective("nll"), *self.candidates, *self.others]),
                "seconds": time.monotonic() - self.started,
            }

        record = self._recorded(self.folder / "record.json", "tune", content, done=False)
        if self.ranks.is_first:
            write_text(self.folder / "report.html", render([record]))
            for objective in dict.fromkeys((*self.candidates, *self.others)):
                update_card(self.model_folder(objective), self._card(objective, record))
            upload(self.model_folder(self.chosen), self.chosen, self.settings, self.terminal)
        self.ranks.wait()
        return record

    def _card(self, objective: Objective, record: dict[str, Any] | None = None) -> str:
        """Return the card of an objective's model."""
        settings, probe, scout = self.settings, self.probe_record, self.scout_record
        return run_card(objective, settings, self.prepared, probe, scout, record)

    def _tokens(self, names: Iterable[str]) -> dict[str, Any] | None:
        """Return the target tokens of some held-out rows under every model, packed."""
        files = {
            name: self.folder / ("base" if name == "base" else slug(name)) / "tokens.json"
            for name in names
        }
        return heldout_tokens(files, self.prepared.heldout.rows, self.prepared.tokenizer)

    # --- words ----------------------------------------------------------------------------------

    def _explanation(self) -> str:
        """Return what the probe says, and what is trained for it."""
        suggestion = self.suggestion
        where = "Probe" if self.scout_record is None else "Probe after a scout"
        lines = [
            f"{where}: {suggestion['verdict']}. {suggestion['reason']}",
            *suggestion["cautions"],
        ]
        if self.scout_record is not None and "decodings" in self.scout_record:
            lines.append(self.scout_record["decodings"])
        if self.arms != (None,):
            (objective, *others) = self.arms
            named = self.settings.objective if others else objective
            lines.append(f"Training {named}, as asked for.")
            return "\n".join(lines)
        lines.append(f"Training {suggestion['objective']}.")
        if suggestion["undecided"]:
            lines.append(
                f"The probe cannot tell {' from '.join(suggestion['race'])}; to let held-out rows"
                f" decide, --objective 'select:{','.join(suggestion['race'])}'."
            )
        return "\n".join(lines)
