"""GPQA, medical part: genetics and molecular biology; 78 questions, each five times in the file."""

from __future__ import annotations

from .medical_protocol import medical_task

__all__ = ["TASK"]

TASK = medical_task(
    "gpqa_medical",
    "GPQA (medical)",
    "GPQA_Medical_test",
    390,
    licence="CC BY 4.0, and shown on request only; must not be passed on",
    origin="Idavidrein/gpqa (gated), genetics and molecular biology, by way of HuatuoGPT-o1",
    note=(
        "78 questions, each five times: strict counts each once, and copies share a cluster. All "
        "figures of the paper are k/78."
    ),
    once=True,
    example={
        "question": (
            "A loss-of-function allele is fully penetrant and recessive. Two carriers have a "
            "healthy child. How likely is it that the child is a carrier?"
        ),
        "options": {"A": "1/4", "B": "1/2", "C": "2/3", "D": "3/4"},
        "answer": "2/3",
        "answer_idx": "C",
    },
    response="So 2/3 is right. \\boxed{C}",
    citation="David Rein et al.: GPQA, 2023, https://arxiv.org/abs/2311.12022",
)
