"""Our tasks side by side with those of lm-evaluation-harness: questions, prompts, graders, scores.

    python benchmarks/harness.py --prompts              every task that both have; a minute
    python benchmarks/harness.py --scores --data DIR    50 rows, SmolLM2-135M; a quarter of an hour
    python benchmarks/harness.py --own-rows             50 rows of ours for the others; as long

`--prompts` hands the example row of every task that both have, in the dataset's own schema, to
lm-eval's task and to ours, and compares what the model is asked and which answer is right. No data
is fetched. `--scores` takes the benchmarks' rows from a folder, as `probtune eval --data` does; a
task without rows there is said and left out. lm-eval's own model class answers lm-eval's prompts,
ours answers the same prompts and our own, and both graders grade all answers, the reference
solutions, and the solutions of the neighbouring rows. `--own-rows` does the same for benchmarks
whose rows are on the hub alone, with questions of `harness_rows.py` in their schemas; where lm-eval
compares likelihoods, its own model class does. Results: harness.json, docs/evaluation.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

from blocks import Table, write  # noqa: E402
from harness_rows import rows_like  # noqa: E402

from probtune.evaluation.tasks.table import TASKS  # noqa: E402

DOCUMENT = Path(__file__).parents[1] / "docs" / "evaluation.md"
RESULTS = Path(__file__).with_suffix(".json")
Row = dict[str, Any]

_LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True)
class Pair:
    """A task of ours and its counterpart in lm-eval."""

    ours: str
    theirs: str
    folder: str
    """Folder of lm-eval's tasks that holds it."""
    row: Callable[[Row], Row]
    """Our example row -> the same row in the schema of lm-eval's dataset."""
    difference: str
    """Reason why scores differ, in words."""


def _same(row: Row) -> Row:
    return row


def _medqa(row: Row) -> Row:
    endings = {f"ending{i}": text for i, text in enumerate(row["options"].values())}
    label = list(row["options"]).index(row["answer_idx"])
    return {"sent1": row["question"], "sent2": "", **endings, "label": label}


def _medmcqa(row: Row) -> Row:
    options = dict(zip(("opa", "opb", "opc", "opd"), row["options"].values(), strict=True))
    return {
        "question": row["question"],
        **options,
        "cop": list(row["options"]).index(row["answer_idx"]),
    }


def _pubmedqa(row: Row) -> Row:
    abstract, _, question = row["question"].removeprefix("Abstract: ").partition("\nQuestion: ")
    return {"CONTEXTS": [abstract], "QUESTION": question, "final_decision": row["answer"]}


def _mmlu_pro(row: Row) -> Row:
    return {
        "question": row["question"],
        "options": list(row["options"].values()),
        "answer": row["answer_idx"],
        "category": "health",
        "cot_content": "",
    }


def _gpqa(row: Row) -> Row:
    wrong = [text for text in row["options"].values() if text != row["answer"]]
    named = {f"Incorrect Answer {i}": text for i, text in enumerate(wrong, 1)}
    return {"Question": row["question"], "Correct Answer": row["answer"], **named}


def _aime(row: Row) -> Row:
    return {"ID": "2024-I-1", "Problem": row["problem"], "Solution": "", "Answer": row["answer"]}


_CHOICE = (
    'lm-eval compares the likelihood of the letters after "Answer:"; we ask for reasoning and read'
    " the answer from the response, as the paper does"
)

