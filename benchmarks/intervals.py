"""Coverage of each interval, and time of the analysis of a record.

    python -m benchmarks.intervals               # tables of docs/evaluation.md; about 10 minutes
    python -m benchmarks.intervals --seeds              # seeds alone, the table "seeds"
    python -m benchmarks.intervals --time        # one analysis: 24,272 generations x 3 objectives
    python -m benchmarks.intervals --replications 200   # a quick look, prints and writes nothing

Questions have difficulties from a Beta distribution; a sample is right with the chance of its
question. The truth is the average over all possible questions and, with several seeds, over all
possible seeds.
"""

import argparse
import platform
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv, ndtr

from probtune.statistics import (
    Estimate,
    avg_at_k,
    detectable_difference,
    difference_over_seeds,
    holm,
    macro_average,
    macro_difference,
    mcnemar,
    paired_difference,
    pass_at_k,
    rate,
    sign_flip_test,
    two_level_bootstrap,
    two_level_difference,
    wilson,
)

from .blocks import Table, markdown, write

DOCUMENT = Path(__file__).parents[1] / "docs" / "evaluation.md"
SIZES = (30, 40, 78, 272)
MATH = {"math500": 500, "minerva": 272, "olympiadbench": 675, "aime24": 30, "amc23": 40}
SAMPLES = 16
QUESTIONS = 0.9
"""Share of a question's difficulty that all models have in common (variance, normal scale)."""


class Difficulties:
    """Chances of being right: Beta distributed over questions with mean `mean`, and variance
    `spread` mean (1 - mean). Two models, or seeds of one, share most of a question's chance."""

    def __init__(self, mean: float, spread: float = 0.3) -> None:
        size = 1 / spread - 1
        grid = (np.arange(20_000) + 0.5) / 20_000
        self._chances = betaincinv(mean * size, (1 - mean) * size, grid)
        self.mean = float(self._chances.mean())

    def passes(self, k: int) -> float:
        """Return the average chance that one of k samples is right."""
        return float((1 - (1 - self._chances) ** k).mean())

    def of(self, normal: np.ndarray) -> np.ndarray:
        """Return the chances of questions, from standard normal numbers."""
        last = len(self._chances) - 1
        return self._chances[np.minimum(ndtr(normal) * (last + 1), last).astype(int)]

    def sample(self, rng: np.random.Generator, n: int, k: int = SAMPLES) -> np.ndarray:
        """Draw (n, k) graded samples of new questions."""
        return answers(rng, self.of(rng.standard_normal(n)), k)


def answers(rng: np.random.Generator, chances: np.ndarray, k: int = SAMPLES) -> np.ndarray:
    return (rng.random((*chances.shape, k)) < chances[..., None]) * 1.0


EASY, HARD = Difficulties(0.4), Difficulties(0.12)
MIXED = [Difficulties(mean) for mean in (0.12, 0.2, 0.3, 0.4, 0.6)]


def two_models(
    rng: np.random.Generator, n: int, k: int = SAMPLES, other: Difficulties = HARD
) -> tuple[np.ndarray, np.ndarray]:
    """Draw samples of two models on the same questions."""
    shared = np.sqrt(QUESTIONS) * rng.standard_normal(n)
    own = np.sqrt(1 - QUESTIONS) * rng.standard_normal((2, n))
    return answers(rng, EASY.of(shared + own[0]), k), answers(rng, other.of(shared + own[1]), k)


@cache
def seed_share(sd: float) -> float:
    """Return the share of the variance, on the normal scale, that gives the averages of different
    seeds the standard deviation `sd`."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    weights = weights / weights.sum()

    def spread(share: float) -> float:
        normal = np.sqrt(share) * nodes[:, None] + np.sqrt(1 - share) * nodes
        means = EASY.of(normal) @ weights
        return float(np.sqrt(weights @ (means - weights @ means) ** 2)) - sd

    root: Any = brentq(spread, 1e-8, 0.1)
    return float(root)


def runs(rng: np.random.Generator, n: int, seeds: int, sd: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw (seeds, n, k) samples of several runs with each of two objectives, on one set."""
    share = seed_share(sd)
    shared = np.sqrt(QUESTIONS) * rng.standard_normal(n)
    seed = np.sqrt(share) * rng.standard_normal((2, seeds, 1))
    own = np.sqrt(1 - QUESTIONS - share) * rng.standard_normal((2, seeds, n))
    normal = shared + seed + own
    return answers(rng, EASY.of(normal[0])), answers(rng, HARD.of(normal[1]))


