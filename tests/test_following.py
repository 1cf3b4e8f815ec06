"""A training can be followed: lines where no terminal is attached, metrics.jsonl, trackers."""

import importlib.util
import json
import re
import sys
import types

import helpers
import pytest
import torch

from probtune.cli import main
from probtune.errors import UsageError
from probtune.models.head import PerToken
from probtune.pipeline.metrics import MetricsFile, Turn, read_metrics
from probtune.pipeline.trackers import Trackers, check_trackers, foreign, tracker_names
from probtune.settings import TuneSettings
from probtune.terminal import Terminal
from probtune.training.counts import P_BINS, p_histogram

LINE = re.compile(
    r"(?P<name>\S+) \((?P<number>\d) of 2\)  step (?P<step>\d+) of 12  nll [\d.]+  mean p [\d.]+"
    r"  [\d,]+ tokens/s  [\d:]+ left, [\d:]+ of all"
)


def tune_arguments(model, data, out, *more):
    return [
        *("tune", str(model), str(data), "--objective", "nll", "--compare", "p"),
        *("--max-steps", "12", "--batch-size", "4", "--gradient-accumulation", "1"),
        *("--probe-examples", "16", "--heldout", "8", "--out", str(out), *more),
    ]


@pytest.fixture()
def rows(tmp_path):
    return helpers.write_jsonl(tmp_path / "sums.jsonl", helpers.sums(48))


