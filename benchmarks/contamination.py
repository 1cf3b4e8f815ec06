"""How long the contamination check takes: a training set of 67 thousand rows against 1,517
questions, all made of words drawn by Zipf's law, on one core.

python benchmarks/contamination.py        # prints one line for each length
"""

import resource
import time
from collections.abc import Iterator

import numpy as np

from probtune.corpora.contamination import overlap

ROWS, QUESTIONS = 67_000, 1_517
WORDS = {"question": 60, "response": 250}
"""Words of a row: NuminaMath's are of this size."""
PLANTED = 50


def texts(count: int, words: int, generator: np.random.Generator) -> Iterator[str]:
    vocabulary = np.array([f"w{i}" for i in range(20_000)])
    for _ in range(count):
        yield " ".join(vocabulary[np.minimum(generator.zipf(1.3, words), len(vocabulary)) - 1])


def training(questions: list[tuple[str, str]], seed: int) -> Iterator[tuple[str, str, str]]:
    """Rows; every so often one repeats a question of the benchmark."""
    generator = np.random.default_rng(seed)
    asked = texts(ROWS, WORDS["question"], generator)
    answered = texts(ROWS, WORDS["response"], generator)
    every = ROWS // PLANTED
    for i, (question, response) in enumerate(zip(asked, answered, strict=True)):
        if i % every == 0 and i // every < PLANTED:
            question = "Solve: " + questions[i // every][1]
        yield str(i), question, response


def main() -> None:
    generator = np.random.default_rng(0)
    questions = [(str(i), text) for i, text in enumerate(texts(QUESTIONS, 60, generator))]
    rows = list(training(questions, seed=1))
    start = time.perf_counter()
    found = overlap(rows, {"synthetic": questions})
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{found['rows']} rows, {found['words'] / 1e6:.1f} million words, {QUESTIONS} questions:"
        f" {seconds:.1f} s, {found['words'] / seconds / 1e6:.2f} million words a second; the"
        f" process, rows included, held {memory:.0f} MB at most"
    )
    for entry in found["found"]:
        print(
            f"n = {entry['n']}: {entry['questions_hit']} questions ({PLANTED} planted),"
            f" {entry['rows_hit']} rows"
        )


if __name__ == "__main__":
    main()
