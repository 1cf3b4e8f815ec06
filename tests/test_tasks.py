"""The table of benchmarks, and what each must say of itself."""

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from probtune.errors import DataError, UsageError
from probtune.evaluation.grading.base import GradingItem
from probtune.evaluation.grading.code import CodeGrader
from probtune.evaluation.grading.judge import JudgeGrader
from probtune.evaluation.tasks.base import PROTOCOLS, asked_under, counted_under
from probtune.evaluation.tasks.table import DOMAINS, OURS, TASKS, find_tasks
from probtune.objectives import objective

FAMILIES = ("chatml", "llama3", "deepseek", "plain")
WRONG = {
    "math": "So it is \\boxed{1234567}.",
    "medical": "\\boxed{D}",
    "figlet": "QQQ",
    "code": "def double_all(numbers):\n    return 7\n\ndef count_vowels(text):\n    return 99\n",
    "languages": "A",
    "knowledge": "D",
}


@pytest.fixture(params=list(TASKS))
def task(request):
    return TASKS[request.param]


def test_there_are_the_27_benchmarks_of_the_paper_in_its_seven_domains():
    tasks = [name for names in DOMAINS.values() for name in names]
    # Counted as the paper counts: MedBullets with 4 and 5 options once, Lancet and NEJM once.
    together = {"medbullets5": "medbullets4", "nejm": "lancet"}
    assert len({together.get(name, name) for name in tasks}) == 27
    assert len(DOMAINS) == 7
    assert [len(names) for names in DOMAINS.values()] == [5, 10, 1, 1, 4, 7, 1]
    assert set(TASKS) - set(tasks) == set(OURS) >= {"gsm8k", "figlet_words", "figlet_fonts"}


