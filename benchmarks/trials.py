r"""Trials of three cells on a small model, on rows that need no network.

    python -m benchmarks.trials --gsm8k FOLDER [--model smollm2-135m] [--out runs/trials]
    python -m benchmarks.trials --summary

Each is a `probtune reproduce CELL --model`. Figlet takes the paper's generator (reasoning-gym).
Mathematics takes GSM8K, whose worked answers get a box; FOLDER holds its train.jsonl and test.jsonl
(https://github.com/openai/grade-school-math, MIT). Medicine takes questions written here, from
facts of any textbook. The sizes are chosen for two cores: the numbers tell that the path works and
how long it takes, not which objective is better. `--summary` writes the table of
docs/reproduction.md.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.blocks import Table, write
from probtune.evaluation.tasks.table import TASKS
from probtune.numbers import interval
from probtune.records import environment, read_record, write_text

DOCUMENT = Path(__file__).parents[1] / "docs" / "reproduction.md"
RESULTS = Path(__file__).with_name("trials.json")


class Cell(NamedTuple):
    """One trial."""

    name: str
    options: tuple[str, ...]


CELLS = (
    Cell(
        "figlet/qwen2.5-1.5b",
        ("--limit-train", "40", "--limit-eval", "20", "--rates", "1e-4"),
    ),
    Cell(
        "math/qwen2.5-math-1.5b",
        (
            *("--train-data", "{data}/gsm8k-boxed.jsonl", "--eval-data", "{data}"),
            *("--tasks", "gsm8k", "--limit-train", "24", "--limit-eval", "8", "--samples", "2"),
            *("--max-new-tokens", "96", "--rates", "5e-5"),
        ),
    ),
    Cell(
        "medical/qwen2.5-1.5b",
        (
            *("--train-data", "{data}/medicine.jsonl", "--eval-data", "{data}"),
            *("--tasks", "medqa", "--limit-train", "96", "--limit-eval", "40"),
            *("--max-new-tokens", "48", "--rates", "1e-4"),
        ),
    ),
)

FACTS: dict[tuple[str, str], dict[str, str]] = {
    ("Which vitamin is lacking in", "A lack of {answer} causes {what}."): {
        "scurvy": "vitamin C",
        "rickets": "vitamin D",
        "night blindness": "vitamin A",
        "beriberi": "vitamin B1",
        "pernicious anaemia": "vitamin B12",
        "pellagra": "vitamin B3",
    },
    ("Which gland makes", "The {answer} makes {what}."): {
        "insulin": "pancreas",
        "cortisol": "adrenal gland",
        "thyroxine": "thyroid",
        "growth hormone": "pituitary gland",
        "melatonin": "pineal gland",
        "testosterone": "testis",
    },
    ("Which organism causes", "{what} is caused by {answer}."): {
        "tuberculosis": "a mycobacterium",
        "malaria": "a plasmodium",
        "influenza": "a virus",
        "thrush": "a yeast",
        "syphilis": "a spirochaete",
        "scabies": "a mite",
    },
    ("Which drug class does this drug belong to:", "{what} is one of the {answer}."): {
        "atenolol": "beta blockers",
        "ramipril": "ACE inhibitors",
        "simvastatin": "statins",
        "amoxicillin": "penicillins",
        "furosemide": "loop diuretics",
        "sertraline": "SSRIs",
    },
    ("Which organ is inflamed in", "In {what} the {answer} is inflamed."): {
        "hepatitis": "liver",
        "nephritis": "kidney",
        "myocarditis": "heart muscle",
        "encephalitis": "brain",
        "pneumonia": "lung",
        "cystitis": "bladder",
    },
}
"""(question, explanation) -> what is asked about -> right answer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--gsm8k", type=Path, help="folder with GSM8K's train.jsonl and test.jsonl")
    parser.add_argument("--out", type=Path, default=Path("runs/trials"))
    parser.add_argument("--cell", action="append", choices=[cell.name for cell in CELLS])
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--summary", action="store_true", help="write the document's table")
    options = parser.parse_args()
    if options.summary:
        write(DOCUMENT, "trials", table())
        return
    data = options.out / "data"
    write_data(data, options.gsm8k)
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for cell in CELLS:
        if options.cell and cell.name not in options.cell:
            continue
        folder = options.out / cell.name
        command = ["probtune", "reproduce", cell.name, "--model", options.model, "--yes"]
        command += ["--seeds", options.seeds, "--out", str(folder)]
        command += [part.format(data=data) for part in cell.options]
        start = time.monotonic()
        subprocess.run([sys.executable, "-m", *command], check=True)
        record = read_record(folder / "reproduction.json", "reproduction")
        shown = [part.format(data="DATA") for part in cell.options]
        results[cell.name] = {
            "command": " ".join(["probtune", "reproduce", cell.name, "--model", options.model])
            + " "
            + " ".join(shown),
            "seconds": round(time.monotonic() - start),
            "rows": [
                {name: row[name] for name in ("objective", "protocol", "what", "ours")}
                for row in (*record["cells"][0]["objectives"], *record["cells"][0]["rows"])
            ],
            "environment": environment(),
        }
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def table() -> Table:
    """Return the committed results as a table."""
    lines = []
    for cell, result in json.loads(RESULTS.read_text()).items():
        for row in result["rows"]:
            if row["protocol"] == "reference":
                continue
            lines.append(
                [
                    f"`{cell}`",
                    f"`{row['objective']}`",
                    row["what"],
                    interval(row["ours"], spec=".2f"),
                    f"{result['seconds']:,}",
                ]
            )
    return ["trial of", "objective", "measured", "score [95 %]", "seconds in all"], lines


