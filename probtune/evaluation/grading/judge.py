"""Instruction following, judged by another model: which of two answers to an instruction is better.

The judge is an OpenAI-compatible endpoint that the user names; there is none by default, and
without one nothing is sent anywhere. Each pair is shown in both orders: judges favour a place. The
prompt is ours, in the way of AlpacaEval 2 (one comparison, the preference read from the
probabilities of the two names where the endpoint gives them). So a win rate here is AlpacaEval 2's
measure under the named judge and this prompt, not its leaderboard's number.

The length-controlled win rate is the published model of the package alpaca-eval, which asks what
the win rate were if both answers had the same length. It fits on the benchmark's 805 instructions
and needs their difficulties, which the package fetches from the hub.

References:
    Dubois, Galambosi, Liang and Hashimoto, "Length-Controlled AlpacaEval: A Simple Way to Debias
    Automatic Evaluators", 2024, https://arxiv.org/abs/2404.04475;
    https://github.com/tatsu-lab/alpaca_eval (Apache-2.0). Zheng et al., "Judging LLM-as-a-Judge
    with MT-Bench and Chatbot Arena", 2023, https://arxiv.org/abs/2306.05685 (bias of place).
"""

from __future__ import annotations

import json
import math
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

from ...errors import DataError, EvaluationError, UsageError
from .base import Grade, GradingItem, Progress

__all__ = [
    "NO_JUDGE",
    "PROMPT",
    "Judge",
    "JudgeGrader",
    "Verdict",
    "length_controlled",
    "preference",
]

PROMPT = """\
Compare two answers to an instruction. Judge which one a careful person would prefer: it does what
is asked, is right, and is clear. Length alone is no merit.

Instruction:
<<<
{instruction}
>>>

Answer A:
<<<
{first}
>>>

Answer B:
<<<
{second}
>>>

Which answer is better? Reply with one letter, A or B.\
"""

NO_JUDGE = (
    "the answers to instructions are kept, and not judged: that takes a judge, which you name, by"
    " the address of an OpenAI-compatible server up to /v1 and the name of a model there. Judge"
    " them later: `probtune eval --phase grade --judge URL --judge-model NAME` against the"
    " benchmark's own answers, `probtune judge DIR --against DIR --url URL --model NAME` against"
    " another model's."
)


