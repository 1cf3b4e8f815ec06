import csv
import json

import datasets
import helpers
import pyarrow
import pyarrow.parquet
import pytest

from probtune.data.rows import Example, hold_out, read_rows, rows_from
from probtune.errors import DataError, UsageError

CHAT = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}


def save(path, rows):
    """The same rows in the format of the suffix."""
    if path.suffix == ".jsonl":
        helpers.write_jsonl(path, rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    else:
        datasets.Dataset.from_list(rows).save_to_disk(str(path))
    return str(path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet", "a.csv", "a.tsv", "saved"])
def test_every_format_gives_the_same_rows(tmp_path, name):
    rows = [
        {"question": "1 + 1?", "answer": 'two,\nor "2"', "extra": "x"},
        {"question": "é\u2028?", "answer": "ü", "extra": "y"},
    ]
    source = save(tmp_path / name, rows)
    result = read_rows(source, prompt_column="question", response_column="answer")
    assert [(e.prompt, e.completion) for e in result.examples] == [
        (row["question"], row["answer"]) for row in rows
    ]
    assert result.schema == "question/answer"
    assert (
        result.sha256
        == rows_from(
            (("x", {"prompt": r["question"], "completion": r["answer"]}) for r in rows), source="x"
        ).sha256
    )


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet", "saved"])
def test_conversations(tmp_path, name):
    result = read_rows(save(tmp_path / name, [CHAT, CHAT]))
    assert result.schema == "messages"
    assert [dict(m) for m in result.examples[0].messages] == CHAT["messages"]


def test_conversational_prompt_and_completion(tmp_path):
    row = {"prompt": CHAT["messages"], "completion": [{"role": "assistant", "content": "again"}]}
    (example,) = read_rows(save(tmp_path / "a.jsonl", [row])).examples
    assert len(example.messages) == 3 and example.first_trained == 2


def test_json_lines_under_the_other_suffix_and_wrapped_lists(tmp_path):
    rows = helpers.sums(3)
    lines = helpers.write_jsonl(tmp_path / "a.json", rows)
    assert len(read_rows(str(lines))) == 3
    (tmp_path / "b.json").write_text(json.dumps({"version": 1, "data": rows}))
    assert len(read_rows(str(tmp_path / "b.json"))) == 3


def test_saved_splits(tmp_path):
    data = datasets.Dataset.from_list(helpers.sums(3))
    datasets.DatasetDict(train=data, test=data.select([0])).save_to_disk(str(tmp_path / "d"))
    assert len(read_rows(str(tmp_path / "d"))) == 3
    assert len(read_rows(str(tmp_path / "d"), split="test")) == 1
    with pytest.raises(UsageError, match="no split 'dev'; it has train, test"):
        read_rows(str(tmp_path / "d"), split="dev")


def test_places_are_lines_of_the_file(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n\n{"prompt": "c", "completion": ""}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:3 'completion' is empty\. Correct it"):
        read_rows(str(path))


GOOD = {"prompt": "a", "completion": "b"}


@pytest.mark.parametrize(
    "bad, said",
    [
        ({"prompt": "a"}, "'completion' must be a text, got nothing"),
        ({"prompt": "a", "completion": None}, "got nothing"),
        ({"prompt": "a", "completion": " \n"}, "'completion' is empty"),
        ({"prompt": "", "completion": "b"}, "'prompt' is empty"),
        ({"prompt": 3, "completion": "b"}, "'prompt' must be a text, got a number"),
        ({"prompt": "a", "completion": {"x": 1}}, "got an object"),
        (["a", "b"], "is not an object with named fields but a list of 2"),
        ("text", "but the text 'text'"),
        (None, "but nothing"),
        ({"question": "a"}, "its columns are 'question': name two of them with --prompt-column"),
        ({}, "its columns are none"),
        (CHAT, r"has the schema messages, but .*a\.jsonl:1 has prompt/completion"),
        ({**GOOD, **CHAT}, "has both 'messages' and"),
    ],
)
def test_a_bad_row_is_named_by_line_and_rule(tmp_path, bad, said):
    source = str(helpers.write_jsonl(tmp_path / "a.jsonl", [GOOD, bad, GOOD, bad]))
    with pytest.raises(DataError, match=said) as error:
        read_rows(source)
    message = str(error.value)
    assert "a.jsonl:2 " in message and "2 of 4 rows are unusable (also 4)" in message
    assert "--skip-bad-rows" in message and "\n" not in message
    result = read_rows(source, skip_bad_rows=True)
    assert len(result) == 2 and [row.where for row in result.bad] == [f"{source}:2", f"{source}:4"]


@pytest.mark.parametrize(
    "messages, said",
    [
        ([], "must be a list of messages, got a list of 0"),
        ("hi", "must be a list of messages, got the text 'hi'"),
        ([{"role": "user", "content": "a"}], "no assistant message"),
        ([{"role": "bot", "content": "a"}], "has the role 'bot'; known are system"),
        ([{"content": "a"}], r"messages\[0\] must be an object with 'role'"),
        ([{"role": "user", "content": [1]}], r"messages\[0\] must have a text as 'content'"),
        ([{"role": "assistant", "content": " "}], "an assistant message without text"),
    ],
)
def test_bad_conversations(tmp_path, messages, said):
    source = str(helpers.write_jsonl(tmp_path / "a.jsonl", [CHAT, {"messages": messages}]))
    with pytest.raises(DataError, match=said):
        read_rows(source)


def test_when_every_row_is_bad_there_is_nothing_to_skip(tmp_path):
    source = str(helpers.write_jsonl(tmp_path / "a.jsonl", [{"prompt": "a"}] * 9))
    with pytest.raises(DataError, match=r"9 of 9 rows .*\(also 2, 3, 4, 5, 6, …\)"):
        read_rows(source, skip_bad_rows=True)


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("a.jsonl", b"", "holds no rows"),
        ("a.jsonl", b"\n \n", "holds no rows"),
        ("a.jsonl", b'{"prompt": "a"', r"a\.jsonl:1 is not JSON"),
        ("a.jsonl", b"\xff\xfe", "not UTF-8"),
        ("a.json", b"[", "is not JSON"),
        ("a.json", b"3", "must hold a list of rows, got a number"),
        ("a.json", b"[]", "holds no rows"),
        ("a.parquet", b"PAR?", "is not Parquet"),
        ("a.csv", b'prompt,completion\n"a', "is not CSV"),
        ("a.csv", b"prompt,completion\n", "holds no rows"),
    ],
)
def test_unreadable_and_empty_files(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_rows(str(tmp_path / name))


def test_sources_that_do_not_exist(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read_rows(str(tmp_path / "none.jsonl"))
    with pytest.raises(UsageError, match="no such file"):
        read_rows("none.csv")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UsageError, match="unknown format '.txt'; known are .jsonl"):
        read_rows(str(tmp_path / "a.txt"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="not a dataset written by"):
        read_rows(str(tmp_path / "folder"))
    with pytest.raises(DataError, match="cannot load the dataset 'no/such-dataset'"):
        read_rows("no/such-dataset")


def test_columns_come_in_pairs_and_must_exist(tmp_path):
    source = str(helpers.write_jsonl(tmp_path / "a.jsonl", [GOOD]))
    with pytest.raises(UsageError, match="belong together"):
        read_rows(source, prompt_column="prompt")
    with pytest.raises(DataError, match="no column 'q'; its columns are 'prompt', 'completion'"):
        read_rows(source, prompt_column="q", response_column="completion")


def examples(*questions):
    return rows_from(
        ((f"row {i}", {"prompt": q, "completion": "x"}) for i, q in enumerate(questions)),
        source="data",
    )


def test_hold_out_keeps_equal_prompts_together():
    rows = examples(*(f"q{i % 20}" for i in range(60)))
    train, heldout = hold_out(rows, 12, seed=0)
    assert len(heldout) == 12 and len(train) == 48
    assert not {e.question for e in train} & {e.question for e in heldout}
    assert hold_out(rows, 12, seed=0) == (train, heldout)
    assert hold_out(rows, 12, seed=1)[1] != heldout


def test_hold_out_refuses_to_leave_nothing():
    with pytest.raises(DataError, match="--heldout-data"):
        hold_out(examples("a", "b"), 2, seed=0)
    with pytest.raises(DataError, match="1 different prompts"):
        hold_out(examples("a", "a", "a"), 1, seed=0)


def test_question_of_a_conversation_is_all_before_the_last_answer():
    a = Example("x", messages=tuple(CHAT["messages"]))
    b = Example("y", messages=(CHAT["messages"][0], {"role": "assistant", "content": "else"}))
    assert a.question == b.question and a.content != b.content


def test_gsm8k(shared_data):
    rows = read_rows(
        str(shared_data / "gsm8k" / "train.jsonl"),
        prompt_column="question",
        response_column="answer",
    )
    assert len(rows) == 7473 and "####" in (rows.examples[0].completion or "")
