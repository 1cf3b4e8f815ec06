"""Rows of a benchmark become questions, or an error that names the row and the way out."""

import json

import datasets
import pytest
from helpers import write_jsonl

from probtune.errors import DataError, UsageError
from probtune.evaluation.tasks.reading import load_questions
from probtune.evaluation.tasks.table import TASKS


def rows(name, number, **changed):
    """Rows in a task's schema, each with its own id."""
    example = TASKS[name].example
    ids = {"math500": "unique_id", "minerva": "idx", "olympiadbench": "id", "amc23": "id"}
    return [
        {**example, **({ids[name]: f"{i}"} if name in ids else {}), **changed}
        for i in range(number)
    ]


@pytest.mark.parametrize(
    "name, number", [("math500", 500), ("olympiadbench", 675), ("gsm8k", 1319)]
)
def test_real_rows(name, number, shared_data):
    cautions = []
    questions = load_questions(TASKS[name], data=str(shared_data), caution=cautions.append)
    assert len(questions) == len({q.id for q in questions}) == number
    assert all(q.gold.strip() and q.text.strip() for q in questions)
    assert len(cautions) == (name == "olympiadbench"), cautions
    again = load_questions(TASKS[name], data=str(shared_data / name / "test.jsonl"))
    assert again == questions


def test_the_box_of_the_solution_is_the_answer(shared_data):
    lines = (shared_data / "math500" / "test.jsonl").read_text().splitlines()
    answers = [json.loads(line)["answer"] for line in lines]
    assert [q.gold for q in load_questions(TASKS["math500"], data=str(shared_data))] == answers


def test_a_limit_takes_the_first_questions(shared_data):
    everything = load_questions(TASKS["gsm8k"], data=str(shared_data))
    some = load_questions(TASKS["gsm8k"], data=str(shared_data), limit=20)
    assert len(some) == 20
    assert some == everything[:20]
    assert load_questions(TASKS["gsm8k"], data=str(shared_data), limit=5000) == everything


@pytest.mark.parametrize(
    "name, changed, words",
    [
        ("math500", {"solution": "no box"}, r"row 2: 'solution' has no closed"),
        ("math500", {"solution": "\\boxed{1"}, r"row 2: 'solution' has no closed"),
        ("math500", {"problem": " "}, r"row 2: 'problem' is empty"),
        ("math500", {"problem": 7}, r"row 2: 'problem' must be a text, got a number"),
        ("math500", {"unique_id": "0"}, r"question 2 has the id '0' of question 1"),
        ("math500", {"solution": "\\boxed{}"}, r"question 2 \(id '1'\) has an empty gold"),
        ("minerva", {"solution": ""}, r"row 2: 'solution' is empty"),
        ("olympiadbench", {"final_answer": ["1", "2"]}, r"row 2: 'final_answer' must be a list of"),
        ("amc23", {"answer": "(B)"}, r"row 2: 'answer' must be a number"),
        ("aime24", {"answer": "1000"}, r"row 2: 'answer' must be a number from 0 to 999"),
        ("gsm8k", {"answer": "so 5"}, r"row 2: 'answer' has no final answer after ####"),
        ("medqa", {"answer_idx": "E"}, r"row 2: 'answer_idx' is 'E', which is none of its options"),
        ("medqa", {"answer": "flu"}, r"row 2: 'answer' is 'flu', but its letter A is 'Graves"),
        ("medqa", {"options": ["a"]}, r"row 2: 'options' must be at least two letters"),
        ("openbookqa", {"choices": {"text": ["a"], "label": []}}, r"row 2: 'choices' must hold"),
        ("openbookqa", {"answerKey": "E"}, r"row 2: 'answerKey' is 'E'"),
        ("mmlu_prox_sw", {"answer": "J"}, r"row 2: 'answer' is 'J', which is none of A, B, C, D"),
        ("mmlu_prox_sw", {"category": "juggling"}, r"row 2: 'juggling' is no category"),
        ("humaneval", {"task_id": "Other/1"}, r"row 2: task_id must begin with HumanEval/"),
    ],
)
def test_a_broken_row_is_named(name, changed, words, tmp_path):
    good, broken = rows(name, 2)
    if name == "mmlu_prox_sw":  # the first of a category would be a worked example
        good["category"] = "law"
    path = write_jsonl(tmp_path / "rows.jsonl", [good, {**broken, **changed}])
    with pytest.raises(DataError, match=words) as raised:
        load_questions(TASKS[name], data=str(path))
    assert str(path) in str(raised.value)


def test_a_missing_column_is_named(tmp_path):
    good, broken = rows("math500", 2)
    del broken["solution"]
    path = write_jsonl(tmp_path / "rows.jsonl", [good, broken])
    with pytest.raises(DataError, match="row 2 has no column 'solution', which math500 needs"):
        load_questions(TASKS["math500"], data=str(path))
    path = write_jsonl(tmp_path / "rows.jsonl", [[1], good])
    with pytest.raises(DataError, match="row 1 is not an object"):
        load_questions(TASKS["math500"], data=str(path))