def naive(samples: np.ndarray) -> Estimate:
    """Return the binomial interval that takes every sample for independent."""
    p, n = float(samples.mean()), samples.size
    error = float(np.sqrt(p * (1 - p) / n))
    return Estimate(p, error, p - 1.96 * error, p + 1.96 * error, n)


# --- intervals: one draw of n questions, and what the interval should cover ----------------------

Interval = Callable[[np.random.Generator, int], Estimate]


def copied(*, clusters: bool) -> Interval:
    """Return the interval of n questions, each asked five times and answered greedily."""

    def interval(rng: np.random.Generator, n: int) -> Estimate:
        chances = np.repeat(EASY.of(rng.standard_normal(n)), 5)
        labels = np.repeat(np.arange(n), 5) if clusters else None
        return avg_at_k(answers(rng, chances, 1), clusters=labels)

    return interval


def macro(**options: Any) -> Interval:
    """Return the interval of the mean of five benchmarks of n questions."""
    return lambda rng, n: macro_average(
        {str(i): x.sample(rng, n) for i, x in enumerate(MIXED)}, **options
    )


def seeded(seeds: int, sd: float, field: str, *, difference: bool = False) -> Interval:
    """Return the interval of several runs whose averages have the standard deviation `sd`."""

    def interval(rng: np.random.Generator, n: int) -> Estimate:
        a, b = runs(rng, n, seeds, sd)
        return getattr(
            two_level_difference(list(a), list(b)) if difference else two_level_bootstrap(list(a)),
            field,
        )

    return interval


FIELDS = {"bootstrap": "two-level bootstrap", "random_effects": "random effects"}
INTERVALS: dict[str, tuple[Interval, float]] = {
    "all samples as independent, binomial": (lambda r, n: naive(EASY.sample(r, n)), EASY.mean),
    "avg@16, t": (lambda r, n: avg_at_k(EASY.sample(r, n)), EASY.mean),
    "avg@16, BCa": (lambda r, n: avg_at_k(EASY.sample(r, n), method="bca"), EASY.mean),
    "avg@16 of a hard benchmark, t": (lambda r, n: avg_at_k(HARD.sample(r, n)), HARD.mean),
    "avg@16 of a hard benchmark, BCa": (
        lambda r, n: avg_at_k(HARD.sample(r, n), method="bca"),
        HARD.mean,
    ),
    "one answer, Wilson": (lambda r, n: wilson(EASY.sample(r, n, 1)), EASY.mean),
    "one answer, hard, Wilson": (lambda r, n: wilson(HARD.sample(r, n, 1)), HARD.mean),
    "pass@8 from 16, t": (lambda r, n: pass_at_k(EASY.sample(r, n), [8])[8], EASY.passes(8)),
    "five copies as questions, t": (copied(clusters=False), EASY.mean),
    "five copies as clusters, t": (copied(clusters=True), EASY.mean),
    "paired difference, t": (
        lambda r, n: paired_difference(*two_models(r, n)),
        EASY.mean - HARD.mean,
    ),
    "paired difference, BCa": (
        lambda r, n: paired_difference(*two_models(r, n), method="bca"),
        EASY.mean - HARD.mean,
    ),
    "mean of five benchmarks, stratified bootstrap": (
        macro(),
        float(np.mean([x.mean for x in MIXED])),
    ),
    "mean of five benchmarks, t": (macro(method="t"), float(np.mean([x.mean for x in MIXED]))),
    **{
        f"{seeds} seeds with a spread of {sd:.0%}, {words}": (seeded(seeds, sd, field), EASY.mean)
        for sd in (0.01, 0.04)
        for seeds in (3, 5)
        for field, words in FIELDS.items()
    },
    **{
        f"{seeds} pairs of such seeds, difference, {words}": (
            seeded(seeds, 0.04, field, difference=True),
            EASY.mean - HARD.mean,
        )
        for seeds in (3, 5)
        for field, words in FIELDS.items()
    },
}
"""Name -> the interval from n new questions, and the truth."""


def coverage(name: str, n: int, replications: int) -> float:
    """Return the share of replications whose interval covers the truth."""
    interval, truth = INTERVALS[name]
    rng = np.random.default_rng([n, list(INTERVALS).index(name)])
    covering = 0
    for _ in range(replications):
        estimate = interval(rng, n)
        covering += estimate.low <= truth <= estimate.high
    return covering / replications


