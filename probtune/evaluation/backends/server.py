"""An OpenAI-compatible completions server (vLLM, SGLang, llama.cpp, ...), through lm-eval's
`local-completions`.

Every sample has its own seed: one seed for all would make the k samples of a prompt the same text.
With a tokenizer on this machine, prompts are sent as token ids, so that the server adds no second
beginning of text; without one they are sent as text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp
import requests as http
from lm_eval.models.openai_completions import LocalCompletionsAPI

from ...errors import EvaluationError, UsageError
from .session import Draw, Drawn, Request, Session

__all__ = ["ServerModel", "ask_server"]


def ask_server(url: str, model: str) -> int | None:
    """Return the longest sequence of a model if its server states it (vLLM does), else None.

    Raises:
        EvaluationError: no server answers.
        UsageError: the server does not serve this model; the message lists those that it serves.
    """
    try:
        answer = http.get(f"{url}/models", timeout=20)
        answer.raise_for_status()
        served = {entry["id"]: entry for entry in answer.json()["data"]}
    except (http.RequestException, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"no OpenAI-compatible server answers at {url}/models ({_reason(error)}); start one,"
            " such as `vllm serve MODEL`, and give its address up to /v1."
        ) from None
    if model not in served:
        raise UsageError(
            f"the server at {url} serves {', '.join(served) or 'no model'}, not {model!r}; give"
            " MODEL as the server names it, and --tokenizer for its tokenizer."
        )
    return served[model].get("max_model_len")


_Base: Any = LocalCompletionsAPI  # its registration in lm-eval hides the class's type


class ServerModel(_Base):
    """A served model as a model of lm-eval.

    Args:
        url: up to `/v1`.
        tokenizer: to count tokens and to send ids; None sends texts.
        concurrent: requests at a time.
    """

    name = "server"
    shares_generator = False
    answers_singly = True

    def __init__(
        self,
        url: str,
        model: str,
        tokenizer: Any = None,
        *,
        concurrent: int = 16,
        timeout: int = 3600,
    ):
        super().__init__(
            base_url=f"{url}/completions",
            model=model,
            tokenizer_backend="none",
            num_concurrent=concurrent,
            timeout=timeout,
            max_length=2**31,  # checked by the session, which knows the prompts' lengths
        )
        self.session: Session | None = None
        self._url = url
        self._tokenizer = tokenizer
        self._begins = False

    def lengths(self, prompts: Sequence[str], begins: bool) -> list[int] | None:
        """Count the tokens of each prompt, with the beginning of text that will be added to it."""
        self._begins = begins
        if self._tokenizer is None:
            return None
        return [len(self._ids(prompt)) for prompt in prompts]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Return all texts through the session, which calls `draw` for the missing ones."""
        assert self.session is not None
        return self.session.answer(self, requests)

    def draw(self, requests: Sequence[Request], arguments: dict[str, Any], done: Draw) -> None:
        """Send the requests, `concurrent` at a time, and pass each answer on at once."""
        hook, self.cache_hook = self.cache_hook, _PassOn(done)
        # lm-eval carries a request's cache key to its payload and back; ours is the index
        keys = [(index, self._payload(r, arguments)) for index, r in enumerate(requests)]
        prompts = [r.prompt if self._tokenizer is None else self._ids(r.prompt) for r in requests]
        try:
            asyncio.run(self.get_batched_requests(prompts, keys, generate=True))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError) as error:
            raise EvaluationError(
                f"the server at {self._url} stopped answering ({_reason(error)}); finished answers"
                " are saved, and the same command goes on."
            ) from error
        finally:
            self.cache_hook = hook

    async def amodel_call(self, *args: Any, cache_keys: Any = None, **options: Any) -> Any:
        """Make lm-eval's call with the arguments of this request instead of common ones."""
        ((_, arguments),) = cache_keys
        return await super().amodel_call(
            *args, cache_keys=cache_keys, **{**options, "gen_kwargs": arguments}
        )

    def create_message(self, messages: Any, generate: bool = False) -> Any:
        return messages[0]

    @staticmethod
    def parse_generations(outputs: Any, **_: Any) -> list[Any]:
        """Return the answer of a choice."""
        (choice,) = outputs["choices"]
        reason = choice.get("finish_reason")
        tokens = (outputs.get("usage") or {}).get("completion_tokens")
        if tokens is not None and reason == "stop" and "stop_reason" in choice:
            # vLLM counts the end token; its stop_reason is a text where no token ended the answer.
            tokens -= not isinstance(choice["stop_reason"], str)
        return [Drawn(choice["text"] or "", reason, tokens)]

    def _payload(self, request: Request, arguments: dict[str, Any]) -> dict[str, Any]:
        payload = {**arguments, "max_gen_toks": request.limit}
        if request.seed is not None:
            payload["seed"] = request.seed
        if self._tokenizer is None:
            payload["add_special_tokens"] = not self._begins
        return payload

    def _ids(self, prompt: str) -> list[int]:
        added = {"add_special_tokens": False} if self._begins else {}
        return self._tokenizer(prompt, **added)["input_ids"]


class _PassOn:
    """A stand-in for lm-eval's cache that passes on the answer to a request."""

    def __init__(self, done: Draw):
        self._done = done

    def add_partial(self, attr: str, req: tuple[int, Any], res: Drawn) -> None:
        self._done(req[0], res)


def _reason(error: BaseException) -> str:
    status = getattr(error, "status", None)
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return f"HTTP {status}: {getattr(error, 'message', text)}" if status else text
