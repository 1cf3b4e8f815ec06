"""State of one generation: its samples, their batches and their seeds.

lm-eval passes a model all its requests at once. `Session.answer` numbers them, takes the samples
that the file has, and asks the model for the rest, batch by batch. Batches are cut from all samples
and not from the missing ones, so an interruption does not change them. If the rows of a batch share
a random generator (transformers), it is seeded for the batch, and a batch with a missing sample is
drawn again as a whole. If every sample has its own (vLLM, a server), missing samples alone are
drawn.

The first samples of all questions come before the second ones, so that more samples of the same
kind extend a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from ...errors import EvaluationError, UsageError
from ...records import digest
from ..samples import Sample, sha256

__all__ = ["Draw", "Drawn", "Request", "Session", "cut_at_context"]


class Request(NamedTuple):
    """A sample to draw."""

    question: str
    sample: int
    prompt: str
    length: int | None
    """Tokens of the prompt; None without a tokenizer to count them."""
    seed: int | None
    limit: int
    """Most new tokens."""


class Drawn(NamedTuple):
    """Answer of a model."""

    text: str
    finish_reason: str | None
    tokens: int | None


Draw = Callable[[int, Drawn], None]
"""Callback with the index of a request and its answer, in any order."""


class _Model(Protocol):
    name: str
    shares_generator: bool
    """True if the rows of a batch share a random generator, so that a batch is drawn as a whole."""
    answers_singly: bool
    """True if each answer arrives by itself, so that batches would only make others wait."""

    def lengths(self, prompts: Sequence[str], begins: bool) -> list[int] | None: ...
    def draw(self, requests: Sequence[Request], arguments: dict[str, Any], done: Draw) -> None: ...


@dataclass
class Session:
    """State of one generation."""

    task: str
    questions: Sequence[str]
    """Question ids, in the order of the task."""
    seed: int
    batch_size: int
    write: Callable[[list[Sample]], None]
    samples: dict[tuple[str, int], Sample]
    """Samples of earlier runs and of this one."""
    begins: bool = False
    """True if prompts contain their own beginning of text."""
    context: int | None = None
    """Longest sequence of the model."""
    fit: bool = False
    """True if answers may end at the context; otherwise a longer one is refused."""
    drawn: int = field(default=0, init=False)

    def answer(self, model: _Model, instances: Sequence[Any]) -> list[str]:
        """Return the texts of lm-eval's requests, in their order."""
        keys = list(_number(instances))
        arguments = instances[0].args[1]
        prompts = [instance.args[0] for instance in instances]
        lengths = _lengths(model, prompts, self.begins)
        limits = cut_at_context(
            [(key[0], length) for key, length in zip(keys, lengths, strict=True)],
            arguments["max_gen_toks"],
            self.context,
            fit=self.fit,
            task=self.task,
        )
        greedy = not arguments["do_sample"]
        order = sorted(range(len(keys)), key=lambda i: (keys[i][1], -(lengths[i] or 0), prompts[i]))
        size = len(order) if model.answers_singly else self.batch_size
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            if all(keys[i] in self.samples for i in batch):
                continue
            if model.shares_generator:
                shared = None if greedy else _seed(self.seed, self.task, [keys[i] for i in batch])
                seeds = dict.fromkeys(batch, shared)
            else:
                batch = [i for i in batch if keys[i] not in self.samples]
                seeds = {
                    i: None if greedy else _seed(self.seed, self.task, [keys[i]]) for i in batch
                }
            requests = [
                Request(*keys[i], prompts[i], lengths[i], seeds[i], limits[i]) for i in batch
            ]
            self._draw(model, requests, arguments)
        return [self.samples[key].text for key in keys]

    def _draw(self, model: _Model, requests: list[Request], arguments: dict[str, Any]) -> None:
        waiting: list[Sample] = []

        def done(index: int, drawn: Drawn) -> None:
            request = requests[index]
            sample = Sample(
                self.task,
                request.question,
                request.sample,
                sha256(request.prompt),
                request.seed,
                *drawn,
            )
            if sample.key in self.samples:
                return
            self.samples[sample.key] = sample
            if model.shares_generator:
                waiting.append(sample)
            else:
                self.write([sample])
            self.drawn += 1

        model.draw(requests, arguments, done)
        if waiting:
            self.write(waiting)
        lacking = [r for r in requests if (r.question, r.sample) not in self.samples]
        if lacking:
            raise EvaluationError(
                f"{self.task}: the {model.name} backend returned nothing for question"
                f" {lacking[0].question!r}, sample {lacking[0].sample}; finished answers are saved,"
                " and the same command goes on."
            )


def cut_at_context(
    questions: Iterable[tuple[str, int | None]],
    max_new_tokens: int,
    context: int | None,
    *,
    fit: bool,
    task: str,
) -> list[int]:
    """Return the largest number of new tokens of each question, given the length of its prompt.

    Raises:
        UsageError: prompt and answer exceed the model's context, and `fit` is not set; or a prompt
            alone fills it.
    """
    questions = list(questions)
    if context is None:
        return [max_new_tokens] * len(questions)
    over = [(q, n) for q, n in questions if n is not None and n + max_new_tokens > context]
    if over:
        longest, tokens = max(over, key=lambda pair: pair[1])
        number = len({question for question, _ in over})
        if tokens >= context:
            raise UsageError(
                f"{task}: the prompt of question {longest!r} has {tokens} tokens and fills the"
                f" model's context of {context}; choose a model with a longer one."
            )
        if not fit:
            raise UsageError(
                f"{task}: prompt and answer exceed the model's context of {context} tokens in"
                f" {number} questions (longest prompt: {tokens}, question {longest!r}); give"
                f" --max-new-tokens {context - tokens} or less, or --fit-context, which lets these"
                " answers end at the context and counts them as truncated."
            )
    return [min(max_new_tokens, context - (n or 0)) for _, n in questions]


def _number(instances: Sequence[Any]) -> Iterator[tuple[str, int]]:
    """Yield (question, sample); lm-eval repeats a request once for every sample."""
    count: dict[str, int] = {}
    for instance in instances:
        question = instance.doc["id"]
        yield question, count.get(question, 0)
        count[question] = count.get(question, 0) + 1


def _lengths(model: _Model, prompts: Sequence[str], begins: bool) -> list[int | None]:
    distinct = list(dict.fromkeys(prompts))
    counts = model.lengths(distinct, begins)
    if counts is None:
        return [None] * len(prompts)
    length = dict(zip(distinct, counts, strict=True))
    return [length[prompt] for prompt in prompts]


def _seed(seed: int, task: str, keys: Sequence[tuple[str, int]]) -> int:
    """Return a seed of 31 bits, which every sampler accepts."""
    return int(digest([seed, task, keys])[:8], 16) >> 1
