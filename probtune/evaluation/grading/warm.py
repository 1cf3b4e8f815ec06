"""Preparation of a worker: what a comparison imports or builds when it first needs it.

Reading a formula for the first time takes seconds on a busy machine: SymPy is imported, math-verify
compiles its patterns, and the parsers fill their tables. All of this happens here, before a worker
takes its first task, so that no time limit runs meanwhile.
"""

from __future__ import annotations

from .algebra import answers_equal
from .pool import Unparsable
from .reference.equality import equal

__all__ = ["warm_up"]

_PAIRS = [
    (r"\frac{\sqrt{2}}{3}+1", r"1+\frac{2}{3\sqrt{2}}"),
    (r"x<0 \text{ or } x>\pi", r"(-\infty,0)\cup(\pi,\infty)"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&x\end{pmatrix}"),
    (r"y=2x+\sin(x)", r"2x-y+\sin(x)=0"),
    ("2)(", "sqrt(2,"),
    (r"\int_0^1 x dx", r"\sum_{k=1}^{3} k!"),
]


def warm_up() -> None:
    """Run a comparison of each kind, strict and as in the paper's code."""
    for gold, answer in _PAIRS:
        equal(gold, answer)
        try:
            answers_equal(gold, answer)
        except Unparsable:
            continue
