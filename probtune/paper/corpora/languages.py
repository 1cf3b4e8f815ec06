"""Low-resource languages: MURI, human texts with instructions that were generated from them.

Source: Köksal et al., MURI: High-Quality Instruction Tuning Datasets for Low-Resource Languages via
Reverse Instructions, 2024, https://arxiv.org/abs/2409.12958.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import Corpus, Part

__all__ = ["CORPORA", "LANGUAGES"]

LANGUAGES = {
    "mar": "mr",
    "tel": "te",
    "nep": "ne",
    "swa": "sw",
    "wol": "wo",
    "yor": "yo",
    "zul": "zu",
}
"""Configuration of the dataset -> the benchmark's language."""


def _muri(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"prompt": row["input"], "completion": row["output"]}


def _part(config: str) -> Part:
    return Part(
        "akoksal/muri-it-language-split",
        "train",
        _muri,
        {
            "input": "Niambie kuhusu mto.",
            "output": "Mto ni maji yanayotiririka.",
            "dataset_name": "MRI",
            "subdataset_name": "wikipedia",
            "language": config,
            "split": "train",
            "language_name": "Swahili" if config == "swa" else config,
        },
        config=config,
        revision="4987fc82a54145caf778efec6a682863591be1f2",
        licence="apache-2.0",
        redistributable=True,
        note="Rows of a language were not counted here.",
    )


CORPORA = (
    Corpus(
        "muri",
        "languages",
        "MURI, seven languages",
        tuple(_part(config) for config in LANGUAGES),
        states=(
            "all training rows of mr, te, ne, sw, wo, yo, zu, 95k (C.4); no filter, shuffled by"
            " pandas with seed 42 (data/data_process_low_resource_language.py)."
        ),
        ours="nothing.",
        paper_rows="95k",
        shuffle="pandas",
    ),
)
