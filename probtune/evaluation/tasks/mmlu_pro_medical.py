"""MMLU-Pro, medical part: the categories health and biology, up to ten options."""

from __future__ import annotations

from .medical_protocol import medical_task

__all__ = ["TASK"]

TASK = medical_task(
    "mmlu_pro_medical",
    "MMLU-Pro (medical)",
    "MMLU-Pro_Medical_test",
    1535,
    licence="MIT",
    origin="TIGER-Lab/MMLU-Pro, test, health and biology [unverified], by HuatuoGPT-o1",
    note="1,316 distinct stems: questions with the same stem share a cluster.",
    example={
        "question": "Which organelle makes most of the ATP of a muscle cell at rest?",
        "options": {
            "A": "Golgi apparatus",
            "B": "Lysosome",
            "C": "Mitochondrion",
            "D": "Ribosome",
            "E": "Nucleolus",
            "F": "Peroxisome",
            "G": "Centriole",
        },
        "answer": "Mitochondrion",
        "answer_idx": "C",
    },
    response="So Mitochondrion is right. \\boxed{C}",
    citation="Yubo Wang et al.: MMLU-Pro, 2024, https://arxiv.org/abs/2406.01574",
)
