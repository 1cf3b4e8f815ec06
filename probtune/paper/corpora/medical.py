"""Medicine: m23k, questions with the reasoning of a strong model and a short worked answer.

Source: Huang et al., m1: Unleash the Potential of Test-Time Scaling for Medical Reasoning, 2025,
https://arxiv.org/abs/2504.00869. The paper trains on the short answer (`distilled_answer_string`),
not on the long reasoning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import Corpus, Part
from .verl import reader

__all__ = ["CORPORA"]

_QUESTION = (
    "Which vitamin is made in human skin under sunlight?\n"
    "A. Vitamin A\nB. Vitamin C\nC. Vitamin D\nD. Vitamin K"
)
_RESPONSE = "Sunlight turns a precursor in the skin into vitamin D. The answer is \\boxed{C}."
_INSTRUCTION = "\nPlease reason step by step, and put your final answer within \\boxed{}."


def _m23k(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"prompt": row["prompt"], "completion": row["distilled_answer_string"]}


_STATES = (
    "m23k, 23k rows, the short answer only (p. 16-17); the long reasoning is said to give similar"
    " results."
)

CORPORA = (
    Corpus(
        "m23k",
        "medical",
        "m23k, short answers",
        (
            Part(
                "UCSC-VLAA/m23k-tokenized",
                "train",
                _m23k,
                {
                    "answer_idx": 2,
                    "source": "written for a test",
                    "metadata": "",
                    "prompt": _QUESTION,
                    "answer_letter": "C",
                    "answer_string": "Vitamin D",
                    "reasoning": "Skin, sunlight: that is vitamin D.",
                    "distilled_answer_string": _RESPONSE,
                    "text": "",
                },
                rows=23_493,
                note=(
                    "Not pinned: no commit could be verified. No licence is stated; the rows come"
                    " from several benchmarks' training sets."
                ),
            ),
        ),
        states=_STATES,
        ours="nothing: rows and order are the file's.",
        paper_rows="23k",
    ),
    Corpus(
        "m23k-published",
        "medical",
        "m23k, the paper's own file",
        (
            Part(
                "gaotang/medical_sft_processed",
                "train",
                reader("question", "qwen_reponse_no_thinking", "m23k"),
                {
                    "data_source": "UCSC-VLAA/m23k-tokenized",
                    "prompt": [{"role": "user", "content": _QUESTION + _INSTRUCTION}],
                    "ability": "math",
                    "reward_model": {"style": "rule", "ground_truth": "C"},
                    "extra_info": {
                        "split": "train",
                        "index": 0,
                        "answer_letter": "C",
                        "answer_string": "Vitamin D",
                        "answer_thinking": "Skin, sunlight: that is vitamin D.",
                        "answer_raw": _RESPONSE,
                        "question": _QUESTION,
                        "question_instruction": _QUESTION + _INSTRUCTION,
                        "qwen_prompt": "",
                        "qwen_response_with_thinking": "",
                        "llama_prompt": "",
                        "llama_response_with_thinking": "",
                        "llama_reponse_no_thinking": _RESPONSE,
                        "qwen_reponse_no_thinking": _RESPONSE,
                    },
                },
                rows=23_500,
                rounded=50,
                note=(
                    "Not pinned: no commit could be verified. No licence is stated. The count is"
                    " what the hub prints (23.5k)."
                ),
            ),
        ),
        states=_STATES + " This file is what its code downloads (data/download_data.py).",
        ours="nothing: rows and order are the file's.",
        paper_rows="23k",
    ),
)
