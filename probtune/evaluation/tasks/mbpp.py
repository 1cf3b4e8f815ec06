"""MBPP: 378 Python functions from a sentence and one test, as EvalPlus cleaned them."""

from __future__ import annotations

from .code_protocol import code_task

__all__ = ["TASK"]

TASK = code_task(
    "mbpp",
    "MBPP",
    "mbpp",
    "base",
    rows_=378,
    licence="CC BY 4.0 (MBPP) [unverified], Apache-2.0 (EvalPlus)",
    file="MbppPlus.jsonl",
    example={
        "task_id": "Mbpp/1000",
        "prompt": '"""\nWrite a function to count the vowels of a text.\n'
        'assert count_vowels("banana") == 3\n"""\n',
        "entry_point": "count_vowels",
        "canonical_solution": "\ndef count_vowels(text):\n"
        '    return sum(sign in "aeiou" for sign in text)\n',
        "base_input": [["banana"], ["rhythm"]],
        "plus_input": [[""], ["aeiou"]],
        "atol": 0,
    },
    response='def count_vowels(text):\n    return len([c for c in text if c in "aeiou"])\n',
    citation="Jacob Austin et al.: Program Synthesis with Large Language Models, 2021,"
    " https://arxiv.org/abs/2108.07732",
)
