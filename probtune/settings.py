"""Settings of a run: one dataclass is the command line, the YAML file and the record, so no text
exists twice.

Standard library only, but for PyYAML when a file is read.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Callable, Set
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any

from .errors import UsageError
from .options import check_bounds, flag_of, kind_of, option

__all__ = [
    "TuneSettings",
    "checked",
    "read_yaml",
    "settings_from",
    "yaml_content",
]


@dataclass(frozen=True)
class TuneSettings:
    """Settings of `probtune tune`. The training recipe's defaults are the paper's where stated."""

    model: str = field(metadata={"help": "folder of a causal language model, or hub id (org/name)"})
    data: str = field(
        metadata={
            "help": (
                "training rows: .jsonl .json .parquet .csv (several, compressed, a pattern, an"
                " address), a folder of them or saved by `datasets`, a dataset id, corpus:NAME (see"
                " probtune prepare --list), or - for standard input"
            )
        }
    )

    objective: str = option(
        "auto",
        "objective to train; auto lets the probe choose; select:A,B trains each arm in full and"
        " takes the one with the better held-out rows; FILE.py:NAME takes one of your own",
        group="objective",
        metavar="OBJECTIVE",
    )
    compare: str = option(
        "",
        "further objectives to train on the same rows in the same order, as nll,p,power(0.5)",
        group="objective",
        metavar="LIST",
    )
    normalizer: str = option(
        "supervised",
        "denominator of the loss: supervised tokens of the optimizer step, or those a threshold"
        " kept; per_batch: each micro-batch's own, as the paper's code counts",
        group="objective",
        choices=("supervised", "kept", "supervised_per_batch", "kept_per_batch"),
    )
    accumulation: str = option(
        "mean",
        "what micro-batches give: the step's loss, or (sum, as the paper's code accumulates) that"
        " times their number, before clipping",
        group="objective",
        choices=("mean", "sum"),
    )
    keep: str = option(
        "all",
        "models that stay on disk after select:A,B: those of all arms, or that of the one taken",
        group="objective", choices=("all", "taken"),
    )  # fmt: skip
    decoding: str = option(
        "greedy",
        "how answers will be drawn from the model: what suits greedy decoding may not suit sampling"
        " at temperature 1; auto and select look at this",
        group="objective",
        choices=("greedy", "sampled"),
    )
    probe_examples: int = option(
        256, "training rows the probe reads", group="objective", metavar="N", least=1
    )
    all: bool = option(False, "let the probe read all training rows", group="objective")
    scout_steps: int = option(
        8,
        "before auto chooses, train a LoRA adapter with NLL for this many steps of 16 rows, probe"
        " again on other rows, and throw it away; 0: choose from the first probe",
        group="objective",
        metavar="N",
        least=0,
        most=100_000,
    )

    reference: str | None = option(
        None,
        "log-probabilities of the model before training, from probtune probe --all --store"
        " (default: measured when an objective compares with them)",
        group="objective",
        metavar="FILE",
    )
    better: str | None = option(
        None,
        "a better model, or its stored log-probabilities, for token_cleaning and rho1",
        group="objective",
        metavar="MODEL",
    )

    prompt_column: str | None = option(None, "column with the prompt", group="data", metavar="NAME")
    response_column: str | None = option(
        None, "column with the response", group="data", metavar="NAME"
    )
    messages_column: str | None = option(
        None, "column with the turns of a conversation", group="data", metavar="NAME"
    )
    separator: str | None = option(
        None,
        "text between prompt and response (default: a newline for named columns, else nothing)",
        group="data",
        metavar="TEXT",
    )
    chat: bool = option(
        False, "wrap prompt and response into the tokenizer's chat template", group="data"
    )
    chat_template: str | None = option(
        None,
        "file with the chat template to use (Jinja), saved with the model",
        group="data",
        metavar="FILE",
    )
    prompt_format: str | None = option(
        None,
        "write a model family's turns around prompt and response, the same as `probtune eval`:"
        " chatml, llama3, deepseek or plain; auto: by the tokenizer's special tokens",
        group="data",
        metavar="FORMAT",
    )
    system: str | None = option(
        None, "system text, with --prompt-format", group="data", metavar="TEXT"
    )
    instruction: str = option(
        "",
        "text after every prompt, in the user's turn, with --prompt-format",
        group="data",
        metavar="TEXT",
    )
    response_end: str = option(
        "turn",
        "what closes a response, with --prompt-format: the token that ends the turn, or the text's"
        " end, as in the paper's code",
        group="data",
        choices=("turn", "text"),
    )
    inner_prompt: dict[str, Any] = option(
        {},
        "write these turns around the prompt first (format=, system=, instruction=): the paper's"
        " code wraps LLaMA's medical and figlet prompts twice; repeatable",
        group="data",
    )
    split: str = option("train", "split of a saved or hub dataset", group="data", metavar="NAME")
    subset: str | None = option(
        None, "configuration name of a hub dataset", group="data", metavar="NAME"
    )
    group_by: str | None = option(
        None,
        "column with the source or kind of a row, by which the page splits the probe and results",
        group="data",
        metavar="NAME",
    )
    heldout: float | None = option(
        None,
        "rows to hold out: a share below 1, or a number (default: a tenth, at most 500)",
        group="data",
        metavar="N",
        above=0,
    )
    heldout_data: str | None = option(
        None,
        "take the held-out rows from here instead",
        group="data",
        metavar="DATA",
    )
    max_length: int = option(
        1024, "tokens per row; longer rows are cut", group="data", metavar="N", least=2, most=2**24
    )
    skip_bad_rows: bool = option(
        False, "leave unusable rows out, counted by the rule that they break", group="data"
    )

    epochs: float = option(
        1.0, "passes over the training rows", group="training", metavar="N", above=0, most=1e6
    )
    max_steps: int = option(
        -1, "optimizer steps instead of epochs", group="training", metavar="N", most=10**9
    )
    learning_rate: float = option(
        5e-5,
        "peak learning rate, the same for every objective",
        group="training",
        metavar="RATE",
        above=0,
    )
    batch_size: int = option(
        8, "rows per forward pass", group="training", metavar="N", least=1, most=2**20
    )
    gradient_accumulation: int = option(
        4,
        "forward passes per optimizer step",
        group="training",
        metavar="N",
        least=1,
        most=2**20,
    )
    warmup_ratio: float = option(
        0.1,
        "share of the steps over which the learning rate rises",
        group="training",
        metavar="SHARE",
    )
    scheduler: str = option(
        "cosine",
        "learning-rate schedule, as transformers names it",
        group="training",
        metavar="NAME",
    )
    weight_decay: float = option(
        0.01, "AdamW weight decay", group="training", metavar="X", least=0, most=1e3
    )
    seed: int = option(
        0,
        "seed of what is drawn: the split, the order of rows, adapters, answers",
        group="training",
        metavar="N",
        least=0,
        most=2**32 - 1,
    )
    lora_rank: int = option(
        0,
        "train LoRA adapters of this rank; 0 trains all weights",
        group="training",
        metavar="N",
        least=0,
        most=2**16,
    )
    lora_targets: str = option(
        "all-linear",
        "layers that get adapters: all-linear (all but the output layer), or names separated by"
        " commas, as q_proj,v_proj,lm_head",
        group="training",
        metavar="NAMES",
    )
    weights: str = option(
        "float32",
        "dtype of the trained weights and of AdamW's states; the paper's code has bfloat16, in"
        " which small updates round to nothing; nf4: the base in 4 bits under float32 adapters"
        " (QLoRA; needs --lora-rank and probtune[qlora])",
        group="training",
        choices=("float32", "bfloat16", "nf4"),
    )
    packing: bool = option(False, "pack rows into blocks of --max-length tokens", group="training")
    padding_free: bool | None = option(
        None,
        "join the rows of a batch instead of padding them: the same training (default: where"
        " attention is FlashAttention)",
        group="training",
    )
    attention: str | None = option(
        None,
        "attention of the trained model, as transformers names it: sdpa, eager,"
        " flash_attention_2, kernels-community/flash-attn2 (default: transformers' choice)",
        group="training",
        metavar="NAME",
    )
    bf16: bool | None = option(
        None, "bfloat16 mixed precision (default: on an accelerator)", group="training"
    )
    checkpoint_minutes: float = option(
        10.0,
        "write a checkpoint after this many minutes",
        group="training",
        metavar="MIN",
        least=0,
        most=1e6,
    )
    training: dict[str, Any] = option(
        {},
        "any other field of ProbTuneConfig, as --training adam_beta2=0.99; repeatable",
        group="training",
    )

    eval_steps: int = option(
        0,
        "measure NLL and mean p of the held-out rows every N optimizer steps, for the curves of the"
        " page; 0: only when the training has ended",
        group="measurement",
        metavar="N",
        least=0,
    )
    answer: str = option(
        "auto",
        "how to find a short answer: auto, none, hash, boxed, whole or regex:PATTERN",
        group="measurement",
        metavar="RULE",
    )
    max_new_tokens: int | None = option(
        None,
        "limit of a generated answer (default: the longest held-out response)",
        group="measurement",
        metavar="N",
        least=1,
        most=2**20,
    )

    draws: int = option(
        1,
        "answers drawn at temperature 1 for each held-out row where the answer stands at the end of"
        " a working (elsewhere the probability of the right one is exact); 0: none",
        group="measurement", metavar="N", least=0, most=10_000,
    )  # fmt: skip
    answered_rows: int = option(
        32,
        "held-out rows that are answered where none has a short answer, to see whether answers end",
        group="measurement", metavar="N", least=0,
    )  # fmt: skip

    out: str | None = option(
        None, "folder of the run (default: runs/MODEL-DATA)", group="output", metavar="DIR"
    )
    report_to: str = option(
        "",
        "trackers to report to, one run for each objective: tensorboard, wandb, trackio, mlflow",
        group="output",
        metavar="LIST",
    )
    push_to_hub: bool = option(
        False, "upload the model that is taken, with its card, when all is measured", group="output"
    )
    hub_model_id: str | None = option(
        None,
        "repository to upload to (default: the run's folder and the objective, as your user)",
        group="output",
        metavar="NAME",
    )
    hub_private_repo: bool = option(
        False, "make the repository private, if it is a new one", group="output"
    )

    def __post_init__(self):
        check_bounds(self)
        for name in ("model", "data"):
            if not getattr(self, name).strip():
                raise UsageError(f"{name.upper()} is empty; name a {_EMPTY[name]}.")
            try:
                Path(getattr(self, name)).expanduser()
            except RuntimeError:
                raise UsageError(f"{getattr(self, name)}: there is no such user.") from None
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, str) and "\0" in value:
                raise UsageError(f"{flag_of(item.name)} holds a zero byte.")
        if self.heldout is not None and self.heldout >= 1 and self.heldout != int(self.heldout):
            raise UsageError(
                f"--heldout is a share below 1 or a whole number of rows, got {self.heldout}."
            )
        if not any(name.strip() for name in self.lora_targets.split(",")):
            raise UsageError("--lora-targets names no layer; give all-linear, or their names.")
        for name, value in self.training.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"--training {name}={value} is no number to train with.")
        if not 0 <= self.warmup_ratio <= 1:
            raise UsageError(f"--warmup-ratio must lie in [0, 1], got {self.warmup_ratio}.")
        if self.max_steps == 0 or self.max_steps < -1:
            raise UsageError(
                f"--max-steps must be positive, or -1 to train by epochs, got {self.max_steps}."
            )
        if self.prompt_format is None and (self.system or self.instruction or self.inner_prompt):
            raise UsageError(
                "--system, --instruction and --inner-prompt need --prompt-format, which says where"
                " they go."
            )
        if self.prompt_format is not None and self.chat:
            raise UsageError(
                "--prompt-format writes the turns itself; --chat takes the tokenizer's template:"
                " choose one."
            )
        if self.bf16 and self.weights == "bfloat16":
            raise UsageError("--bf16 mixes precisions; with --weights bfloat16 there is only one.")
        if self.packing and self.padding_free is False:
            raise UsageError("--packing leaves no padding; leave out --no-padding-free.")
        if self.weights == "nf4" and not self.lora_rank:
            raise UsageError(
                "--weights nf4 keeps the base in 4 bits, which cannot be trained; add"
                " --lora-rank 16 to train adapters on it."
            )
        if (self.prompt_column is None) != (self.response_column is None):
            raise UsageError(
                "--prompt-column and --response-column belong together: name both columns or"
                " neither."
            )
        if self.messages_column is not None and self.prompt_column is not None:
            raise UsageError(
                "--messages-column names turns, --prompt-column and --response-column two texts:"
                " choose one."
            )

    @property
    def scouts_weigh(self) -> bool:
        """True if scouts judge the training rows where an objective weighs sequences; else their
        weights come from the log-probabilities of the model before training.
        """
        return self.scout_steps > 0

    @property
    def measured_as(self) -> str:
        """The dtype in which models of the run are measured, for `load_model`."""
        return "nf4" if self.weights == "nf4" else "auto"

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        if self.out is not None:
            return Path(self.out)
        return Path("runs") / f"{_stem(self.model)}-{_stem(self.data)}"

    def to_dict(self) -> dict[str, Any]:
        """Return what two runs must share to be the same run: all settings but the folder, and who
        is told of it.
        """
        content = dataclasses.asdict(self)
        return {name: value for name, value in content.items() if name not in _OUTPUT}


_OUTPUT = ("out", "report_to", "push_to_hub", "hub_model_id", "hub_private_repo")
"""Settings of `TuneSettings` that do not change what a run is."""
_EMPTY = {"model": "folder or hub id", "data": "file, folder or dataset id"}


def read_yaml(path: str, kind: type[Any]) -> dict[str, Any]:
    """Settings (of `kind`) in a YAML file.

    Raises:
        UsageError: the file cannot be read, a key is unknown, or a value has the wrong type.
    """
    return checked(yaml_content(Path(path)), kind, path)


def yaml_content(path: Path, name: str | None = None) -> dict[str, Any]:
    """Return the pairs of a YAML file, unchecked; errors call the file `name`."""
    import yaml

    name = name or str(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = "is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"cannot read --config {name}: {reason}.") from None
    except OSError as error:
        raise UsageError(f"cannot read --config {name}: {error.strerror}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise UsageError(f"{where} is not YAML: {getattr(error, 'problem', error)}.") from None
    if not isinstance(content, dict):
        what = "it is empty" if content is None else f"got a {type(content).__name__}"
        raise UsageError(f"{name} must hold settings as 'name: value', and {what}.")
    return content


def checked(
    content: dict[str, Any], kind: type[Any], path: str, ignored: Set[str] = frozenset()
) -> dict[str, Any]:
    """Return the settings of `kind` in a file's content, each of its type.

    Args:
        ignored: keys that belong to other commands that share the file.
    """
    kinds = typing.get_type_hints(kind)
    values = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name in ignored:
            continue
        if name not in kinds:
            names = [*kinds, *sorted(ignored)]
            near = difflib.get_close_matches(name, names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known are {', '.join(names)}."
            raise UsageError(f"{path}: unknown setting {key!r}.{hint}")
        values[name] = _typed(value, kinds[name], f"{path}: {key}")
    return values


def settings_from(
    typed: dict[str, Any],
    config: str | None,
    kind: type[Any] = TuneSettings,
    *,
    read: Callable[[str, type[Any]], dict[str, Any]] = read_yaml,
) -> Any:
    """Settings (of `kind`) from the command line over a configuration over the defaults.

    Args:
        read: reads the configuration that `config` names.

    Raises:
        UsageError: the file cannot be read, a key is unknown, or a value has the wrong type; with
            file and key.
    """
    if config == "":
        raise UsageError("--config is empty; name a file, or leave it out.")
    named = typed.get("model")
    if config is None and isinstance(named, str) and named.endswith((".yaml", ".yml")):
        config, typed = named, {**typed, "model": None}
    values = read(config, kind) if config else {}
    for name, value in typed.items():
        if value is None:
            continue
        if isinstance(value, list) and name in ("training", "inner_prompt"):
            pairs = dict(_pair(text, flag_of(name)) for text in value)
            values[name] = {**values.get(name, {}), **pairs}
        else:
            values[name] = value
    for item in dataclasses.fields(kind):
        name = item.name
        if item.default is MISSING and item.default_factory is MISSING and name not in values:
            raise UsageError(
                f"{name.upper()} is missing; give it on the command line or as '{name}:' in"
                " --config."
            )
    return kind(**values)


def _typed(value: Any, kind: Any, where: str) -> Any:
    if value is None and type(None) in typing.get_args(kind):
        return None
    plain = kind_of(kind)
    if plain is float and isinstance(value, str):  # YAML reads 5e-5 as a text
        try:
            return float(value)
        except ValueError:
            pass
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if plain is str and isinstance(value, list):  # compare: [nll, p]
        return ", ".join(str(item) for item in value)
    if not isinstance(value, plain) or (plain is not bool and isinstance(value, bool)):
        raise UsageError(f"{where} must be of type {plain.__name__}, got {value!r}.")
    return value


def _pair(text: str, flag: str) -> tuple[str, Any]:
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"{flag} takes KEY=VALUE, got {text!r}.")
    try:
        parsed = yaml.safe_load(value)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = getattr(error, "problem", None) or type(error).__name__
        raise UsageError(
            f"{flag} {key.strip()}: {value[:80]!r} is not a YAML value: {reason}."
        ) from None
    if isinstance(parsed, str):
        try:
            parsed = float(parsed)
        except ValueError:
            pass
    return key.strip().replace("-", "_"), parsed


def _stem(name: str) -> str:
    path = Path(name.removeprefix("corpus:").rstrip("/"))
    return (
        path.stem
        if path.suffix in (".jsonl", ".json", ".parquet", ".csv", ".tsv", ".ndjson")
        else path.name
    )
