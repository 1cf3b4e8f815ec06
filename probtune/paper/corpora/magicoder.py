"""Programs: Magicoder's OSS-Instruct, problems made from open-source code with their solutions.

Source: Wei et al., Magicoder: Empowering Code Generation with OSS-Instruct, 2024,
https://arxiv.org/abs/2312.02120.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import Corpus, Part

__all__ = ["CORPORA"]


def _magicoder(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"prompt": row["problem"], "completion": row["solution"]}


CORPORA = (
    Corpus(
        "magicoder",
        "code",
        "Magicoder OSS-Instruct 75k",
        (
            Part(
                "ise-uiuc/Magicoder-OSS-Instruct-75K",
                "train",
                _magicoder,
                {
                    "lang": "python",
                    "raw_index": 0,
                    "index": 0,
                    "seed": "def twice(x):\n    return 2 * x\n",
                    "openai_fingerprint": "fp_written_by_us",
                    "problem": "Write a function `thrice` that returns three times its argument.",
                    "solution": "```python\ndef thrice(x):\n    return 3 * x\n```",
                },
                rows=75_200,
                rounded=50,
                revision="5f839b1f368a76b161028bb9edff055db34022b2",
                licence="mit",
                redistributable=True,
                megabytes=203,
                note="Made by a model of OpenAI, whose terms apply. The hub prints 75.2k rows.",
            ),
        ),
        states=(
            "all rows, problem and solution, in order (C.3; data/data_process_coder.py). The"
            " dataset's authors have taken out what overlaps with HumanEval and MBPP."
        ),
        ours="nothing.",
        paper_rows="75k",
    ),
)
