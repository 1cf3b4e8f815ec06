"""A user's own objectives: from a plain function of p, from a file, and how they are recorded.

An own objective is any objective that is no member of this package. It prints like a member, but
its text cannot be read back: it travels as an object. Its source text stands in the record, so that
a run is resumed with the same code only.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..errors import ObjectiveError, UsageError
from .base import Objective, inner_objectives
from .table import MEMBERS

__all__ = ["FromFunction", "from_function", "load", "own_parts", "own_sources", "refuse_changed"]

_LOWEST = -708.0
"""log p is held here, where p is still a normal number in float64 (2e-308)."""

_OF_CODE = (ArithmeticError, AttributeError, ImportError, LookupError, NameError, OSError)
_OF_CODE = (*_OF_CODE, RuntimeError, SyntaxError, TypeError, ValueError)
"""Errors of a user's file, which are told with its place."""

_CHECKED = (-200.0, -87.0, -30.0, -5.0, -1.0, -0.1, -1e-3, -1e-7, -1e-16, 0.0)
"""Values of log p at which a function is tried, both ends included."""


@dataclass(frozen=True, repr=False)
class FromFunction(Objective):
    """An objective made of a plain function of p; see `from_function`."""

    function: Callable[[Tensor], Tensor]
    name: str
    slope: Callable[[Tensor], Tensor] = field(compare=False)
    """d f(exp(x)) / dx = p f'(p) = -w of a vector x, as plain operations: the head's operator runs
    below autograd.
    """

    formula = "a user's function of p"
    weight_formula = "-p f'(p), by autograd in float64"
    summary = "a plain function of p"
    source = "the user's code"
    example = "from_function(lambda p: (1 - p) ** 2, name='square')"
    own = True

    def _f(self, logp: Tensor) -> Tensor:
        return _of_logp(self.function, _wide(logp)).to(logp.dtype)

    def _w(self, logp: Tensor) -> Tensor:
        return -self.slope(_wide(logp).flatten()).view(logp.shape).to(logp.dtype)

    def __repr__(self) -> str:
        return f"{self.name}()"


def from_function(
    function: Callable[[Tensor], Tensor],  # p, in (0, 1], of any shape -> f(p), same shape
    *,
    name: str | None = None,
) -> FromFunction:
    """Return the objective of a plain function of p. Its token weight w(p) = -p f'(p) comes from
    autograd, in float64 (float32 on a device that has no float64).

        >>> square = from_function(lambda p: (1 - p) ** 2, name="square")
        >>> logp = torch.tensor([0.5]).log()
        >>> square, square(logp), square.token_weight(logp)
        (square(), tensor([0.2500]), tensor([0.5000]))

    A function whose weight has no bound, such as log(1 - p), is for a subclass of `Objective`,
    which states `_w` and `logit_gradient` without cancellation.

    Raises:
        ObjectiveError: the name is missing, no identifier, or a member's; or the function is no
            differentiable function of p, has a value or a weight that is not finite at p -> 0 or
            p -> 1, is constant, or rises with p.
    """
    if not callable(function):
        raise ObjectiveError(
            f"from_function takes a function of p, got {function!r}; write {FromFunction.example}."
        )
    if name is None:
        name = getattr(function, "__name__", type(function).__name__)
    if not isinstance(name, str) or not name.isidentifier():
        raise ObjectiveError(
            f"an objective's name must be an identifier, got {name!r}; write"
            f" {FromFunction.example}."
        )
    if name in MEMBERS:
        raise ObjectiveError(
            f"{name!r} is the name of a member; give the function another one with name=."
        )
    from torch.fx.experimental.proxy_tensor import make_fx  # slow to import

    _check_value(function, name)
    derivative = torch.func.grad(lambda x: _of_logp(function, x).sum())
    example = torch.tensor(_CHECKED, dtype=torch.float64)
    objective = FromFunction(function, name, make_fx(derivative, tracing_mode="symbolic")(example))
    _check(objective)
    return objective


def _of_logp(function: Callable[[Tensor], Tensor], logp: Tensor) -> Tensor:
    return function(logp.clamp(min=_LOWEST).exp())


def _wide(logp: Tensor) -> Tensor:
    return logp if logp.device.type == "mps" else logp.double()


def _check_value(function: Callable[[Tensor], Tensor], name: str) -> None:
    """Refuse what is no function of p, token by token."""
    what = f"from_function, {name!r}"
    p = torch.tensor(_CHECKED, dtype=torch.float64).exp().requires_grad_()
    value = function(p)
    if not isinstance(value, Tensor) or value.shape != p.shape:
        got = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise ObjectiveError(
            f"{what}: f(p) must be a tensor in the shape of p, {tuple(p.shape)}, got {got};"
            " compute it per token, without a mean or a sum."
        )
    if not value.requires_grad:
        raise ObjectiveError(
            f"{what}: f(p) must depend on p, and autograd finds no way from one to the other: it"
            " is constant or detached, and would train nothing."
        )


