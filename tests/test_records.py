import json
import math
import re
import subprocess
import sys
from pathlib import Path

import helpers
import numpy as np
import pytest

from probtune import pipeline
from probtune.errors import DataError, ProbtuneError
from probtune.records import SCHEMA_VERSION, digest, environment, read_record, write_record
from probtune.settings import TuneSettings
from probtune.statistics import Estimate
from probtune.terminal import Terminal


def test_round_trip_and_plain_types(tmp_path):
    path = tmp_path / "deep" / "record.json"
    written = write_record(
        path,
        "test",
        {
            "estimate": Estimate(1.0, math.nan, math.nan, math.inf, 3),
            "array": np.arange(3),
            "number": np.float32(0.5),
            "path": Path("a/b"),
            "text": "é\u2028",
        },
    )
    assert read_record(path, "test") == written
    assert written["estimate"] == {
        "value": 1.0, "standard_error": None, "low": None, "high": None, "n": 3
    }  # fmt: skip
    assert written["array"] == [0, 1, 2] and written["number"] == 0.5 and written["path"] == "a/b"
    assert written["schema"] == SCHEMA_VERSION
    json.loads(path.read_text())  # NaN would not be JSON


def test_what_does_not_belong_in_a_record(tmp_path):
    with pytest.raises(TypeError, match="object does not belong"):
        write_record(tmp_path / "r.json", "test", {"x": object()})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text, said",
    [
        ("{", "not JSON"),
        ("[]", "not a record of probtune"),
        ('{"kind": "test", "schema": 999}', "newer than"),
        ('{"kind": "other", "schema": 1}', "of kind 'other', expected 'test'"),
    ],
)
def test_wrong_records_are_named(tmp_path, text, said):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_record(path, "test")


def test_missing_record(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_record(tmp_path / "none.json")


def test_a_failed_write_keeps_the_old_file(tmp_path):
    """With a limit on file size, as on a full disk: one clear error, nothing half-written."""
    path = tmp_path / "record.json"
    write_record(path, "test", {"x": 1})
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from probtune.records import write_record; from probtune.errors import ProbtuneError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_record(Path(sys.argv[1]), 'test', {'x': 'y' * 100_000})\n"
        "except ProbtuneError as error: print(error)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert "cannot write" in out.stdout and "File too large" in out.stdout
    assert read_record(path)["x"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ProbtuneError, match="cannot write"):
        write_record(tmp_path / "file" / "record.json", "test", {})


def test_digest_sees_content_and_order():
    assert digest([1, 2]) != digest([2, 1])
    assert digest([{"a": 1, "b": 2}]) == digest([{"b": 2, "a": 1}])
    assert digest(["ab"]) != digest(["a", "b"])


def test_environment_names_versions_and_hardware():
    content = environment()
    assert content["versions"]["torch"] and content["cores"] >= 1 and content["python"]


# --- what docs/records.md says of a run's folder -------------------------------------------------

_PAGE = (Path(__file__).parents[1] / "docs" / "records.md").read_text()
_OF_MODEL = "DIR/<objective>/model/"


def _documented():
    """Path of each file in the table -> its kinds."""
    files = {}
    for line in _PAGE.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if line.startswith("|") and len(cells) == 3:
            for name in re.findall(r"`(DIR/[^`]*)`", cells[0]):
                files.setdefault(name, set()).update(cells[1].split(", "))
    return files


@pytest.fixture(scope="module")
def run_folder(word_model, tmp_path_factory):
    """A run with all that leaves files: scout, stored log-probabilities, selection, groups."""
    pytest.importorskip("torch")
    out = tmp_path_factory.mktemp("files") / "out"
    rows = [{**row, "kind": "odd" if i % 2 else "even"} for i, row in enumerate(helpers.sums(40))]
    settings = TuneSettings(
        str(word_model),
        str(helpers.write_jsonl(out.parent / "rows.jsonl", rows)),
        objective="select:auto,p",
        compare="on_reference(nll())",
        max_steps=3,
        heldout=8,
        group_by="kind",
        out=str(out),
    )
    pipeline.tune(settings, Terminal(quiet=True))
    return out


def test_every_file_of_a_run_is_documented(run_folder):
    documented = _documented()
    slugs = {path.parent.name for path in run_folder.glob("*/train.json")}
    assert len(slugs) == 3
    seen = set()
    for path in sorted(p for p in run_folder.rglob("*") if p.is_file()):
        parts = ["<objective>" if p in slugs else p for p in path.relative_to(run_folder).parts]
        name = "/".join(["DIR", *parts])
        if name.startswith(_OF_MODEL) and name != f"{_OF_MODEL}manifest.json":
            name = _OF_MODEL
        assert name in documented, name
        seen.add(name)
        if path.suffix == ".json" and name != _OF_MODEL and "manifest" not in name:
            assert json.loads(path.read_text())["kind"] in documented[name], name
    assert {f"DIR/{name}" for name in ("scout.json", "select.json", "reference.arrow")} <= seen
    assert "DIR/<objective>/metrics.jsonl" in seen and (run_folder / "p/model/README.md").is_file()


def test_every_field_of_the_metrics_is_documented(run_folder):
    (text,) = re.findall(r"^\*\*metrics\.jsonl\*\*:(.*?)\n\n", _PAGE, re.M | re.S)
    named = set(re.findall(r"`(\w+)`", text))
    for path in run_folder.glob("*/metrics.jsonl"):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            assert set(entry) <= named, set(entry) - named
            assert all(set(numbers) <= named for numbers in entry["groups"].values())