PAIRS = (
    Pair(
        "gsm8k",
        "gsm8k",
        "gsm8k",
        _same,
        "lm-eval shows 5 solved problems and looks for ####, or for the last number; we show none"
        " and ask for a box",
    ),
    Pair(
        "math500",
        "hendrycks_math500",
        "hendrycks_math",
        _same,
        "lm-eval compares what stands between the first and the last $ of the response as text, so"
        " a box counts only there; we read the last box, by math-verify",
    ),
    Pair(
        "math500",
        "minerva_math500",
        "minerva_math",
        _same,
        'lm-eval shows 4 solved problems and looks for "The final answer is …. I hope"; we read the'
        " last box",
    ),
    Pair(
        "aime24",
        "aime24",
        "aime",
        _aime,
        "lm-eval's rows are Maxwell-Jia/AIME_2024, ours HuggingFaceH4/aime_2024; one greedy answer"
        " there, 16 samples here",
    ),
    Pair("medmcqa", "medmcqa", "medmcqa", _medmcqa, _CHOICE),
    Pair("medqa", "medqa_4options", "medqa", _medqa, _CHOICE),
    Pair(
        "pubmedqa",
        "pubmedqa",
        "pubmedqa",
        _pubmedqa,
        f"{_CHOICE}; lm-eval has the 500 rows of the test fold, we all 1,000",
    ),
    Pair(
        "mmlu_pro_medical",
        "mmlu_pro_health",
        "mmlu_pro",
        _mmlu_pro,
        'lm-eval shows 5 solved questions and takes the first "answer is (X)"; our rows are the'
        " paper's selection from health and biology, and the last box or phrase counts",
    ),
    Pair(
        "gpqa_medical",
        "gpqa_main_zeroshot",
        "gpqa",
        _gpqa,
        f"{_CHOICE}; lm-eval shuffles the options at random, ours stand as in the paper's bundle;"
        " ours are the 78 medical questions",
    ),
    Pair(
        "openbookqa",
        "openbookqa",
        "openbookqa",
        _same,
        "lm-eval compares the likelihood of the options' texts, which the prompt does not list; we"
        " list them and read a letter",
    ),
    *(
        Pair(
            f"mmlu_prox_{language}",
            f"mmlu_prox_{language}_math",
            "mmlu_prox",
            _same,
            "lm-eval takes the first phrase; we the last whose letter is an option, else what"
            " counts in medicine, as a box or an English phrase; both show 5 solved questions,"
            " which the example row does not have",
        )
        for language in ("mr", "te", "ne", "sw", "wo", "yo", "zu")
    ),
    *(
        Pair(
            ours, ours, folder, _same, f"{way}; we ask for a whole program and run EvalPlus's tests"
        )
        for ours, folder, way in (
            ("humaneval", "humaneval", "lm-eval lets the model continue the program"),
            ("humaneval_plus", "humaneval", "lm-eval lets the model continue the program"),
            ("mbpp", "mbpp", "lm-eval shows 3 solved problems and the tests"),
            ("mbpp_plus", "mbpp", "lm-eval shows 3 solved problems and the tests"),
        )
    ),
)
"""Every task that both have. Ours without a counterpart: minerva (OCW courses; lm-eval's
`minerva_math` is MATH with Minerva's prompt), olympiadbench, amc23, lancet, medbullets4,
medbullets5, medxpertqa, nejm, alpaca_eval, and the figlet tasks."""


# --- lm-eval's task -------------------------------------------------------------------------------


def load_theirs(pairs: Sequence[Pair], rows: Sequence[Row], name: str) -> tuple[Any, dict]:
    """Return lm-eval's task over these rows in place of its dataset, and what it would have
    fetched.
    """
    import lm_eval
    from datasets import Dataset
    from lm_eval.tasks import TaskManager

    fetched: dict[str, Any] = {}

    def local(path: str, name: str | None = None, **_: Any) -> dict[str, Any]:
        fetched.update(path=path, name=name)
        dataset = Dataset.from_list(list(rows))
        return dict.fromkeys(("train", "validation", "test"), dataset)

    root = Path(lm_eval.__file__).parent / "tasks"
    folders = [root / folder for folder in dict.fromkeys(pair.folder for pair in pairs)]
    logging.disable(logging.ERROR)
    try:
        with patch("datasets.load_dataset", local):
            manager = TaskManager(include_defaults=False, include_path=folders)
            loaded = manager.load([name])
    finally:
        logging.disable(logging.NOTSET)
    task = loaded["tasks"][name]
    fetched["examples"] = task.config.num_fewshot or 0
    task.set_config("num_fewshot", 0)
    return task, fetched | {"loaded": loaded}


def docs_of(task: Any) -> list[Row]:
    return list(task.test_docs() if task.has_test_docs() else task.validation_docs())


