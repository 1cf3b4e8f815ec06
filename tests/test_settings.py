"""Settings: what stands beside a field is what the command line and the checks go by."""

import argparse
from dataclasses import dataclass, fields

import pytest

from probtune.errors import UsageError
from probtune.evaluation.settings import EvalSettings
from probtune.settings import TuneSettings, add_options, check_bounds, option


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
    assert "-c N, --count N" in text and "--size FLOAT" in text and "(default: 3)" in text


@pytest.mark.parametrize("kind, needed", [(TuneSettings, ("m", "d")), (EvalSettings, ())])
def test_every_bound_of_a_settings_class_is_kept(kind, needed):
    bounded = [f for f in fields(kind) if f.metadata.get("least") is not None]
    assert len(bounded) >= 6
    for field in bounded:
        with pytest.raises(UsageError, match="must be at least"):
            kind(*needed, **{field.name: field.metadata["least"] - 1})
