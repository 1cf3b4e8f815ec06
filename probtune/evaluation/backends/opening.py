"""Models before their weights are loaded. Tokenizer, context and fingerprint are read first, so
that wrong requests are refused early and a finished generation loads no weights at all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...data.prompts import PromptSpec, format_of
from ...errors import UsageError

__all__ = ["Opening", "fingerprint", "open_model", "open_server", "require_vllm"]

_BATCH = {"hf": 16, "vllm": 1024, "server": 64}
"""Requests at a time. vLLM fills the device by itself; its number limits what an interruption can
lose.
"""


@dataclass
class Opening:
    """A model before its weights are loaded."""

    name: str
    """Folder, hub id, or the model's name on its server."""
    backend: str
    """`hf`, `vllm` or `server`."""
    tokenizer: Any
    """None for a server whose tokenizer is unknown on this machine."""
    context: int | None
    """Longest sequence."""
    fingerprint: str
    """Digest that changes with the weights."""
    dtype: str = "auto"
    server: str | None = None
    tensor_parallel: int = 1
    data_parallel: int = 1
    model: Any = None
    """The model itself, if it is in this process already."""

    @property
    def family(self) -> str | None:
        """Form of turns that fits the tokenizer's special tokens."""
        return None if self.tokenizer is None else format_of(self.tokenizer)

    @property
    def batch_size(self) -> int:
        """Default number of requests at a time."""
        return _BATCH[self.backend]

    def ends(self, prompt: PromptSpec, stop: Sequence[str] = ()) -> list[int]:
        """Return the ids of tokens that end an answer: the ends of turn and text, stop texts of one
        token, and those that the model's own settings name.
        """
        if self.tokenizer is None:
            return []
        vocabulary = self.tokenizer.get_vocab()
        ends = [self.tokenizer.eos_token_id]
        ends += [vocabulary.get(text) for text in (prompt.form.end, *stop) if text]
        stored = self._stored_ends()
        ends += stored if isinstance(stored, list) else [stored]
        return sorted({end for end in ends if end is not None})

    def check(self, prompt: PromptSpec) -> None:
        """Refuse a form whose special tokens the tokenizer does not have.

        Raises:
            UsageError: the message names the form, the token, and the form that fits.
        """
        if self.tokenizer is None:
            return
        form = prompt.form
        vocabulary = self.tokenizer.get_vocab()
        written = form.start + form.system + form.user + (form.end or "")
        for token in dict.fromkeys(re.findall(r"<[|｜][^<>]*?[|｜]>", written)):
            if token not in vocabulary:
                raise UsageError(
                    f"the prompt format {form.name} writes {token}, which is no token of"
                    f" {self.name}; its own format is {self.family}."
                )

    def load(self, batch_size: int) -> Any:
        """Load the model, as a model of lm-eval."""
        if self.backend == "server":
            from .server import ServerModel

            assert self.server is not None
            return ServerModel(self.server, self.name, self.tokenizer, concurrent=batch_size)
        if self.backend == "vllm":
            from .vllm import VLLMModel

            return VLLMModel(
                self.name,
                context=self.context,
                dtype=self.dtype,
                tensor_parallel_size=self.tensor_parallel,
                data_parallel_size=self.data_parallel,
            )
        from .hf import HFModel

        if self.model is None:
            from ...models.loading import load_model

            self.model = load_model(self.name, dtype=self.dtype)
        return HFModel(self.model, self.tokenizer, context=self.context)

    def _stored_ends(self) -> Any:
        if self.model is not None:
            return getattr(self.model.generation_config, "eos_token_id", None)
        if self.backend == "server":
            return None  # the server knows them itself
        from transformers import GenerationConfig

        try:
            return GenerationConfig.from_pretrained(self.name).eos_token_id
        except OSError:  # most base models have no such file
            return None


def open_model(
    name: str,
    *,
    backend: str = "hf",
    dtype: str = "auto",
    tensor_parallel: int = 1,
    data_parallel: int = 1,
    model: Any = None,
    tokenizer: Any = None,
) -> Opening:
    """Open a folder, an adapter's folder or a hub id, or a model in this process with its
    tokenizer.

    Args:
        tensor_parallel, data_parallel: devices that hold the model together, and copies of it
            (vLLM).

    Raises:
        UsageError: the model does not exist, has no tokenizer, or vLLM or ray is not installed.
    """
    from ...models.loading import context_length, load_tokenizer

    if backend == "vllm":
        require_vllm()
        if data_parallel > 1 and find_spec("ray") is None:
            raise UsageError(
                "--data-parallel runs the copies through ray, which is not installed: pip install"
                " ray."
            )
    if model is not None:
        if tokenizer is None:
            raise UsageError("a model in this process needs its tokenizer: give both.")
        config = model.config.get_text_config()
        context = getattr(config, "max_position_embeddings", None)
        return Opening(name, "hf", tokenizer, context, fingerprint(name), dtype, model=model)
    from ...models.adapters import base_of

    base = base_of(name)
    if base is not None and backend == "vllm":
        raise UsageError(
            f"{name} holds adapters, which the vllm backend does not load; merge them into the"
            " model first, or take --backend hf."
        )
    own = base is None or (Path(name) / "tokenizer_config.json").is_file()
    return Opening(
        name,
        backend,
        load_tokenizer(name if own else str(base)),
        context_length(base or name)[0],
        fingerprint(name),
        dtype,
        tensor_parallel=tensor_parallel,
        data_parallel=data_parallel,
    )


def open_server(url: str, name: str, *, tokenizer: str | None = None) -> Opening:
    """Open a model that an OpenAI-compatible server at `url` (up to `/v1`) serves as `name`.

    Args:
        tokenizer: folder or hub id; default: `name`, if that is one.

    Raises:
        EvaluationError: no server answers at `url`.
        UsageError: the server does not serve this model, or `tokenizer` is none.
    """
    from .server import ask_server

    url = url.rstrip("/")
    context = ask_server(url, name)
    from ...models.loading import load_tokenizer

    loaded = None
    if tokenizer is not None:
        loaded = load_tokenizer(tokenizer)
    else:
        with suppress(UsageError):  # without one, prompts are sent as text in a form the user names
            loaded = load_tokenizer(name)
    return Opening(name, "server", loaded, context, fingerprint(name), server=url)


def require_vllm() -> None:
    """Refuse the backend if vLLM is not installed.

    Raises:
        UsageError: the message names a way to run vLLM in another environment.
    """
    if find_spec("vllm") is None:
        raise UsageError(
            "vLLM is not installed here, and its versions of torch and transformers may not fit"
            " this environment. Start it in one of its own, `vllm serve MODEL`, and give --backend"
            " server --server http://localhost:8000/v1."
        )


def fingerprint(name: str) -> str:
    """Return a digest of a model's folder: names, sizes and both ends of its weight files, and its
    configuration. A hub id or a served name stands for itself.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return name
    sha = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".bin", ".pt") or path.name == "config.json":
            size = path.stat().st_size
            sha.update(f"{path.name} {size}\n".encode())
            with path.open("rb") as file:
                sha.update(file.read(65536))
                file.seek(max(0, size - 65536))
                sha.update(file.read())
    return sha.hexdigest()
