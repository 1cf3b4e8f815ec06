"""Options of a command: fields of a dataclass, each with all that the command line says about it.

A command whose settings may also come from a file (`TuneSettings`) has flags without defaults, by
`add_options`; any other command has its own dataclass, by `add_arguments`, and its function takes
an instance of it. Standard library only.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Container
from dataclasses import MISSING, field
from functools import partial
from typing import Any

from .errors import UsageError
from .texts import redacted, secrets_in, visible

__all__ = [
    "POSITIONAL",
    "REQUIRED",
    "Parser",
    "add_arguments",
    "add_options",
    "arguments_of",
    "check_bounds",
    "flag_of",
    "kind_of",
    "option",
    "options_of",
    "request",
]

REQUIRED: Any = MISSING
"""Default of an option that must be given."""

POSITIONAL = "positional"
"""Group of the options that are positional arguments."""


def option(
    default: Any,
    help: str,
    *,
    group: str = "",
    choices: tuple[str, ...] | None = None,
    metavar: str | tuple[str, ...] | None = None,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    short: str | None = None,
    flag: str | None = None,
    nargs: str | int | None = None,
    const: str | None = None,
    exclusive: str = "",
    new_file: bool = False,
    made_folder: str = "",
) -> Any:
    """A field of a command's dataclass, with all that the command line says about it.

    Args:
        default: its value if it is not given; `REQUIRED` if it must be.
        group: heading of the option in the help; `positional` makes it a positional argument.
        choices: the texts it may be.
        metavar: what stands for its value in the help (default: its type).
        least, above, most: bounds of its value, which `check_bounds` checks: at least, more than,
            at most.
        short: a short flag beside the long one.
        flag: the long flag, where it is not the field's name.
        nargs, const: as in argparse; a field that is a tuple and has no `nargs` may be repeated.
        exclusive: options with the same text here exclude each other.
        new_file: it names a file that the command writes, which is checked before any work.
        made_folder: name of the one folder that is made for that file where it is missing.
    """
    metadata = {
        "help": help,
        "group": group,
        "choices": choices,
        "metavar": metavar,
        "least": least,
        "above": above,
        "most": most,
        "short": short,
        "flag": flag,
        "nargs": nargs,
        "const": const,
        "exclusive": exclusive,
        "new_file": new_file,
        "made_folder": made_folder,
    }
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


class Parser(argparse.ArgumentParser):
    """A parser that adds its options when it is first used, so that `probtune --help` does not make
    those of every command.
    """

    def __init__(self, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        self._later: list[Callable[[], None]] = []

    def later(self, add: Callable[[], None]) -> None:
        """Call `add`, which adds options, before the parser is used."""
        self._later.append(add)

    def parse_known_args(self, *arguments: Any, **keywords: Any) -> Any:
        self._add()
        return super().parse_known_args(*arguments, **keywords)

    def error(self, message: str) -> Any:
        super().error(visible(redacted(message)))

    def format_help(self) -> str:
        self._add()
        return super().format_help()

    def format_usage(self) -> str:
        self._add()
        return super().format_usage()

    def _add(self) -> None:
        later, self._later = self._later, []
        for add in later:
            add()


def options_of(settings: type[Any], only: tuple[str, ...]) -> Any:
    """A field that holds some of the options of a settings class: those that were given, by
    name.
    """
    return field(default_factory=dict, metadata={"settings": settings, "only": only})


def add_options(
    parser: argparse.ArgumentParser, settings: type[Any], only: tuple[str, ...] = ()
) -> None:
    """Add a dataclass's fields to a parser: required ones and those of the group `positional` as
    positionals, the others as flags without defaults.

    Defaults stay out of the parser, so that what was not typed can come from a YAML file; the help
    names them.
    """
    if isinstance(parser, Parser):
        parser.later(partial(_add_options, parser, settings, only))
    else:
        _add_options(parser, settings, only)


def _add_options(
    parser: argparse.ArgumentParser, settings: type[Any], only: tuple[str, ...]
) -> None:
    groups: dict[str, Any] = {}
    kinds = typing.get_type_hints(settings)
    for item in dataclasses.fields(settings):
        if only and item.name not in only:
            continue
        required = item.default is MISSING and item.default_factory is MISSING
        if required or item.metadata["group"] == "positional":
            parser.add_argument(
                item.name, metavar=item.name.upper(), help=item.metadata["help"], nargs="?"
            )
            continue
        group = groups.setdefault(
            item.metadata["group"], parser.add_argument_group(item.metadata["group"])
        )
        kind = kind_of(kinds[item.name])
        flag = flag_of(item.name)
        help = item.metadata["help"].replace("%", "%%")
        if (
            item.default is not MISSING
            and item.default is not None
            and item.default is not False
            and item.default != ""
        ):
            help += (
                f" (default: {item.default:g})"
                if isinstance(item.default, float)
                else f" (default: {item.default})"
            )
        if kind is bool:
            action = argparse.BooleanOptionalAction if item.default is None else "store_true"
            group.add_argument(
                flag, dest=item.name, action=action, default=argparse.SUPPRESS, help=help
            )
        elif kind is dict:
            group.add_argument(
                flag,
                dest=item.name,
                action="append",
                metavar="KEY=VALUE",
                default=argparse.SUPPRESS,
                help=help,
            )
        else:
            group.add_argument(
                *([item.metadata["short"]] if item.metadata["short"] else []),
                flag,
                dest=item.name,
                type=kind,
                choices=item.metadata["choices"],
                metavar=(
                    None
                    if item.metadata["choices"]
                    else item.metadata["metavar"] or kind.__name__.upper()
                ),
                default=argparse.SUPPRESS,
                help=help,
            )


def add_arguments(
    parser: argparse.ArgumentParser, command: type[Any], *, besides: bool = False
) -> None:
    """Add the fields of a command's own dataclass to a parser, with their defaults, in their order.
    A help may name the default as %(default)s.

    Args:
        besides: the fields stand besides those of a settings class, and the command's function
            takes what was parsed as it is.
    """
    parser.set_defaults(**{"besides" if besides else "command": command})
    if isinstance(parser, Parser):
        parser.later(partial(_add_arguments, parser, command))
    else:
        _add_arguments(parser, command)


def _add_arguments(parser: argparse.ArgumentParser, command: type[Any]) -> None:
    kinds = typing.get_type_hints(command)
    exclusive: dict[str, Any] = {}
    files = {
        item.name: item.metadata["made_folder"]
        for item in dataclasses.fields(command)
        if item.metadata.get("new_file")
    }
    parser.set_defaults(new_files=files)
    for item in dataclasses.fields(command):
        data = item.metadata
        if "settings" in data:
            _add_options(parser, data["settings"], data["only"])
            continue
        required = item.default is MISSING
        kind = kind_of(kinds[item.name])
        arguments: dict[str, Any] = {"help": data["help"]}
        if kind is bool:
            arguments |= {"action": "store_true"}
        elif kind is tuple and data["nargs"] is None:
            arguments |= {"action": "append", "default": []}
        elif not (required and data["group"] == POSITIONAL):
            arguments |= {"default": None if required else item.default}
        if kind is not bool:
            arguments |= {"metavar": data["metavar"], "choices": data["choices"]}
            arguments |= {"type": kind} if kind in (int, float) else {}
            arguments |= {"nargs": data["nargs"], "const": data["const"]}
        if data["group"] == POSITIONAL:
            optional = {} if required else {"nargs": "?"}
            parser.add_argument(item.name, **{**arguments, **optional})
            continue
        arguments |= {"dest": item.name, **({"required": True} if required else {})}
        group: Any = parser
        if data["exclusive"]:
            if data["exclusive"] not in exclusive:
                exclusive[data["exclusive"]] = parser.add_mutually_exclusive_group()
            group = exclusive[data["exclusive"]]
        group.add_argument(data["flag"] or flag_of(item.name), **arguments)


def request(options: argparse.Namespace) -> Any:
    """Return what was parsed as an instance of the command's dataclass, or as it is if the command
    has none.
    """
    command = getattr(options, "command", None)
    if command is None:
        if (besides := getattr(options, "besides", None)) is not None:
            names = [item.name for item in dataclasses.fields(besides)]
            _check_numbers(besides(**{name: getattr(options, name) for name in names}))
        return options
    values: dict[str, Any] = {}
    for item in dataclasses.fields(command):
        if "settings" in item.metadata:
            typed = (name for name in item.metadata["only"] if hasattr(options, name))
            values[item.name] = {name: getattr(options, name) for name in typed}
        else:
            value = getattr(options, item.name)
            values[item.name] = tuple(value) if isinstance(value, list) else value
    instance = command(**values)
    _check_numbers(instance)
    return instance


def arguments_of(settings: Any, only: Container[str] | None = None) -> list[str]:
    """Return the arguments that give a settings object: what is required, and what is not at its
    default.

    Args:
        only: names of the fields that the command takes; all by default.
    """
    words: list[str] = []
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if only is not None and item.name not in only:
            continue
        required = item.default is MISSING and item.default_factory is MISSING
        if required or item.metadata.get("group") == POSITIONAL:
            words += [] if value is None else [str(value)]
        elif isinstance(value, dict):
            for key, content in value.items():
                words += [flag_of(item.name), f"{key}={json.dumps(content)}"]
        elif value == item.default:
            continue
        elif isinstance(value, bool):
            words.append(flag_of(item.name if value else f"no_{item.name}"))
        else:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            exact = not isinstance(value, float) or float(text) == value
            words += [flag_of(item.name), text if exact else str(value)]
    return words


def check_bounds(settings: Any) -> None:
    """Compare the values of a settings object with the bounds of their options; None is no value.

    Raises:
        UsageError: a value is out of bounds, with the flag and the bound.
    """
    secret = secrets_in(dataclasses.asdict(settings))
    if secret is not None:
        raise UsageError(
            f"{secret} holds a secret, and settings are written into records; leave it out, and"
            " give it by the environment (HF_TOKEN), by `hf auth login` or by ~/.netrc."
        )
    _check_numbers(settings)


def _check_numbers(settings: Any) -> None:
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        least, above = item.metadata.get("least"), item.metadata.get("above")
        flag = item.metadata.get("short") or item.metadata.get("flag") or flag_of(item.name)
        if value is None:
            continue
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise UsageError(f"{flag} is beyond any size, got {value:.0e}; give a smaller one.")
        if least is not None and value < least:
            raise UsageError(f"{flag} must be at least {least}, got {value}.")
        most = item.metadata.get("most")
        if most is not None and value > most:
            raise UsageError(f"{flag} must be at most {most:g}, got {value}.")
        if above is not None and not value > above:
            bound = "positive" if above == 0 else f"more than {above}"
            raise UsageError(f"{flag} must be {bound}, got {value}.")
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{flag} must be a finite number, got {value}.")


def kind_of(annotation: Any) -> type:
    """Return the plain type behind `int | None` and `dict[str, Any]`."""
    if isinstance(annotation, types.UnionType):
        annotation = next(kind for kind in typing.get_args(annotation) if kind is not type(None))
    return typing.get_origin(annotation) or annotation


def flag_of(name: str) -> str:
    """Return the flag of a field."""
    return "--" + name.replace("_", "-")