def _check(objective: FromFunction) -> None:
    """Refuse a value or a weight that could not be trained with."""
    logp = torch.tensor(_CHECKED, dtype=torch.float64)
    where = f"from_function, {objective.name!r}"
    weight = objective.token_weight(logp)
    # The training's arithmetic is float32.
    for what, numbers in (("value", objective.value(logp)), ("weight", weight)):
        finite = numbers.float().isfinite()
        if not bool(finite.all()):
            index = int((~finite).nonzero()[0])
            raise ObjectiveError(
                f"{where}: the {what} must be finite from p -> 0 to p = 1, got"
                f" {float(numbers[index]):g} at p = exp({_CHECKED[index]:g}); bound p inside the"
                " function, as p.clamp(1e-6, 1 - 1e-6), or subclass Objective and write the weight"
                " yourself."
            )
    if not bool((weight != 0).any()):
        raise ObjectiveError(
            f"{where}: f is constant in p: its weight is 0, and it trains nothing."
        )
    if bool((weight <= 0).all()):
        raise ObjectiveError(
            f"{where}: f must fall as p rises, since it is minimised; this one rises everywhere."
            " Return its negative, as lambda p: 1 - p."
        )


def own_parts(objective: Objective) -> Iterator[Objective]:
    """Yield the user's own objectives in it, itself included, from the outside in."""
    if objective.own:
        yield objective
    for part in inner_objectives(objective):
        yield from own_parts(part)


def own_sources(objective: Objective) -> dict[str, str]:
    """Return the source of each own objective in it, by its text.

    An objective from a file has the whole file as its source; any other its class, with the user's
    bases, or its function with the plain values that it closes over.
    """
    return {str(part): _source(part) for part in own_parts(objective)}


def _source(objective: Objective) -> str:
    if isinstance(objective, FromFunction):
        function = objective.function
        text = _text_of(function)
        code = getattr(function, "__code__", None)
        cells = getattr(function, "__closure__", None) or ()
        for name, cell in zip(code.co_freevars if code else (), cells, strict=True):
            if isinstance(cell.cell_contents, int | float | str | tuple):
                text += f"# {name} = {cell.cell_contents!r}\n"
        return text
    own = [kind for kind in type(objective).__mro__ if getattr(kind, "own", False)]
    return "\n".join(dict.fromkeys(_text_of(kind) for kind in own))


def _text_of(code: Any) -> str:
    """The source text of a class or a function; a digest where Python keeps no text, as in an
    interactive session.
    """
    module = sys.modules.get(getattr(code, "__module__", ""))
    if module is not None and "__objective_source__" in vars(module):
        return vars(module)["__objective_source__"]
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):
        functions = vars(code).values() if isinstance(code, type) else (code,)
        codes = [f.__code__ for f in functions if hasattr(f, "__code__")]
        parts = repr([(c.co_code, c.co_names, [str(x) for x in c.co_consts]) for c in codes])
        return f"# no source text; sha256 {hashlib.sha256(parts.encode()).hexdigest()}\n"


def refuse_changed(earlier: Mapping[str, str], objective: Objective, record: str) -> None:
    """Raise UsageError if an own objective has another source than it had `earlier`."""
    for text, source in own_sources(objective).items():
        if text not in earlier or earlier[text] == source:
            continue
        before, now = earlier[text].splitlines(), source.splitlines()
        pairs = zip(before, now, strict=False)
        line = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(before), len(now)))
        was = before[line].strip() if line < len(before) else "nothing"
        is_now = now[line].strip() if line < len(now) else "nothing"
        raise UsageError(
            f"the code of the objective {text} has changed since {record} was written: line"
            f" {line + 1} was {was!r} and is {is_now!r}. Restore it to go on, or give the objective"
            " another name or the run another folder to start anew."
        )


def load(path: str, name: str) -> Objective | type[Objective]:
    """Return what `name` stands for in the Python file at `path`, which is run: an objective, a
    subclass of `Objective`, or the objective of a plain function.

    Raises:
        ObjectiveError: there is no such file, the file does not run, it has no such name, or the
            name stands for something else.
    """
    where = f"{path}:{name}"
    file = Path(path).expanduser()
    if not file.is_file():
        raise ObjectiveError(
            f"{where}: there is no file {path}; write the path from {Path.cwd()}, or a full one."
        )
    module = _module(file, where)
    if name not in vars(module):
        names = [n for n, value in vars(module).items() if _is_own(value, module)]
        raise ObjectiveError(
            f"{where}: {path} has no {name!r}; it has {', '.join(names) or 'no objective'}."
        )
    value = vars(module)[name]
    if isinstance(value, Objective):
        return value
    if isinstance(value, type) and issubclass(value, Objective):
        if inspect.isabstract(value):
            missing = ", ".join(sorted(value.__abstractmethods__))
            raise ObjectiveError(
                f"{where}: the class does not define {missing}; write both formulas."
            )
        return value
    if inspect.isfunction(value):
        return from_function(value, name=name)
    raise ObjectiveError(
        f"{where} must be an objective, a subclass of Objective or a function of p, got"
        f" {type(value).__name__}."
    )


def _is_own(value: Any, module: ModuleType) -> bool:
    """True if a file's name may stand for an objective."""
    if isinstance(value, Objective):
        return True
    of_file = getattr(value, "__module__", None) == module.__name__
    is_class = isinstance(value, type) and issubclass(value, Objective)
    return of_file and (is_class or inspect.isfunction(value))


def _module(file: Path, where: str) -> ModuleType:
    """The file as a module, run once as long as its text stays the same."""
    text = file.read_text(encoding="utf-8")
    digest = hashlib.sha256(f"{file.resolve()}\n{text}".encode()).hexdigest()[:12]
    name = f"{file.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # the file ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except _OF_CODE as error:
        del sys.modules[name]
        reason = " ".join(str(error).split())
        raise ObjectiveError(
            f"{where}: running {file} failed: {type(error).__name__}: {reason}. Correct the file."
        ) from error
    vars(module)["__objective_source__"] = text
    return module
