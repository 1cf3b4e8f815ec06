"""Mathematics: NuminaMath-CoT, competition problems with worked solutions.

Source: Li et al., NuminaMath, 2024, https://huggingface.co/datasets/AI-MO/NuminaMath-CoT.
The paper trains on a random subset of 67 thousand. It has published the subset, but not the script
that drew it, so we take the subset by its id. Another subset of the same size, drawn by a seed of
ours, shows the effect of the draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .base import Corpus, Part, Take
from .verl import reader

__all__ = ["CORPORA"]

_QUESTION = "What is the sum of the first three odd prime numbers?"
_RESPONSE = (
    "The first three odd primes are 3, 5 and 7, and $3 + 5 + 7 = 15$. So it is $\\boxed{15}$."
)


def _problem(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"prompt": row["problem"], "completion": row["solution"]}


_FULL = Part(
    "AI-MO/NuminaMath-CoT",
    "train",
    _problem,
    {
        "source": "synthetic_math",
        "problem": _QUESTION,
        "solution": _RESPONSE,
        "messages": [
            {"role": "user", "content": _QUESTION},
            {"role": "assistant", "content": _RESPONSE},
        ],
    },
    rows=859_500,
    rounded=500,
    revision="9d8d210c9f6a36c8f3cd84045668c9b7800ef517",
    licence="apache-2.0",
    redistributable=True,
    megabytes=1235,
    note=(
        "The card said cc-by-nc-4.0 in 2024 and says apache-2.0 since. The count is what the"
        " hub prints (859k)."
    ),
)

_SUBSET = Part(
    "gaotang/numina-cot-subset-67k",
    "train",
    reader("question", "answer", "numina-67k"),
    {
        "data_source": "AI-MO/NuminaMath-CoT-processed",
        "prompt": [
            {
                "role": "user",
                "content": f"{_QUESTION} Let's think step by step and output the final answer"
                " within \\boxed{}.",
            }
        ],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "15"},
        "extra_info": {"split": "train", "index": 0, "answer": _RESPONSE, "question": _QUESTION},
    },
    rows=67_600,
    rounded=50,
    note=(
        "Not pinned: no commit could be verified. No licence is stated; NuminaMath-CoT has"
        " apache-2.0. The count is what the hub prints (67.6k)."
    ),
)

CORPORA = (
    Corpus(
        "numina-67k",
        "math",
        "NuminaMath-CoT, the paper's 67k",
        (_SUBSET,),
        states=(
            "67k random rows (p. 16-17); the subset by its id (data/download_data.py); the question"
            " alone is trained on, without the instruction in `prompt`."
        ),
        ours="nothing: rows and order are the file's.",
        paper_rows="67k",
    ),
    Corpus(
        "numina-full",
        "math",
        "NuminaMath-CoT, all of it",
        (_FULL,),
        states='the source of the 67k ("equivalent performance to 100k+", p. 16-17).',
        ours="training on all of it.",
        paper_rows="859k",
    ),
    Corpus(
        "numina-67k-ours",
        "math",
        "NuminaMath-CoT, 67k drawn here",
        (replace(_FULL, take=Take(67_000)),),
        states="67k random rows (p. 16-17).",
        ours="the draw (datasets.shuffle by the seed) and that repeated questions are left out.",
        paper_rows="67k",
        unique=True,
    ),
)
