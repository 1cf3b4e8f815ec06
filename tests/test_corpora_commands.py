"""`probtune prepare`, and the page of the training sets."""

import importlib
import json
import sys
from pathlib import Path

import helpers
import pytest

from probtune.cli import main
from probtune.paper.corpora import CORPORA

ROOT = Path(__file__).resolve().parents[1]


def test_the_list_shows_every_set_with_its_licence(capsys):
    assert main(["prepare", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for entry in CORPORA.values():
        (line,) = [x for x in lines if x.split()[:2] == [entry.name, entry.domain]]
        assert entry.licences in line


@pytest.mark.parametrize("name", CORPORA)
def test_a_dry_run_says_what_would_be_done_without_a_network(name, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["prepare", name, "--dry-run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    entry = CORPORA[name]
    assert all(part.dataset in said and part.licence in said for part in entry.parts)
    assert entry.states in said and entry.ours in said and "(to be made)" in said
    assert ("may not be passed on" in said) is not entry.redistributable
    assert list(tmp_path.iterdir()) == []


def test_local_rows_are_prepared_and_compared(shared_data, tmp_path, capsys):
    row = json.loads((shared_data / "math500" / "test.jsonl").read_text().split("\n")[0])
    part = CORPORA["magicoder"].parts[0]
    data = helpers.write_jsonl(
        tmp_path / "rows.jsonl", [part.example, {**part.example, "problem": row["problem"]}]
    )
    command = ["prepare", "code/magicoder", "--data", str(data), "--out", str(tmp_path / "out")]
    check = ["--check-against", "math500", "--data-benchmarks", str(shared_data)]
    assert main([*command, *check, "--ngrams", "13"]) == 0
    said = capsys.readouterr()
    assert "2 rows; the paper says 75k" in said.out and "1 of 497 (0.20%)" in said.out
    assert "1 of 2 (50.00%)" in said.out and row["unique_id"] in said.out
    assert main(command) == 0
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "--list shows them"),
        (["nothing"], "no corpus 'nothing'"),
        (["magicoder", "--ngrams", "1"], "--ngrams must be numbers of words"),
        (["magicoder", "--data", "absent.jsonl"], "absent.jsonl: no such file"),
        (["magicoder", "--check-against", "nothing"], "'nothing' is no task"),
    ],
)
def test_a_wrong_request_is_one_line(arguments, said, tmp_path, capsys):
    assert main(["prepare", *arguments, *(["--out", str(tmp_path / "o")] if arguments else [])])
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "o").exists()


@pytest.fixture()
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    modules = {name: importlib.import_module(name) for name in ("blocks", "data_page")}
    yield modules
    for name in modules:
        sys.modules.pop(name)


@pytest.mark.parametrize("name", ["corpora", "stated", "notes", "contamination"])
def test_the_pages_tables_are_what_the_script_makes(name, scripts):
    page, blocks = scripts["data_page"], scripts["blocks"]
    assert set(page.TABLES) == {"corpora", "stated", "notes", "contamination"}
    assert blocks.block(page.DOCUMENT, name) == blocks.markdown(page.TABLES[name]())
