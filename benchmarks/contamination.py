"""Time of the contamination check: a training set of 67 thousand rows against 1,517 questions, all
made of words drawn by Zipf's law, on one core.

python benchmarks/contamination.py        # prints the overlaps and the time
python benchmarks/contamination.py --write        # also contamination.json, for docs/data.md
"""

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from probtune.paper.corpora.contamination import overlap
from probtune.records import environment

RESULT = Path(__file__).with_suffix(".json")

ROWS, QUESTIONS = 67_000, 1_517
WORDS = {"question": 60, "response": 250}
"""Words of a row, as in NuminaMath."""
PLANTED = 50


def texts(count: int, words: int, generator: np.random.Generator) -> Iterator[str]:
    vocabulary = np.array([f"w{i}" for i in range(20_000)])
    for _ in range(count):
        yield " ".join(vocabulary[np.minimum(generator.zipf(1.3, words), len(vocabulary)) - 1])


def training(questions: list[tuple[str, str]], seed: int) -> Iterator[tuple[str, str, str]]:
    """Yield rows; at regular intervals one repeats a question of the benchmark."""
    generator = np.random.default_rng(seed)
    prompts = texts(ROWS, WORDS["question"], generator)
    answered = texts(ROWS, WORDS["response"], generator)
    every = ROWS // PLANTED
    for i, (question, response) in enumerate(zip(prompts, answered, strict=True)):
        if i % every == 0 and i // every < PLANTED:
            question = "Solve: " + questions[i // every][1]
        yield str(i), question, response


def measure() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    questions = [(str(i), text) for i, text in enumerate(texts(QUESTIONS, 60, generator))]
    rows = list(training(questions, seed=1))
    start = time.perf_counter()
    report = overlap(rows, {"synthetic": questions})
    return {
        "rows": report["rows"],
        "words": report["words"],
        "questions": QUESTIONS,
        "planted": PLANTED,
        "seconds": time.perf_counter() - start,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "found": [
            {name: entry[name] for name in ("n", "questions_hit", "rows_hit")}
            for entry in report["found"]
        ],
    }


def main(arguments: list[str]) -> None:
    measurement = measure()
    print(json.dumps(measurement))
    if "--write" in arguments:
        RESULT.write_text(
            json.dumps({**measurement, "environment": environment()}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
