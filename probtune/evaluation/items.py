"""The first answer to each question, for a page: by protocol for one evaluation, by label for a
comparison. Questions whose texts may not be passed on stand by their ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .samples import read_samples, read_wordings

if TYPE_CHECKING:
    from .analyse import Measured

__all__ = ["item_lists"]

_MOST_QUESTIONS = 10_000
_ANSWER_CHARACTERS = 600
_QUESTION_CHARACTERS = 1000


def item_lists(columns: Mapping[str, Mapping[str, Measured]]) -> list[dict[str, Any]]:
    """Return, for each benchmark, its questions (`ids`; `questions` and `references` where their
    texts were kept, else None) and one entry of `columns` per name: the end of the first answer
    (`texts`), the short answer read in it (`answers`) and its `scores`.

    Args:
        columns: name of a column -> benchmark -> measured.
    """
    lists = []
    tasks = dict.fromkeys(task for measured in columns.values() for task in measured)
    for task in tasks:
        names = [name for name, measured in columns.items() if task in measured]
        lines = {name: _first_lines(columns[name][task]) for name in names}
        ids = sorted(set.intersection(*(set(of_name) for of_name in lines.values())))
        ids = ids[:_MOST_QUESTIONS]
        entries = []
        for name in names:
            one = columns[name][task]
            texts = {
                sample.question: sample.text[-_ANSWER_CHARACTERS:]
                for sample in read_samples(one.folder / "samples.jsonl")
                if sample.sample == 0
            }
            entries.append(
                {
                    "name": name,
                    "texts": [texts.get(question, "") for question in ids],
                    "answers": [lines[name][question]["answer"] for question in ids],
                    "scores": [one.scores[question][0] for question in ids],
                }
            )
        title = columns[names[0]][task].task.title
        by_id = read_wordings(columns[names[0]][task].folder)
        wordings = [by_id.get(question) for question in ids]
        lists.append(
            {
                "task": task,
                "title": title,
                "ids": ids,
                "questions": [q and q.text[-_QUESTION_CHARACTERS:] for q in wordings],
                "references": [q and q.reference[:_QUESTION_CHARACTERS] for q in wordings],
                "columns": entries,
            }
        )
    return lists


def _first_lines(one: Measured) -> dict[str, Mapping[str, Any]]:
    return {
        line["question"]: line
        for line in one.lines
        if line["sample"] == 0 and line["question"] in one.scores
    }