def _settled(task: Any) -> list[Row]:
    """Return the task's rows, as it has processed them, and let it process them no more: some
    shuffle their options whenever they are read.
    """
    from datasets import Dataset

    docs = docs_of(task)
    task.config.process_docs = None
    task.dataset = dict.fromkeys(task.dataset, Dataset.from_list([dict(doc) for doc in docs]))
    return docs


def prompt_of(task: Any, doc: Row) -> str:
    """Return what the model is asked, without solved examples."""
    context = task.fewshot_context(doc, num_fewshot=0)
    return context if isinstance(context, str) else str(context)


# --- questions and prompts ------------------------------------------------------------------------


def compare_prompts(pair: Pair) -> Row:
    """Compare the two tasks on our example row."""
    task = TASKS[pair.ours]
    example = dict(task.example)
    (question,) = task.read([example])
    ours = task.protocols["strict"].prompt("plain").render(question.text)
    result = {"ours": pair.ours, "theirs": pair.theirs, "our prompt": ours, "why": pair.difference}
    try:
        theirs, fetched = load_theirs([pair], [pair.row(example)], pair.theirs)
    except Exception as error:  # what it asks for is foreign code's own choice
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        return result | {"missing": _missing(pair, reason)}
    (doc,) = docs_of(theirs)
    prompt = prompt_of(theirs, doc)
    core = _core(example)
    options = list((question.options or {}).values())
    listed = all(option in prompt for option in options)
    choices = theirs.doc_to_choice(doc) if theirs.OUTPUT_TYPE == "multiple_choice" else []
    return result | {
        "their prompt": prompt,
        "core": core,
        "options": options,
        "same question": core in prompt and core in ours,
        "options listed": listed or not options,
        "same answer": _same_answer(question, theirs.doc_to_target(doc), doc, choices),
        "same prompt": prompt.strip() == ours.strip(),
        "answered": theirs.OUTPUT_TYPE,
        "examples": fetched["examples"],
        "dataset": ", ".join(filter(None, (fetched["path"], fetched["name"]))),
    }


_NOT_LOADED = ("minerva_math", "humaneval", "mbpp")
"""Folders of lm-eval's tasks that cannot be loaded beside ours; the table of prompts says why."""


_ON_REAL_ROWS = (*_NOT_LOADED, "gsm8k", "hendrycks_math")
"""Folders for which no rows of ours stand in: those, and what `--scores` measures."""


def _missing(pair: Pair, reason: str) -> str:
    if pair.folder == "minerva_math":
        return "its graders ask for antlr4 4.11; math-verify 0.9, which we grade with, for 4.13"
    if pair.folder in ("humaneval", "mbpp"):
        return "its metric, code_eval, is fetched from the hub when the task is loaded"
    return reason


def _core(example: Row) -> str:
    """The text of the question itself."""
    for name in ("question_stem", "question", "problem", "prompt"):
        if name in example:
            text = str(example[name])
            return text.rpartition("Question: ")[2] if text.startswith("Abstract: ") else text
    raise AssertionError(f"no question in {example}")


def _same_answer(question: Any, target: Any, doc: Row, choices: Sequence[str]) -> bool:
    """True if lm-eval's target is the answer that we take for right."""
    gold = question.gold
    if question.options and gold in question.options:
        letter = str(target).strip("() ")
        if f"choice{_LETTERS.find(letter) + 1}" in doc:  # shuffled there: the option's text counts
            return doc[f"choice{_LETTERS.find(letter) + 1}"] == question.options[gold]
        if letter.isdecimal():
            letter = choices[int(letter)]
        return letter in (gold, question.options[gold])
    from probtune.measure.answers import exact_match
    from probtune.measure.boxes import last_box

    answer = str(target).rpartition("####")[2].strip()
    return exact_match(last_box(answer) or answer.lstrip("0"), str(gold))


def shown(prompt: str, result: Row) -> str:
    """A prompt with its question and options named, on one line."""
    text = prompt.replace(result["core"], "{question}")
    lines = []
    for line in text.split("\n"):
        bare = re.sub(r"^\(?[A-J][.)] ?", "", line).strip()
        if bare and bare in result["options"]:
            line = "{options}" if lines[-1:] != ["{options}"] else None
        if line is not None:
            lines.append(line)
    return "`" + "⏎".join(lines).replace("|", "\\|").replace("`", "'") + "`"


