"""Objectives as text: reading what `repr` prints, and saying what is known otherwise."""

from __future__ import annotations

import ast
import difflib
import inspect
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from ..errors import ObjectiveError
from .base import OWN, Objective
from .own import load
from .table import MEMBERS

__all__ = ["names_code", "objective", "objective_list", "of_handle", "signature", "split_list"]

_IN_FILE = re.compile(r"""([^\s,()"']+\.py):([A-Za-z_]\w*)""")

_Own = Mapping[str, Objective | type[Objective]]


def objective(text: str | Objective, *, run_code: bool = False) -> Objective:
    """Read an objective from the text that its `repr` prints. An `Objective` is returned as it is.

    With `run_code`, a text may also name what a Python file holds, `mine.py:square` or
    `above(0.2, mine.py:square)`: an objective, a subclass of `Objective`, or a function of p. The
    file is run. Without it such a text is refused.

    The text is parsed, never evaluated: calls of the members' names with numbers and objectives
    inside. Empty parentheses may be left out.

        >>> objective("power(0.5)")
        power(0.5)
        >>> objective("power(alpha=-0.5)"), objective("above(0.2, nll)")
        (power(-0.5), above(0.2, nll()))
        >>> objective("nil")
        Traceback (most recent call last):
        ...
        probtune.errors.ObjectiveError: unknown objective 'nil'; did you mean 'nll'? All: ...

    Raises:
        ObjectiveError: the text is not of this form, names no member, or a parameter is out of
            range.
    """
    if isinstance(text, Objective):
        return text
    plain, own = _loaded(text, run_code)
    return _build(_parse(plain), text, own)


def of_handle(text: str) -> Objective:
    """Return the objective whose `handle` this is, in this process."""
    return _build(_parse(text), text, OWN)


def names_code(text: str) -> bool:
    """True if the text names what a Python file holds, as `mine.py:square`."""
    return _IN_FILE.search(text) is not None


def _loaded(text: str, run_code: bool) -> tuple[str, _Own]:
    """The text with a plain name in place of each `FILE.py:NAME`, and the names' objectives."""
    if not isinstance(text, str) or not names_code(text):
        return text, {}
    if not run_code:
        raise ObjectiveError(
            f"{text!r} names a Python file, and a text runs no code: write it as --objective or"
            " --compare on the command line, or hand over the objective itself in Python"
            " (probtune.from_function, or a subclass of probtune.Objective)."
        )
    own: dict[str, Objective | type[Objective]] = {}

    def name_of(match: re.Match[str]) -> str:
        name = f"_file_{len(own)}"
        own[name] = load(match[1], match[2])
        return name

    return _IN_FILE.sub(name_of, text), own


def objective_list(text: str, *, run_code: bool = False) -> tuple[Objective, ...]:
    """Read objectives separated by commas: `"nll, p, above(0.2, nll)"`. Each may stand once. For
    `run_code` see `objective`.

    >>> objective_list("nll, above(0.2, nll)")
    (nll(), above(0.2, nll()))
    """
    plain, own = _loaded(text, run_code)
    if plain.rstrip().endswith(","):
        raise ObjectiveError(f"{text!r} ends with a comma; name one objective more, or remove it.")
    tree = _parse(plain)
    nodes = tree.elts if isinstance(tree, ast.Tuple) else [tree]
    members = tuple(_build(node, text, own) for node in nodes)
    names = [str(member) for member in members]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ObjectiveError(
            f"{', '.join(sorted(twice))} stands more than once in {text!r}; name each objective"
            " once."
        )
    return members


def split_list(text: str) -> list[str]:
    """Cut a text at the commas outside of brackets.

    >>> split_list("auto,above(0.2, nll)")
    ['auto', 'above(0.2, nll)']
    """
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def signature(member: type[Objective]) -> str:
    """The member as it is written, with its parameters: `"above(q, f)"`, `"focal(gamma=2.0)"`."""
    names = (
        item.name if item.default is item.empty else f"{item.name}={item.default}"
        for item in _signature(member).parameters.values()
    )
    return f"{member.__name__}({', '.join(names)})"


def _signature(member: type[Objective]) -> inspect.Signature:
    if not isinstance(member, type):
        return inspect.signature(member)
    init: Any = member.__init__
    if init is object.__init__:
        return inspect.Signature()
    whole = inspect.signature(init)
    return whole.replace(parameters=list(whole.parameters.values())[1:])


