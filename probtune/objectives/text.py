"""Objectives as text: reading what `repr` prints, and saying what is known otherwise."""

from __future__ import annotations

import ast
import difflib
from dataclasses import MISSING, fields

from ..errors import ObjectiveError
from .base import Objective
from .table import MEMBERS

__all__ = ["objective", "objective_list", "signature"]


def objective(text: str | Objective) -> Objective:
    """Read an objective from the text that its `repr` prints. An `Objective` is returned as it is.

    The text is parsed, never evaluated: calls of the members' names with numbers and objectives
    inside. Empty parentheses may be left out.

        >>> objective("power(0.5)")
        power(0.5)
        >>> objective("power(alpha=-0.5)"), objective("above(0.2, nll)")
        (power(-0.5), above(0.2, nll()))
        >>> objective("nil")
        Traceback (most recent call last):
        ...
        probtune.errors.ObjectiveError: unknown objective 'nil'; did you mean 'nll'? Known: ...

    Raises:
        ObjectiveError: the text is not of this form, names no member, or a parameter is out of
            range.
    """
    if isinstance(text, Objective):
        return text
    return _build(_parse(text), text)


def objective_list(text: str) -> tuple[Objective, ...]:
    """Read objectives separated by commas: `"nll, p, above(0.2, nll)"`. Each may stand once.

    >>> objective_list("nll, above(0.2, nll)")
    (nll(), above(0.2, nll()))
    """
    tree = _parse(text)
    members = tuple(
        _build(node, text) for node in (tree.elts if isinstance(tree, ast.Tuple) else [tree])
    )
    twice = {str(member) for member in members if members.count(member) > 1}
    if twice:
        raise ObjectiveError(
            f"{', '.join(sorted(twice))} stands more than once in {text!r}; name each objective"
            " once."
        )
    return members


def signature(member: type[Objective]) -> str:
    """The member as it is written, with its parameters: `"above(q, f)"`, `"focal(gamma=2.0)"`."""
    names = (
        item.name if item.default is MISSING else f"{item.name}={item.default}"
        for item in fields(member)  # type: ignore[arg-type]
    )
    return f"{member.__name__}({', '.join(names)})"


def _parse(text: str) -> ast.expr:
    if not isinstance(text, str):
        raise ObjectiveError(f"an objective is a text such as 'power(0.5)', got {text!r}.")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _unknown(text.strip()) from None


def _build(node: ast.expr, text: str) -> Objective:
    """The objective that a node of the parsed text stands for."""
    if isinstance(node, ast.Name):
        node = ast.Call(func=node, args=[], keywords=[])
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise _unknown(ast.unparse(node))
    name = node.func.id
    if name not in MEMBERS:
        raise _unknown(name)
    member = MEMBERS[name]
    if any(keyword.arg is None for keyword in node.keywords):
        raise ObjectiveError(
            f"cannot read {text!r}: write the parameters of {signature(member)} one by one."
        )
    arguments = [_argument(argument, text) for argument in node.args]
    named = {str(keyword.arg): _argument(keyword.value, text) for keyword in node.keywords}
    wanted = [field.name for field in fields(member)]  # type: ignore[arg-type]
    needed = {field.name for field in fields(member) if field.default is MISSING}  # type: ignore[arg-type]
    given = [*wanted[: len(arguments)], *named]
    fits = len(set(given)) == len(given) and needed <= set(given) <= set(wanted)
    if len(arguments) > len(wanted) or not fits:
        raise ObjectiveError(
            f"{ast.unparse(node)!r} does not fit {signature(member)}: it takes {len(wanted)} "
            f"parameter{'s' if len(wanted) != 1 else ''}; for example {member.example}."
        )
    return member(*arguments, **named)


def _argument(node: ast.expr, text: str) -> float | str | Objective:
    sign = 1.0
    number = node
    while isinstance(number, ast.UnaryOp) and isinstance(number.op, ast.USub | ast.UAdd):
        sign = -sign if isinstance(number.op, ast.USub) else sign
        number = number.operand
    if isinstance(number, ast.Constant):
        if isinstance(number.value, str) and number is node:
            return number.value
        if isinstance(number.value, int | float) and not isinstance(number.value, bool):
            return sign * float(number.value)
        raise ObjectiveError(
            f"a parameter is a number or an objective, got {number.value!r} in {text!r}."
        )
    return _build(node, text)


def _unknown(name: str) -> ObjectiveError:
    known = ", ".join(signature(member) for member in MEMBERS.values())
    also = {alias: member.__name__ for member in MEMBERS.values() for alias in member.also_known_as}
    key = name.lower().replace(" ", "")
    match = also.get(key) or also.get(key.split("(")[0])
    if match is None:
        near = difflib.get_close_matches(key.split("(")[0], [*MEMBERS, *also], n=1, cutoff=0.5)
        match = also.get(near[0], near[0]) if near else None
    hint = f"; did you mean {match!r}?" if match else "."
    return ObjectiveError(f"unknown objective {name!r}{hint} Known: {known}.")
