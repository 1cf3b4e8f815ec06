"""Records -> one HTML text: no scripts, no links to other files. Here tune runs and demos; the
wings hand in the makers of their own kinds of record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .. import numbers
from ..errors import DataError
from ..texts import visible
from . import figures
from .decision import decide, demo_title
from .verdict import METRIC_NAMES, RATE_NAMES, against, headline, verdicts

__all__ = [
    "MAKERS",
    "METRIC_NAMES",
    "RATE_NAMES",
    "Maker",
    "decide",
    "headline",
    "render",
    "verdicts",
]

_MAX_ITEMS = 8


@dataclass(frozen=True)
class Maker:
    """Recipe that makes one kind of record a part of a page."""

    make: Callable[[Mapping[str, Any]], dict[str, Any]]
    """The record -> the names in its template; `link` and `headline` stand in the overview."""
    template: str
    folder: str = "reports"
    """The folder of the template, in this package."""


def render(records: Sequence[Mapping[str, Any]], makers: Mapping[str, Maker] | None = None) -> str:
    """Render one page for one record, or for several after each other with an overview in front.

    Args:
        makers: kind of record -> its maker. Default: `MAKERS`, those of the core.

    Raises:
        DataError: a record is of a kind that has no maker.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    makers = MAKERS if makers is None else makers
    folders = dict.fromkeys(["reports", *(maker.folder for maker in makers.values())])
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("probtune", folder) for folder in folders]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters |= {name: getattr(numbers, name) for name in numbers.__all__}
    parts = []
    for record in records:
        maker = makers.get(record["kind"])
        if maker is None:
            raise DataError(
                f"a record of kind {record['kind']!r} has no report; give the folder of a run, a"
                " demo, an evaluation or a comparison, or a record made with --out."
            )
        with _whole(record):
            parts.append({"template": maker.template, "record": record, **maker.make(record)})
    css = environment.get_template("report.css").render()
    page = environment.get_template("report.html")
    names = {**METRIC_NAMES, **RATE_NAMES}
    if len(parts) > 1:  # each alone first, so that the one that is not whole is named
        for part in parts:
            with _whole(part["record"]):
                page.render(parts=[part], css="", metric_names=names)
    with _whole(records[0] if records else {}):
        return page.render(parts=parts, css=css, metric_names=names)


_NOT_WHOLE = (KeyError, TypeError, AttributeError, LookupError, ValueError, ArithmeticError)


@contextmanager
def _whole(record: Mapping[str, Any]) -> Iterator[None]:
    """Turn the errors over a record that lacks something, or holds something else, into one.

    Raises:
        DataError: with what was missed.
    """
    from jinja2 import UndefinedError

    try:
        yield
    except (UndefinedError, RecursionError, MemoryError, *_NOT_WHOLE) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"the record of kind {record['kind']!r} is not whole, or was edited: its report needs"
            f" something else ({type(error).__name__}: {' '.join(str(error).split())[:200]})."
            " The command that wrote it writes it again."
        ) from error


def _visible(value: Any) -> Any:
    """Return what a template prints, with control characters and marks of direction written out."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return value if text == value else type(value)(text)


def _tune(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template needs of a tune record: figures, and rows chosen for showing."""
    probe = record["probe"]
    decision = decide(record)
    chosen = record["choice"]["objective"]
    trained = [run for run in record["runs"] if run["train"]]
    metrics = list(record["runs"][0]["heldout"]["metrics"])
    rates = list(record["runs"][0]["heldout"].get("rates", {}))

    def log_of(name: str) -> dict[str, list[tuple[float, float]]]:
        return {
            run["name"]: [(e["step"], e[name]) for e in run["train"]["log"] if name in e]
            for run in trained
        }

    return {
        "link": f"{record['settings']['model']} on {record['data']['source']}",
        "headline": decision.title,
        "title": decision.title,
        "decision": decision,
        "verdicts": verdicts(record),
        "chosen": chosen,
        "selection": record["choice"].get("select"),
        "metrics": metrics,
        "rates": rates,
        "differences": {
            metric: figures.differences(
                [
                    (f"{chosen} - {name}", difference)
                    for name, difference in against(record, chosen, metric)
                ],
                label=f"difference in {METRIC_NAMES[metric]}",
            )
            for metric in metrics
        },
        "histogram": figures.histogram(probe["histogram"]),
        "classes": figures.shares(probe["classes"], label="mean p by kind of token"),
        "positions": figures.shares(probe["positions"], label="mean p by position in the response"),
        "nll_curves": figures.curves(log_of("nll"), label="NLL (training rows)"),
        "p_curves": figures.curves(log_of("mean_p"), label="mean p (training rows)"),
        "norm_curves": figures.curves(log_of("grad_norm"), label="gradient norm"),
        "items": _items(record, [run["name"] for run in record["runs"]]),
    }


def _items(record: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return a few held-out items: first those on which the models disagree."""
    runs = {run["name"]: run["heldout"]["items"] for run in record["runs"]}
    if not all("exact" in items for items in runs.values()):
        return []
    shown = record["data"]["items"]
    disagree = [
        i
        for i in range(len(shown))
        if len({runs[name]["exact"][i] for name in names if name != "base"}) > 1
    ]
    rest = [i for i in range(len(shown)) if i not in set(disagree)]
    return [
        {
            **shown[i],
            "answers": [
                {"name": name, "text": runs[name]["prediction"][i], "right": runs[name]["exact"][i]}
                for name in names
            ],
        }
        for i in (disagree + rest)[:_MAX_ITEMS]
    ]


def _demo(record: Mapping[str, Any]) -> dict[str, Any]:
    rows = []
    for cell in record["cells"]:
        for row in cell["differences"]:
            if (row["second"], row["first"]) == ("nll()", "p()"):
                noise = f"{cell['noise']} {cell['rate']:g}" if cell["rate"] else "clean"
                rows.append((f"{cell['level']}, {noise}", row["difference"]))
    return {
        "link": "The model-capability continuum in miniature",
        "headline": demo_title(record),
        "title": demo_title(record),
        "continuum": figures.continuum(record["cells"]),
        "pair": figures.differences(
            rows, label="exact match of p() minus that of nll(), paired by seed"
        ),
        "objectives": list(
            dict.fromkeys(n for cell in record["cells"] for n in cell["exact_match"] if n != "base")
        ),
    }


def _demo_real(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "link": f"{record['model']}: a task that it knows and one that it does not",
        "headline": "",
        "columns": {
            "exact_match": "greedy", "sampled": "sampled", "stops": "stops", "end_p": "p(end)"
        },
    }  # fmt: skip


MAKERS = {
    "tune": Maker(_tune, "tune.html"),
    "demo": Maker(_demo, "demo.html"),
    "demo-real": Maker(_demo_real, "demo_real.html"),
}
"""Kind of record -> its maker."""
