"""Tables between marks in a document: `<!-- name -->` ... `<!-- end -->`."""

from collections.abc import Sequence
from pathlib import Path

Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def markdown(table: Table) -> str:
    """Return header and rows as a Markdown table."""
    header, rows = table
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def aligned(table: Table) -> str:
    """Return header and rows as text for the terminal, in columns."""
    lines = [table[0], *table[1]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ((cell.ljust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in padded)


def block(document: Path, name: str) -> str:
    """Return the content of a block."""
    text = document.read_text()
    start, end = _span(text, name)
    return text[start:end].strip()


def write(document: Path, name: str, table: Table) -> None:
    """Replace a block."""
    text = document.read_text()
    start, end = _span(text, name)
    document.write_text(text[:start] + markdown(table) + "\n" + text[end:])


def _span(text: str, name: str) -> tuple[int, int]:
    mark = f"<!-- {name} -->\n"
    start = text.index(mark) + len(mark)
    return start, text.index("<!-- end -->", start)
