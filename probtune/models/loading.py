"""Causal language models: loading, and the target statistics of every supervised token under one.

`token_table` is the one measurement behind the probe (base model, training data) and the held-out
comparison (every fine-tuned model, held-out data), so their numbers mean the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.encoding import Encoded
from ..data.limits import limited
from ..errors import ProbtuneError, TrainingError, UsageError
from ..kernels import IGNORE_INDEX, Head, TargetStatistics, head_statistics
from ..kernels.reference import statistics_of_logits
from .adapters import base_of, merged, stops_of, trainable
from .kinds import check_decoder
from .packaged import PACKAGED, model_folder
from .weights import READING_ERRORS, check_adapter, read_whole, reason_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "LMHead",
    "TokenTable",
    "batches",
    "check_attention",
    "collate",
    "context_length",
    "default_device",
    "four_bits",
    "has_plain_head",
    "layer_names",
    "lm_head",
    "load_model",
    "load_tokenizer",
    "readable",
    "token_table",
]


@dataclass(frozen=True)
class TokenTable:
    """One row per supervised token; all arrays have the same length."""

    example: np.ndarray
    """Index of the row of data (int64)."""
    position: np.ndarray
    """Index among the supervised tokens of its row, from 0 (int64)."""
    token: np.ndarray
    """Target token id (int64)."""
    logp: np.ndarray
    """Log-probability of the target (float64)."""
    entropy: np.ndarray
    """Entropy of the distribution in nats (float64)."""
    is_top1: np.ndarray
    """True if no token was more probable (bool)."""
    num_examples: int

    def per_example(self, values: np.ndarray) -> np.ndarray:
        """Sum of a per-token quantity over each row of data, (num_examples,)."""
        return np.bincount(self.example, weights=values, minlength=self.num_examples)

    @property
    def counts(self) -> np.ndarray:
        """Supervised tokens of each row of data, (num_examples,)."""
        return np.bincount(self.example, minlength=self.num_examples)


def load_tokenizer(name: str, chat_template: str | None = None) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a local folder or a hub id.

    Args:
        chat_template: file with the chat template to use instead of the tokenizer's own.

    Raises:
        UsageError: there is no such model, it has no tokenizer, or the template is none.
    """
    from transformers import AutoTokenizer

    with readable(name, "tokenizer"):
        base = base_of(name)
        own = base is None or (Path(name).expanduser() / "tokenizer_config.json").is_file()
        tokenizer = AutoTokenizer.from_pretrained(
            model_folder(name if own else str(base)), trust_remote_code=False
        )
    if chat_template is not None:
        tokenizer.chat_template = _read_template(chat_template)
    return tokenizer


def _read_template(path: str) -> str:
    from jinja2.exceptions import TemplateSyntaxError
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        template = Path(path).read_text(encoding="utf-8")
        with limited():
            render_jinja_template([], chat_template=template)  # compiles it
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--chat-template {path}: cannot read it: {error}.") from None
    except TemplateSyntaxError as error:
        raise UsageError(
            f"--chat-template {path}: line {error.lineno} is not Jinja: {error.message}."
        ) from None
    return template


def context_length(name: str) -> tuple[int | None, int | None]:
    """(longest sequence, vocabulary size) as the model's configuration states them, without loading
    the model.
    """
    from transformers import AutoConfig

    with readable(name, "configuration"):
        folder = model_folder(base_of(name) or name)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
    return getattr(config, "max_position_embeddings", None), getattr(config, "vocab_size", None)


def load_model(
    name: str,
    *,
    dtype: torch.dtype | str = torch.float32,
    device: str | None = None,
    adapter: str | int = "beside",
    attention: str | None = None,
    split: bool = False,
) -> PreTrainedModel:
    """Load a causal language model of a local folder, of a folder with a LoRA adapter, or of a hub
    id, through `AutoModelForCausalLM.from_pretrained`, with all of its weights.

    Args:
        dtype: of the weights; float32 for training (float32 master weights), `"auto"` for the
            stored one, `"nf4"` for 4 bits a number in all linear layers but the head (Dettmers et
            al.: QLoRA, 2023, https://arxiv.org/abs/2305.14314).
        device: default: the accelerator if there is one, else the CPU.
        adapter: for a folder with an adapter: `beside` the weights, `merged` into them, or its
            rank, to train it further.
        attention: its implementation, as transformers names it (default: transformers' choice).
        split: split every layer over the processes, as transformers plans it for the architecture.

    Raises:
        UsageError: there is no such model, it cannot be read, its weights are not whole, 4 bits are
            asked for without bitsandbytes, or there is no plan to split it.
    """
    device = device or default_device()
    options: dict[str, Any] = {"dtype": dtype}
    if dtype == "nf4":
        if adapter == "merged" and base_of(name) is not None:
            raise UsageError(
                f"{name} is an adapter, and 4 bits take no merged weights: train it further with"
                " its own rank (--lora-rank), or merge it first (`probtune merge`)."
            )
        options = four_bits(device)
    if attention is not None:
        options["attn_implementation"] = attention
    if split:
        options["tp_plan"] = "auto"
    with readable(name, "model"):
        base = base_of(name)
        folder = model_folder(base or name)
        if Path(folder).is_dir():
            folder = str(Path(folder).resolve())  # an adapter of this model will name it
        model: Any = read_whole(name, folder, **options)
        check_decoder(model)
        if dtype == "nf4":
            _keep_differentiable(model)
        if base is not None:
            stops = stops_of(name)
            if stops is not None:
                model.generation_config = stops
            if adapter == "beside":
                folder = str(Path(name).expanduser())
                model.load_adapter(folder, ignore_mismatched_sizes=True)  # they are named next
                check_adapter(model, name)
            elif adapter == "merged":
                model = merged(model, name)
            else:
                model = trainable(model, name, int(adapter))
    if split and not any(type(x.data).__name__ == "DTensor" for x in model.parameters()):
        raise UsageError(
            f"{name}: transformers has no plan to split a {type(model).__name__} over processes"
            " (tensor parallelism); use FSDP instead."
        )
    return model if dtype == "nf4" or split else model.to(device)


