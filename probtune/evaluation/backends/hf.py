"""lm-eval's transformers model, with the tokens and finish reason of every answer.

It differs from plain lm-eval 0.4.13 in three points. `generate` gets a token that ends a turn as an
end of text, so that the row ends at this token; as a stop text it would be dropped with the special
tokens before lm-eval looks for it, and the text after it would stay in the answer. The model's
stored generation settings have no effect. Each batch has a seed of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import GenerationConfig

from .session import Draw, Drawn, Request, Session

__all__ = ["HFModel"]


class _Row(NamedTuple):
    ids: list[int]
    """Generated tokens, without the end token."""
    ended: bool
    full: bool
    """True if the limit of new tokens was reached."""


_Base: Any = HFLM  # its registration in lm-eval hides the class's type


class HFModel(_Base):
    """A transformers model and its tokenizer, as a model of lm-eval.

    Args:
        model: a `PreTrainedModel`, or a PEFT model around one; its mode and settings stay as they
            were.
        context: longest sequence; default: that of the configuration.
    """

    name = "hf"
    shares_generator = True
    answers_singly = False

    def __init__(self, model: Any, tokenizer: Any, *, context: int | None = None):
        was_training = model.training
        super().__init__(
            pretrained=model,
            tokenizer=tokenizer,
            backend="causal",
            batch_size=1,
            max_length=context,
        )
        model.train(was_training)  # lm-eval switches to evaluation mode and leaves it so
        self.session: Session | None = None
        self._rows: list[_Row] = []
        self._ends: tuple[int, ...] = ()

    def lengths(self, prompts: Sequence[str], begins: bool) -> list[int] | None:
        """Count the tokens of each prompt, with the beginning of text that will be added to it."""
        self.add_bos_token = False if begins else None
        added = {"add_special_tokens": False} if begins else {}
        return [len(ids) for ids in self.tokenizer(list(prompts), **added)["input_ids"]]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Return all texts through the session, which calls `draw` for the missing ones."""
        if self.session is None:
            return super().generate_until(list(requests), disable_tqdm=disable_tqdm)
        with _set_aside_settings(self.model):
            return self.session.answer(self, requests)

    def draw(self, requests: Sequence[Request], arguments: dict[str, Any], done: Draw) -> None:
        """Draw one batch, through lm-eval's own `generate_until`."""
        self.batch_size_per_gpu = len(requests)
        limit = min(request.limit for request in requests)
        arguments = {**arguments, "max_gen_toks": limit}
        self._ends = tuple(arguments.get("eos_token_id", ()))
        self._rows = []
        order = _Order()
        hook, self.cache_hook = self.cache_hook, order
        devices = [self.device] if self.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices):
                if requests[0].seed is not None:
                    torch.manual_seed(requests[0].seed)
                super().generate_until(
                    [Instance("generate_until", {}, (r.prompt, arguments), 0) for r in requests],
                    disable_tqdm=True,
                )
        finally:
            self.cache_hook = hook
        # lm-eval sorts a batch by length; equal prompts keep their order.
        waiting: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            waiting.setdefault(request.prompt, []).append(index)
        for (prompt, text), row in zip(order.pairs, self._rows, strict=True):
            done(waiting[prompt].pop(0), self._drawn(text, row))

    def _drawn(self, text: str, row: _Row) -> Drawn:
        whole = self.tok_decode(row.ids)
        if len(text) < len(whole):  # lm-eval cut it at a stop text
            number = bisect_left(
                range(len(row.ids)), len(text) + 1, key=lambda n: len(self.tok_decode(row.ids[:n]))
            )
            return Drawn(text, "stop", max(number - 1, 0))
        # lm-eval's own text would contain an end token that is not special
        return Drawn(whole, "length" if row.full and not row.ended else "stop", len(row.ids))

    def _model_generate(
        self, context: Any, max_length: int, stop: list[str], **generation_kwargs: Any
    ) -> Any:
        """Generate as lm-eval does, and note each row's ids. End tokens are left to `generate`,
        which needs no stop texts for them.
        """
        if self.session is None:
            return super()._model_generate(context, max_length, stop, **generation_kwargs)
        ended = {self.tok_decode([end], skip_special_tokens=False) for end in self._ends}
        stop = [text for text in stop if text and text not in ended]
        generated = super()._model_generate(context, max_length, stop, **generation_kwargs)
        begin = context.shape[1]
        ends = torch.tensor(self._ends, device=generated.device)
        is_end = torch.isin(generated[:, begin:], ends)
        for ids, at in zip(generated[:, begin:].tolist(), is_end.int().tolist(), strict=True):
            number = at.index(1) if 1 in at else len(ids)
            full = begin + len(ids) >= max_length
            self._rows.append(_Row(ids[:number], number < len(ids), full))
        return generated


class _Order:
    """A stand-in for lm-eval's cache that notes prompts and texts in the order of the batch."""

    def __init__(self):
        self.pairs: list[tuple[str, str]] = []

    def add_partial(self, attr: str, req: tuple[str, Any], res: str) -> None:
        self.pairs.append((req[0], res))


@contextmanager
def _set_aside_settings(model: Any):
    """Suspend the generation settings that came with the model."""
    stored, was_training = model.generation_config, model.training
    pad = getattr(stored, "pad_token_id", None)
    model.generation_config = GenerationConfig(pad_token_id=pad)
    model.eval()
    try:
        yield
    finally:
        model.generation_config = stored
        model.train(was_training)
