"""Tables and pictures of docs/theory.md.

    python benchmarks/theory.py                   # closed forms: half a minute
    python benchmarks/theory.py --simulate        # and noise kinds, optimizers, networks: minutes
    python benchmarks/theory.py --runs DEMO       # and the distance to a demo's measured runs

Each block is written between its marks in docs/theory.md; a test compares the quick ones with the
document.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from blocks import Table, write

from probtune import theory
from probtune.cli import main as probtune
from probtune.demo.task import PROMPT_TOKENS, Problems
from probtune.objectives import nll, objective, p, power
from probtune.records import read_record
from probtune.theory.descent import population_crossover
from probtune.theory.phase import ALPHAS
from probtune.theory.shared import mean_prediction

DOCUMENT = Path(__file__).parents[1] / "docs" / "theory.md"

# --- closed forms --------------------------------------------------------------------------------


def crossover() -> Table:
    noise = (0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4)
    return ["K \\ noise", *(f"{e:g}" for e in noise)], [
        [f"{k:,}", *(f"{theory.crossover(noise=e, classes=k):.3f}" for e in noise)]
        for k in (2, 10, 100, 50_000)
    ]


def reach() -> Table:
    """Noise rates up to which the short forms of p_x hold."""
    rows = []
    for k in (2, 3, 10, 100, 50_000):
        largest = (k - 1) / k
        cells = [
            *(theory.square_root_reach(x, classes=k) for x in (0.01, 0.02, 0.05)),
            *(theory.many_classes_reach(x, classes=k) for x in (0.01, 0.02, 0.05)),
        ]
        rows.append([f"{k:,}", *(f"{x:.3f}" if x < largest - 1e-9 else "all" for x in cells)])
    return [
        "K",
        *(f"1 - √ε within {x}" for x in (0.01, 0.02, 0.05)),
        *(f"K → ∞ within {x}" for x in (0.01, 0.02, 0.05)),
    ], rows


def above_one() -> Table:
    """Probability from which a power above 1 is the fastest, and the bound of its lead."""
    noise = (0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4)
    rows = []
    for k in (2, 3, 10, 100, 50_000):
        cells = []
        for e in noise:
            above = theory.powers_above_one(noise=e, classes=k)
            edge = f"{above.p:.3f}" if above.p < 0.9995 else "> 0.999"
            gain = f"{above.gain:.2%}" if above.gain >= 5e-5 else "< 0.01%"
            cells.append(f"{edge}; {gain}" if e else "never")
        rows.append([f"{k:,}", *cells])
    return ["K \\ noise", *(f"{e:g}" for e in noise)], rows


def budget() -> Table:
    times = (3, 10, 30, 100, 300)
    return ["noise (K = 10) \\ time", *(f"{t}" for t in times), "law at 300"], [
        [
            f"{e:g}",
            *(f"{theory.budget_crossover(t, noise=e, classes=10):.4f}" for t in times),
            f"{9 / (10 * (1 - e * 10 / 9) * 300):.4f}",
        ]
        for e in (0.05, 0.1, 0.2, 0.3, 0.4)
    ]


def rests() -> Table:
    alphas = (-0.5, 0.0, 0.3, 0.5, 0.9, 1.0, 2.0)
    rows = []
    for e in (0.05, 0.1, 0.3):
        points = [theory.fixed_point(alpha=a, noise=e, classes=10) for a in alphas]
        rows.append(
            [f"{e:g}", *(f"{x.p:.4f}" + ("" if x.stable else " (unstable)") for x in points)]
        )
    return ["noise (K = 10) \\ alpha", *(f"{a:g}" for a in alphas)], rows


def best_alpha() -> Table:
    levels = (0.01, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
    rows = []
    for e in (0.0, 0.05, 0.1, 0.3):
        for time_ in (0.0, 30.0):
            diagram = theory.phase_diagram(p=levels, noise=[e], classes=10, budget=time_)
            best = [f"{ALPHAS[i]:g}" for i in diagram.winner[0]]
            rows.append([f"{e:g}", "the start" if time_ == 0 else f"{time_:g}", *best])
    return ["noise (K = 10)", "after", *(f"p = {x:g}" for x in levels)], rows


def escape() -> Table:
    names = ("nll()", "power(0.5)", "power(0.7)", "p()", "power(10.0)")
    rows = []
    for name in names:
        alpha = (
            {"nll()": 0.0, "p()": 1.0}.get(name) if "power" not in name else objective(name).alpha
        )
        cells = [
            theory.escape_time(x, alpha=alpha, classes=k) for k in (2, 1000) for x in (1e-2, 1e-4)
        ]
        rows.append([f"`{name}`", *(f"{t:.3g}" for t in cells)])
    return ["objective", "K = 2, from 1e-2", "from 1e-4", "K = 1000, from 1e-2", "from 1e-4"], rows


def memorisation() -> Table:
    rows = []
    for k, start in ((10, 0.45), (10, 0.1), (10, 0.01), (100, 0.3)):
        cells = []
        for f in (nll(), p(), power(2)):
            pair = [
                theory.memorisation_time(start, objective=f, classes=k, correct=c)
                for c in (True, False)
            ]
            cells.append(f"{pair[0]:.3g} / {pair[1]:.3g}")
        rows.append([f"{k}", f"{start:g}", *cells])
    return ["K", "p", "NLL right / wrong", "-p right / wrong", "power(2) right / wrong"], rows


def theorem() -> Table:
    rows = []
    for level in (1 / 50_000, 0.3, 0.6, 0.8, 0.9, 0.95):
        parts = theory.difference_parts(*theory.diffuse_model(level, classes=50_000), p(), nll())
        rows.append(
            [
                "1/V" if level < 0.01 else f"{level:g}",
                f"{parts.right:.2e}",
                f"{parts.wrong:+.2e}",
                f"{parts.required_noise:.4f}",
            ]
        )
    return [
        "p (V = 50,000, the rest even)",
        "A, right labels",
        "B, wrong labels",
        "noise needed",
    ], rows


def pairs() -> Table:
    rows = []
    for first, second in (("p()", "nll()"), ("power(10.0)", "nll()"), ("power(0.5)", "nll()")):
        order, c10, c8 = theory.check_pair(first, second)
        rows.append(
            [
                f"`{first}`, `{second}`",
                "yes" if order.holds else "no",
                f"{c10.value:.3g}",
                f"{c10.limit / 10:.3g}",
                "yes" if c10.holds else "no",
                "yes" if c8.holds else "no",
            ]
        )
    return ["f1, f2", "f2' < f1'", "c", "d", "c < 10 d", "c < 8.2 d"], rows


# --- simulations ---------------------------------------------------------------------------------


def noise_kinds() -> Table:
    """Return accuracies of a table of 500 contexts after flow steps of 0.1 to time 30."""
    classes, noise, rows = 10, 0.2, []
    for mean_p in (0.3, 0.8):
        rng = np.random.default_rng(0)
        logits, truth = theory.draw_contexts(500, classes=classes, mean_p=mean_p, rng=rng)
        q, eye = np.exp(logits), np.eye(classes)[truth]
        even = theory.uniform(noise=noise, classes=classes)[truth]
        tail = theory.long_tail(classes=500, ratio=50)
        kinds = {
            "none": (eye, None),
            "uniform": (even, None),
            "two alternatives": (
                theory.structured(noise=noise, classes=classes, alternatives=2)[truth],
                None,
            ),
            "pair flips": (theory.pair_flips(noise=noise, classes=classes)[truth], None),
            "confident conflict": (theory.confident_conflict(q, truth, noise=noise), None),
            "uniform, long tail 50 : 1": (even, tail),
            "uniform, half missing at random": (theory.missing(even, 0.5), None),
            "uniform, half of right labels missing": (
                theory.missing(even, np.where(np.arange(classes) == 0, 0.5, 0.0)),
                None,
            ),
            "uniform, one label each": (theory.drawn(even, copies=1, rng=rng), None),
            "uniform, ten labels each": (theory.drawn(even, copies=10, rng=rng), None),
        }
        for name, (law, frequency) in kinds.items():
            contexts = theory.Contexts.of(truth, law, frequency)
            cells = []
            for f in (nll(), p()):
                model = theory.Table(logits)
                theory.descend(model, contexts, f, learning_rate=0.1, steps=300)
                cells.append(theory.measure(model, contexts))
            columns = [f"{a:.3f} / {b:.3f}" for a, b in zip(*cells, strict=True)]
            if frequency is None:
                columns[2] = ""  # no context is rarer than another
            rows.append([f"{mean_p:g}", name, *columns])
    return [
        "mean p",
        "labels (noise 0.2, K = 10)",
        "sampled accuracy, NLL / -p",
        "greedy accuracy",
        "sampled, rarest tenth",
    ], rows


_RATES = {
    "sgd": 1.0,
    "momentum": 0.1,
    "sign": 0.05,
    "normalised": 0.05,
    "adam": 0.05,
    "muon": 0.05,
}


def optimizers() -> Table:
    """Return the crossover of a population of 500 contexts, 50 classes, after 100 steps."""
    means = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    rows = []
    for labels in ("the law", "one label each"):
        for optimizer, rate in _RATES.items():
            cells = []
            for noise in (0.0, 0.1, 0.3):
                gaps = []
                for mean_p in means:
                    rng = np.random.default_rng(1)
                    logits, truth = theory.draw_contexts(500, classes=50, mean_p=mean_p, rng=rng)
                    law = theory.uniform(noise=noise, classes=50)[truth]
                    if labels != "the law":
                        law = theory.drawn(law, copies=1, rng=rng)
                    contexts = theory.Contexts.of(truth, law)
                    measures = []
                    for f in (p(), nll()):
                        model = theory.Table(logits)
                        theory.descend(
                            model, contexts, f, optimizer=optimizer, learning_rate=rate, steps=100
                        )
                        measures.append(theory.measure(model, contexts))
                    gaps.append(
                        (
                            measures[0].expected - measures[1].expected,
                            measures[0].greedy - measures[1].greedy,
                        )
                    )
                expected, greedy = zip(*gaps, strict=True)
                cells.append("; ".join(population_crossover(means, x) for x in (expected, greedy)))
            rows.append([labels, optimizer, f"{rate:g}", *cells])
    return ["labels", "optimizer", "rate", *(f"noise {e:g}" for e in (0, 0.1, 0.3))], rows


def shared() -> Table:
    """Compare the flow's prediction with training, for a linear model and a network."""
    rows = []
    for kind, optimizer, rate in (
        ("linear", "sgd", 0.1),
        ("network", "sgd", 0.1),
        ("network", "adam", 0.005),
        ("linear", "muon", 0.01),
    ):
        for steps in (4, 200):
            for capability in (0.2, 0.5, 0.8):
                cells = []
                for noise in (0.0, 0.2, 0.4):
                    prediction = mean_prediction(
                        [
                            theory.predict_and_train(
                                kind,
                                p(),
                                nll(),
                                capability=capability,
                                noise=noise,
                                seed=seed,
                                steps=steps,
                                optimizer=optimizer,
                                learning_rate=rate,
                            )
                            for seed in range(5)
                        ]
                    )
                    mark = "" if prediction.agrees else " **x**"
                    cells.append(f"{prediction.predicted:+.3f}, {prediction.expected:+.3f}{mark}")
                rows.append([kind, optimizer, f"{steps}", f"{capability:g}", *cells])
    return ["model", "optimizer", "steps", "mean p", *(f"noise {e:g}" for e in (0, 0.2, 0.4))], rows


