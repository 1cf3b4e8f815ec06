"""MedQA: questions in the style of the USMLE, the United States Medical Licensing Examination."""

from __future__ import annotations

from .medical_protocol import medical_task

__all__ = ["TASK"]

TASK = medical_task(
    "medqa",
    "MedQA (USMLE)",
    "MedQA_USLME_test",
    1273,
    licence="CC BY 4.0 [unverified]",
    origin="MedQA, USMLE test, four options (GBaker/MedQA-USMLE-4-options), by HuatuoGPT-o1",
    example={
        "question": (
            "A 24-year-old woman has had palpitations, heat intolerance and weight loss for two "
            "months. TSH is undetectable, free T4 is high, and antibodies against the TSH receptor "
            "are present. What is the most likely diagnosis?"
        ),
        "options": {
            "A": "Graves disease",
            "B": "Hashimoto thyroiditis",
            "C": "Toxic adenoma",
            "D": "Factitious thyrotoxicosis",
        },
        "answer": "Graves disease",
        "answer_idx": "A",
    },
    response="So Graves disease is right. \\boxed{A}",
    citation=(
        "Di Jin et al.: What Disease does this Patient Have?, 2020, "
        "https://arxiv.org/abs/2009.13081"
    ),
)