def test_what_cannot_be_found_says_what_is_looked_for(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        load_questions(TASKS["math500"], data=str(tmp_path / "absent"))
    with pytest.raises(UsageError, match=r"has no math500/test.jsonl.*huggingface"):
        load_questions(TASKS["math500"], data=str(tmp_path))
    with pytest.raises(UsageError, match="limit must be at least 1"):
        load_questions(TASKS["math500"], data=str(tmp_path), limit=0)
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(DataError, match="has no rows"):
        load_questions(TASKS["math500"], data=str(empty))


def test_rows_of_the_hub_are_read_at_the_pinned_commit(monkeypatch):
    requests = []

    def load(*args, **kwargs):
        requests.append((args, kwargs))
        return datasets.Dataset.from_list(rows("math500", 500))

    monkeypatch.setattr(datasets, "load_dataset", load)
    source = TASKS["math500"].source
    assert len(load_questions(TASKS["math500"])) == 500
    assert len(load_questions(TASKS["math500"], limit=7)) == 7
    assert requests[0] == (
        ("HuggingFaceH4/MATH-500", None),
        {"split": "test", "revision": source.revision},
    )


def test_a_changed_dataset_is_noticed(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: rows("math500", 499))
    with pytest.raises(
        DataError, match="has 499 rows, but MATH-500 has 500: the dataset has changed"
    ):
        load_questions(TASKS["math500"])
    path = write_jsonl(tmp_path / "rows.jsonl", rows("math500", 499))
    said = []
    assert len(load_questions(TASKS["math500"], data=str(path), caution=said.append)) == 499
    assert "has 499 rows, but MATH-500 has 500" in said[0]


def test_one_list_of_a_file_with_many(tmp_path, monkeypatch):
    files = {"MedQA_USLME_test": rows("medqa", 2), "Lancet": rows("lancet", 3)}
    path = tmp_path / "m1_eval_data.json"
    path.write_text(json.dumps(files))
    assert len(load_questions(TASKS["lancet"], data=str(tmp_path))) == 3
    assert len(load_questions(TASKS["medqa"], data=str(path))) == 2
    said = []
    load_questions(TASKS["medqa"], data=str(path), caution=said.append)
    assert "is not the file that the paper's code was run on" in said[0] and len(said) == 2
    with pytest.raises(DataError, match="has no list 'NEJM'; it has 'MedQA_USLME_test', 'Lancet'"):
        load_questions(TASKS["nejm"], data=str(path))

    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *a, **k: str(path))
    with pytest.raises(DataError, match="UCSC-VLAA/m1_eval_data has 3 rows, but Lancet has 412"):
        load_questions(TASKS["lancet"])


def test_no_network_and_a_closed_door_say_what_helps(monkeypatch):
    def fail(error):
        def load(*args, **kwargs):
            raise error

        monkeypatch.setattr(datasets, "load_dataset", load)

    fail(
        ConnectionError("Couldn't reach 'HuggingFaceH4/MATH-500' on the Hub (OfflineModeIsEnabled)")
    )
    with pytest.raises(DataError, match=r"--data, which holds math500/test.jsonl.*HF_HUB_OFFLINE"):
        load_questions(TASKS["math500"])
    fail(datasets.exceptions.DatasetNotFoundError("Dataset 'x' is a gated dataset on the Hub."))
    with pytest.raises(DataError, match=r"accept them on .*`hf auth login` or set HF_TOKEN"):
        load_questions(TASKS["math500"])
    fail(ValueError("BuilderConfig 'x' not found."))
    with pytest.raises(DataError, match="BuilderConfig 'x' not found"):
        load_questions(TASKS["math500"])


def test_copies_count_once_under_strict_and_share_a_cluster(tmp_path):
    first = TASKS["gpqa_medical"].example
    other = {**first, "question": "Which base pairs with adenine in RNA?"}
    path = write_jsonl(tmp_path / "rows.jsonl", [first, other, first, {**other}, first])
    questions = load_questions(TASKS["gpqa_medical"], data=str(path))
    assert [q.protocols for q in questions] == [("strict", "reference")] * 2 + [("reference",)] * 3
    assert [q.cluster for q in questions[2:]] == [q.cluster for q in (*questions[:2], questions[0])]
    assert load_questions(TASKS["gpqa_medical"], data=str(path), limit=1) == questions[:1]


def test_questions_asked_twice_share_a_cluster_across_tasks():
    four, five = (TASKS[f"medbullets{n}"] for n in (4, 5))
    assert four.read([four.example])[0].cluster == five.read([five.example])[0].cluster
    sw, zu = (TASKS[f"mmlu_prox_{code}"] for code in ("sw", "zu"))
    assert sw.read([sw.example])[0].cluster == zu.read([zu.example])[0].cluster


def test_the_first_five_of_a_category_are_worked_examples():
    task = TASKS["mmlu_prox_yo"]
    many = [{**task.example, "question_id": i, "cot_content": "A: 7 + 5."} for i in range(7)]
    law = [{**many[0], "question_id": 10 + i, "category": "law"} for i in range(6)]
    mixed = [row for pair in zip(many, law, strict=False) for row in pair] + many[6:]
    assert [q.id for q in task.read(mixed)] == ["5", "15", "6"]
    many[2]["cot_content"] = ""
    with pytest.raises(DataError, match="row 3: 'cot_content' is empty"):
        task.read(many)


def test_options_that_a_table_format_filled_in_are_left_out():
    row = TASKS["medqa"].example
    filled = {**row, "options": {**row["options"], "E": None}}
    assert TASKS["medqa"].read([filled]) == TASKS["medqa"].read([row])


def test_languages_need_the_words_of_lm_eval(monkeypatch):
    from probtune.evaluation.tasks import mmlu_prox

    monkeypatch.setattr(mmlu_prox, "find_spec", lambda name: None)
    mmlu_prox._words.cache_clear()
    task = TASKS["mmlu_prox_wo"]
    with pytest.raises(UsageError, match=r"pip install -e '.\[eval\]'"):
        task.read([task.example])


def test_nothing_is_written_beside_the_work(tmp_path, monkeypatch):
    path = write_jsonl(tmp_path / "rows.jsonl", rows("minerva", 3))
    monkeypatch.chdir(tmp_path)
    assert len(load_questions(TASKS["minerva"], data=str(path))) == 3
    assert list(tmp_path.iterdir()) == [path]
