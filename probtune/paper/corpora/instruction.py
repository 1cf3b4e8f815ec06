"""General instructions: 70 thousand rows of Magpie and all of Evol-Instruct.

Sources: Xu et al., Magpie, 2024, https://arxiv.org/abs/2406.08464; Xu et al., WizardLM, 2023,
https://arxiv.org/abs/2304.12244. The mix is that of data/data_process_instruction_tuning.py of the
paper's code (commit 89e4b0c).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import Corpus, Dropped, Part, Take
from .verl import reader

__all__ = ["CORPORA"]


def _magpie(row: Mapping[str, Any]) -> dict[str, Any] | Dropped:
    turns = row["conversations"]
    if len(turns) < 2:
        return Dropped("a conversation of fewer than two turns")
    if (turns[0]["from"], turns[1]["from"]) != ("human", "gpt"):
        return Dropped("a conversation that does not begin with a question and a response")
    return {"prompt": turns[0]["value"], "completion": turns[1]["value"]}


def _evol(row: Mapping[str, Any]) -> dict[str, Any] | Dropped:
    return {"prompt": row["instruction"], "completion": row["output"]}


_QUESTION = "Write one sentence about the sea."
_RESPONSE = "The sea keeps no calendar but the moon."

_STATES = (
    "70k of Magpie-Pro-300K-Filtered (shuffled by datasets with seed 42) and all of"
    " WizardLM_evol_instruct_70k; rows longer than 2048 tokens for Qwen2.5-7B-Instruct or"
    " Llama-3.1-8B-Instruct left out (C.2; data/data_process_instruction_tuning.py)."
)

CORPORA = (
    Corpus(
        "magpie-evol",
        "instructions",
        "Magpie 70k + Evol-Instruct 70k",
        (
            Part(
                "Magpie-Align/Magpie-Pro-300K-Filtered",
                "train",
                _magpie,
                {
                    "conversations": [
                        {"from": "human", "value": _QUESTION},
                        {"from": "gpt", "value": _RESPONSE},
                    ]
                },
                rows=300_000,
                rounded=500,
                revision="523df96eb7474e97bca6f378b3baa372a4735fcc",
                licence="llama3",
                megabytes=563,
                take=Take(70_000, seed=42),
                note=(
                    "Responses of Llama 3 70B: its licence goes with them. Further columns are not"
                    " read. The count is what the hub prints (300k)."
                ),
            ),
            Part(
                "WizardLMTeam/WizardLM_evol_instruct_70k",
                "train",
                _evol,
                {"instruction": _QUESTION, "output": _RESPONSE},
                rows=70_000,
                rounded=500,
                revision="16b48bd8eecad79d4f42e1ab641db317e1b27443",
                licence="mit",
                redistributable=True,
                megabytes=137,
                note="The licence stands on the card since March 2024.",
            ),
        ),
        states=_STATES,
        ours="the order: the paper's code shuffles without a seed.",
        paper_rows="140k",
        max_tokens=2048,
        tokenizers=("Qwen/Qwen2.5-7B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        shuffle="pandas",
    ),
    Corpus(
        "magpie-evol-published",
        "instructions",
        "Magpie + Evol-Instruct, the paper's own file",
        (
            Part(
                "gaotang/mix_magpie_evol_instruct_140k",
                "train",
                reader("prompt", "answer", "magpie-evol"),
                {
                    "data_source": "WizardLM_evol_instruct_70k",
                    "ability": "coder",
                    "reward_model": {"style": "rule", "ground_truth": "..."},
                    "extra_info": {
                        "prompt": _QUESTION,
                        "answer": _RESPONSE,
                        "llama_prompt": "",
                        "qwen_prompt": "",
                    },
                },
                files="data/train.parquet",
                note=(
                    "Not pinned: no commit could be verified. No licence is stated; half of it is"
                    " under llama3."
                ),
            ),
        ),
        states=_STATES + " This file is what its code downloads (data/download_data.py).",
        ours="nothing: rows and order are the file's.",
        paper_rows="140k",
    ),
)
