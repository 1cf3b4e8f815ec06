"""Knowledge to memorise: OpenBookQA, elementary science with four options, clean and with label
noise.

Source: Mihaylov et al., Can a Suit of Armor Conduct Electricity?, 2018,
https://arxiv.org/abs/1809.02789. The paper leaves the rows and the noise open; its later code
defines them (data/data_process_knowledge_memorization.py, commit 89e4b0c). The training rows are
those of the training and the validation split together, 5,457. In the noisy set 30 % of the
training split have another letter, drawn evenly, and the validation split stays clean. The
checkpoint `global_step_21` confirms it: 5,457 // 256 = 21, and 4,957 // 256 would be 19.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import Corpus, Dropped, Noise, Part
from .verl import reader

__all__ = ["CORPORA", "question_text"]

_EXAMPLE = {
    "id": "ours-1",
    "question_stem": "Which of these floats on water?",
    "choices": {
        "text": ["an iron nail", "a dry cork", "a wet stone", "a gold ring"],
        "label": ["A", "B", "C", "D"],
    },
    "answerKey": "B",
    "fact1": "cork is lighter than water",
    "humanScore": 1.0,
    "clarity": 2.0,
    "turkIdAnonymized": "written by us",
}


def question_text(stem: str, options: Mapping[str, str]) -> str:
    """Return the question as the paper's code words it.

    >>> print(question_text("Which floats?", {"A": "iron", "B": "cork"}))
    Please complete the following multiple choice question.
    Question: Which floats?
    Options:
    A. iron
    B. cork
    """
    lines = [f"{letter}. {text}" for letter, text in options.items()]
    return "\n".join(
        [
            "Please complete the following multiple choice question.",
            f"Question: {stem}",
            "Options:",
            *lines,
        ]
    )


def _question(row: Mapping[str, Any]) -> dict[str, Any] | Dropped:
    choices = row["choices"]
    options = dict(zip(choices["label"], choices["text"], strict=True))
    if row["answerKey"] not in options:
        return Dropped(f"the answer {row['answerKey']!r} is none of the options")
    return {
        "id": f"openbookqa/{row['id']}",
        "prompt": question_text(row["question_stem"], options),
        "completion": row["answerKey"],
        "options": tuple(options),
    }


def _part(split: str, rows: int, megabytes: float) -> Part:
    return Part(
        "allenai/openbookqa",
        split,
        _question,
        _EXAMPLE,
        config="additional",
        rows=rows,
        revision="388097ea7776314e93a529163e0fea805b8a6454",
        licence="unknown",
        megabytes=megabytes,
        noisy=split == "train",
        note="The card says that the licence is unknown.",
    )


_PARTS = (_part("train", 4957, 0.64), _part("validation", 500, 0.08))
_STATES = (
    "OpenBookQA, 5k rows (C.5); training and validation split together, the letter alone as"
    " response (data/data_process_knowledge_memorization.py)."
)
_NOISE = (
    " Label noise without rate or kind in the paper; 30 % of the training split, another letter"
    " evenly drawn, seed 42, in its code."
)

CORPORA = (
    Corpus(
        "openbookqa",
        "knowledge",
        "OpenBookQA, clean",
        _PARTS,
        states=_STATES,
        ours="nothing.",
        paper_rows="5k",
    ),
    Corpus(
        "openbookqa-noisy",
        "knowledge",
        "OpenBookQA, with label noise",
        _PARTS,
        states=_STATES + _NOISE,
        ours=(
            "the new letters: the code draws them from a set, whose order changes from run to run;"
            " the rows that change are the same. Other rates, and the kind `next`."
        ),
        paper_rows="5k",
        noise=Noise(0.3),
    ),
    Corpus(
        "openbookqa-noisy-published",
        "knowledge",
        "OpenBookQA, the paper's own noisy file",
        (
            Part(
                "gaotang/knowledge_memorization_openbookqa",
                "train",
                reader("prompt", "answer", "openbookqa"),
                {
                    "data_source": "openbookqa",
                    "ability": "knowledge memorization",
                    "reward_model": {"style": "rule", "ground_truth": "C"},
                    "extra_info": {
                        "prompt": question_text(
                            _EXAMPLE["question_stem"],
                            dict(zip("ABCD", _EXAMPLE["choices"]["text"], strict=True)),
                        ),
                        "answer": "C",
                        "llama_prompt": "",
                        "qwen_prompt": "",
                    },
                },
                files="data/train_noisy_0.3.parquet",
                rows=5457,
                note="Not pinned: no commit could be verified. No licence is stated.",
            ),
        ),
        states=_STATES + _NOISE,
        ours="nothing: rows and letters are the file's.",
        paper_rows="5k",
    ),
)
