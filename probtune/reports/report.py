"""Records -> one HTML text, with no link to another file. Here runs, probes and demos; the wings
hand in the makers of their own kinds of record.

The page's policy lets nothing be loaded, and no script run but the one in `script/`.
"""

from __future__ import annotations

import base64
import hashlib
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from .. import numbers
from ..errors import DataError
from ..texts import visible
from . import figures
from .across import across
from .content import Texts, encoded, evaluated_items, items_of, number_of_sets, token_sets
from .decision import decide, demo_real_title, demo_title
from .groups import by_group, curves_by_group
from .movement import BINS, movement
from .sweep import sweep_part
from .tokens import GRID
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
    texts = Texts()
    contents, of_page = [], 0
    for part in parts:
        with _whole(part["record"]):
            of_page += number_of_sets(part["record"])
    for part in parts:
        with _whole(part["record"]):
            contents.append(_content(part, texts, of_page))
    script = _script()
    around = {
        "metric_names": names,
        "script": script,
        "hash": _hash(script),
        "data": encoded(contents, texts),
        "longest": texts.longest,
    }
    try:
        with _whole(records[0] if records else {}):
            return page.render(parts=parts, css=css, across=across(records), **around)
    except DataError:
        for part in parts:  # each alone, so that the one that is not whole is named
            with _whole(part["record"]):
                page.render(parts=[part], css="", across=None, **around)
        raise


_MODULES = ("page", "tokens", "items", "tables", "main")
"""Files of the page's script, in their order.

They are plain JavaScript, without a library and a build: three small widgets, which a library of
10 to 50 times their size would not make shorter, and a page that must open from a file in ten
years. They are joined in one function, since a page in one file has no address to import from.
"""


@cache
def _script() -> str:
    folder = resources.files("probtune") / "reports" / "script"
    parts = [(folder / f"{name}.js").read_text(encoding="utf-8") for name in _MODULES]
    return "(async () => {\n" + "\n".join(parts) + "})();\n"


def _hash(script: str) -> str:
    """Return the hash by which the page's policy knows its script, and runs no other."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _content(part: dict[str, Any], texts: Texts, of_page: int) -> dict[str, Any]:
    """Return what the script shows of a part of a page with this many sets of tokens, and say in
    the part what there is.
    """
    record = part["record"]
    content: dict[str, Any] = {"tokens": [], "items": []}
    if record["kind"] in ("tune", "probe"):
        content["tokens"] = token_sets(record, of_page)
    if record["kind"] == "tune" and record["data"]["items"]:
        content["items"] = [items_of(record, texts)]
    elif record["kind"] in ("eval", "comparison"):
        content["items"] = evaluated_items(record, texts)
    part["shows"] = {
        "tokens": bool(content["tokens"]),
        "items": [one["title"] for one in content["items"]],
    }
    return content


_NOT_WHOLE = (
    KeyError, TypeError, AttributeError, LookupError, ValueError, ArithmeticError, zlib.error,
    lzma.LZMAError,
)  # fmt: skip


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
    subject = chosen if decision.objective == "base" else decision.objective
    trained = [run for run in record["runs"] if run["train"]]
    metrics = list(record["runs"][0]["heldout"]["metrics"])
    rates = list(record["runs"][0]["heldout"].get("rates", {}))

    def log_of(name: str, log: str = "log") -> dict[str, list[tuple[float, float]]]:
        return {
            run["name"]: [(e["step"], e[name]) for e in run["train"].get(log, ()) if name in e]
            for run in trained
        }

    return {
        "link": f"{record['settings']['model']} on {record['data']['source']}",
        "headline": decision.title,
        "title": decision.title,
        "decision": decision,
        "verdicts": verdicts(record),
        "chosen": chosen,
        "subject": subject,
        "selection": record["choice"].get("select"),
        "metrics": metrics,
        "rates": rates,
        "differences": {
            metric: figures.differences(
                [
                    (f"{subject} - {name}", difference)
                    for name, difference in against(record, subject, metric)
                ],
                label=f"difference in {METRIC_NAMES[metric]}",
            )
            for metric in metrics
        },
        **_probe_figures(probe),
        "nll_curves": figures.curves(log_of("nll"), label="NLL (training rows)"),
        "p_curves": figures.curves(log_of("mean_p"), label="mean p (training rows)"),
        "norm_curves": figures.curves(log_of("grad_norm"), label="gradient norm"),
        "further_curves": [
            figures.curves(log, label=label)
            for (name, kind), label in _FURTHER_CURVES.items()
            if any((log := log_of(name, kind)).values())
        ],
        "pulls": _pulls(record),
        "movement": movement(record),
        "groups": by_group(record),
        "group_curves": curves_by_group(record),
        "bins": BINS,
    }


_FURTHER_CURVES = {
    ("mean_token_accuracy", "log"): "token accuracy (training rows)",
    ("low_weight_share", "log"): "share of silent tokens",
    ("nll", "heldout_log"): "NLL (held-out rows)",
    ("mean_p", "heldout_log"): "mean p (held-out rows)",
    ("mean_token_accuracy", "heldout_log"): "token accuracy (held-out rows)",
}
"""Logged number and its log -> label of the curve."""


def _pulls(record: Mapping[str, Any]) -> str | None:
    """Draw the pull of each objective, W_f(p) = w(p) (1 - p), over the histogram of p."""
    weights = record.get("weights")
    if not weights:
        return None
    curves = {
        name: [(p, w * (1 - p)) for p, w in zip(GRID, values, strict=True)]
        for name, values in weights.items()
    }
    return figures.histogram(record["probe"]["histogram"], curves=curves)


def _probe(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template needs of a probe record."""
    suggestion = (record.get("scout") or {}).get("probe", record)["suggestion"]
    title = f"{suggestion['verdict']}: train with {suggestion['objective']}"
    if suggestion.get("undecided"):
        title = f"{suggestion['verdict']}: undecided between {' and '.join(suggestion['race'])}"
    return {
        "link": f"{record['model']} on {record['data']}" if "model" in record else "Probe",
        "headline": title,
        "title": title,
        **_probe_figures(record),
    }


def _probe_figures(probe: Mapping[str, Any]) -> dict[str, Any]:
    groups = probe.get("groups")
    return {
        "by_group": figures.shares(groups, label="mean p by group of rows") if groups else "",
        "histogram": figures.histogram(probe["histogram"]),
        "classes": figures.shares(probe["classes"], label="mean p by kind of token"),
        "positions": figures.shares(probe["positions"], label="mean p by position in the response"),
    }


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
        "headline": demo_real_title(record),
        "title": demo_real_title(record),
        "columns": {
            "exact_match": "greedy", "sampled": "sampled", "stops": "stops", "end_p": "p(end)"
        },
    }  # fmt: skip


MAKERS = {
    "tune": Maker(_tune, "tune.html"),
    "probe": Maker(_probe, "probe.html"),
    "demo": Maker(_demo, "demo.html"),
    "demo-real": Maker(_demo_real, "demo_real.html"),
    "sweep": Maker(sweep_part, "sweep.html"),
}
"""Kind of record -> its maker."""