def prompts_table(results: Sequence[Row]) -> Table:
    rows = []
    for result in results:
        dataset = f" ({result['dataset']})" if "dataset" in result else ""
        names = [f"`{result['ours']}`", f"`{result['theirs']}`{dataset}"]
        if "missing" in result:
            rows.append([*names, "not loaded here", "", "", result["missing"], result["why"]])
            continue
        same = "same" if result["same question"] else "**other**"
        if result["same prompt"]:
            same += ", same prompt"
        answer = "same" if result["same answer"] else "**other**"
        how = {"multiple_choice": "likelihood", "generate_until": "generation"}
        examples = f", {result['examples']} examples" if result["examples"] else ""
        rows.append(
            [
                *names,
                f"{same}; {answer} right answer",
                f"{how[result['answered']]}{examples}",
                shown(result["their prompt"], result),
                shown(result["our prompt"], result),
                result["why"],
            ]
        )
    return [
        "task",
        "in lm-eval",
        "question",
        "lm-eval answers by",
        "lm-eval's prompt",
        "our prompt (strict, plain turns)",
        "scores differ because",
    ], _languages_together(rows)


def _languages_together(rows: list[list[str]]) -> list[list[str]]:
    """One row for the languages of MMLU-ProX, whose prompts are lm-eval's in every language."""
    languages = [row for row in rows if row[0].startswith("`mmlu_prox_")]
    others = [row for row in rows if row not in languages]
    if not languages or len({row[2] for row in languages}) != 1:
        return rows
    first = list(languages[0])
    first[0] = "`mmlu_prox_…`, 7 languages"
    first[1] = "`mmlu_prox_…`, by subject (li-lab/MMLU-ProX)"
    if "same prompt" in first[2]:
        first[4] = first[5] = "the same words in each language"
    at = rows.index(languages[0])
    return [*others[:at], first, *others[at:]]


# --- scores ---------------------------------------------------------------------------------------


def _canned(texts: Mapping[str, str]) -> Any:
    """A model of lm-eval that answers each prompt with its text."""
    from lm_eval.api.model import LM

    class Canned(LM):
        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            return [texts[request.args[0]] for request in requests]

        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
            raise NotImplementedError  # tasks of other kinds are not scored here

        loglikelihood_rolling = loglikelihood

    return Canned()


def their_scores(loaded: Any, name: str, prompts: Sequence[str], texts: Sequence[str]) -> Row:
    """Grade texts by lm-eval: metric and filter -> score of each."""
    lm = _canned(dict(zip(prompts, texts, strict=True)))
    scores: dict[str, list[float]] = {}
    for sample in _judged(loaded, name, lm, len(prompts)):
        for metric in sample["metrics"]:
            key = f"{metric}, {sample['filter']}"
            scores.setdefault(key, []).append(float(sample[metric]))
    return scores


def their_choices(loaded: Any, name: str, lm: Any, rows: int) -> Row:
    """Grade a multiple choice by lm-eval: metric -> score of each."""
    samples = _judged(loaded, name, lm, rows)
    return {"acc, likelihood": [float(sample["acc"]) for sample in samples]}


def _judged(loaded: Any, name: str, lm: Any, rows: int) -> list[Row]:
    """Return what lm-eval makes of a model's answers to the first rows, in their order."""
    from lm_eval.evaluator import evaluate

    logging.disable(logging.ERROR)
    try:
        out = evaluate(lm, loaded, log_samples=True, bootstrap_iters=0, limit=rows)
    finally:
        logging.disable(logging.NOTSET)
    return sorted(out["samples"][name], key=lambda sample: sample["doc_id"])


def _liking(task: Any, *, right: bool) -> Any:
    """A model of lm-eval that finds the right choice likeliest, or the one after it."""
    from lm_eval.api.model import LM

    class Liking(LM):
        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
            return [(float(request.idx == liked(request.doc)), False) for request in requests]

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            raise NotImplementedError  # tasks of other kinds are not scored here

        loglikelihood_rolling = generate_until

    def liked(doc: Row) -> int:
        target, choices = task.doc_to_target(doc), task.doc_to_choice(doc)
        index = target if isinstance(target, int) else choices.index(target)
        return index if right else (index + 1) % len(choices)

    return Liking()