# --- tests: two models of the same strength -----------------------------------------------------

Test = Callable[[np.random.Generator, int], float]


def macro_test(rng: np.random.Generator, n: int) -> float:
    """Return the p-value of the mean of three benchmarks of n questions."""
    drawn = [two_models(rng, n, SAMPLES, EASY) for _ in range(3)]
    a, b = ({str(i): pair[side] for i, pair in enumerate(drawn)} for side in (0, 1))
    return macro_difference(a, b, method="t", permutations=999).p_value


def sign_flips(k: int) -> Test:
    return lambda rng, n: sign_flip_test(*two_models(rng, n, k, EASY), resamples=999)


TESTS: dict[str, Test] = {
    "sign flips, avg@16": sign_flips(16),
    "sign flips, one answer": sign_flips(1),
    "McNemar, one answer": lambda rng, n: mcnemar(*two_models(rng, n, 1, EASY)),
    "sign flips, mean of three benchmarks": macro_test,
}
"""Name -> the p-value where there is no difference."""


def false_alarms(name: str, n: int, replications: int) -> float:
    """Return the share of replications whose p-value is at most 0.05."""
    rng = np.random.default_rng([n, list(TESTS).index(name)])
    return sum(TESTS[name](rng, n) <= 0.05 for _ in range(replications)) / replications


# --- several seeds: interval and p-value of one benchmark and of a mean of three -----------------

SEEDS = (3, 5, 10)


def between_seeds(benchmarks: int, seeds: int, sd: float, n: int, replications: int) -> float:
    """Return the share of replications whose p-value is at most 0.05 where two objectives of the
    same strength are compared: one minus the coverage of the 95 % interval.
    """
    rng = np.random.default_rng([benchmarks, seeds, round(100 * sd), n])
    alarms = 0
    for _ in range(replications):
        sides = null_runs(rng, benchmarks, n, seeds, sd)
        a, b = (
            [{str(i): side[s, i] for i in range(benchmarks)} for s in range(seeds)]
            for side in sides
        )
        alarms += difference_over_seeds(a, b).p_value <= 0.05
    return alarms / replications


def null_runs(
    rng: np.random.Generator, benchmarks: int, n: int, seeds: int, sd: float
) -> np.ndarray:
    """Draw (2, seeds, benchmarks, n, k) samples; a seed moves all benchmarks together."""
    share = seed_share(sd) if sd else 0.0
    shared = np.sqrt(QUESTIONS) * rng.standard_normal((benchmarks, n))
    seed = np.sqrt(share) * rng.standard_normal((2, seeds, 1, 1))
    own = np.sqrt(1 - QUESTIONS - share) * rng.standard_normal((2, seeds, benchmarks, n))
    return answers(rng, EASY.of(shared + seed + own), SEED_SAMPLES)


SEED_SAMPLES = 4


def crossed_alarms(
    seeds: int, spread: float, questions: float, n: int = 272, replications: int = 400_000
) -> float:
    """Return the share of p-values of at most 0.05 in the crossed normal model, where the test sees
    nothing but the mean and three mean squares, which have known distributions.

    Args:
        spread: standard deviation of a seed's effect, over the error that answers leave in its
            average over the questions.
        questions: variance of a question's effect over that of the rest.
    """
    from scipy.stats import t

    rng = np.random.default_rng([seeds, round(10 * spread), round(10 * questions)])
    freedoms = seeds - 1, n - 1, (seeds - 1) * (n - 1)
    expected = 1 + spread**2, 1 + seeds * questions, 1.0
    squares = [
        e * rng.chisquare(f, replications) / f for e, f in zip(expected, freedoms, strict=True)
    ]
    signs = np.where(squares[0] > squares[2], [[1], [1], [-1]], [[0], [1], [0]])
    parts = np.stack(squares) * signs
    total = parts.sum(axis=0)
    freedom = total**2 / (parts**2 / np.array(freedoms)[:, None]).sum(axis=0)
    mean = rng.standard_normal(replications) * np.sqrt(expected[0] + expected[1] - 1)
    return float((2 * t.sf(np.abs(mean) / np.sqrt(total), freedom) <= 0.05).mean())