def test_a_list_of_tasks_needs_no_torch_and_no_second():
    code = (
        "import sys, time; start = time.perf_counter();"
        "from probtune.evaluation.tasks.table import TASKS;"
        "[task.title for task in TASKS.values()];"
        "heavy = {'torch', 'scipy', 'datasets', 'lm_eval', 'sympy', 'evalplus'} & set(sys.modules);"
        "assert not heavy, heavy; print(time.perf_counter() - start)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 1.0


def test_tasks_are_found_by_name_and_domain_once_each():
    tasks = find_tasks(" math, figlet, aime24,,mmlu_prox_sw")
    assert [t.name for t in tasks] == [*DOMAINS["math"], "figlet", "mmlu_prox_sw"]


@pytest.mark.parametrize(
    "names, words",
    [
        ("mmlu_prox_se", "mmlu_prox_sw"),
        ("olympiad", "olympiadbench"),
        ("MATH", "did you mean math"),
        ("zzzzzz", "domains math, medical"),
        (" , ", "at least one task"),
    ],
)
def test_an_unknown_name_is_answered_with_those_that_come_close(names, words):
    with pytest.raises(UsageError, match=words):
        find_tasks(names)


def test_a_task_says_what_it_is(task):
    source = task.source
    assert task.name in (*DOMAINS.get(task.domain, ()), *OURS)
    assert tuple(task.protocols) == PROTOCOLS
    assert source.rows > 0 and source.licence and source.url.startswith("https://")
    assert task.title and "http" in task.citation and task.local
    assert source.revision or "pinned" in source.note or task.make, "not pinned, and no reason"
    if source.revision:
        assert len(source.revision) == 40 and not set(source.revision) - set("0123456789abcdef")
    for protocol in task.protocols.values():
        assert protocol.extraction.endswith(".") or "http" in protocol.extraction
        assert protocol.decoding.max_new_tokens > 0


def test_only_what_a_licence_allows_may_be_passed_on():
    free = {name for name, task in TASKS.items() if task.source.redistributable}
    assert free == {
        *("math500", "olympiadbench", "gsm8k", "figlet", "figlet_words", "figlet_fonts"),
        *(*DOMAINS["code"], *DOMAINS["languages"]),
    }


def test_the_papers_figures_are_percentages_of_objectives_that_can_be_read(task):
    paper = task.paper
    for (backbone, text), value in paper.items():
        assert backbone and 0 <= value <= 100
        assert text == "base" or str(objective(text)) == text
    assert bool(paper) == (task.name in {n for names in DOMAINS.values() for n in names})


@pytest.mark.parametrize(
    "domain, backbone, text, average",
    [
        ("math", "Llama-3.1-8B", "p()", 10.56),
        ("math", "deepseek-math-7b-base", "nll()", 11.10),
        ("math", "Qwen2.5-Math-7B", "above(0.2, nll())", 38.16),
        ("medical", "Llama-3.1-8B", "nll()", 50.49),  # of the ten columns; the paper prints 47.23
        ("medical", "Qwen2.5-Math-7B", "p()", 35.38),  # 33.83
        ("languages", "Qwen2.5-7B", "base", 7.7),
        ("code", "Qwen2.5-Coder-7B", "p()", 77.8),
    ],
)
def test_the_papers_figures_average_to_its_averages(domain, backbone, text, average):
    values = [TASKS[name].paper[backbone, text] for name in DOMAINS[domain]]
    assert sum(values) / len(values) == pytest.approx(average, abs=0.06)


def test_an_example_is_read(task):
    assert set(task.source.columns) <= set(task.example)
    (question,) = task.read([task.example])
    assert question.text.strip() and question.gold and question.id
    if question.options is not None:
        assert question.gold in question.options


def test_a_column_that_is_missing_is_named_with_its_row(task):
    lost = task.source.columns[-1]
    row = {name: value for name, value in task.example.items() if name != lost}
    if task.domain == "code" or lost in ("option_0", "cot_content"):
        lost, row = "prompt", {}
    with pytest.raises(DataError, match="row [12]"):
        task.read([task.example, row] if task.domain != "languages" else [row, row])


def test_an_example_response_is_right_and_another_wrong(task):
    (question,) = task.read([task.example])
    for protocol in task.protocols.values():
        grader = protocol.grader
        if isinstance(grader, JudgeGrader):
            with pytest.raises(UsageError, match="judge"):
                grader([GradingItem("text", question.gold)])
            continue
        if isinstance(grader, CodeGrader):
            assert grader.tests == ("plus" if task.name.endswith("_plus") else "base")
            if grader.tests == "base":
                continue  # its tests are among the others: `metrics["base"]` there
            grader = replace(grader, allow_code=True, workers=1)
        right, wrong = grader(
            [
                GradingItem(text, question.gold, question.options)
                for text in (task.example_response, WRONG[task.domain])
            ]
        )
        assert (right.score, wrong.score) == (1.0, 0.0), protocol.extraction
        assert right.answer is not None
        assert not {task.headline, *task.also} - {"score", *right.metrics}


def test_every_family_is_asked(task):
    (question,) = task.read([task.example])
    for name, protocol in task.protocols.items():
        (prompt,) = asked_under([question], name)
        for family in FAMILIES:
            text = protocol.prompt(family).render(prompt.text)
            assert prompt.text in text
            assert (protocol.system or "") in text or family != "chatml"


def test_questions_of_a_protocol():
    (question,) = TASKS["gsm8k"].read([TASKS["gsm8k"].example])
    other = replace(question, id="2", protocols=("reference",), texts={"strict": "Else?"})
    assert counted_under([question, other], "strict") == [question]
    assert [q.text for q in asked_under([question, other], "strict")] == [question.text, "Else?"]
    assert asked_under([other], "reference") == [other]


@pytest.mark.parametrize("name", ["tasks", "asking", "sources"])
def test_the_tables_of_the_page_are_of_the_tasks(name, monkeypatch):
    root = Path(__file__).resolve().parents[1]
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    page = importlib.import_module("tasks_page")
    blocks = importlib.import_module("blocks")
    try:
        assert blocks.block(page.DOCUMENT, name) == blocks.markdown(page.TABLES[name]())
    finally:
        for module in ("tasks_page", "blocks"):
            sys.modules.pop(module)
