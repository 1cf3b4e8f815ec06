"""Files as people have them, one line a case: read right, or an error that names file, line, rule
and way out. Nothing is dropped in silence.
"""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from probtune.data.rows import read_rows
from probtune.errors import ProbtuneError

GOOD = '{"prompt": "a", "completion": "b"}'
PAIR = [("a", "b")]
U, A = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
CALL = {
    "role": "assistant",
    "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}],
}


def turns(*messages, **columns):
    return json.dumps({"messages": list(messages), **columns})


READ = {
    "byte order mark": ("a.jsonl", f"\ufeff{GOOD}\n", PAIR),
    "CRLF": ("a.jsonl", f"{GOOD}\r\n{GOOD}\r\n", PAIR * 2),
    "CR alone": ("a.jsonl", f"{GOOD}\r{GOOD}\r", PAIR * 2),
    "no newline at the end": ("a.jsonl", GOOD, PAIR),
    "blank lines": ("a.jsonl", f"\n{GOOD}\n\n", PAIR),
    "U+2028 and U+0085 in a text": (
        "a.jsonl",
        '{"prompt": "a\u2028c\x85", "completion": "b"}',
        [("a\u2028c\x85", "b")],
    ),
    "NUL as escape": ("a.jsonl", GOOD.replace("a", "a\\u0000", 1), [("a\x00", "b")]),
    "one object after another": ("a.json", GOOD + GOOD, PAIR * 2),
    "lines under .json": ("a.json", f"{GOOD}\n{GOOD}", PAIR * 2),
    "pretty list": ("a.json", json.dumps([json.loads(GOOD)], indent=2), PAIR),
    "quotes and newlines in CSV": (
        "a.csv",
        'prompt,completion\n"a ""x""\nb","c"\n',
        [('a "x"\nb', "c")],
    ),
    "CSV with a mark": ("a.csv", "\ufeffprompt,completion\na,b\n", PAIR),
    "CSV with blank lines": ("a.csv", "prompt,completion\n\na,b\n\n", PAIR),
    "TSV": ("a.tsv", "prompt\tcompletion\na\tb\n", PAIR),
    "upper-case suffix": ("A.JSONL", GOOD, PAIR),
}


@pytest.mark.parametrize("case", READ)
def test_read(tmp_path, case):
    name, content, expected = READ[case]
    (tmp_path / name).write_bytes(content.encode())
    rows = read_rows(str(tmp_path / name))
    assert [(e.prompt, e.completion) for e in rows.examples] == expected


