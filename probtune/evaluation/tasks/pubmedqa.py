"""PubMedQA: yes, no or maybe, from an abstract; all 1,000 labelled questions."""

from __future__ import annotations

from .medical_protocol import medical_task

__all__ = ["TASK"]

TASK = medical_task(
    "pubmedqa",
    "PubMedQA",
    "PubMedQA_test",
    1000,
    licence="MIT [unverified]",
    origin="qiaojin/PubMedQA, pqa_labeled, by way of HuatuoGPT-o1",
    note="All 1,000 labelled questions, not the 500 of the test fold.",
    example={
        "question": (
            "Abstract: In 212 patients after hip surgery, early walking was compared with bed rest."
            " Thrombosis was seen in 4 of 106 and 15 of 106 patients (p = 0.008).\n"
            "Question: Does early walking after hip surgery lower the rate of thrombosis?"
        ),
        "options": {"A": "yes", "B": "no", "C": "maybe"},
        "answer": "yes",
        "answer_idx": "A",
    },
    response="So yes is right. \\boxed{A}",
    citation="Qiao Jin et al.: PubMedQA, 2019, https://arxiv.org/abs/1909.06146",
)
