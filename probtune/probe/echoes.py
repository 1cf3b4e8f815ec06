"""Rows whose answer is their question once more, or says itself twice, found by their tokens.

A prompt speaks for its own repetition more than for anything else, so a model that has learnt from
a few such rows finds them likely, and nothing that it says of a row tells them from right ones. In
translation data, sources that were copied into the target harm a model more than any other noise
(Khayrallah and Koehn, "On the Impact of Various Types of Noise on Neural Machine Translation",
2018, https://arxiv.org/abs/1805.12282).

The *question* is what is left of a prompt without the tokens with which all prompts begin and end.
An answer repeats it if the answer, but for its first and its last token, stands in the prompt as it
is and is as long as the question. The first token may be joined to what stands before it, the last
is the end of most rows.

An answer that *says itself twice* is of two equal halves, with at most two tokens between them. The
first token of each half may differ, being joined to what stands before it. Models that have lost
their way write such answers (Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020,
https://arxiv.org/abs/1904.09751), and what a model has just read it expects again.

To repeat may be right, as a list that is sorted already is its own answer. So where the other
answers of the rows usually hold most of their questions, only an answer that repeats more than its
question counts (the words around it that all prompts have); and where half of the rows repeat their
questions, or themselves, that is the task.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["echoes"]

LEAST = 3
"""Tokens of an answer, without its first and last, or of its second half without the first, below
which it repeats nothing.
"""
BETWEEN = 2
"""Tokens between two halves at most."""
MOSTLY = 0.8
"""Share of a question's tokens that an answer holds from which it is made of its question."""
TASK = 0.5
"""Share of rows that repeat their questions from which to repeat is the task."""


def echoes(prompts: Sequence[np.ndarray], answers: Sequence[np.ndarray]) -> np.ndarray:
    """Return True for the rows whose answer repeats their question or itself, (rows,).

    Args:
        prompts, answers: tokens of each row.

    The third of three answers is its question, 5 6 7 behind the 1 of every prompt:

        >>> prompts = [np.array([1, *asks, 2]) for asks in ((3, 4, 8), (4, 7, 3), (5, 6, 7))]
        >>> answers = [np.array([9, *says, 0]) for says in ((9, 9, 9), (8, 8, 9), (5, 6, 7))]
        >>> echoes(prompts, answers)
        array([False, False,  True])

    The second of three says itself twice, with a 9 between:

        >>> says = ((3, 4, 8, 2), (4, 7, 3, 5, 9, 4, 7, 3, 5), (5, 6, 7, 1))
        >>> echoes(prompts, [np.array([*tokens, 0]) for tokens in says])
        array([False,  True, False])
    """
    begin, end = _common(prompts), _common([prompt[::-1] for prompt in prompts])
    questions = [prompt[begin : max(begin, len(prompt) - end)] for prompt in prompts]
    inner = [answer[1:-1] for answer in answers]
    more = np.array([len(a) - len(q) for a, q in zip(inner, questions, strict=True)])
    repeats = np.array(
        [
            longer >= -1 and len(answer) >= LEAST and _stands_in(answer, prompt)
            for longer, answer, prompt in zip(more, inner, prompts, strict=True)
        ]
    )
    overlaps = [
        np.isin(question, answer).mean() if len(question) else 0.0
        for question, answer, repeated in zip(questions, inner, repeats, strict=True)
        if not repeated
    ]
    if overlaps and np.median(overlaps) >= MOSTLY:
        repeats &= more > 0
    twice = np.array([_is_twice_itself(answer[:-1]) for answer in answers])
    return _unless_it_is_the_task(repeats) | _unless_it_is_the_task(twice)


def _unless_it_is_the_task(repeats: np.ndarray) -> np.ndarray:
    return repeats & (repeats.mean() < TASK)


def _is_twice_itself(text: np.ndarray) -> bool:
    """True if the tokens are two halves with the same tokens behind the first of each."""
    for between in range(BETWEEN + 1):
        half, odd = divmod(len(text) - between, 2)
        second = text[half + between :]
        if not odd and half > LEAST and (text[1:half] == second[1:]).all():
            return len(np.unique(second)) > 1
    return False


def _common(texts: Sequence[np.ndarray]) -> int:
    """Number of tokens with which all texts begin."""
    shortest = min(map(len, texts))
    same = np.all([text[:shortest] == texts[0][:shortest] for text in texts], axis=0)
    return shortest if same.all() else int(np.argmin(same))


def _stands_in(part: np.ndarray, text: np.ndarray) -> bool:
    """True if the tokens of a part stand in a text, one behind the other."""
    if len(part) > len(text):
        return False
    windows = np.lib.stride_tricks.sliding_window_view(text, len(part))
    return bool((windows == part).all(1).any())