def _keep_differentiable(model: Any) -> None:
    """Let no layer pack its 4 bits for inference, as bitsandbytes does on a CPU with bfloat16 in
    AVX-512 at the first pass without a gradient: a packed layer has none ever after, and training
    goes on without the layers below it.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def four_bits(device: str) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that put a model on a device in 4 bits (NF4, with
    quantized constants). What is not quantized, and what 4 bits are taken to for a matmul, is
    bfloat16 on an accelerator and float32 on a CPU.

    Raises:
        UsageError: bitsandbytes is missing.
    """
    from importlib.util import find_spec

    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise UsageError(
            "--weights nf4 needs bitsandbytes: pip install -e '.[qlora]', or take bfloat16."
        )
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"dtype": dtype, "quantization_config": quantization, "device_map": {"": device}}


def _empty_model(name: str, **options: Any) -> Any:
    """Return a model without weights, from its configuration alone."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with readable(name, "model"):
        folder = model_folder(base_of(name) or name)
    with readable(name, "model"), torch.device("meta"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False, **options)


def check_attention(name: str, attention: str) -> None:
    """Refuse an attention that the model cannot have on this machine, before it is loaded.

    Raises:
        UsageError: with what transformers says.
    """
    try:
        _empty_model(name, attn_implementation=attention)
    except ImportError as error:
        raise UsageError(f"--attention {attention}: {' '.join(str(error).split())}") from None
    except UsageError as error:
        if "attn_implementation" not in str(error):
            raise
        raise UsageError(f"--attention {attention}: {error}") from None


def layer_names(name: str) -> list[str]:
    """The last parts of the names of a model's linear layers, from its configuration alone."""
    model = _empty_model(name)
    linear = [n for n, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    return sorted({n.rpartition(".")[2] for n in linear})


class readable:
    """Turns the many errors of loading into one line that names the model and the way out."""

    def __init__(self, name: str, what: str):
        self.name, self.what = name, what

    def __enter__(self) -> None:
        path = Path(self.name).expanduser()
        if path.is_file() and path.suffix != ".gguf":
            raise UsageError(
                f"{self.name} is a file; give the folder of a model, a GGUF file, or a hub id such"
                " as org/name."
            )
        if self.name.startswith((".", "/", "~")) and not (path.is_dir() or path.suffix == ".gguf"):
            raise UsageError(
                f"{self.name}: no such folder; give a folder with a model, or a hub id such as"
                " org/name."
            )

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, READING_ERRORS) and not isinstance(error, ProbtuneError):
            path, where, reason = Path(self.name).expanduser(), "", reason_of(error)
            if (
                path.is_dir()
                and not any(path.glob("*config.json"))
                and not any(path.glob("*.gguf"))
            ):
                reason = "the folder has no config.json, so it holds no model; give one that does."
            elif not path.exists() and self.name not in PACKAGED:
                where = ", which is no folder here, so it was sought on the hub"
            raise UsageError(
                f"cannot load the {self.what} of {self.name!r}{where}: {reason}"
            ) from error


def default_device() -> str:
    """The accelerator if there is one, else the CPU."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


class LMHead(NamedTuple):
    """The head of a causal language model, as far as configurations describe it."""

    weight: Tensor
    bias: Tensor | None
    softcap: float | None
    logit_scale: float


def lm_head(model: PreTrainedModel) -> LMHead | None:
    """The head's parameters, or None when the model has no plain linear head."""
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        return None
    config = model.config.get_text_config()
    scale = 1.0
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if isinstance(value := getattr(config, name, None), int | float):
            scale = float(value)
            break
    else:
        if divisor := getattr(config, "logits_scaling", None):
            # Granite and MiniCPM3 divide by it, HyperCLOVA X multiplies.
            multiplies = config.model_type == "hyperclovax"
            scale = float(divisor) if multiplies else 1.0 / float(divisor)
    return LMHead(head.weight, head.bias, getattr(config, "final_logit_softcapping", None), scale)