def _parse(text: str) -> ast.expr:
    if not isinstance(text, str):
        raise ObjectiveError(f"an objective is a text such as 'power(0.5)', got {text!r}.")
    try:
        if any(len(digits) > 400 for digits in re.findall(r"\w+", text)):
            raise ValueError("no name and no number is so long")
        if unicodedata.normalize("NFKC", text) != text and not re.search(r"\.py:", text):
            raise ValueError("Python would read other letters than those that stand there")
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        opened, closed = text.count("("), text.count(")")
        if opened != closed:
            raise ObjectiveError(
                f"cannot read the objective {text.strip()!r}: it has {opened} '(' and {closed} ')'."
            ) from None
        if any(not part.strip() for part in split_list(text)[1:]):
            raise ObjectiveError(
                f"cannot read {text.strip()!r}: nothing stands between two commas."
            ) from None
        raise _unknown(text.strip()) from None


def _build(node: ast.expr, text: str, own: _Own) -> Objective:
    """The objective that a node of the parsed text stands for."""
    if isinstance(node, ast.Name):
        node = ast.Call(func=node, args=[], keywords=[])
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise _unknown(ast.unparse(node))
    name = node.func.id
    member = own.get(name) or MEMBERS.get(name)
    if member is None:
        raise _unknown(name)
    if isinstance(member, Objective):
        if node.args or node.keywords:
            raise ObjectiveError(f"{text!r}: {member} takes no parameters; leave the brackets out.")
        return member
    if any(keyword.arg is None for keyword in node.keywords):
        raise ObjectiveError(
            f"cannot read {text!r}: write the parameters of {signature(member)} one by one."
        )
    names = [keyword.arg for keyword in node.keywords]
    if len(set(names)) < len(names):
        raise ObjectiveError(f"{text!r}: a parameter of {name} is named twice; name it once.")
    arguments = [_argument(argument, text, own) for argument in node.args]
    named = {str(keyword.arg): _argument(keyword.value, text, own) for keyword in node.keywords}
    parameters = _signature(member).parameters
    try:
        _signature(member).bind(*arguments, **named)
    except TypeError:
        example = f"; for example {member.example}" if member.example else ""
        raise ObjectiveError(
            f"{ast.unparse(node)!r} does not fit {signature(member)}: it takes {len(parameters)} "
            f"parameter{'s' if len(parameters) != 1 else ''}{example}."
        ) from None
    return member(*arguments, **named)


def _argument(node: ast.expr, text: str, own: _Own) -> float | str | Objective:
    sign = 1.0
    number = node
    while isinstance(number, ast.UnaryOp) and isinstance(number.op, ast.USub | ast.UAdd):
        sign = -sign if isinstance(number.op, ast.USub) else sign
        number = number.operand
    if isinstance(number, ast.Constant):
        if isinstance(number.value, str) and number is node:
            return number.value
        if isinstance(number.value, int | float) and not isinstance(number.value, bool):
            try:
                return sign * float(number.value)
            except OverflowError:
                raise ObjectiveError(
                    "a parameter is beyond any number; give a smaller one."
                ) from None
        raise ObjectiveError(
            f"a parameter is a number or an objective, got {number.value!r} in {text!r}."
        )
    if isinstance(node, ast.Name) and node.id not in own and node.id not in MEMBERS:
        question = _nearest(node.id) if len(node.id) > 1 else ""
        raise ObjectiveError(
            f"a parameter is a number, an objective or a name in quotes, and {node.id!r} in"
            f" {text!r} is none of them{question or '.'}"
        )
    return _build(node, text, own)


def _unknown(name: str) -> ObjectiveError:
    if question := _nearest(name):
        return ObjectiveError(f"unknown objective {name!r}{question} All: probtune objectives.")
    signatures = ", ".join(signature(member) for member in MEMBERS.values())
    return ObjectiveError(f"unknown objective {name!r}. Known: {signatures}.")


def _nearest(name: str) -> str:
    """Return the question after the objective that a wrong name most likely means, if any."""
    also = {alias: member.__name__ for member in MEMBERS.values() for alias in member.also_known_as}
    key = name.lower().replace(" ", "")
    match = also.get(key) or also.get(key.split("(")[0])
    if match is None:
        near = difflib.get_close_matches(key.split("(")[0], [*MEMBERS, *also], n=1, cutoff=0.5)
        match = also.get(near[0], near[0]) if near else None
    return f"; did you mean {match!r}?" if match else ""
