"""lm-eval's vLLM model, with a seed for every sample, and the tokens and finish reason of every
answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.vllm_causallms import VLLM

from .session import Draw, Drawn, Request, Session

__all__ = ["VLLMModel"]


_Base: Any = VLLM  # its registration in lm-eval hides the class's type


class VLLMModel(_Base):
    """A model that vLLM runs in this process, as a model of lm-eval.

    Args:
        context: longest sequence; default: vLLM's choice, which is the model's.
        options: further arguments of lm-eval's VLLM and of `vllm.LLM`.
    """

    name = "vllm"
    shares_generator = False
    answers_singly = False

    def __init__(self, model: str, *, context: int | None = None, **options: Any):
        super().__init__(pretrained=model, max_length=context, batch_size="auto", **options)
        self.session: Session | None = None
        self._requests: Sequence[Request] = ()
        self._answers: list[Drawn] = []
        self._ends: tuple[int, ...] = ()

    def lengths(self, prompts: Sequence[str], begins: bool) -> list[int] | None:
        """Count the tokens of each prompt, with the beginning of text that will be added to it."""
        self.add_bos_token = False if begins else None
        return [len(ids) for ids in self.tok_encode(list(prompts))]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Return all texts through the session, which calls `draw` for the missing ones."""
        if self.session is None:
            return super().generate_until(list(requests), disable_tqdm=disable_tqdm)
        return self.session.answer(self, requests)

    def draw(self, requests: Sequence[Request], arguments: dict[str, Any], done: Draw) -> None:
        """Draw one batch, through lm-eval's own `generate_until`."""
        # lm-eval sorts requests in this order, so each seed meets its own sample
        order = sorted(range(len(requests)), key=lambda i: _sort_key(requests[i]))
        self._requests = [requests[i] for i in order]
        self._answers = []
        self._ends = tuple(arguments.get("stop_token_ids", ()))
        texts = super().generate_until(
            [
                Instance(
                    "generate_until", {}, (r.prompt, {**arguments, "max_gen_toks": r.limit}), 0
                )
                for r in self._requests
            ],
            disable_tqdm=True,
        )
        for index, text, drawn in zip(order, texts, self._answers, strict=True):
            done(index, drawn._replace(text=text))

    def _model_generate(
        self, requests: list[list[int]], generate: bool = False, sampling_params: Any = None
    ) -> Any:
        if self.session is None or not generate:
            return super()._model_generate(requests, generate, sampling_params)
        for ids, settings, request in zip(requests, sampling_params, self._requests, strict=True):
            assert len(ids) == request.length, "lm-eval has sorted or cut the prompts otherwise"
            settings.seed = request.seed
        outputs = super()._model_generate(requests, generate, sampling_params)
        ends = {*self._ends, self.eot_token_id}
        for output in outputs:
            (answer,) = output.outputs
            ids = list(answer.token_ids)
            ended = answer.finish_reason == "stop" and bool(ids) and ids[-1] in ends
            self._answers.append(Drawn(answer.text, answer.finish_reason, len(ids) - ended))
        return outputs


def _sort_key(request: Request) -> tuple[int, str]:
    return -(request.length or 0), request.prompt
