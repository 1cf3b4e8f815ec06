r"""Mathematics: prompts and graders of the five benchmarks of the paper's Table 1.

Both protocols ask without examples for an answer in a box, and draw 16 answers at temperature 1.
Their prompts differ for LLaMA and DeepSeek, because the paper's code deviates from these families'
own turns. For Qwen they are equal, and one generation serves both.

The paper's code ends a question whose answer is one of two words with those words. Both protocols
do the same, since it tells the model the form of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from . import graders
from .base import Decoding, Protocol
from .figures import BASE, NLL, THRESHOLD, P, figures

__all__ = ["PROTOCOLS", "ROUNDED", "SOLVED", "columns", "question_text"]

_SYSTEM = "You are a helpful assistant."
_INSTRUCTION = "\nPlease reason step by step, and put your final answer within \\boxed{}."
_DECODING = Decoding(
    4096,
    temperature=1.0,
    samples=16,
    stop=(
        *("</s>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>"),
        "<｜end▁of▁sentence｜>",
    ),
)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "strict": Protocol(
            _DECODING,
            graders.math_strict,
            "The last \\boxed{…} or \\fbox{…} with closed braces, compared by math-verify"
            " (https://github.com/huggingface/Math-Verify); no box is no answer.",
            _SYSTEM,
            _INSTRUCTION,
            MappingProxyType({"deepseek": "deepseek-bare"}),
        ),
        "reference": Protocol(
            _DECODING,
            graders.math_reference,
            'What stands between "final answer is $" and "$. I hope"; else the last boxed, closed'
            ' or not; else all that follows "he answer is"; else the last number of the text.'
            " Compared as by Qwen2.5-Math's evaluation, which the paper's code holds"
            " (https://github.com/GaotangLi/Beyond-Log-Likelihood, evaluations/math).",
            _SYSTEM,
            _INSTRUCTION,
            MappingProxyType({"llama3": "llama3-reference", "deepseek": "deepseek-reference"}),
        ),
    }
)

SOLVED: Mapping[str, Protocol] = MappingProxyType(
    {
        **PROTOCOLS,
        "reference": replace(PROTOCOLS["reference"], grader=graders.math_reference_solved),
    }
)
"""For golds that stand in solutions; the paper's code changes their spelling once, not twice."""

ROUNDED: Mapping[str, Protocol] = MappingProxyType(
    {
        "strict": replace(
            PROTOCOLS["strict"],
            grader=graders.math_rounded,
            extraction=PROTOCOLS["strict"].extraction
            + " Numbers within a relative 1e-4 are equal: the golds are rounded.",
        ),
        "reference": replace(
            PROTOCOLS["reference"],
            grader=graders.math_reference_units,
            extraction=PROTOCOLS["reference"].extraction + " Units stay.",
        ),
    }
)
"""Protocols for golds that are measurements, in solutions."""

_TABLE_1 = {
    ("Llama-3.1-8B", BASE): (1.76, 0.68, 0.86, 0.00, 1.25),
    ("Llama-3.1-8B", NLL): (17.59, 5.84, 3.04, 0.21, 5.78),
    ("Llama-3.1-8B", THRESHOLD): (24.39, 10.49, 5.10, 0.41, 11.25),
    ("Llama-3.1-8B", P): (25.29, 10.09, 6.37, 0.41, 10.62),
    ("deepseek-math-7b-base", BASE): (5.70, 2.89, 1.51, 0.00, 2.34),
    ("deepseek-math-7b-base", NLL): (28.79, 9.29, 6.57, 0.21, 10.62),
    ("deepseek-math-7b-base", THRESHOLD): (40.38, 19.38, 13.98, 0.62, 18.91),
    ("deepseek-math-7b-base", P): (39.55, 20.14, 13.99, 1.24, 20.62),
    ("Qwen2.5-Math-1.5B", BASE): (30.71, 8.81, 14.88, 2.49, 17.97),
    ("Qwen2.5-Math-1.5B", NLL): (42.52, 12.71, 12.09, 0.62, 17.03),
    ("Qwen2.5-Math-1.5B", THRESHOLD): (63.95, 24.79, 26.08, 7.09, 38.28),
    ("Qwen2.5-Math-1.5B", P): (65.27, 26.18, 26.66, 6.88, 38.13),
    ("Qwen2.5-Math-7B", BASE): (40.38, 13.66, 16.36, 6.04, 24.69),
    ("Qwen2.5-Math-7B", NLL): (51.90, 18.88, 17.37, 2.70, 22.50),
    ("Qwen2.5-Math-7B", THRESHOLD): (67.85, 32.47, 33.90, 8.76, 47.81),
    ("Qwen2.5-Math-7B", P): (68.47, 31.99, 32.26, 8.75, 41.09),
}
_ORDER = ("math500", "minerva", "olympiadbench", "aime24", "amc23")


def columns(name: str) -> Mapping[tuple[str, str], float]:
    """Return a benchmark's column of the paper's Table 1 (p. 5; mean accuracy of 16 answers)."""
    return figures(_TABLE_1, _ORDER.index(name))


def question_text(text: str, gold: str) -> str:
    """Return a problem, followed by the two words to choose from if the gold is one of them.

    >>> question_text("Is 7 prime?", "Yes")
    'Is 7 prime? (Yes or No)'
    """
    pair = {"true": "True or False", "yes": "Yes or No"}
    pair |= {"false": pair["true"], "no": pair["yes"]}
    choice = pair.get(gold.lower())
    return f"{text} ({choice})".strip() if choice else text.strip()