def test_a_piped_training_prints_a_line_for_every_log_entry(word_model, rows, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(tune_arguments(word_model, rows, out)) == 0
    said = capsys.readouterr().err.splitlines()
    lines = [match for line in said if (match := LINE.fullmatch(line))]
    assert [(m["name"], m["number"], m["step"]) for m in lines] == [
        *(("nll()", "1", step) for step in ("1", "10", "12")),
        *(("p()", "2", step) for step in ("1", "10", "12")),
    ]
    assert any(re.fullmatch(r"measuring base model  \d+ of \d+  \d:\d\d", line) for line in said)
    for slug in ("nll", "p"):
        entries = read_metrics(out / slug / "metrics.jsonl")
        log = json.loads((out / slug / "train.json").read_text())["log"]
        assert [e["step"] for e in entries] == [1, 10, 12]
        # What follows the last regular entry is in the file alone.
        nll = {entry["step"]: entry["nll"] for entry in entries}
        assert {e["step"]: e["nll"] for e in log}.items() <= nll.items()
        for entry in entries:
            assert entry["of"] == 12 and "train_runtime" not in entry
            assert entry["tokens_per_second"] > 0
            tokens = entry["p_histogram"]
            middle = sum(n * (i + 0.5) / P_BINS for i, n in enumerate(tokens)) / sum(tokens)
            assert abs(middle - entry["mean_p"]) <= 0.5 / P_BINS


def test_histograms_count_supervised_tokens_once():
    logp = torch.tensor([[0.0, -50.0, 0.5], [0.049, 0.06, 0.9999]])
    logp[0, 2], logp[1] = torch.log(logp[0, 2]), torch.log(logp[1])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    other = torch.zeros_like(logp)
    counts = p_histogram(PerToken(other.sum(), logp, other, mask, other, other, mask, mask))
    expected = torch.zeros(P_BINS, dtype=torch.long)
    expected[0], expected[1], expected[10], expected[19] = 2, 1, 1, 1
    torch.testing.assert_close(counts, expected)


def test_a_resumed_file_holds_every_step_once(tmp_path):
    file = MetricsFile(tmp_path / "x" / "metrics.jsonl")
    file.begin(0)
    for step in (1, 10, 20):
        file.add({"step": step})
    with (tmp_path / "x" / "metrics.jsonl").open("a") as text:
        text.write('{"step": 3')  # the process was killed here
    file.begin(15)
    file.add({"step": 20})
    assert [e["step"] for e in read_metrics(tmp_path / "x" / "metrics.jsonl")] == [1, 10, 20]
    assert read_metrics(tmp_path / "none") == []


def test_what_is_left_of_all():
    """The second of three trainings of 100 s, each measured for 10 s, is half done."""
    assert Turn(2, 3, 10.0).left(50.0, 100.0) == 50 + 10 + 100 + 10
    assert Turn(3, 3, 10.0).left(0.0, 100.0) == 10
    assert Turn().left(7.0, 100.0) == 7


def test_progress_in_a_file_is_lines(capsys, monkeypatch):
    monkeypatch.setattr("probtune.terminal._SECONDS_BETWEEN_LINES", 0.0)
    with Terminal().track("reading " + 20 * "long ", 4) as advance:
        for note in ("a", "b"):
            advance(2, note=note)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3  # no line is broken at the width of a terminal that is not there
    assert lines[0].endswith("2 of 4  0:00  0:00 left  a") and lines[2].endswith("0:00  b")


# --- trackers -----------------------------------------------------------------------------------


def settings(**changes):
    return TuneSettings("model", "data.jsonl", **changes)


def test_names_of_trackers():
    assert tracker_names(settings()) == () and foreign(settings()) == "none"
    assert tracker_names(settings(report_to="none")) == ()
    both = settings(report_to="trackio, wandb", training={"report_to": "tensorboard"})
    assert tracker_names(both) == ("trackio", "wandb", "tensorboard")
    assert foreign(both) == "none"
    assert foreign(settings(training={"report_to": ["comet_ml", "wandb"]})) == ["comet_ml"]
    with pytest.raises(UsageError, match="--training report_to"):
        tracker_names(settings(report_to="comet_ml"))


def test_where_a_run_is_reported_does_not_change_the_run():
    assert settings(report_to="trackio").to_dict() == settings().to_dict()


def test_a_missing_package_is_said_before_any_work(monkeypatch, word_model, rows, tmp_path, capsys):
    monkeypatch.setattr(
        "probtune.pipeline.trackers.importlib.util.find_spec",
        lambda name: None if name in ("trackio", "mlflow") else object(),
    )
    out = tmp_path / "out"
    assert main(tune_arguments(word_model, rows, out, "--report-to", "trackio,mlflow")) == 2
    error = capsys.readouterr().err
    assert "pip install trackio mlflow" in error and len(error.splitlines()) == 1
    assert not out.exists()


def test_wandb_without_a_key(monkeypatch):
    keyless = types.SimpleNamespace(api=types.SimpleNamespace(api_key=None))
    monkeypatch.setitem(sys.modules, "wandb", keyless)
    monkeypatch.setattr("probtune.pipeline.trackers.importlib.util.find_spec", lambda name: 1)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(UsageError, match="wandb login"):
        check_trackers(["wandb"])
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_trackers(["wandb"])


def test_wandb_has_one_run_for_each_objective_in_one_group(monkeypatch, tmp_path):
    """W&B's interface by a fake: what is asked of it, and that every run is ended."""
    begun, logged, ended = [], [], []

    class Run:
        def define_metric(self, *names, **options): ...

        def log(self, values):
            logged.append(values)

        def finish(self):
            ended.append(self)

    def init(**options):
        begun.append(options)
        return Run()

    fake = types.SimpleNamespace(init=init, Histogram=lambda np_histogram: np_histogram)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    (tmp_path / "run.json").write_text("{}")
    trackers = Trackers(("wandb",), tmp_path)
    for name in ("nll()", "p()", "p()"):
        trackers.log(name, name[:-2], {"heldout/nll": 1.0}, 12, {"p": [1, 2]})
    assert [run["name"] for run in begun] == ["nll()", "p()", "p()"]
    assert len({run["group"] for run in begun}) == 1
    assert begun[0]["id"] != begun[1]["id"] == begun[2]["id"]  # taken up again, not a new one
    assert begun[0]["dir"] == str(tmp_path / "logs")
    assert logged[:2] == [
        {"p": ([1, 2], [0.0, 0.5, 1.0]), "step": 12},
        {"heldout/nll": 1.0, "step": 12},
    ]
    assert len(ended) == 3


def need(package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package.upper()} IS NOT INSTALLED: this test has not run; pip install it")


def test_tensorboard_for_real(word_model, rows, tmp_path):
    need("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "out"
    assert main(tune_arguments(word_model, rows, out, "--report-to", "tensorboard")) == 0
    assert not list(out.glob("*/checkpoints"))
    for slug in ("base", "nll", "p"):
        events = EventAccumulator(str(out / "logs" / slug), {"scalars": 0, "histograms": 0})
        events.Reload()
        tags = events.Tags()
        heldout = json.loads((out / slug / "heldout.json").read_text())
        (measured,) = events.Scalars("heldout/nll")
        assert measured.value == pytest.approx(heldout["metrics"]["nll"]["value"], rel=1e-6)
        if slug == "base":
            assert "probe/mean_p" in tags["scalars"] and "probe/p" in tags["histograms"]
            continue
        entries = read_metrics(out / slug / "metrics.jsonl")
        nll = {event.step: event.value for event in events.Scalars("train/nll")}
        assert nll == pytest.approx({entry["step"]: entry["nll"] for entry in entries}, rel=1e-6)
        histograms = events.Histograms("train/p")
        assert [h.step for h in histograms] == [1, 10, 12]
        assert [h.histogram_value.num for h in histograms] == [
            sum(entry["p_histogram"]) for entry in entries
        ]


def test_trackio_for_real(word_model, rows, tmp_path, monkeypatch):
    need("trackio")
    import trackio

    monkeypatch.setattr(trackio.sqlite_storage, "TRACKIO_DIR", tmp_path / "trackio")
    out = tmp_path / "out"
    arguments = tune_arguments(word_model, rows, out, "--report-to", "trackio")
    assert main([*arguments, "--training", "project=sums"]) == 0
    storage = trackio.sqlite_storage.SQLiteStorage
    runs = storage.get_runs("sums")
    names = sorted(run if isinstance(run, str) else run["name"] for run in runs)
    assert [name.rsplit("-", 1)[0] for name in names] == ["out-base", "out-nll", "out-p"]
    logs = storage.get_logs("sums", names[2])
    heldout = json.loads((out / "p" / "heldout.json").read_text())
    values = [entry["heldout/nll"] for entry in logs if "heldout/nll" in entry]
    assert values == pytest.approx([heldout["metrics"]["nll"]["value"]])
    steps = [entry["step"] for entry in logs if "train/nll" in entry]
    assert steps == [1, 10, 12]
    assert sum("train/p" in entry for entry in logs) == 3


def wandb_records(path):
    """Records of one of W&B's local files: a LevelDB log behind seven bytes of its own."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # the rest of a block is empty
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def test_wandb_for_real(word_model, rows, tmp_path, monkeypatch):
    """Its local files: a run for each objective in one group, and the same numbers."""
    need("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    out = tmp_path / "out"
    assert main(tune_arguments(word_model, rows, out, "--report-to", "wandb")) == 0
    runs, history, objectives = {}, {}, {}
    for path in sorted((out / "logs" / "wandb").glob("offline-run-*/*.wandb")):
        name = ""
        for record in wandb_records(path):
            if record.WhichOneof("record_type") == "run":
                name = record.run.display_name
                for item in record.run.config.update:
                    if item.key == "objective":
                        objectives[name] = json.loads(item.value_json)
                runs.setdefault(name, set()).add((record.run.run_id, record.run.run_group))
            elif record.WhichOneof("record_type") == "history":
                items = {
                    item.key or ".".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }
                history.setdefault(name, []).append(items)
    assert sorted(runs) == ["base model", "nll()", "p()"]
    assert objectives == {"nll()": "nll()", "p()": "p()"}
    assert all(len(identities) == 1 for identities in runs.values())  # taken up again, not anew
    assert {group for identities in runs.values() for _, group in identities} == {"out"}
    for slug in ("nll", "p"):
        logged = history[f"{slug}()"]
        nll = {items["step"]: items["train/nll"] for items in logged if "train/nll" in items}
        entries = read_metrics(out / slug / "metrics.jsonl")
        assert nll == pytest.approx({entry["step"]: entry["nll"] for entry in entries})
        bins = [items["train/p.values"] for items in logged if "train/p.values" in items]
        assert bins == [entry["p_histogram"] for entry in entries]
        heldout = json.loads((out / slug / "heldout.json").read_text())
        measured = [items["heldout/nll"] for items in logged if "heldout/nll" in items]
        assert measured == pytest.approx([heldout["metrics"]["nll"]["value"]])
    assert any("probe/mean_p" in items for items in history["base model"])


@pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")  # MLflow's own
def test_mlflow_for_real(word_model, tmp_path, monkeypatch):
    need("mlflow")
    import mlflow

    monkeypatch.chdir(tmp_path)
    kinds = ("sums (odd), 50%", "even")
    sums = [{**row, "kind": kinds[i % 2]} for i, row in enumerate(helpers.sums(48))]
    rows = helpers.write_jsonl(tmp_path / "sums.jsonl", sums)
    out = tmp_path / "out"
    arguments = tune_arguments(word_model, rows, out, "--report-to", "mlflow")
    assert main([*arguments, "--group-by", "kind"]) == 0
    mlflow.set_tracking_uri(f"sqlite:///{out / 'logs' / 'mlflow.db'}")
    runs = mlflow.search_runs(experiment_names=["out"], output_format="list")
    assert sorted(run.info.run_name for run in runs) == ["base model", "nll()", "p()"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    client = mlflow.MlflowClient()
    for run in runs:
        if run.info.run_name == "base model":
            assert "probe/mean_p" in run.data.metrics
            continue
        slug = run.info.run_name.removesuffix("()")
        assert run.data.params["objective"] == run.info.run_name
        entries = read_metrics(out / slug / "metrics.jsonl")
        for what, values in (
            ("train/nll", {entry["step"]: entry["nll"] for entry in entries}),
            (
                "train/nll of sums _odd__ 50_",  # MLflow refuses the characters of the group
                {entry["step"]: entry["groups"][kinds[0]]["nll"] for entry in entries},
            ),
        ):
            logged = client.get_metric_history(run.info.run_id, what)
            assert {m.step: m.value for m in logged} == pytest.approx(values)
        heldout = json.loads((out / slug / "heldout.json").read_text())
        assert run.data.metrics["heldout/nll"] == pytest.approx(heldout["metrics"]["nll"]["value"])
        histogram = mlflow.artifacts.load_dict(
            f"{run.info.artifact_uri}/histograms/train-p-12.json"
        )
        assert histogram["counts"] == entries[-1]["p_histogram"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "sums.jsonl"]
