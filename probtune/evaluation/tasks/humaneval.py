"""HumanEval: 164 Python functions from their docstrings, with the original tests."""

from __future__ import annotations

from .code_protocol import code_task

__all__ = ["TASK"]

TASK = code_task(
    "humaneval",
    "HumanEval",
    "humaneval",
    "base",
    rows_=164,
    licence="MIT (HumanEval), Apache-2.0 (EvalPlus)",
    file="HumanEvalPlus.jsonl",
    example={
        "task_id": "HumanEval/1000",
        "prompt": "def double_all(numbers: list) -> list:\n"
        '    """Twice every number, in order.\n    >>> double_all([1, 2])\n    [2, 4]\n    """\n',
        "entry_point": "double_all",
        "canonical_solution": "    return [2 * number for number in numbers]\n",
        "base_input": [[[1, 2]], [[]]],
        "plus_input": [[[0, -3, 7]]],
        "atol": 0,
    },
    response="def double_all(numbers):\n    return [n + n for n in numbers]\n",
    citation="Mark Chen et al.: Evaluating Large Language Models Trained on Code, 2021,"
    " https://arxiv.org/abs/2107.03374",
)
