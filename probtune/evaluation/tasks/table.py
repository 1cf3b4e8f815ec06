"""Benchmarks by name and by domain. A benchmark's module is imported on its first use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType

from ...errors import UsageError
from .base import Task

__all__ = ["DOMAINS", "OURS", "TASKS", "find_tasks"]

_LANGUAGES = ("mr", "te", "ne", "sw", "wo", "yo", "zu")
OURS = ("gsm8k", "figlet_words", "figlet_fonts")
"""Benchmarks that are not in the paper."""

DOMAINS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "math": ("math500", "minerva", "olympiadbench", "aime24", "amc23"),
        "medical": (
            *("medmcqa", "medqa", "pubmedqa", "mmlu_pro_medical", "gpqa_medical"),
            *("lancet", "medbullets4", "medbullets5", "medxpertqa", "nejm"),
        ),
        "figlet": ("figlet",),
        "instructions": ("alpaca_eval",),
        "code": ("humaneval", "humaneval_plus", "mbpp", "mbpp_plus"),
        "languages": tuple(f"mmlu_prox_{code}" for code in _LANGUAGES),
        "knowledge": ("openbookqa",),
    }
)
"""The paper's seven domains -> its benchmarks."""

_SHARED = {
    **{f"mmlu_prox_{code}": "mmlu_prox" for code in _LANGUAGES},
    **dict.fromkeys(("figlet", "figlet_words", "figlet_fonts"), "figlet"),
}
"""Tasks that share a module."""

_MODULES = {name: _SHARED.get(name, name) for names in (*DOMAINS.values(), OURS) for name in names}


class _Tasks(Mapping[str, Task]):
    """Mapping from name to task; imports a task's module on its first use."""

    def __getitem__(self, name: str) -> Task:
        if name not in _MODULES:
            from .questions import own_grader, own_task

            grader = own_grader(name)
            if grader is None:
                raise KeyError(name)
            return own_task(grader)
        module = import_module(f".{_MODULES[name]}", __package__)
        return module.TASKS[name] if name in _SHARED else module.TASK

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


TASKS: Mapping[str, Task] = _Tasks()
"""Every task: the paper's benchmarks in its order, then ours. The user's own questions,
`questions-GRADER`, are looked up too, and not listed.
"""


def find_tasks(names: str) -> list[Task]:
    """Return the tasks of a list of names and domains, each once, in the order of the list.

    >>> [task.name for task in find_tasks("aime24, math")]
    ['aime24', 'math500', 'minerva', 'olympiadbench', 'amc23']

    Raises:
        UsageError: a name is no task and no domain; the message holds similar names.
    """
    chosen: dict[str, None] = {}
    for name in (part.strip() for part in names.split(",")):
        if not name:
            continue
        if name not in TASKS and name not in DOMAINS:
            raise UsageError(_unknown(name))
        chosen |= dict.fromkeys(DOMAINS.get(name, (name,)))
    if not chosen:
        raise UsageError(f"name at least one task or domain: {_choices()}.")
    return [TASKS[name] for name in chosen]


def _unknown(name: str) -> str:
    close = get_close_matches(name.lower(), [*DOMAINS, *_MODULES], n=3, cutoff=0.5)
    meant = f"did you mean {' or '.join(close)}?" if close else f"there are {_choices()}."
    return f"{name!r} is no task and no domain; {meant} All: probtune eval --list."


def _choices() -> str:
    return f"the domains {', '.join(DOMAINS)}, and the tasks in them"
