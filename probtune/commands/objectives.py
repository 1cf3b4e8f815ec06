"""`probtune objectives`: a line for each member, details by name, curves, gradients checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..errors import ProbtuneError, UsageError
from ..terminal import Terminal
from .options import Objectives

__all__ = ["objectives"]

_PAPER = "https://arxiv.org/abs/2510.00526"
_WIDE = 150
"""Columns from which a line of the list has room for the formula."""


def objectives(options: Objectives) -> None:
    """List the objectives, or show those that are named."""
    from ..objectives import MEMBERS, objective, objective_list

    terminal = Terminal()
    if not 0 < options.tau < 1:
        raise UsageError(f"--tau must lie strictly between 0 and 1, got {options.tau}.")
    if options.list:
        chosen = objective_list(_with_examples(options.list), run_code=True)
        for each in chosen:
            _show(each, options.tau, terminal)
    else:
        chosen = [objective(member.example) for member in MEMBERS.values()]
        _list(terminal)
    if options.plot:
        _plot(chosen, options.plot)
        terminal.show(f"curves  {options.plot}", wrap=False)
    if options.verify:
        _verify(chosen, terminal)


def _with_examples(text: str) -> str:
    """Return a list of objectives in which a name without parameters has those of its example."""
    from ..objectives import MEMBERS
    from ..objectives.text import split_list

    def example(match: re.Match[str]) -> str:
        return MEMBERS[match[0]].example if match[0] in MEMBERS else match[0]

    return ",".join(re.sub(r"^\w+$", example, part.strip()) for part in split_list(text))


def _list(terminal: Terminal) -> None:
    from ..objectives import MEMBERS, signature

    terminal.show("Functions of p, the probability of a target token; nll is ordinary tuning.\n")
    members = MEMBERS.values()
    if terminal.width >= _WIDE:
        terminal.lines([[signature(m), _short(m.formula), m.summary] for m in members])
    else:
        terminal.lines([[m.__name__, m.summary] for m in members])
    terminal.show("\nFormula, weight, leaning and source of some: probtune objectives power,dft")
    terminal.show(f"The paper: {_PAPER}")


def _short(formula: str) -> str:
    return formula if len(formula) <= 48 else f"{formula[:47].rsplit(' ', 1)[0]} …"


def _show(objective: Any, tau: float, terminal: Terminal) -> None:
    from ..objectives import MEMBERS

    member = MEMBERS.get(type(objective).__name__, type(objective))
    details = [
        ("f(p)", member.formula),
        ("w(p)", member.weight_formula),
        ("for", getattr(member, "summary", "")),
        ("leaning", _leaning(objective, tau)),
        ("needs", ", ".join(sorted(objective.needs))),
        ("source", getattr(member, "source", "")),
    ]
    terminal.show(str(objective), wrap=False)
    for name, text in details:
        if text:
            terminal.show(f"  {name:8s} {text}", wrap=False)


def _leaning(objective: Any, tau: float) -> str:
    """Return how an objective leans, with the share of the mass of W_f above tau."""
    if not objective.kinds <= {"progress"}:
        return "not of p alone"
    ends = dict.fromkeys(objective.at(progress) for progress in (0.0, 1.0))
    return " to ".join(
        f"{each.leaning(tau)} ({each.mass_above(tau):.3f} of W_f above p = {tau:g})"
        for each in ends
    )


_LARGEST_ERROR = 1e-6


def _verify(chosen: Sequence[Any], terminal: Terminal) -> None:
    from ..kernels.verification import gradient_error

    errors = {str(o): gradient_error(o) for o in chosen}
    terminal.table(
        "Largest relative error of a logit gradient against float64 autograd through full logits",
        ["objective", "error", f"below {_LARGEST_ERROR:g}"],
        [[name, f"{e:.1e}", "yes" if e <= _LARGEST_ERROR else "NO"] for name, e in errors.items()],
    )
    wrong = [name for name, e in errors.items() if not e <= _LARGEST_ERROR]
    if wrong:
        raise ProbtuneError(
            f"the gradient of {', '.join(wrong)} is off by more than {_LARGEST_ERROR:g}: its token"
            " weight is not the derivative of its formula."
        )


def _ends(chosen: Sequence[Any]) -> list[Any]:
    """Return the objectives that have curves over p, each scheduled one at its start and at its
    end.
    """
    of_p = [o for o in chosen if o.kinds <= {"progress"}]
    return list(dict.fromkeys(o.at(progress) for o in of_p for progress in (0.0, 1.0)))


def _plot(chosen: Sequence[Any], path: str) -> None:
    import torch

    from ..reports.figures import objective_curves, save

    p = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    quantities = ("value", "token_weight", "logit_gradient")
    curves = {
        str(o): {name: getattr(o, name)(p.log()).tolist() for name in quantities}
        for o in _ends(chosen)
    }
    save(objective_curves(p.tolist(), curves), path)
