"""`probtune theory ...`: each question as a table, and as a picture with --plot."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import UsageError
from ..objectives import objective, objective_list
from ..terminal import Terminal
from .options import Advice, Crossover, Escape, PhaseDiagram, Theorem

__all__ = ["advice", "crossover", "escape", "phase_diagram", "theorem"]

_TIME = "Time and budget are the integral of the learning rate over one context's own flow."


def crossover(options: Crossover) -> None:
    from .. import theory

    noise, classes = _numbers("--noise", options.noise), _numbers("--classes", options.classes)
    budgets = _numbers("--budget", options.budget) if options.budget else []
    rows = []
    for eps in noise:
        for k in classes:
            noise_and_classes = {"noise": eps, "classes": k}
            rows.append(
                [
                    f"{eps:g}",
                    f"{k:g}",
                    f"{theory.crossover(**noise_and_classes):.4f}",
                    *(f"{theory.budget_crossover(t, **noise_and_classes):.4f}" for t in budgets),
                    f"{theory.fixed_point(alpha=0.0, **noise_and_classes).p:.4f}",
                    f"{theory.fixed_point(alpha=0.5, **noise_and_classes).p:.4f}",
                ]
            )
    terminal = Terminal()
    terminal.table(
        "Where NLL and -p trade places: below this p NLL lowers the clean risk more, above it -p",
        [
            "label noise",
            "classes",
            "at the start",
            *(f"after {t:g}" for t in budgets),
            "NLL rests at",
            "power(0.5) rests at",
        ],
        rows,
        notes=[
            "Without noise NLL is never behind (1.0000). -p rests at 1 for every noise rate here.",
            _TIME,
        ],
    )
    if options.plot:
        from ..reports.theory_figures import crossover_lines

        top = max(0.4, *noise)
        k = classes[0]
        top = min(top, (k - 1) / k - 1e-6)
        grid = np.linspace(0.0, top, 200)
        lines = {f"at the start, {k:g} classes": theory.crossover(noise=grid, classes=k).tolist()}
        for t in budgets or (10.0, 100.0):
            lines[f"after {t:g}"] = np.asarray(
                theory.budget_crossover(t, noise=grid, classes=k)
            ).tolist()
        _save(crossover_lines(grid.tolist(), lines), options.plot, terminal)


def phase_diagram(options: PhaseDiagram) -> None:
    from .. import theory

    chosen = objective_list(options.objectives) if options.objectives else None
    k = options.classes
    if not options.max_noise > 0 or options.size < 2:
        raise UsageError(
            f"--max-noise must be positive and --size at least 2, got {options.max_noise:g} and"
            f" {options.size}."
        )
    noise = np.linspace(0.0, options.max_noise, options.size)
    p = np.linspace(0.0, 1.0, options.size + 2)[1:-1]
    terminal = Terminal()
    terminal.say(f"{options.size} x {options.size} flows for each objective")
    diagram = theory.phase_diagram(chosen, p=p, noise=noise, classes=k, budget=options.budget)
    when = f"after {options.budget:g}" if options.budget else "at the start"
    rows = np.linspace(0, len(noise) - 1, min(7, len(noise))).round().astype(int)
    columns = np.linspace(0, len(p) - 1, min(10, len(p))).round().astype(int)
    terminal.table(
        f"Highest probability of the right label {when}, {k} classes",
        ["label noise", *(f"p = {p[c]:.2f}" for c in columns)],
        [
            [f"{noise[r]:.2f}", *(diagram.objectives[diagram.winner[r, c]] for c in columns)]
            for r in rows
        ],
    )
    shares = [(diagram.winner == i).mean() for i in range(len(diagram.objectives))]
    terminal.table(
        "Share of the plane",
        ["objective", "wins", "by more than 0.01"],
        [
            [
                name,
                f"{share:.1%}",
                f"{((diagram.winner == i) & (diagram.margin > 0.01)).mean():.1%}",
            ]
            for i, (name, share) in enumerate(zip(diagram.objectives, shares, strict=True))
        ],
        notes=[_TIME],
    )
    if options.plot:
        from ..reports.theory_figures import phase_map

        lines = {"NLL | -p at the start": theory.crossover(noise=noise, classes=k).tolist()}
        if options.budget:
            lines[f"NLL | -p {when}"] = theory.budget_crossover(
                options.budget, noise=noise, classes=k
            ).tolist()
        figure = phase_map(
            diagram.objectives,
            noise.tolist(),
            p.tolist(),
            diagram.winner.tolist(),
            title=f"Best objective {when}, {k} classes",
            lines=lines,
        )
        _save(figure, options.plot, terminal)


def escape(options: Escape) -> None:
    from .. import theory

    starts = _numbers("--p", options.p)
    chosen = objective_list(options.objectives or "nll, power(0.5), power(0.7), p, power(10)")
    noise_and_classes = {"noise": options.noise, "classes": options.classes}
    time = lambda f, p: theory.passage_time(p, options.to, objective=f, **noise_and_classes)  # noqa: E731
    for p in starts:
        if not p < options.to:
            raise UsageError(f"--p must lie below --to {options.to:g}, got {p:g}.")
    terminal = Terminal()
    terminal.table(
        f"Time until an unlikely right target reaches p = {options.to:g}:"
        f" {options.classes} classes, label noise {options.noise:g}",
        ["objective", *(f"from p = {p:g}" for p in starts)],
        [[str(f), *(_time(time(f, p)) for p in starts)] for f in chosen],
        notes=[
            "never: the weight is 0 on the way, or noise holds the target down.",
            _TIME,
        ],
    )
    if options.plot:
        from ..reports.theory_figures import escape_curves

        p = np.geomspace(min(1e-4, *starts), options.to / 2, 40)
        curves = {str(f): [time(f, x) for x in p.tolist()] for f in chosen}
        title = f"{options.classes} classes, label noise {options.noise:g}"
        _save(escape_curves(p.tolist(), curves, title=title), options.plot, terminal)


def theorem(options: Theorem) -> None:
    from .. import theory

    first, second = objective(options.first), objective(options.second)
    k = options.classes
    levels = [1.0 / k, 0.3, 0.55, 0.6, 0.8, 0.9, 0.95]
    parts = [
        theory.difference_parts(*theory.diffuse_model(p, classes=k), first, second) for p in levels
    ]
    noise = _numbers("--noise", options.noise)
    for eps in noise:
        if not 0 <= eps < 1:
            raise UsageError(f"--noise must lie in [0, 1), got {eps:g}.")
    terminal = Terminal()
    terminal.table(
        f"Conditions of Theorem 6.4 on the pair {first}, {second}",
        ["condition", "value", "limit", "holds"],
        [
            [
                f"{c.name}: {c.statement}",
                f"{c.value:.4g}",
                f"{c.limit:.4g}",
                "yes" if c.holds else "no",
            ]
            for c in theory.check_pair(first, second)
        ],
    )
    terminal.table(
        f"R'({first}) - R'({second}) at the start, exactly; above 0 {first} lowers the risk faster",
        [
            "p of the right label",
            *(f"noise {eps:g}" for eps in noise),
            "right labels, A",
            "wrong labels, B",
            "noise needed",
        ],
        [
            [
                f"{p:.3g}" + (" (uniform: the weak end)" if p == levels[0] else ""),
                *(f"{x.difference(eps):+.5f}" for eps in noise),
                f"{x.right:+.5f}",
                f"{x.wrong:+.5f}",
                _share(x.required_noise),
            ]
            for p, x in zip(levels, parts, strict=True)
        ],
        notes=[
            f"The rest of the probability is spread over {k - 1} classes, and so are wrong labels.",
            "With right labels alone the second leads at every p: the theorem is about noise.",
        ]
        if all(x.right < 0 for x in parts)
        else [],
    )
    if options.plot:
        from ..reports.theory_figures import theorem_lines

        grid = np.linspace(0.005, 0.995, 199)
        fine = [
            theory.difference_parts(*theory.diffuse_model(p, classes=k), first, second)
            for p in grid
        ]
        lines = {f"label noise {eps:g}": [x.difference(eps) for x in fine] for eps in noise}
        figure = theorem_lines(grid.tolist(), lines, first=str(first), second=str(second))
        _save(figure, options.plot, terminal)


def advice(options: Advice) -> None:
    from .. import theory

    budgets = _numbers("--budget", options.budget)
    rows = [
        theory.advise(options.p, noise=options.noise, budget=t, classes=options.classes)
        for t in budgets
    ]
    terminal = Terminal()
    terminal.table(
        f"p = {options.p:g} of right targets, label noise {options.noise:g}, {options.classes}"
        " classes: probability of the right label after the budget",
        ["objective", *(f"budget {t:g}" for t in budgets)],
        [
            [name, *(f"{a.after[name]:.3f}" + (" harm" if name in a.harms else "") for a in rows)]
            for name in rows[0].after
        ],
    )
    terminal.table(
        "Advice",
        ["", *(f"budget {t:g}" for t in budgets)],
        [
            ["best power", *(a.best for a in rows)],
            ["NLL | -p trade places at p", *(f"{a.budget_crossover:.3f}" for a in rows)],
            [
                "its learning rate, as NLL's times",
                *(f"{a.learning_rate_factor:.2f}" for a in rows),
            ],
            ["least weight of a right target", *(_floor(a.floor) for a in rows)],
        ],
        notes=[
            f"At the first instant NLL and -p trade places at p = {rows[0].crossover:.3f}.",
            "The learning rate matches NLL's logit gradient at p; adaptive optimizers do it alone.",
            _TIME,
            "A network moves a context through all others too: docs/theory.md compares with runs.",
        ],
    )


def _numbers(flag: str, text: str) -> list[float]:
    try:
        numbers = [float(part) for part in str(text).split(",")]
    except ValueError:
        raise UsageError(f"{flag} must be numbers as 0.1,0.2, got {text!r}.") from None
    if not all(np.isfinite(numbers)):
        raise UsageError(f"{flag} must be finite, got {text!r}.")
    return numbers


def _time(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else "never"


def _share(value: float) -> str:
    return f"{value:.4f}" if np.isfinite(value) else "none below 1"


def _floor(value: float) -> str:
    if value == 0.0:
        return "0 (likely already)"
    return f"{value:.3g}" if np.isfinite(value) else "budget too small for NLL"


def _save(figure: Any, path: str, terminal: Terminal) -> None:
    from ..reports.figures import save

    save(figure, path)
    terminal.show(f"picture  {path}", wrap=False)
