"""Settings: what stands beside a field is what the command line and the checks go by."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

import probtune
from probtune.errors import UsageError
from probtune.evaluation.settings import EvalSettings
from probtune.options import (
    REQUIRED,
    add_arguments,
    add_options,
    check_bounds,
    option,
    options_of,
    request,
)
from probtune.settings import TuneSettings


@dataclass(frozen=True)
class Small:
    count: int = option(1, "how many", group="g", metavar="N", least=1, short="-c")
    size: float | None = option(None, "how large", group="g", above=0.0)
    limit: float = option(3.0, "the limit", group="g", above=2.0)


@pytest.mark.parametrize(
    "changes, said",
    [
        (dict(count=0), r"^-c must be at least 1, got 0\.$"),
        (dict(size=0.0), r"^--size must be positive, got 0\.0\.$"),
        (dict(size=float("nan")), r"^--size must be positive, got nan\.$"),
        (dict(limit=2.0), r"^--limit must be more than 2\.0, got 2\.0\.$"),
    ],
)
def test_a_bound_is_checked_where_it_is_written(changes, said):
    check_bounds(Small())
    with pytest.raises(UsageError, match=said):
        check_bounds(Small(**changes))


def test_the_help_says_what_stands_beside_the_field(capsys):
    parser = argparse.ArgumentParser()
    add_options(parser, Small)
    assert parser.parse_args(["-c", "3"]).count == parser.parse_args(["--count", "3"]).count == 3
    text = parser.format_help()
    # Python 3.13 writes the metavar once.
    assert "-c N, --count N" in text or "-c, --count N" in text
    assert "--size FLOAT" in text and "(default: 3)" in text


@pytest.mark.parametrize("kind, needed", [(TuneSettings, ("m", "d")), (EvalSettings, ())])
def test_every_bound_of_a_settings_class_is_kept(kind, needed):
    bounded = [f for f in fields(kind) if f.metadata.get("least") is not None]
    assert len(bounded) >= 6
    for field in bounded:
        with pytest.raises(UsageError, match="must be at least"):
            kind(*needed, **{field.name: field.metadata["least"] - 1})


# --- commands with a dataclass of their own -------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Request:
    folders: tuple[str, ...] = option(REQUIRED, "some", group="positional", nargs="+")
    url: str = option(REQUIRED, "where", metavar="URL")
    number: int = option(8, "how many (%(default)s)", flag="--rows", metavar="N")
    add: tuple[str, ...] = option((), "repeatable", flag="--with", metavar="NAME")
    fast: bool = option(False, "a little", exclusive="size")
    full: bool = option(False, "all", exclusive="size")
    plot: str | None = option(None, "a picture", nargs="?", const="x.png", metavar="FILE")
    row_settings: dict = options_of(TuneSettings, ("max_length", "system"))


def test_a_command_gets_what_was_typed_as_its_dataclass(capsys):
    parser = argparse.ArgumentParser(prog="command")
    add_arguments(parser, Request)
    plain = request(parser.parse_args(["a", "b", "--url", "u"]))
    assert plain == Request(folders=("a", "b"), url="u", row_settings={})
    typed = "a --url u --rows 3 --with x --with y --full --plot --max-length 7".split()
    assert request(parser.parse_args(typed)) == Request(
        folders=("a",), url="u", number=3, add=("x", "y"), full=True, plot="x.png",
        row_settings={"max_length": 7},
    )  # fmt: skip
    assert "how many (8)" in parser.format_help()
    for wrong in (["a"], ["--url", "u"], ["a", "--url", "u", "--fast", "--full"]):
        with pytest.raises(SystemExit):
            parser.parse_args(wrong)


def test_no_command_writes_an_option_by_hand():
    """Metavar, bounds, default and help of every option stand beside its field."""
    package = Path(probtune.__file__).parent
    by_hand = [
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if "add_argument(" in path.read_text() and path.name not in ("options.py", "cli.py")
    ]
    assert by_hand == []
    for path in package.glob("**/commands/options.py"):
        assert "add_argument(" not in path.read_text(), path
