import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from probtune.errors import DataError, ProbtuneError
from probtune.records import SCHEMA_VERSION, digest, environment, read_record, write_record
from probtune.statistics import Estimate


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