def our_scores(ours: str, questions: Sequence[Any], texts: Sequence[str]) -> list[float]:
    from probtune.evaluation.grading.base import GradingItem

    grader = TASKS[ours].protocols["strict"].grader
    items = [
        GradingItem(text, question.gold, question.options)
        for question, text in zip(questions, texts, strict=True)
    ]
    return [grade.score for grade in grader(items)]


def answers_of(
    model: Any, tokenizer: Any, prompts: Sequence[str], until: Sequence[str], tokens: int, own: bool
) -> list[str]:
    """Greedy answers by lm-eval's model class, or by ours (`own`) through its session."""
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from probtune.evaluation.backends.hf import HFModel
    from probtune.evaluation.backends.session import Session
    from probtune.evaluation.engine import generation_arguments
    from probtune.evaluation.tasks.base import Decoding

    torch.set_num_threads(1)
    arguments: Row = {"until": list(until), "max_gen_toks": tokens, "do_sample": False}
    if own:  # as `probtune eval` asks: the ends of text and turn as tokens
        ends = {tokenizer.eos_token_id, model.generation_config.eos_token_id}
        arguments = generation_arguments(Decoding(tokens), stop=until, ends=sorted(ends))
    requests = [
        Instance("generate_until", {"id": str(i)}, (prompt, dict(arguments)), i)
        for i, prompt in enumerate(prompts)
    ]
    if not own:
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=10, backend="causal")
        return lm.generate_until(requests, disable_tqdm=True)
    lm = HFModel(model, tokenizer)
    names = [str(i) for i in range(len(prompts))]
    lm.session = Session("harness", names, 0, 10, lambda samples: None, {})
    try:
        return lm.generate_until(requests, disable_tqdm=True)
    finally:
        lm.session = None


def compare_scores(
    pair: Pair, data: Path, rows: int, tokens: int, model: Any, tokenizer: Any
) -> Row:
    """Compare scores on the first rows of a benchmark."""
    from probtune.data.prompts import format_of

    task = TASKS[pair.ours]
    path = data / (task.local or "")
    raw = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:rows]]
    questions = task.read(raw)
    theirs, fetched = load_theirs([pair], raw, pair.theirs)
    docs = docs_of(theirs)
    prompts = [prompt_of(theirs, doc) for doc in docs]
    until = theirs.config.generation_kwargs["until"]
    spec = task.protocols["strict"].prompt(format_of(tokenizer))
    own_prompts = [spec.render(question.text) for question in questions]
    texts = {
        "lm-eval's prompt, lm-eval's model class": answers_of(
            model, tokenizer, prompts, until, tokens, own=False
        ),
        "lm-eval's prompt, our model class": answers_of(
            model, tokenizer, prompts, until, tokens, own=True
        ),
        "our prompt, our model class": answers_of(
            model, tokenizer, own_prompts, [spec.form.end or ""], tokens, own=True
        ),
    }
    solutions = [row["answer"] if pair.ours == "gsm8k" else row["solution"] for row in raw]
    boxed = [f"So it is \\boxed{{{question.gold}}}." for question in questions]
    texts |= {
        "reference solutions": solutions,
        "solutions of the next row": solutions[1:] + solutions[:1],
        "the right answer in a box": boxed,
    }
    results = []
    for name, answers in texts.items():
        by_theirs = their_scores(fetched["loaded"], pair.theirs, prompts, answers)
        results.append(
            {
                "answers": name,
                "ours": our_scores(pair.ours, questions, answers),
                "theirs": by_theirs,
            }
        )
    first, second = list(texts.values())[:2]
    return {
        "task": pair.ours,
        "theirs": pair.theirs,
        "rows": len(raw),
        "same questions": sum(
            question.text.strip() in prompt
            for question, prompt in zip(questions, prompts, strict=True)
        ),
        "same texts": sum(a == b for a, b in zip(first, second, strict=True)),
        "results": results,
    }