@dataclass(frozen=True)
class Judge:
    """An endpoint and what it is asked; it goes into records whole, the key's value never."""

    url: str
    """Up to `/v1`; `/chat/completions` is added."""
    model: str
    key_variable: str | None = None
    """Environment variable that holds the key."""
    prompt: str = PROMPT
    """With {instruction}, {first} and {second}."""
    concurrent: int = 8
    timeout: float = 120.0
    attempts: int = 4
    """For each request; after a busy or failing server the next waits longer."""
    pause: float = 1.0
    """Seconds before the second attempt; doubled each time."""

    def __post_init__(self):
        if not re.match(r"https?://", self.url):
            raise UsageError(
                f"the judge's address must begin with http:// or https://, got {self.url!r}."
            )
        for name in ("{instruction}", "{first}", "{second}"):
            if name not in self.prompt:
                raise UsageError(f"the judge's prompt must contain {name}.")
        if self.key_variable is not None and not os.environ.get(self.key_variable):
            raise UsageError(
                f"the environment variable {self.key_variable}, which should hold the judge's key,"
                " is not set."
            )

    def to_dict(self) -> dict[str, Any]:
        """For a record."""
        return {"url": self.url, "model": self.model, "prompt": self.prompt}

    def compare(self, instruction: str, answer: str, other: str) -> Verdict:
        """Return the preference for the first answer, over both orders.

        Raises:
            EvaluationError: the endpoint cannot be reached, refuses, or keeps failing.
        """
        forward, weighted = self._ask(instruction, answer, other)
        backward, also = self._ask(instruction, other, answer)
        if forward is None or backward is None:
            return Verdict(math.nan, math.nan, weighted and also)
        return Verdict(
            (forward + 1.0 - backward) / 2.0, forward + backward - 1.0, weighted and also
        )

    def _ask(self, instruction: str, first: str, second: str) -> tuple[float | None, bool]:
        """(preference for A or None, whether it comes from probabilities)."""
        # Replaced in one pass: an answer may hold "{second}" itself.
        texts = {"{instruction}": instruction, "{first}": first, "{second}": second}
        content = re.sub("|".join(map(re.escape, texts)), lambda m: texts[m[0]], self.prompt)
        answer = self._post(
            {
                "model": self.model,
                "messages": [{"role": "user", "content": content}],
                "temperature": 0,
                "max_tokens": 4,
                "logprobs": True,
                "top_logprobs": 5,
            }
        )
        try:
            choice = answer["choices"][0]
            text = choice["message"]["content"] or ""
        except (KeyError, IndexError, TypeError):
            raise EvaluationError(
                f"the judge at {self.url} answered without choices: {str(answer)[:200]}"
            ) from None
        return preference(text, choice.get("logprobs"))

    def _post(self, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.key_variable is not None:
            headers["Authorization"] = f"Bearer {os.environ[self.key_variable]}"
        url = f"{self.url.rstrip('/')}/chat/completions"
        reason = ""
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            request = urllib.request.Request(url, json.dumps(body).encode(), headers)
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                with error:
                    said = error.read(300).decode(errors="replace")
                reason = f"status {error.code}: {said}"
                if error.code != 429 and error.code < 500:
                    break  # the same request would be refused again
            except (OSError, ValueError) as error:
                reason = str(getattr(error, "reason", error))
        raise EvaluationError(
            f"the judge {self.model} at {url} does not answer ({reason}). The answers are kept;"
            " give the same command again."
        )


@dataclass(frozen=True)
class Verdict:
    """A judge's verdict on an answer beside another."""

    preference: float
    """0 to 1, mean over both orders; NaN where the judge named neither."""
    place: float
    """The judge's bias for the first place, -1 to 1."""
    weighted: bool
    """True if both come from probabilities rather than from a letter."""


def preference(text: str, logprobs: Any) -> tuple[float | None, bool]:
    """(preference for A, whether it comes from probabilities), from a judge's reply.

    With log-probabilities: p(A) / (p(A) + p(B)) at the first token that is a letter A or B. Else 1
    or 0 by the letter, and None where the reply names neither or both.

    >>> preference("B", None)
    (0.0, False)
    >>> preference("I cannot say.", None)
    (None, False)
    """
    for token in (logprobs or {}).get("content") or []:
        if token["token"].strip().strip("*()\"'.").upper() in ("A", "B"):
            mass = {"A": 0.0, "B": 0.0}
            for entry in [*(token.get("top_logprobs") or []), token]:
                letter = entry["token"].strip().strip("*()\"'.").upper()
                if letter in mass:
                    mass[letter] = max(mass[letter], math.exp(entry["logprob"]))
            return mass["A"] / (mass["A"] + mass["B"]), True
    letters = set(re.findall(r"\b[AB]\b", text))
    return (1.0 if letters == {"A"} else 0.0, False) if len(letters) == 1 else (None, False)


@dataclass(frozen=True)
class JudgeGrader:
    """Grades answers to instructions by their win rate against another answer.

    The gold of an item is {"instruction", "output"}: what was asked, and the answer to compare with
    (AlpacaEval 2 compares with its own baseline's). A grade's score is the preference; `metrics`
    hold `length` and `other_length` in characters, which the length-controlled rate needs, and
    `place`. A reply that names neither answer is scored 0.5 with the error `undecided`.
    """

    judge: Judge | None = None

    def __call__(
        self, items: Sequence[GradingItem], /, *, progress: Progress | None = None
    ) -> list[Grade]:
        """
        Raises:
            UsageError: there is no judge; says how to judge later.
            EvaluationError: the judge does not answer.
        """
        judge = self.judge
        if not items:
            return []
        if judge is None:
            raise UsageError(NO_JUDGE)
        finished, lock = 0, Lock()

        def grade(item: GradingItem) -> Grade:
            nonlocal finished
            gold: Mapping[str, str] = item.gold
            verdict = judge.compare(gold["instruction"], item.text, gold["output"])
            with lock:
                finished += 1
                if progress is not None:
                    progress(finished)
            undecided = math.isnan(verdict.preference)
            lengths = {"length": len(item.text), "other_length": len(gold["output"])}
            return Grade(
                score=0.5 if undecided else verdict.preference,
                answer=item.text or None,
                extraction="whole" if item.text else "none",
                metrics=lengths | ({} if undecided else {"place": verdict.place}),
                error="undecided" if undecided else None,
            )

        threads = ThreadPoolExecutor(judge.concurrent)
        try:
            return list(threads.map(grade, items))
        finally:  # a judge that fails is not asked the rest
            threads.shutdown(cancel_futures=True)


def length_controlled(
    preferences: Sequence[float],
    lengths: Sequence[int],
    other_lengths: Sequence[int],
    indices: Sequence[int],
) -> tuple[float, float] | str:
    """(length-controlled win rate, standard error), 0 to 1, by alpaca-eval's published model
    `length_controlled_v1`; or why it cannot be had.

    Args:
        preferences: for the answer over the other, 0 to 1.
        lengths, other_lengths: in characters.
        indices: number of each instruction in AlpacaEval, 0 to 804: the model uses its difficulty.

    Raises:
        DataError: an index is not AlpacaEval's.
    """
    import contextlib
    import warnings
    from importlib.util import find_spec

    if find_spec("alpaca_eval") is None:
        return "alpaca-eval is not installed: pip install -e '.[judge]'"
    if any(not 0 <= index <= 804 for index in indices):
        raise DataError("instructions of AlpacaEval are numbered 0 to 804.")
    import pandas
    import sklearn

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from alpaca_eval.metrics.glm_winrate import get_length_controlled_winrate  # pyright: ignore[reportMissingImports]
    except ImportError as error:  # 0.6.6 needs pkg_resources, which setuptools 81 removed
        return f"alpaca-eval cannot be imported ({error}): pip install 'setuptools<81'"
    # The model looks at nothing but the lengths of the two outputs.
    table = pandas.DataFrame(
        {
            "preference": [1.0 + p for p in preferences],
            "output_1": ["x" * length for length in other_lengths],
            "output_2": ["x" * length for length in lengths],
            "generator_1": "other",
            "generator_2": "answer",
            "annotator": "judge",
        },
        index=pandas.Index(indices, name="index"),
    )
    routing = sklearn.get_config()["enable_metadata_routing"]
    try:
        with warnings.catch_warnings(), contextlib.ExitStack() as stack:
            warnings.simplefilter("ignore")
            stack.callback(sklearn.set_config, enable_metadata_routing=routing)
            rates = get_length_controlled_winrate(
                table,
                save_weights_dir=None,
                is_add_glm_preference_inplace=False,
                is_warn_extreme_changes=False,
            )
    except Exception as error:  # a hub that is out of reach, a library that has moved on
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        return f"alpaca-eval could not fit its model ({type(error).__name__}: {reason})"
    return rates["length_controlled_winrate"] / 100, rates["lc_standard_error"] / 100