# --- the distance to measured runs ---------------------------------------------------------------


def share_of_wrong_tokens(noise: str, rate: float) -> float:
    """Return the share of wrong target tokens in the demo's demonstrations."""
    noisy, clean = (
        Problems.draw(20_000, np.random.default_rng(0), shuffled=True, noise=noise, rate=r).ids
        for r in (rate, 0.0)
    )
    noisy, clean = noisy[:, PROMPT_TOKENS:], clean[:, PROMPT_TOKENS:]
    trained = noisy >= 0
    return float((noisy != clean)[trained].mean())


def runs(folder: Path) -> Table:
    """Return the predicted and the winning side of every cell of a demo."""
    record = read_record(folder / "record.json", "demo")
    rows, right, decided = [], 0, 0
    for cell in record["cells"]:
        pair = next(
            (d for d in cell["differences"] if (d["first"], d["second"]) == ("p()", "nll()")), None
        )
        if pair is None:
            continue
        noise = share_of_wrong_tokens(cell["noise"], cell["rate"]) if cell["rate"] else 0.0
        level, edge = cell["mean_p"]["value"], float(theory.crossover(noise=noise, classes=10))
        difference = pair["difference"]
        side = "-p" if difference["low"] > 0 else "NLL" if difference["high"] < 0 else "undecided"
        predicted = "-p" if level > edge else "NLL"
        if side != "undecided":
            decided += 1
            right += side == predicted
        rows.append(
            [
                cell["level"],
                f"{cell['noise']} {cell['rate']:g}" if cell["rate"] else "none",
                f"{noise:.3f}",
                f"{level:.2f}",
                f"{edge:.2f}",
                predicted,
                f"{difference['value']:+.2f} [{difference['low']:+.2f}, {difference['high']:+.2f}]",
                side
                if side == "undecided"
                else side + (" (as predicted)" if side == predicted else " **x**"),
            ]
        )
    rows.append(["", "", "", "", "", "", "sides predicted right", f"{right} of {decided} decided"])
    return [
        "level",
        "noise",
        "wrong tokens",
        "mean p",
        "p_x, K = 10",
        "predicted",
        "-p minus NLL, exact match",
        "measured",
    ], rows


QUICK: dict[str, Callable[[], Table]] = {
    f.__name__: f
    for f in (
        crossover,
        reach,
        above_one,
        budget,
        rests,
        best_alpha,
        escape,
        memorisation,
        theorem,
        pairs,
    )
}
SIMULATED: dict[str, Callable[[], Table]] = {
    f.__name__: f for f in (noise_kinds, optimizers, shared)
}


def pictures() -> None:
    folder = DOCUMENT.parent / "theory"
    folder.mkdir(exist_ok=True)
    for question in (
        ["crossover", "--noise", "0.1"],
        ["phase-diagram"],
        ["escape"],
        ["theorem"],
    ):
        probtune(["theory", *question, "--plot", str(folder / f"{question[0]}.svg")])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--only", help="one block")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = {**QUICK, **(SIMULATED if options.simulate or options.only else {})}
    for name, make in chosen.items():
        if options.only in (None, name):
            started = time.monotonic()
            write(DOCUMENT, name, make())
            print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    if options.runs:
        write(DOCUMENT, "runs", runs(options.runs))
    if not options.only:
        pictures()


if __name__ == "__main__":
    main()