REFUSED = {
    "UTF-16": ("a.jsonl", GOOD.encode("utf-16"), r"a\.jsonl:1 is not UTF-8.*looks like UTF-16"),
    "UTF-16 CSV": ("a.csv", "prompt,completion\n".encode("utf-16"), r"a\.csv:1 is not UTF-8"),
    "Latin-1": ("a.jsonl", '{"prompt": "é"}'.encode("latin-1"), r":1 is not UTF-8.*character 13"),
    "NaN": (
        "a.jsonl",
        GOOD + '\n{"prompt": NaN, "completion": "b"}',
        r":2 'prompt' must be a text",
    ),
    "a field twice": (
        "a.jsonl",
        GOOD + '\n{"prompt": "a", "completion": "b", "completion": "c"}',
        r":2 has the field 'completion' more than once",
    ),
    "a field of a turn twice": (
        "a.json",
        '[{"messages": [{"role": "user", "content": "a", "content": "b"}]}]',
        r"a\.json has the field 'content' more than once",
    ),
    "5000 digits": (
        "a.jsonl",
        GOOD[:-1] + ', "n": ' + "9" * 5000 + "}",
        r":1 is not JSON: Exceeds",
    ),
    "empty": ("a.jsonl", "", "holds no rows"),
    "empty JSON": ("a.json", " ", "holds no rows"),
    "empty list": ("a.json", "[]", "holds no rows"),
    "header alone": ("a.csv", "prompt,completion\n", "holds no rows"),
    "null": ("a.json", "null", "must hold a list of rows, got nothing"),
    "list in .jsonl": ("a.jsonl", f"[{GOOD}]", r":1 is not an object.*a \.json file"),
    "pretty list in .jsonl": ("a.jsonl", f"[\n{GOOD}\n]", r":1 is not JSON.*name it \.json"),
    "comma after each line": ("a.jsonl", f"{GOOD},\n{GOOD},\n", r":1 is not JSON: Extra data"),
    "comma before the end": ("a.json", f"[{GOOD},\n]", "is not JSON"),
    "comment": ("a.jsonl", f"// rows\n{GOOD}", r":1 is not JSON"),
    "single quotes": ("a.jsonl", GOOD.replace('"', "'"), r":1 is not JSON"),
    "semicolons": ("a.csv", "prompt;completion\na;b\n", r":1 has the one column.*commas"),
    "tabs in CSV": ("a.csv", "prompt\tcompletion\na\tb\n", r"name it \.tsv"),
    "commas in TSV": ("a.tsv", "prompt,completion\na,b\n", r"name it \.csv"),
    "no header": (
        "a.csv",
        "what is it,an answer\nx,y\n",
        r":2 has no known shape.*--prompt-column",
    ),
    "empty cell": ("a.csv", "prompt,completion\na,\n", r":2 'completion' is empty"),
    "gzip without suffix": ("a.jsonl", gzip.compress(GOOD.encode()), r"gzip: add \.gz"),
    "no gzip": ("a.jsonl.gz", GOOD, "Not a gzipped file"),
    "half a gzip": ("a.jsonl.gz", gzip.compress(GOOD.encode() * 99)[:-9], "ended before"),
    "a spreadsheet": ("a.xlsx", "PK", "unknown format '.xlsx'; known are"),
    "no suffix": ("rows", GOOD, "unknown format ''"),
    "a role of a story": ("a.jsonl", turns({"role": "narrator", "content": "a"}, A), "narrator"),
    "an image part": (
        "a.jsonl",
        turns({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, A),
        r"messages\[0\] has a part of the type 'image_url'; only models of texts",
    ),
    "a thought as part": (
        "a.jsonl",
        turns(U, {"role": "assistant", "content": [{"type": "thinking", "thinking": "t"}]}),
        r"messages\[1\] has a part of the type 'thinking'; only text is read",
    ),
    "half a weight": ("a.jsonl", turns(U, {**A, "weight": 0.5}), r"'weight' = 0\.5"),
    "a flag as text": ("a.jsonl", turns(U, {**A, "train": "false"}), "'train' = 'false'"),
    "no turn to train": ("a.jsonl", turns(U, {**A, "weight": 0}), "excludes every assistant"),
    "no answer": ("a.jsonl", turns(U), "has no assistant message"),
    "white answer": ("a.jsonl", turns(U, {**A, "content": " \n"}), "assistant message without"),
    "no turns": ("a.jsonl", '{"messages": null}', "must be a list of messages, got nothing"),
    "turns as pairs": ("a.jsonl", '{"conversations": [["a", "b"]]}', r"conversations\[0\] must be"),
    "preference": (
        "a.jsonl",
        '{"prompt": "a", "chosen": "b", "rejected": "c"}',
        "--prompt-column prompt --response-column chosen",
    ),
    "text alone": ("a.jsonl", '{"text": "a"}', "there is no response"),
    "two answers": ("a.jsonl", '{"question": "a", "answer": ["b", "c"]}', r"answer\[0\] must be"),
    "tools as text": ("a.jsonl", turns(U, A, tools="none"), "'tools' must be a list of objects"),
    "calls as text": (
        "a.jsonl",
        turns(U, {"role": "assistant", "tool_calls": "f()"}),
        "a list of objects as 'tool_calls'",
    ),
    "a number as row": ("a.jsonl", "5", ":1 is not an object with named fields but a number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path, case):
    name, content, rule = REFUSED[case]
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ProbtuneError, match=f"(?s){rule}"):
        read_rows(str(tmp_path / name))


def test_columns_that_say_whether_a_row_is_learned_are_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        GOOD[:-1] + ', "label": false, "id": 3}\n' + GOOD[:-1] + ', "note": "x", "weight": 0.5}'
    )
    assert read_rows(str(path)).unused == {"label": 1, "note": 1, "weight": 1}


@pytest.mark.parametrize(
    ("rows", "second"),
    [
        ('{"prompt": "a?", "response": "b"}\n{"prompt": "a?", "response": " a?\\n"}', True),
        ('{"prompt": "a?", "response": "b"}\n{"prompt": "a?", "response": "a"}', False),
        (turns(U, A) + "\n" + turns(U, A, U, {**A, "content": U["content"]}), True),
        (turns(U, A) + "\n" + turns(U, {**A, "content": U["content"]}, U, A), False),
        (turns(U, A) + "\n" + turns(U, CALL, {"role": "tool", "content": "b"}, A), False),
    ],
)
def test_an_answer_that_is_the_question_is_named(tmp_path, rows, second):
    path = tmp_path / "a.jsonl"
    path.write_text(rows)
    echoes = read_rows(str(path)).echoes
    assert [where.rsplit(":", 1)[1] for where in echoes] == ["2"] * second


def test_flags_of_turns_have_many_names(tmp_path):
    path = tmp_path / "a.jsonl"
    flags = ({"weight": 0}, {"train": False}, {"train_on_turn": False}, {"loss": False})
    path.write_text("\n".join(turns(U, {**A, **flag}, U, A) for flag in flags))
    assert [e.untrained for e in read_rows(str(path)).examples] == [(1,)] * 4


def test_parts_of_text_are_joined(tmp_path):
    path = tmp_path / "a.jsonl"
    parts = [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]
    path.write_text(turns({"role": "user", "content": parts}, A))
    (example,) = read_rows(str(path)).examples
    assert example.messages[0]["content"] == "ab"


def written(path, *rows):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return str(path)


def test_parquet(tmp_path):
    import datetime

    dated = {"messages": [{**U, "at": datetime.datetime(2020, 1, 1)}, {**A, "at": None}]}
    (example,) = read_rows(written(tmp_path / "a.parquet", dated)).examples
    assert dict(example.messages[0]) == {**U, "at": "2020-01-01 00:00:00"}
    for row, rule in (
        ({"prompt": b"a", "completion": b"b"}, "row 1 'prompt' must be a text, got bytes"),
        ({"messages": [{**U, "raw": b"x"}, A]}, r"messages\[0\]\.raw must be text"),
        ({"data": {"prompt": "a"}}, "'data' is an object with 'prompt'; lift its fields"),
    ):
        with pytest.raises(ProbtuneError, match=rule):
            read_rows(written(tmp_path / "b.parquet", row))
    written(tmp_path / "c.jsonl", {"prompt": "a"})
    with pytest.raises(ProbtuneError, match=r"no text but Parquet: name it \.parquet"):
        read_rows(str(tmp_path / "c.jsonl"))


def test_a_folder_is_read_whole_or_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text(GOOD)
    assert len(read_rows(str(tmp_path))) == 1
    (tmp_path / "b.csv").write_text("prompt,completion\nc,d\n")
    with pytest.raises(ProbtuneError, match=r"would leave out \(b\.csv\).*name the files"):
        read_rows(str(tmp_path))
    assert len(read_rows(f"{tmp_path}/a.jsonl,{tmp_path}/b.csv")) == 2
