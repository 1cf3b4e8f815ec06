"""Sources of rows: files, several of them, folders, addresses, standard input; and the
name of a bad row."""

import gzip
import http.server
import io
import json
import sys
import threading

import datasets
import helpers
import pyarrow
import pyarrow.parquet
import pytest

from probtune.data.rows import read_rows
from probtune.errors import DataError, UsageError

ROWS = helpers.sums(6)
PAIRS = [(row["prompt"], row["completion"]) for row in ROWS]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def pairs(source, **options):
    return [(e.prompt, e.completion) for e in read_rows(str(source), **options).examples]


def test_compressed_files_and_their_lines(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(LINES.encode()))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"prompt,completion\na,b\n"))
    assert pairs(tmp_path / "a.jsonl.gz") == PAIRS
    assert pairs(tmp_path / "a.csv.gz") == [("a", "b")]
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress((LINES + "{\n").encode()))
    with pytest.raises(DataError, match=r"b\.jsonl\.gz:7 is not JSON"):
        read_rows(str(tmp_path / "b.jsonl.gz"))


def test_several_files_by_list_and_by_pattern(tmp_path):
    helpers.write_jsonl(tmp_path / "a.jsonl", ROWS[:2])
    (tmp_path / "b.json").write_text(json.dumps(ROWS[2:4]))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS[4:]), tmp_path / "c.parquet")
    named = ",".join(str(tmp_path / name) for name in ("a.jsonl", "b.json", "c.parquet"))
    assert pairs(named) == pairs(tmp_path / "[abc].*") == PAIRS
    with pytest.raises(UsageError, match="no such file"):
        read_rows(str(tmp_path / "*.nothing"))
    with pytest.raises(UsageError, match="no such file"):
        read_rows(f"{tmp_path / 'a.jsonl'},{tmp_path / 'd.jsonl'}")


def test_folders_as_the_hub_lays_them_out(tmp_path):
    table = pyarrow.Table.from_pylist(ROWS)
    hub = tmp_path / "hub" / "data"
    hub.mkdir(parents=True)
    (hub.parent / "README.md").write_text("# rows\n")
    pyarrow.parquet.write_table(table, hub / "train-00000-of-00001.parquet")
    pyarrow.parquet.write_table(table.slice(0, 1), hub / "test-00000-of-00001.parquet")
    assert pairs(hub.parent) == PAIRS and pairs(hub.parent, split="test") == PAIRS[:1]
    with pytest.raises(UsageError, match="no split 'dev'; it has train, test"):
        read_rows(str(hub.parent), split="dev")
    flat = tmp_path / "flat"
    flat.mkdir()
    helpers.write_jsonl(flat / "a.jsonl", ROWS[:3])
    helpers.write_jsonl(flat / "b.jsonl", [*ROWS[3:], {"prompt": "x", "completion": ""}])
    with pytest.raises(DataError, match=r"b\.jsonl:4 'completion' is empty"):
        read_rows(str(flat))
    assert pairs(flat, skip_bad_rows=True) == PAIRS


def test_arrow_files(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    (file,) = (tmp_path / "saved").glob("*.arrow")
    assert pairs(file) == PAIRS


@pytest.mark.parametrize("text", [LINES, json.dumps(ROWS), json.dumps(ROWS, indent=1)])
@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_standard_input(monkeypatch, name, text):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert pairs(name) == PAIRS


def test_addresses(tmp_path):
    helpers.write_jsonl(tmp_path / "a.jsonl", ROWS)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            assert pairs(f"http://127.0.0.1:{server.server_port}/a.jsonl") == PAIRS
        finally:
            server.shutdown()
            thread.join()


GOOD = json.dumps(ROWS[0])


@pytest.mark.parametrize(
    "bad, rule",
    [
        ('{"prompt": "a"', "is not JSON"),
        ('{"prompt": "smile \\ud83d", "completion": "ok"}', r"holds half a character \(\\ud83d\)"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"prompt": "a", "completion": "caf\udce9"}', "is not UTF-8 text"),
        ('{"prompt": "a", "completion": NaN}', "'completion' must be a text, got a number"),
        ('{"text": "a"}', "there is no response to train on"),
        ('{"prompt": "a", "completion": "b", "image": "x.png"}', "only models of texts"),
    ],
)
def test_a_bad_line_is_named_and_skippable(tmp_path, bad, rule):
    path = tmp_path / "a.jsonl"
    path.write_bytes(f"{GOOD}\n{bad}\n{GOOD}\n".encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=rule) as error:
        read_rows(str(path))
    assert "a.jsonl:2 " in str(error.value)
    rows = read_rows(str(path), skip_bad_rows=True)
    assert len(rows) == 2 and [row.where for row in rows.bad] == [f"{path}:2"]


def test_bad_rows_are_counted_by_their_rule(tmp_path):
    bad = ['{"prompt": "a", "completion": ""}'] * 3 + ["{"]
    (tmp_path / "a.jsonl").write_text("\n".join([GOOD, *bad]))
    with pytest.raises(DataError, match=r"3 rows: 'completion' is empty; 1 row: is not JSON"):
        read_rows(str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    "text, said",
    [
        ("prompt,completion\nName fruits,apples, pears, plums\n", r":2 has 4 fields.*header has 2"),
        ("prompt,completion\na,b\nc\n", r":3 has 1 fields"),
        ('prompt,completion\n"a\nb",c\nd,e,f\n', r":4 has 3 fields"),
        ("prompt,completion,completion\na,b,c\n", r":1 names the column 'completion' more than"),
    ],
)
def test_ragged_csv_is_an_error_with_its_line(tmp_path, text, said):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_rows(str(tmp_path / "a.csv"))


def test_csv_fields_may_be_long_and_quotes_are_explained(tmp_path):
    (tmp_path / "a.csv").write_text(f"prompt,completion\n{'a' * 200_000},b\n")
    assert len(pairs(tmp_path / "a.csv")[0][0]) == 200_000
    (tmp_path / "a.tsv").write_text('prompt\tcompletion\na\tb\nx\t"Yes," she said\nc\td\n')
    with pytest.raises(DataError, match=r"a\.tsv:3 is not CSV.*quotes inside it are doubled"):
        read_rows(str(tmp_path / "a.tsv"))
    assert pairs(tmp_path / "a.tsv", skip_bad_rows=True) == [("a", "b"), ("c", "d")]


def test_json_in_other_arrangements(tmp_path):
    path = tmp_path / "a.json"
    for text in (
        "\n".join(json.dumps(row, indent=2) for row in ROWS),
        json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}),
        json.dumps({"version": 1, "rows": ROWS}),
    ):
        path.write_text(text)
        assert pairs(path) == PAIRS
    path.write_text(json.dumps({"train": ROWS, "test": ROWS}))
    with pytest.raises(DataError, match=r"holds several lists \(train, test\)"):
        read_rows(str(path))
    (tmp_path / "b.jsonl").write_text(json.dumps(ROWS, indent=1))
    with pytest.raises(DataError, match=r"name it \.json"):
        read_rows(str(tmp_path / "b.jsonl"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet"])
def test_pointers_of_git_lfs(tmp_path, name):
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(DataError, match="git lfs pull"):
        read_rows(str(tmp_path / name))
