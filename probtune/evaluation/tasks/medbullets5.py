"""MedBullets with five options: the questions of medbullets4 with one wrong option more."""

from __future__ import annotations

from .medical_protocol import medical_task

__all__ = ["TASK"]

TASK = medical_task(
    "medbullets5",
    "MedBullets, 5 options",
    "MedBullets_op5",
    308,
    licence="[unknown]",
    origin="ReasoningEval/Benchmark_MedBullets, medbullets_op5.jsonl",
    note="The stems are those of medbullets4, and share clusters with them.",
    example={
        "question": (
            "A 3-week-old boy vomits after each meal, without bile, and is hungry afterwards. A "
            "firm mass is felt above the navel. What is the best next test?"
        ),
        "options": {
            "A": "Abdominal ultrasound",
            "B": "Barium enema",
            "C": "Colonoscopy",
            "D": "Stool culture",
            "E": "Sweat chloride test",
        },
        "answer": "Abdominal ultrasound",
        "answer_idx": "A",
    },
    response="So Abdominal ultrasound is right. \\boxed{A}",
    citation=(
        "Hanjie Chen et al.: Benchmarking Large Language Models on Answering and Explaining "
        "Challenging Medical Questions, 2024, https://arxiv.org/abs/2402.18060"
    ),
)
