"""`probtune prepare`: training sets of the paper, with their manifests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UsageError

if TYPE_CHECKING:
    from ...terminal import Terminal
    from ..corpora import Corpus, Manifest

from .options import Prepare

__all__ = ["prepare"]


def prepare(options: Prepare) -> None:
    from ...terminal import Terminal, quiet_libraries
    from ..corpora import corpus

    terminal = Terminal()
    if options.list:
        _list(terminal)
        return
    if options.name is None:
        raise UsageError("NAME is missing, a training set; probtune prepare --list shows them.")
    chosen = corpus(options.name)
    arguments = _arguments(options)
    sizes = _sizes(options.ngrams)
    if options.dry_run:
        _plan(chosen, options, arguments, terminal)
        return
    quiet_libraries()
    from ..corpora import prepare
    from ..corpora.checking import check_against, questions_of

    benchmarks = None
    if options.check_against:
        benchmarks = questions_of(
            options.check_against, data=options.data_benchmarks, terminal=terminal
        )
    manifest = prepare(
        chosen, out=_folder(chosen, options, arguments), terminal=terminal, **arguments
    )
    if benchmarks is not None:
        manifest = check_against(manifest, benchmarks, sizes=sizes, terminal=terminal)
    _show(manifest, terminal)


def _arguments(options: Prepare) -> dict[str, Any]:
    names = (options.tokenizer or "").split(",")
    return {
        "tokenizers": tuple(name.strip() for name in names if name.strip()),
        "limit": options.limit,
        "seed": options.seed,
        "data": options.data,
        "unique": True if options.unique else None,
    }


def _folder(chosen: Corpus, options: Prepare, arguments: dict[str, Any]) -> Path:
    from ..corpora.locating import default_folder
    from ..corpora.preparing import request

    if options.out is not None:
        return Path(options.out).expanduser()
    return default_folder(request(chosen, **arguments))


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 2:
        raise UsageError(f"--ngrams must be numbers of words from 2, such as 13,8; got {text!r}.")
    return sizes


def _list(terminal: Terminal) -> None:
    from ..corpora import CORPORA

    terminal.table(
        "Training sets",
        ["name", "domain", "rows", "paper", "licence", "download", "what"],
        [
            [
                entry.name,
                entry.domain,
                _rows(entry),
                entry.paper_rows,
                entry.licences,
                _megabytes(entry.megabytes),
                entry.title,
            ]
            for entry in CORPORA.values()
        ],
        notes=[
            "rows of the source; ~: rounded by the hub; ?: known to the hub only.",
            "probtune prepare NAME --dry-run shows the source of a set and our own choices in it.",
        ],
        words=True,
    )


def _rows(entry: Corpus) -> str:
    if entry.rows is None:
        return "?"
    rounded = any(part.rounded and part.take is None for part in entry.parts)
    return f"{'~' if rounded else ''}{entry.rows:,}"


def _megabytes(size: float | None) -> str:
    if size is None:
        return "?"
    return "none" if size == 0 else f"{size:,.0f} MB" if size >= 1 else f"{size:.1f} MB"


def _plan(chosen: Corpus, options: Prepare, arguments: dict[str, Any], terminal: Terminal) -> None:
    """Show the plan, without the network."""
    from ..corpora.preparing import find, request
    from ..corpora.table import slug

    requested = request(chosen, **arguments)
    folder = _folder(chosen, options, arguments)
    terminal.table(
        f"{slug(chosen)}: {chosen.title}",
        ["source", "split", "commit", "rows", "licence", "download"],
        [
            [
                part.dataset,
                part.files or "/".join(x for x in (part.config, part.split) if x),
                "generated" if chosen.make else (part.revision or "not pinned")[:12],
                ("~" if part.rounded else "") + (f"{part.rows:,}" if part.rows else "?"),
                part.licence,
                _megabytes(part.megabytes),
            ]
            for part in chosen.parts
        ],
        words=True,
    )
    lines = [
        f"paper   {chosen.states}",
        f"ours    {chosen.ours}",
        *(f"note    {note}" for note in dict.fromkeys(p.note for p in chosen.parts) if note),
        f"seed    {requested['seed']}",
    ]
    if requested["tokenizers"]:
        bound = f"at most {chosen.max_tokens} tokens for {' and '.join(requested['tokenizers'])}"
        lines.append(f"length  {bound}")
    if not chosen.redistributable:
        lines.append("rows    may not be passed on; git ignores their folder")
    if options.data:
        lines.append(f"data    {options.data} instead of the hub")
    for line in lines:
        terminal.show(line)
    manifest = find(folder, requested)
    state = f"prepared, {manifest.rows} rows" if manifest else "to be made"
    terminal.show(f"folder  {folder} ({state})", wrap=False)


def _show(manifest: Manifest, terminal: Terminal) -> None:
    record = manifest.record
    rows = [
        [
            "/".join(x for x in (part["dataset"], part["config"], part["split"]) if x),
            (part["revision"] or part["source"])[:40],
            f"{part['rows_read']:,}",
            f"{part['rows_kept']:,}",
            part["licence"],
        ]
        for part in record["parts"]
    ]
    notes = [
        f"left out: {entry['count']:,}, {reason} (first: {entry['first'][0]})"
        for reason, entry in record["dropped"].items()
    ]
    repeated = record["duplicates"]
    if repeated["count"] and repeated["kept"]:
        notes.append(
            f"{repeated['count']:,} rows repeat a question, as in the paper's code; --unique leaves"
            " them out."
        )
    if noise := record["noise"]:
        notes.append(
            f"label noise: {noise['changed']:,} of {noise['rows']:,} letters changed"
            f" ({noise['kind']}, seed {noise['seed']})"
        )
    if record["verified"]:
        notes.append(record["verified"])
    said = f"; the paper says {record['paper_rows']}" if record["paper_rows"] else ""
    terminal.table(
        f"{record['name']}: {manifest.rows:,} rows{said}",
        ["source", "commit", "read", "written", "licence"],
        rows,
        notes=notes,
    )
    if record["contamination"]:
        _show_contamination(record["contamination"], terminal)
    terminal.show(f"rows      {manifest.path}", wrap=False)
    terminal.show(f"manifest  {manifest.folder / 'manifest.json'}", wrap=False)


def _show_contamination(report: dict[str, Any], terminal: Terminal) -> None:
    terminal.table(
        "Shared n-grams of words",
        ["benchmark", "n", "questions that overlap", "rows that overlap", "worst question", "row"],
        [
            [
                entry["benchmark"],
                str(entry["n"]),
                _share(entry["questions_hit"], entry["questions"] - entry["too_short"]),
                _share(entry["rows_hit"], report["rows"]),
                *_worst(entry["examples"]),
            ]
            for entry in report["found"]
        ],
        notes=["An overlap is a hint: read the pairs. The manifest lists the ten worst of each."],
    )


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / whole:.2%})" if whole else "none to compare"


def _worst(examples: list[dict[str, Any]]) -> tuple[str, str]:
    if not examples:
        return "", ""
    first = examples[0]
    return f"{first['question']} ({first['share']:.0%})", first["row"]
