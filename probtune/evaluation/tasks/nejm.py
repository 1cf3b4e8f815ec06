"""Questions on cases of The New England Journal of Medicine."""

from __future__ import annotations

from .medical_protocol import medical_task

__all__ = ["TASK"]

TASK = medical_task(
    "nejm",
    "NEJM",
    "NEJM",
    603,
    licence="none; text of a journal",
    origin="ReasoningEval/Benchmark_NEJM",
    example={
        "question": (
            "A 60-year-old man has a painless, pulsating mass behind the knee. What is the most "
            "likely diagnosis?"
        ),
        "options": {
            "A": "Baker's cyst",
            "B": "Lipoma",
            "C": "Popliteal aneurysm",
            "D": "Schwannoma",
            "E": "Deep vein thrombosis",
        },
        "answer": "Popliteal aneurysm",
        "answer_idx": "C",
    },
    response="So Popliteal aneurysm is right. \\boxed{C}",
    citation="Juncheng Wu et al.: MedReason, 2025, https://arxiv.org/abs/2504.00993",
)