def seeds_table() -> Table:
    """Return the false alarms over seeds and questions."""
    rows = []
    for seeds in SEEDS:
        for spread in (0.0, 1.0, 2.0, 4.0, 8.0):
            shares = [crossed_alarms(seeds, spread, questions) for questions in (0.0, 1.0, 4.0)]
            within = all(0.03 <= round(share, 3) <= 0.07 for share in shares)
            shown = [f"{share:.1%}" for share in shares]
            rows.append([str(seeds), f"{spread:g}", *shown, "yes" if within else "no"])
    header = ["seeds", "spread between seeds", "questions 0", "questions 1", "questions 4"]
    return [*header, "within 2 points of 5 %"], rows


# --- tables and times ---------------------------------------------------------------------------


def tables(replications: int) -> dict[str, Table]:
    """Return block of the document -> its table."""

    def table(names: Any, share: Callable[[str, int, int], float], head: str) -> Table:
        rows = []
        for name in names:
            started = time.perf_counter()
            rows.append([name, *(f"{share(name, n, replications):.1%}" for n in SIZES)])
            print(*rows[-1], f"{time.perf_counter() - started:.0f} s", sep="  ", flush=True)
        return [head, *(f"n = {n}" for n in SIZES)], rows

    return {
        "coverage": table(INTERVALS, coverage, "interval"),
        "false alarms": table(TESTS, false_alarms, "test"),
    }


def record(rng: np.random.Generator) -> dict[str, dict[str, dict[str, list[int]]]]:
    """Draw objective -> benchmark -> question -> graded samples, as read from a file: five
    benchmarks, 24,272 generations for each objective."""
    by_objective: dict[str, dict[str, dict[str, list[int]]]] = {
        x: {} for x in ("nll", "p", "threshold")
    }
    for (benchmark, n), difficulties in zip(MATH.items(), MIXED[::-1], strict=True):
        shared = np.sqrt(QUESTIONS) * rng.standard_normal(n)
        for objective in by_objective:
            normal = shared + np.sqrt(1 - QUESTIONS) * rng.standard_normal(n)
            graded = answers(rng, difficulties.of(normal)).astype(int).tolist()
            by_objective[objective][benchmark] = {f"q{i}": row for i, row in enumerate(graded)}
    return by_objective


def analysis_times() -> dict[str, tuple[float, float]]:
    """Return CPU and wall seconds of each part of the analysis of `record`. The first use of SciPy
    and statsmodels includes their import."""
    graded = record(np.random.default_rng(0))
    pairs = [("p", "nll"), ("threshold", "nll"), ("threshold", "p")]
    cells = [x for benchmarks in graded.values() for x in benchmarks.values()]
    both = [(graded[a][name], graded[b][name]) for a, b in pairs for name in MATH]
    differences: list[Estimate] = []
    parts: dict[str, Callable[[], Any]] = {
        "rates": lambda: [rate(x) for x in cells],
        "avg@16, t": lambda: [avg_at_k(x) for x in cells],
        "avg@16, BCa": lambda: [avg_at_k(x, method="bca") for x in cells],
        "pass@1 to pass@16": lambda: [pass_at_k(x) for x in cells],
        "paired differences": lambda: differences.extend(paired_difference(*x) for x in both),
        "sign flips and Holm": lambda: holm([sign_flip_test(*x) for x in both]),
        "detectable differences": lambda: [detectable_difference(x) for x in differences],
        "macro averages": lambda: [macro_average(x) for x in graded.values()],
        "macro differences": lambda: [macro_difference(graded[a], graded[b]) for a, b in pairs],
    }
    seconds = {}
    for name, work in parts.items():
        started = time.process_time(), time.perf_counter()
        work()
        seconds[name] = time.process_time() - started[0], time.perf_counter() - started[1]
    seconds["all"] = tuple(map(sum, zip(*seconds.values(), strict=True)))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=2000)
    parser.add_argument("--time", action="store_true", help="time one analysis, and nothing else")
    parser.add_argument("--seeds", action="store_true", help="the table of seeds, and nothing else")
    options = parser.parse_args()
    if options.seeds:
        table = seeds_table()
        write(DOCUMENT, "seeds", table)
        print(markdown(table))
        return
    if options.time:
        seconds = analysis_times()
        rows = [[name, f"{cpu:.2f}", f"{clock:.2f}"] for name, (cpu, clock) in seconds.items()]
        table = ["part", "seconds of the processor", "by the clock"], rows
        print(markdown(table), platform.platform(), sep="\n")
        write(DOCUMENT, "analysis times", table)
        return
    for name, table in tables(options.replications).items():
        if options.replications >= 2000:
            write(DOCUMENT, name, table)
        print(markdown(table))


if __name__ == "__main__":
    main()