def _from_head(
    model: PreTrainedModel, batch: dict[str, Tensor], targets: Tensor
) -> TargetStatistics:
    """Return statistics of the shifted labels, flat over (batch, length - 1), from the last hidden
    states and the head.
    """
    head = lm_head(model)
    assert head is not None
    hidden = model.base_model(**batch, use_cache=False).last_hidden_state[:, :-1]
    flat = hidden.reshape(-1, hidden.shape[-1]).to(head.weight.dtype)
    return head_statistics(
        Head(flat, head.weight, head.bias, head.softcap, head.logit_scale), targets
    )


def _from_logits(
    model: PreTrainedModel, batch: dict[str, Tensor], targets: Tensor
) -> TargetStatistics:
    """Return the same from the model's own logits, stored whole."""
    where = (targets != IGNORE_INDEX).nonzero().squeeze(1)
    logits = model(**batch, use_cache=False).logits[:, :-1].flatten(0, 1)[where].float()
    of_rows = statistics_of_logits(logits, targets[where], entropy=True)
    return TargetStatistics(*(x.new_zeros(targets.shape).index_put((where,), x) for x in of_rows))


_Measure = Callable[[Any, dict[str, Tensor], Tensor], TargetStatistics]


@torch.no_grad()
def has_plain_head(model: PreTrainedModel, row: Encoded) -> bool:
    """True if `lm_head` reproduces the model's own log-probabilities on one row.

    Configurations name the known changes of logits (scale, softcap); this finds the unknown ones.
    """
    if lm_head(model) is None or model.base_model is model:
        return False
    batch, targets = collate([row], model.device)
    fused, plain = _from_head(model, batch, targets).logp, _from_logits(model, batch, targets).logp
    # The model's own logits are rounded to its dtype: 2^-8 of a logit of 30 is 0.1 in bfloat16.
    tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 0.5
    return float((fused - plain).abs().max()) < tolerance


def _choose_measure(model: PreTrainedModel, row: Encoded) -> _Measure:
    return _from_head if has_plain_head(model, row) else _from_logits


@torch.no_grad()
def token_table(
    model: PreTrainedModel,
    rows: Sequence[Encoded],
    *,
    batch_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> TokenTable:
    """Log-probability, entropy and top-1 hit of every supervised token of `rows`, in evaluation
    mode.

    Args:
        batch_tokens: tokens per forward pass, padding included; default 4096 on a CPU, 16384
            elsewhere.
        progress: called with the number of rows finished since the last call.

    Raises:
        TrainingError: a statistic is not finite, with the row it was met in.
    """
    batch_tokens = batch_tokens or (4096 if model.device.type == "cpu" else 16384)
    was_training = model.training
    model.eval()
    try:
        measure = _choose_measure(model, min(rows, key=lambda row: len(row.input_ids)))
        pieces = []
        for batch in batches([len(row.input_ids) for row in rows], batch_tokens):
            pieces.append(_measure_batch(model, measure, [rows[i] for i in batch], batch))
            if progress is not None:
                progress(len(batch))
    finally:
        model.train(was_training)
    columns = [np.concatenate(column) for column in zip(*pieces, strict=True)]
    order = np.lexsort((columns[1], columns[0]))
    return TokenTable(*(column[order] for column in columns), num_examples=len(rows))


def _measure_batch(
    model: Any, measure: _Measure, rows: list[Encoded], indices: list[int]
) -> tuple[np.ndarray, ...]:
    batch, targets = collate(rows, model.device)
    measured = measure(model, batch, targets)
    where = targets != IGNORE_INDEX
    lengths = batch["input_ids"].shape[1] - 1
    row_of = where.nonzero().squeeze(1) // lengths
    example = np.asarray(indices)[row_of.cpu().numpy()]
    counts = where.view(len(rows), lengths).sum(1).tolist()
    position = np.concatenate([np.arange(count) for count in counts])
    logp, entropy = (x[where].cpu().double().numpy() for x in (measured.logp, measured.entropy))
    if not np.isfinite(logp).all():
        bad = example[~np.isfinite(logp)][0]
        raise TrainingError(
            "the model's log-probabilities are not finite on"
            f" {rows[indices.index(int(bad))].where}: its weights hold NaN or infinity."
        )
    return (
        example,
        position,
        targets[where].cpu().numpy(),
        logp,
        entropy,
        measured.is_top1[where].cpu().numpy(),
    )


def collate(rows: Sequence[Encoded], device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
    """Return (inputs padded with 0 on the right, flat shifted labels)."""
    shape = (len(rows), max(len(row.input_ids) for row in rows))
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    labels = np.full(shape, IGNORE_INDEX)
    for index, row in enumerate(rows):
        length = len(row.input_ids)
        ids[index, :length], labels[index, :length] = row.input_ids, row.labels
        mask[index, :length] = 1
    batch = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    targets = torch.from_numpy(labels)[:, 1:].flatten().to(device)
    return {name: x.to(device) for name, x in batch.items()}, targets


def batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Group indices by length, longest first, so that rows x longest row stays within
    `batch_tokens`.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and lengths[groups[-1][0]] * (len(groups[-1]) + 1) <= batch_tokens:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups
