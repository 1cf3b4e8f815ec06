"""The demo's task: adding two three-digit numbers with worked steps, in a familiar and in an
unfamiliar notation.

    decimal    dec 3 4 7 + 2 8 5 =  2 1 3 1 6 0 | 0 6 3 2
    shuffled   new 3 4 7 + 2 8 5 =  0 7 8 7 9 3 | 3 9 8 0

The response works through the digits from the right as sum digit and carry (7 + 5: 2, carry 1),
then gives the final answer after the bar. In the shuffled notation each digit d of the response is
written as the digit `SHUFFLE[d]`. A model that was pre-trained on decimal only is therefore not
ignorant of it but confidently wrong, as a real model is about an unfamiliar format; and the
notation takes little to learn, so that pre-training can stop at any capability.

Label noise corrupts a share of the demonstrations:

    slip      one sum digit is wrong, and so is the final answer: a wrong but consistent solution
    token     single digits of the response are replaced at random (the rate is per digit)
    answer    the steps are right, one digit of the final answer is wrong
    terse     the steps are left out; nothing is wrong, but the model must answer without working
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "ANSWER_RULE",
    "CONTEXT",
    "NOISE_KINDS",
    "PROMPT_TOKENS",
    "VOCABULARY",
    "Problems",
    "rows_of",
]

SHUFFLE = np.array([3, 7, 0, 8, 6, 2, 9, 1, 5, 4])

VOCABULARY = (*"0123456789", "+", "=", "|", "dec", "new", "<eos>", "<pad>")
"""Words by token id; digits are their own id."""

PROMPT_TOKENS = 9
CONTEXT = 24

ANSWER_RULE = r"regex:^[^|]*\|([^|]*)$"
"""The text after the only bar."""

NOISE_KINDS = ("slip", "token", "answer", "terse")

_PLUS, _EQUALS, _BAR, _DECIMAL, _SHUFFLED, _EOS, PAD = (
    VOCABULARY.index(w) for w in ("+", "=", "|", "dec", "new", "<eos>", "<pad>")
)
_MISSING = -1


@dataclass(frozen=True)
class Problems:
    """Token ids of problems, one per row: prompt (9), response (11) and end; -1 where a terse
    response has no step.
    """

    ids: np.ndarray
    key: np.ndarray
    """1000 a + b, to tell problems apart."""
    corrupted: np.ndarray
    """Mask of the noisy demonstrations."""

    @staticmethod
    def draw(
        n: int,
        rng: np.random.Generator,
        *,
        shuffled: bool | np.ndarray,
        noise: str = "slip",
        rate: float = 0.0,
    ) -> Problems:
        """Random problems; `shuffled` for all or per row; a share `rate` of them corrupted."""
        a, b = rng.integers(0, 1000, n), rng.integers(0, 1000, n)
        digits_a, digits_b = _digits(a), _digits(b)
        corrupted = rng.random(n) < rate
        slip_at, offset = rng.integers(0, 3, n), rng.integers(1, 10, n)
        carry = np.zeros(n, dtype=np.int64)
        sums, carries = [], []
        for position in range(3):
            total = digits_a[:, 2 - position] + digits_b[:, 2 - position] + carry
            digit, carry = total % 10, total // 10
            if noise == "slip":
                digit = np.where(corrupted & (slip_at == position), (digit + offset) % 10, digit)
            sums.append(digit)
            carries.append(carry)
        steps = np.stack([sums[0], carries[0], sums[1], carries[1], sums[2], carries[2]], 1)
        answer = np.stack([carries[2], sums[2], sums[1], sums[0]], 1)
        if noise == "answer":
            at = rng.integers(1, 4, n)
            wrong = answer.copy()
            wrong[np.arange(n), at] = (wrong[np.arange(n), at] + offset) % 10
            answer = np.where(corrupted[:, None], wrong, answer)
        elif noise == "token":
            corrupted = np.zeros(n, dtype=bool)
            for part in (steps, answer):
                hit = rng.random(part.shape) < rate
                part[hit] = (part[hit] + rng.integers(1, 10, int(hit.sum()))) % 10
                corrupted |= hit.any(1)
        elif noise not in NOISE_KINDS:
            raise ValueError(f"noise must be one of {', '.join(NOISE_KINDS)}, got {noise!r}.")
        in_shuffled = np.broadcast_to(np.asarray(shuffled), (n,))[:, None]
        steps, answer = (
            np.where(in_shuffled, SHUFFLE[steps], steps),
            np.where(in_shuffled, SHUFFLE[answer], answer),
        )
        if noise == "terse":
            steps = np.where(corrupted[:, None], _MISSING, steps)

        def all_of(token: int) -> np.ndarray:
            return np.full((n, 1), token)

        marker = np.where(in_shuffled, _SHUFFLED, _DECIMAL)
        prompt = [marker, digits_a, all_of(_PLUS), digits_b, all_of(_EQUALS)]
        ids = np.concatenate([*prompt, steps, all_of(_BAR), answer, all_of(_EOS)], 1)
        return Problems(ids, 1000 * a + b, corrupted)

    def without(self, key: np.ndarray, n: int) -> Problems:
        """Return the first `n` problems that are not among `key`."""
        keep = np.flatnonzero(~np.isin(self.key, key))[:n]
        return Problems(self.ids[keep], self.key[keep], self.corrupted[keep])


def rows_of(problems: Problems) -> list[dict[str, str]]:
    """Return the problems as rows of prompt and completion, as `probtune tune` reads them."""
    return [
        {"prompt": _text(ids[:PROMPT_TOKENS]) + " ", "completion": _text(ids[PROMPT_TOKENS:-1])}
        for ids in problems.ids
    ]


def _digits(x: np.ndarray) -> np.ndarray:
    return np.stack([x // 100, x // 10 % 10, x % 10], 1)


def _text(ids: Sequence[int] | np.ndarray) -> str:
    return " ".join(VOCABULARY[int(i)] for i in ids if i != _MISSING)
