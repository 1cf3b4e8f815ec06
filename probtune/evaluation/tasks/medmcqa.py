"""MedMCQA: entrance examinations for medical schools of India, validation split."""

from __future__ import annotations

from .medical_protocol import medical_task

__all__ = ["TASK"]

TASK = medical_task(
    "medmcqa",
    "MedMCQA",
    "MedMCQA_validation",
    4183,
    licence="Apache-2.0 or MIT [unverified]",
    origin="openlifescienceai/medmcqa, validation, by way of HuatuoGPT-o1",
    example={
        "question": "Which vitamin is needed for the carboxylation of clotting factor VII?",
        "options": {"A": "Vitamin A", "B": "Vitamin C", "C": "Vitamin K", "D": "Vitamin E"},
        "answer": "Vitamin K",
        "answer_idx": "C",
    },
    response="So Vitamin K is right. \\boxed{C}",
    citation=(
        "Ankit Pal, Logesh Kumar Umapathi, Malaikannan Sankarasubbu: MedMCQA, 2022, "
        "https://arxiv.org/abs/2203.14371"
    ),
)