def compare_on_own_rows(pair: Pair, rows: int, tokens: int, model: Any, tokenizer: Any) -> Row:
    """Compare scores on questions of ours in the benchmark's schema."""
    from lm_eval.models.huggingface import HFLM

    from probtune.data.prompts import format_of

    task = TASKS[pair.ours]
    shots = 5 if pair.folder == "mmlu_prox" else 0  # the rows that a reader shows solved come first
    raw = rows_like(task.example, shots + rows)
    if shots:
        raw = [{**row, "cot_content": _said(pair.ours, row["answer"])} for row in raw]
    questions, raw = task.read(raw), raw[shots:]
    theirs, fetched = load_theirs([pair], [pair.row(row) for row in raw], pair.theirs)
    docs, loaded = _settled(theirs), fetched["loaded"]
    prompts = [prompt_of(theirs, doc) for doc in docs]
    spec = task.protocols["strict"].prompt(format_of(tokenizer))
    own_prompts = [spec.render(question.text) for question in questions]
    by_model = answers_of(model, tokenizer, own_prompts, [spec.form.end or ""], tokens, own=True)
    golds = [str(question.gold) for question in questions]
    others = [_other(question, golds[index - 1]) for index, question in enumerate(questions)]
    right = [_said(pair.ours, gold) for gold in golds]
    wrong = [_said(pair.ours, other) for other in others]
    by_likelihood = theirs.OUTPUT_TYPE == "multiple_choice"
    if by_likelihood:
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=10, backend="causal")
        answers = {
            "the model's, by likelihood and by generation": (by_model, lm),
            "the right answers": (right, _liking(theirs, right=True)),
            "wrong answers": (wrong, _liking(theirs, right=False)),
        }
    else:
        until = theirs.config.generation_kwargs["until"]
        texts = answers_of(model, tokenizer, prompts, until, tokens, own=False)
        answers = {
            "lm-eval's prompt, lm-eval's model class": (texts, None),
            "our prompt, our model class": (by_model, None),
            "the right answers": (right, None),
            "wrong answers": (wrong, None),
        }
    return {
        "task": pair.ours,
        "theirs": pair.theirs,
        "rows": len(raw),
        "same questions": sum(
            _core(row) in prompt and _core(row) in question.text
            for row, prompt, question in zip(raw, prompts, questions, strict=True)
        ),
        "same answers": sum(
            _same_answer(
                question,
                theirs.doc_to_target(doc),
                doc,
                theirs.doc_to_choice(doc) if by_likelihood else [],
            )
            for question, doc in zip(questions, docs, strict=True)
        ),
        "results": [
            {
                "answers": name,
                "ours": our_scores(pair.ours, questions, texts),
                "theirs": their_scores(loaded, pair.theirs, prompts, texts)
                if lm is None
                else their_choices(loaded, pair.theirs, lm, rows),
            }
            for name, (texts, lm) in answers.items()
        ],
    }


def _other(question: Any, of_another: str) -> str:
    """A wrong answer: the next letter, or the answer of another row."""
    if not question.options:
        return of_another
    letters = list(question.options)
    return letters[(letters.index(question.gold) + 1) % len(letters)]


def _said(ours: str, answer: str) -> str:
    """An answer as both graders read it."""
    if ours.startswith("mmlu_prox_"):
        from probtune.evaluation.tasks.mmlu_prox import LANGUAGES

        return LANGUAGES[ours.removeprefix("mmlu_prox_")][2].format(answer)
    if TASKS[ours].example.keys() & {"options", "choices"}:
        return f"The answer is ({answer})."
    return f"It is \\boxed{{{answer}}}."


_WHY = {
    ("gsm8k", "strict-match"): "#### alone counts there, and a box alone here",
    ("gsm8k", "flexible-extract"): "the last number counts there, and a box alone here",
    ("math500", "none"): (
        "there all between the first and the last $ is the answer, or the whole text; here the"
        " last box"
    ),
}
"""(task, lm-eval's filter) -> why the graders disagree."""


