"""Settings of an evaluation: one dataclass is the command line, the YAML file and the record.

Standard library only, like `settings`, whose parser it shares.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..options import check_bounds, option

__all__ = ["PHASES", "EvalSettings"]

PHASES = ("generate", "grade", "analyse")

_NOT_IDENTITY = (
    *("out", "phase", "batch_size", "samples", "paper_backbone", "data", "server"),
    *("allow_code", "judge", "judge_model", "judge_key", "tensor_parallel", "data_parallel"),
)
"""Settings that may differ between two commands on one folder: more samples extend it, and the
batch size is noted with the samples.
"""


@dataclass(frozen=True)
class EvalSettings:
    """Settings of `probtune eval`. A task's own protocol decides what is not set."""

    model: str | None = option(
        None, "folder of a model or of adapters, hub id, or name on the server", group="positional"
    )

    tasks: str = option(
        "",
        "benchmarks and domains, as math500,medical (all: --list)",
        group="benchmarks",
        metavar="LIST",
    )
    protocol: str = option(
        "strict,reference",
        "how to ask and grade: strict, reference (as the paper's code, its bugs included), or both",
        group="benchmarks",
        metavar="LIST",
    )
    data: str | None = option(
        None,
        "your own questions (a file with a prompt and an answer in each row), or a folder with the"
        " benchmarks' rows, instead of the hub (the files' names: --list)",
        group="benchmarks",
        metavar="FILE|DIR",
    )
    grader: str | None = option(
        None,
        "grader of your own questions (names: --list; default: by their answers)",
        group="benchmarks",
        metavar="NAME",
    )
    prompt_column: str | None = option(
        None,
        "column of your questions (default: prompt, question, problem, ...)",
        group="benchmarks",
        metavar="NAME",
    )
    answer_column: str | None = option(
        None,
        "column of their answers (default: answer, gold, target, ...)",
        group="benchmarks",
        metavar="NAME",
    )
    limit: int | None = option(
        None,
        "the first N questions of each benchmark only, for a trial",
        group="benchmarks",
        metavar="N",
        least=1,
    )
    allow_code: bool = option(
        False, "run the programs a model wrote, in a sandbox (code benchmarks)", group="benchmarks"
    )
    judge: str | None = option(
        None,
        "address up to /v1 of an OpenAI-compatible server that judges answers to instructions"
        " (alpaca_eval); without one they are kept, and not judged",
        group="benchmarks",
        metavar="URL",
    )
    judge_model: str | None = option(
        None, "the judge's name there", group="benchmarks", metavar="NAME"
    )
    judge_key: str | None = option(
        None,
        "environment variable that holds the judge's key",
        group="benchmarks",
        metavar="NAME",
    )
    paper_backbone: str | None = option(
        None,
        "backbone whose figures of the paper stand beside (default: found in the model's name)",
        group="benchmarks",
        metavar="NAME",
    )

    prompt_format: str | None = option(
        None,
        "turns around a question: chatml, llama3, deepseek, plain, ... (default: by the"
        " tokenizer's special tokens)",
        group="prompt",
        metavar="FORMAT",
    )
    system: str | None = option(
        None,
        "system text instead of the protocol's; '' for none",
        group="prompt",
        metavar="TEXT",
    )
    instruction: str | None = option(
        None,
        "text after every question instead of the protocol's",
        group="prompt",
        metavar="TEXT",
    )

    samples: int | None = option(
        None,
        "answers per question where a protocol samples (default: the protocol's); more extend a"
        " run",
        group="decoding",
        short="-k",
        metavar="K",
        least=1,
        most=100_000,
    )
    temperature: float | None = option(
        None,
        "instead of the protocol's; 0 is greedy",
        group="decoding",
        metavar="T",
        least=0,
        most=1000.0,
    )
    max_new_tokens: int | None = option(
        None,
        "longest answer (default: the protocol's)",
        group="decoding",
        metavar="N",
        least=1,
    )
    fit_context: bool = option(
        False,
        "let answers end at the model's context where prompt and answer exceed it, and count them"
        " as truncated",
        group="decoding",
    )
    seed: int = option(0, "seed of sampling", group="decoding", metavar="N", least=0)

    backend: str = option(
        "hf",
        "hf: transformers here; vllm: vLLM here; server: an OpenAI-compatible server",
        group="engine",
        choices=("hf", "vllm", "server"),
    )
    server: str | None = option(
        None,
        "address of the server, as http://localhost:8000/v1; implies --backend server",
        group="engine",
        metavar="URL",
    )
    tokenizer: str | None = option(
        None,
        "tokenizer of a served model (default: MODEL's)",
        group="engine",
        metavar="NAME",
    )
    dtype: str = option(
        "auto",
        "dtype of the weights; auto is how they are stored",
        group="engine",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    tensor_parallel: int = option(
        1,
        "vllm: devices that hold the model together",
        group="engine",
        metavar="N",
        least=1,
    )
    data_parallel: int = option(
        1,
        "vllm: copies of the model that answer side by side (needs ray)",
        group="engine",
        metavar="N",
        least=1,
    )
    batch_size: int | None = option(
        None,
        "answers at a time (default: hf 16, server 64, vllm 1024)",
        group="engine",
        metavar="N",
        least=1,
    )

    phase: str = option(
        "all",
        "generate: ask the model; grade: judge its answers, without it; analyse: numbers from the"
        " judgements",
        group="output",
        choices=("all", *PHASES),
    )
    out: str | None = option(
        None, "folder (default: runs/eval-MODEL)", group="output", metavar="DIR"
    )

    def __post_init__(self):
        check_bounds(self)
        if not self.protocols or len(set(self.protocols)) < len(self.protocols):
            raise UsageError(
                f"--protocol must be strict, reference, or both once, got {self.protocol!r}."
            )
        for name in self.protocols:
            if name not in ("strict", "reference"):
                raise UsageError(
                    f"--protocol must be strict, reference, or both, got {self.protocol!r}."
                )
        if self.backend != "vllm" and max(self.tensor_parallel, self.data_parallel) > 1:
            raise UsageError(
                "--tensor-parallel and --data-parallel are the vllm backend's: give --backend vllm,"
                " or start several commands, each with its own CUDA_VISIBLE_DEVICES, tasks and"
                " --out."
            )
        if (self.judge is None) != (self.judge_model is None):
            raise UsageError("--judge (an address) and --judge-model belong together: give both.")
        if self.server is not None and self.backend != "server":
            object.__setattr__(self, "backend", "server")
        if self.server is not None and not self.server.startswith(("http://", "https://")):
            raise UsageError(
                f"--server must be an address as http://localhost:8000/v1, got {self.server!r}."
            )

    @property
    def protocols(self) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.protocol.split(",") if part.strip())

    @property
    def phases(self) -> tuple[str, ...]:
        return PHASES if self.phase == "all" else (self.phase,)

    @property
    def folder(self) -> Path:
        """Folder of the evaluation."""
        if self.out is not None:
            return Path(self.out)
        if self.model is None:
            raise UsageError("MODEL is missing; name a model, or an evaluation's folder by --out.")
        # runs/x/nll/model is named by its run, not by its last part
        parts = [p for p in re.split(r"[/\\]+", self.model) if p not in ("", ".", "..", "~")]
        stem = parts[-1] if parts else "model"
        if stem == "model" and len(parts) > 1:
            stem = "-".join(parts[-3:-1])
        return Path("runs") / f"eval-{stem}"

    def to_dict(self) -> dict[str, Any]:
        """Return all settings but the folder."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "out"}

    def identity(self) -> dict[str, Any]:
        """Settings that two commands must share to be the same evaluation."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in _NOT_IDENTITY}
