"""MedXpertQA, text: expert questions with ten options; a subset of 1,449."""

from __future__ import annotations

from .medical_protocol import medical_task

__all__ = ["TASK"]

TASK = medical_task(
    "medxpertqa",
    "MedXpertQA",
    "MedXpertQA",
    1449,
    licence="MIT [unverified]",
    origin=(
        "TsinghuaC3I/MedXpertQA, Text test (2,450 questions), by way of "
        "ReasoningEval/Benchmark_MedXpertQA, midium.jsonl"
    ),
    note="1,449 of the 2,450 questions; how that list (midium.jsonl) was chosen is not published.",
    example={
        "question": (
            "A patient with hypertension, hypokalaemia and a low renin has an adrenal adenoma of 2 "
            "cm. Which hormone does it most likely secrete?"
        ),
        "options": {
            "A": "Cortisol",
            "B": "Aldosterone",
            "C": "Adrenaline",
            "D": "Noradrenaline",
            "E": "Testosterone",
            "F": "DHEA",
            "G": "Renin",
            "H": "ACTH",
            "I": "Growth hormone",
            "J": "Oestradiol",
        },
        "answer": "Aldosterone",
        "answer_idx": "B",
    },
    response="So Aldosterone is right. \\boxed{B}",
    citation="Yuxin Zuo et al.: MedXpertQA, 2025, https://arxiv.org/abs/2501.18362",
)
