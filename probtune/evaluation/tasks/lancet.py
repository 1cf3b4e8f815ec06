"""Questions on articles of The Lancet."""

from __future__ import annotations

from .medical_protocol import medical_task

__all__ = ["TASK"]

TASK = medical_task(
    "lancet",
    "Lancet",
    "Lancet",
    412,
    licence="none; text of a journal",
    origin="ReasoningEval/Benchmark_Lancet",
    example={
        "question": "Which antibody is found in most patients with neuromyelitis optica?",
        "options": {
            "A": "Anti-MOG",
            "B": "Anti-aquaporin-4",
            "C": "Anti-NMDA receptor",
            "D": "Anti-Hu",
        },
        "answer": "Anti-aquaporin-4",
        "answer_idx": "B",
    },
    response="So Anti-aquaporin-4 is right. \\boxed{B}",
    citation="Juncheng Wu et al.: MedReason, 2025, https://arxiv.org/abs/2504.00993",
)
