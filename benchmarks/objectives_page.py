"""Tables and curves of docs/objectives.md, and the names of the members in probtune/__init__.py.

python benchmarks/objectives_page.py        # half a minute
"""

from pathlib import Path

import numpy as np
from blocks import Table, write

from probtune import theory
from probtune.cli import main as probtune
from probtune.objectives import (
    ALIASES,
    CORE,
    MEMBERS,
    SIGNALS,
    Objective,
    objective,
    signature,
)

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "objectives.md"
PUBLIC = ROOT / "probtune" / "__init__.py"

ESCAPES = (
    "nll()",
    "power(0.5)",
    "gce(0.7)",
    "p()",
    "power(10.0)",
    "log1m()",
    "above(0.2, nll())",
    "floor(0.1, dft())",
    "mixce(0.5)",
    "tailr(0.1)",
    "floor(0.2, tailr(0.1))",
    "talr(0.5, 0.01)",
    "taylor(2)",
    "focal(2.0)",
    "luffy(0.1)",
    "chord()",
    "infosft(0.93)",
    "gft(0.3)",
    "cayley(0.5)",
)


def leaning(chosen: Objective) -> str:
    if not chosen.kinds <= {"progress"}:
        return "not of p alone"
    if not chosen.needs:
        return f"{chosen.leaning()} ({chosen.mass_above(0.5):.2f})"
    return " to ".join(chosen.at(progress).leaning() for progress in (0.0, 1.0))


def members() -> Table:
    return ["objective", "f(p)", "weight w(p)", "leaning of the example", "what for"], [
        [
            f"`{signature(m)}`",
            m.formula,
            m.weight_formula,
            f"`{m.example}`: {leaning(objective(m.example))}",
            m.summary,
        ]
        for m in MEMBERS.values()
    ]


def sources() -> Table:
    return ["objective", "source", "known to go wrong"], [
        [f"`{m.__name__}`", m.source, m.caution] for m in MEMBERS.values()
    ]


def escape() -> Table:
    rows = []
    for text in ESCAPES:
        times = [
            theory.passage_time(start, 0.5, objective=text, noise=0.0, classes=classes)
            for classes in (2, 1000)
            for start in (1e-2, 1e-4)
        ]
        rows.append([f"`{text}`", *(f"{t:.3g}" if np.isfinite(t) else "never" for t in times)])
    return ["objective", "K = 2, from 1e-2", "from 1e-4", "K = 1000, from 1e-2", "from 1e-4"], rows


def needs() -> Table:
    rows = []
    for name, member in MEMBERS.items():
        example = objective(member.example)
        if example.needs:
            kinds = sorted(example.kinds)
            whole = "yes" if example.terms else ""
            provided = "; ".join(dict.fromkeys(SIGNALS[kind].provided for kind in kinds))
            rows.append([f"`{name}`", ", ".join(f"`{k}`" for k in kinds), provided, whole])
    return ["objective", "needs", "provided by", "gradient beyond the target"], rows


TABLES = {f.__name__: f for f in (members, sources, needs, escape)}


def public_names(source: str) -> str:
    """Return the source of the package's `__init__` with the names of the members."""
    begin, end = "# members: written by benchmarks/objectives_page.py\n", "# end of members\n"
    before, _, rest = source.partition(begin)
    after = rest.partition(end)[2]
    names = "".join(f'    "{name}",\n' for name in sorted(MEMBERS))
    return f"{before}{begin}_MEMBERS = (\n{names})\n{end}{after}"


def main() -> None:
    PUBLIC.write_text(public_names(PUBLIC.read_text(encoding="utf-8")), encoding="utf-8")
    for name, make in TABLES.items():
        write(DOCUMENT, name, make())
    core = [m.example for m in CORE.values()]
    rest = ["nll()", "p()"] + [
        m.example
        for name, m in MEMBERS.items()
        if name not in CORE and name not in VIEWS and not objective(m.example).needs
    ]
    probtune(["objectives", ", ".join(core), "--plot", str(DOCUMENT.parent / "objectives.svg")])
    probtune(["objectives", ", ".join(rest), "--plot", str(DOCUMENT.parent / "catalogue.svg")])


VIEWS = (*ALIASES, "anneal", "cap", "top", "bottom")
"""Other names of drawn curves, or no curves over p."""


if __name__ == "__main__":
    main()
