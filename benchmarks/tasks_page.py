"""Tables of tasks in docs/evaluation.md.

python benchmarks/tasks_page.py        # a second
"""

from pathlib import Path

from blocks import Table, write

from probtune.evaluation.tasks.base import PROTOCOLS, Protocol
from probtune.evaluation.tasks.table import DOMAINS, TASKS

DOCUMENT = Path(__file__).parents[1] / "docs" / "evaluation.md"


def tasks() -> Table:
    rows = []
    for name, task in TASKS.items():
        source = task.source
        location = " ".join(filter(None, (source.dataset, source.config)))
        rows.append(
            [
                f"`{name}`",
                f"[{task.title}]({source.url})",
                task.domain if name in DOMAINS[task.domain] else f"{task.domain}, ours",
                f"{location}: {source.split}",
                f"{source.rows:,}",
                f"`{source.revision[:12]}`" if source.revision else "",
                source.licence,
                "yes" if source.redistributable else "no",
            ]
        )
    header = ["task", "benchmark", "domain", "read from: split", "rows", "commit", "licence"]
    return [*header, "may be passed on"], rows


def sources() -> Table:
    rows = [[f"`{n}`", escaped(t.source.note), t.citation] for n, t in TASKS.items()]
    return ["task", "to know", "citation"], rows


def asking() -> Table:
    rows = []
    for which in PROTOCOLS:
        groups: dict[tuple[str, ...], list[str]] = {}
        for name, task in TASKS.items():
            protocol = task.protocols[which]
            groups.setdefault((drawn(protocol), forms(protocol), protocol.extraction), []).append(
                f"`{name}`"
            )
        rows += [[which, ", ".join(names), *map(escaped, key)] for key, names in groups.items()]
    return ["protocol", "tasks", "drawn", "turns of a family", "how the answer is found"], rows


def drawn(protocol: Protocol) -> str:
    decoding = protocol.decoding
    how = f"temperature {decoding.temperature:g}" if decoding.temperature else "greedy"
    how += f", top_p {decoding.top_p:g}" if decoding.top_p != 1 else ""
    how += f", {decoding.samples} answers" if decoding.samples > 1 else ""
    return f"{how}, {decoding.max_new_tokens:,} tokens"


def forms(protocol: Protocol) -> str:
    return ", ".join(f"{family} as {form}" for family, form in protocol.formats.items())


def escaped(text: str) -> str:
    """Escape the signs that would break a table or be read as mathematics."""
    for sign in ("|", "<", "$", "_", "*"):
        text = text.replace(sign, f"\\{sign}")
    return text


TABLES = {f.__name__: f for f in (tasks, asking, sources)}


def main() -> None:
    for name, make in TABLES.items():
        write(DOCUMENT, name, make())


if __name__ == "__main__":
    main()