def write_data(folder: Path, gsm8k: Path | None) -> None:
    """Write the rows of the trials."""
    questions, task = medicine(), TASKS["medqa"]
    assert task.local is not None
    draw = random.Random(0)
    draw.shuffle(questions)
    test, train = questions[:40], questions[40:]
    _write(folder / "medicine.jsonl", [_worked(question) for question in train])
    lists = {task.source.config: [_asked(question) for question in test]}
    write_text(folder / task.local, json.dumps(lists, ensure_ascii=False))
    if gsm8k is not None:
        rows = [json.loads(line) for line in (gsm8k / "train.jsonl").read_text().splitlines()]
        _write(folder / "gsm8k-boxed.jsonl", [boxed(row) for row in rows[:2000]])
        write_text(folder / "gsm8k" / "test.jsonl", (gsm8k / "test.jsonl").read_text())


def boxed(row: dict[str, str]) -> dict[str, str]:
    r"""Return a row of GSM8K as question and worked answer with a box.

    >>> boxed({"question": "1+1?", "answer": "<<1+1=2>>2 it is.\n#### 2"})["completion"]
    '2 it is.\nThe answer is $\\boxed{2}$.'
    """
    worked, _, gold = row["answer"].rpartition("####")
    worked = re.sub(r"<<[^>]*>>", "", worked).strip()
    answer = f"{worked}\nThe answer is $\\boxed{{{gold.strip()}}}$."
    return {"prompt": row["question"], "completion": answer}


def medicine() -> list[dict[str, Any]]:
    """Return every fact with five orders of its options."""
    questions = []
    for (asks, explains), facts in FACTS.items():
        for what, answer in facts.items():
            for number in range(5):
                draw = random.Random(f"{what} {number}")
                others = [other for other in facts.values() if other != answer]
                options = [answer, *draw.sample(others, 3)]
                draw.shuffle(options)
                questions.append(
                    {
                        "question": f"{asks} {what}?",
                        "options": options,
                        "right": options.index(answer),
                        "explanation": explains.format(what=what, answer=answer),
                    }
                )
    return questions


def _worked(question: dict[str, Any]) -> dict[str, str]:
    lines = [f"{letter}. {o}" for letter, o in zip("ABCD", question["options"], strict=True)]
    letter = "ABCD"[question["right"]]
    return {
        "prompt": "\n".join([question["question"], *lines]),
        "completion": f"{question['explanation']} The answer is \\boxed{{{letter}}}.",
    }


def _asked(question: dict[str, Any]) -> dict[str, Any]:
    """Return a question in the schema of the medical benchmarks."""
    options = dict(zip("ABCD", question["options"], strict=True))
    letter = "ABCD"[question["right"]]
    return {
        "question": question["question"],
        "options": options,
        "answer": options[letter],
        "answer_idx": letter,
    }


def _write(path: Path, rows: Sequence[Any]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


if __name__ == "__main__":
    main()
