"""Tables of docs/data.md.

python benchmarks/data_page.py
"""

import json
from pathlib import Path

from blocks import Table, write

from probtune.paper.corpora import CORPORA, Corpus, Part
from probtune.paper.corpora.contamination import COMMON, SHORTEST

DOCUMENT = Path(__file__).parents[1] / "docs" / "data.md"
MEASURED = Path(__file__).with_name("contamination.json")


def _rows(part: Part) -> str:
    if part.rows is None:
        return "not known"
    return f"{'about ' if part.rounded else ''}{part.rows:,}"


def _source(part: Part) -> str:
    if part.dataset == "generated":
        return "made here"
    where = part.files or "/".join(x for x in (part.config, part.split) if x)
    return f"[{part.dataset}]({part.url}) `{where}`"


def _merged(chosen: Corpus) -> list[Part]:
    """Return the parts, with one for all that differ in their configuration alone."""
    return list({(p.dataset, p.split): p for p in chosen.parts}.values())


def corpora() -> Table:
    """Return one line for each source of each training set."""
    rows = []
    for entry in CORPORA.values():
        for part in _merged(entry):
            same = [p for p in entry.parts if (p.dataset, p.split) == (part.dataset, part.split)]
            source = _source(part)
            if len(same) > 1:
                configs = ", ".join(f"`{p.config}`" for p in same)
                source = f"[{part.dataset}]({part.url}) {configs}, `{part.split}`"
            commit = "" if entry.make else (f"`{part.revision[:7]}`" if part.revision else "none")
            size = "70,000 of " if part.take and part.take.seed is not None else ""
            size = "67,000 of " if part.take and part.take.seed is None else size
            rows.append(
                [
                    f"`{entry.name}`",
                    entry.domain,
                    source,
                    commit,
                    size + _rows(part),
                    entry.paper_rows or "none",
                    part.licence,
                    "yes" if part.redistributable else "no",
                ]
            )
    header = ["name", "domain", "source", "commit", "rows", "paper", "licence", "may be passed on"]
    return header, rows


def stated() -> Table:
    """Return the statements of the paper and its code, and our own choices."""
    return ["name", "stated by the paper or its code", "ours"], [
        [f"`{entry.name}`", entry.states, entry.ours] for entry in CORPORA.values()
    ]


def notes() -> Table:
    """Return the notes on each source: what is not pinned or not certain."""
    pairs: dict[tuple[str, str], None] = {}
    for part in (part for corpus in CORPORA.values() for part in corpus.parts):
        if part.note:
            pairs[part.dataset if part.dataset != "generated" else "figlet", part.note] = None
    return ["source", "note"], [list(pair) for pair in pairs]


def contamination() -> Table:
    """Return the time of the check, from the committed measurement."""
    measurement = json.loads(MEASURED.read_text())
    first, second = measurement["found"]
    return ["rows", "words", "questions", "seconds", "memory", "planted", "n = 13", "n = 8"], [
        [
            f"{measurement['rows']:,}",
            f"{measurement['words'] / 1e6:.1f} million",
            f"{measurement['questions']:,}",
            f"{measurement['seconds']:.1f}",
            f"{measurement['megabytes']:.0f} MB",
            str(measurement["planted"]),
            f"{first['questions_hit']} questions, {first['rows_hit']} rows",
            f"{second['questions_hit']} questions, {second['rows_hit']} rows",
        ]
    ]


TABLES = {"corpora": corpora, "stated": stated, "notes": notes, "contamination": contamination}


def main() -> None:
    assert (COMMON, SHORTEST) == (10, 5), "the text of the page says so"
    for name, table in TABLES.items():
        write(DOCUMENT, name, table())


if __name__ == "__main__":
    main()