def scores_table(record: Row) -> Table:
    rows = []
    differences = {(pair.ours, pair.theirs): pair.difference for pair in PAIRS}
    on_own_rows = {pair.ours for pair in PAIRS if pair.folder not in _ON_REAL_ROWS}
    for task in record["tasks"]:
        for result in task["results"]:
            ours = result["ours"]
            for metric, scores in result["theirs"].items():
                agree = sum(a == b for a, b in zip(ours, scores, strict=True))
                why = (
                    _WHY.get((task["task"], metric.rpartition(", ")[2]))
                    or differences[task["task"], task["theirs"]]
                )
                rows.append(
                    [
                        f"`{task['task']}`",
                        result["answers"],
                        f"{sum(ours):.0f} of {len(ours)}",
                        metric,
                        f"{sum(scores):.0f} of {len(scores)}",
                        f"{agree} of {len(ours)}",
                        why if agree < len(ours) else "",
                    ]
                )
    for task in _grouped([name for name in record["without rows"] if name not in on_own_rows]):
        rows.append(
            [f"`{task}`", "not measured: its rows are on the hub alone", "", "", "", "", ""]
        )
    return [
        "task",
        "answers",
        "right by our strict grader",
        "lm-eval's metric",
        "right by it",
        "verdicts agree",
        "where not",
    ], rows


def _grouped(names: Sequence[str]) -> list[str]:
    """The names, the languages of MMLU-ProX as one."""
    return list(dict.fromkeys(re.sub(r"^mmlu_prox_.*", "mmlu_prox_…", name) for name in names))


# --- command line ---------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", action="store_true")
    parser.add_argument("--scores", action="store_true")
    parser.add_argument("--own-rows", action="store_true")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rows", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args()
    before = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if options.prompts:
        before["prompts"] = [compare_prompts(pair) for pair in PAIRS]
        write(DOCUMENT, "harness prompts", prompts_table(before["prompts"]))
    if options.scores:
        before["scores"] = scores(options)
        write(DOCUMENT, "harness scores", scores_table(before["scores"]))
    if options.own_rows:
        before["own rows"] = own_rows(options)
        write(DOCUMENT, "harness own rows", scores_table(before["own rows"]))
    RESULTS.write_text(json.dumps(before, indent=1, ensure_ascii=False) + "\n")


def scores(options: argparse.Namespace) -> Row:
    from probtune.records import environment

    model, tokenizer = _model_of(options)
    tasks, absent = [], []
    for pair in PAIRS:
        local = TASKS[pair.ours].local
        if local is None or not (options.data / local).is_file():
            absent.append(pair.ours)
            print(f"NO ROWS of {pair.ours} in {options.data}: left out", file=sys.stderr)
            continue
        if pair.folder == "minerva_math":
            continue  # its graders cannot be loaded beside ours; see the table of prompts
        start = time.monotonic()
        tasks.append(
            compare_scores(pair, options.data, options.rows, options.tokens, model, tokenizer)
        )
        print(f"{pair.ours}: {time.monotonic() - start:.0f} s", flush=True)
    return {
        "model": options.model,
        "tokens": options.tokens,
        "tasks": tasks,
        "without rows": list(dict.fromkeys(absent)),
        "environment": environment(),
    }


def _model_of(options: argparse.Namespace) -> tuple[Any, Any]:
    from probtune.models.loading import load_model, load_tokenizer
    from probtune.terminal import quiet_libraries

    quiet_libraries()
    return load_model(options.model), load_tokenizer(options.model)


def own_rows(options: argparse.Namespace) -> Row:
    from probtune.records import environment

    model, tokenizer = _model_of(options)
    tokens, tasks = min(options.tokens, _OWN_TOKENS), []
    for pair in PAIRS:
        if pair.folder in _ON_REAL_ROWS:
            continue
        start = time.process_time()
        tasks.append(compare_on_own_rows(pair, options.rows, tokens, model, tokenizer))
        print(f"{pair.ours}: {time.process_time() - start:.0f} s of CPU", flush=True)
    return {
        **{"model": options.model, "tokens": tokens, "tasks": tasks, "without rows": []},
        "environment": environment(),
    }


_OWN_TOKENS = 32
"""Room for an answer to a question of ours."""


if __name__ == "__main__":
    main()
