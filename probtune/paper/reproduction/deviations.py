"""Deviations of the paper's code from the paper, or from sound practice, as named options. Each can
be switched on and off alone.

Faithful mode switches on all that apply to a cell (`--without NAME` leaves one out), fair mode none
(`--with NAME` adds one). Source: the code of GaotangLi/Beyond-Log-Likelihood at 220589d, and at
89e4b0c for the domains that it added later. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from .backbones import Backbone

__all__ = ["CUT_OFFS", "DEVIATIONS", "LOG1M_OFFSET", "Deviation"]

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Deviation:
    """One named option."""

    name: str
    what: str
    """Behaviour of the code, and its consequence."""
    instead: str
    """Behaviour of fair mode."""
    source: str
    """File of the code."""
    training: Callable[[str, Backbone], Settings] = lambda domain, model: {}
    """(domain, model) -> settings of `probtune train` that change. Fields of the trainer stand
    under `training` and join those of the recipe.
    """
    evaluation: Settings = field(default_factory=dict)
    """Settings of `probtune eval` that change."""
    plan: str = ""
    """Name of a change in the plan instead of in a setting; `plan` reads it."""


_ASSISTANT = "You are a helpful assistant."
_BOXED = "\nPlease reason step by step, and put your final answer within \\boxed{}."
_FIGLET = (
    "You are an expert at decoding Figlet Font ASCII art. When given Figlet Font text, identify the"
    " word it represents and output only that without any explanations or additional text."
)
_DATASET = "main_verl/utils/dataset/sft_dataset.py"
_TRAINER = "main_verl/trainer/fsdp_sft_trainer.py"


def _turns(domain: str, model: Backbone) -> Settings:
    """Return the prompt settings of the training files."""
    if model.family == "deepseek":
        return {"prompt_format": "deepseek-reference", "system": None, "instruction": _BOXED}
    if model.family == "llama3":
        form, system, instruction = {
            "math": ("llama3-reference", _ASSISTANT, _BOXED),
            "medical": ("llama3-dated-reference", None, _BOXED),
            "figlet": ("llama3-double-reference", _FIGLET, ""),
        }.get(domain, ("llama3", None, ""))
    else:
        form, system, instruction = {
            "math": ("chatml", _ASSISTANT, _BOXED),
            "medical": ("chatml", _ASSISTANT, _BOXED),
            "figlet": ("chatml-newline-reference", _FIGLET, ""),
            "knowledge": ("chatml", None, ""),
        }.get(domain, ("chatml-newline-reference", None, ""))
    return {"prompt_format": form, "system": system, "instruction": instruction}


def _double(domain: str, model: Backbone) -> Settings:
    """Return the prompt settings that put the finished prompt inside the turns for mathematics."""
    inner = _turns(domain, model)
    return {
        "prompt_format": "llama3-reference",
        "system": _ASSISTANT,
        "instruction": _BOXED,
        "inner_prompt": {
            name: value
            for name, value in (
                ("format", inner["prompt_format"]),
                ("system", inner["system"]),
                ("instruction", inner["instruction"]),
            )
            if value
        },
    }


CUT_OFFS: Mapping[int, float] = MappingProxyType(
    {
        5: 0.038074225187301636,
        10: 0.17539461851119997,
        20: 0.5858418226242066,
        30: 0.8690263032913208,
        40: 0.970059871673584,
        50: 0.9936020970344543,
        60: 0.9985600709915161,
        70: 0.9996439814567566,
        80: 0.9999082088470459,
        90: 0.9999804496765137,
    }
)
"""Percentile -> p of Qwen2.5-Math-1.5B on its training tokens, from the code of Figure 5
(scripts/ablation/generate_ablation_scripts.py).
"""

LOG1M_OFFSET = 1e-3
"""The code's addition to 1 - p inside the logarithm."""

DEVIATIONS: Mapping[str, Deviation] = MappingProxyType(
    {
        deviation.name: deviation
        for deviation in (
            Deviation(
                "summed-micro-batches",
                "The gradients of a step's micro-batches are summed, not averaged, before they are"
                " clipped at 1.0: with 32 micro-batches the norm that is clipped is 32 times that"
                " of the mean. Objectives with larger gradients are clipped more.",
                "The loss of the whole step.",
                f"{_TRAINER}, _compute_loss_and_backward: backward on the undivided loss (verl"
                " issue 2919, fixed there by 3332 after this fork)",
                lambda domain, model: {"accumulation": "sum"},
            ),
            Deviation(
                "kept-tokens-per-micro-batch",
                "The loss is divided by the tokens that a threshold keeps, of each micro-batch and"
                " device alone: the fewer are kept, the more each counts.",
                "Divided by the supervised tokens of the whole step, kept or not.",
                f"{_TRAINER}: loss_mask is overwritten by the threshold, valid_token_this_rank is"
                " its sum",
                lambda domain, model: {"normalizer": "kept_per_batch"},
            ),
            Deviation(
                "bfloat16-weights",
                "Weights and AdamW's states are bfloat16, without a float32 copy: an update below"
                " about 1/256 of a weight rounds to nothing.",
                "Float32 weights and states, bfloat16 arithmetic on an accelerator.",
                "its scripts: model.fsdp_config.model_dtype=bf16",
                lambda domain, model: {"weights": "bfloat16"},
            ),
            Deviation(
                "decay-on-all-weights",
                "Norms and biases decay too: AdamW gets every parameter in one group.",
                "Norms and biases do not decay, as in transformers' trainer.",
                f"{_TRAINER}: optim.AdamW(self.fsdp_model.parameters())",
                lambda domain, model: {"training": {"weight_decay_on": "all"}},
            ),
            Deviation(
                "warmup-rounded-down",
                "The tenth of the steps in which the rate rises is rounded down: 26 of 264 on"
                " mathematics.",
                "Rounded up, as by transformers' trainer: 27 of 264.",
                f"{_TRAINER}: num_warmup_steps = int(...)",
                lambda domain, model: {"training": {"warmup_rounding": "down"}},
            ),
            Deviation(
                "text-end",
                "A response ends with the token that ends a text, not with one that ends a turn.",
                "The token that ends the family's turn.",
                f"{_DATASET}: response + tokenizer.eos_token",
                lambda domain, model: {"response_end": "text"},
            ),
            Deviation(
                "reference-turns",
                "Prompts as the training files hold them: newlines after turns, tokens of beginning"
                " twice, a date instead of a system text, by domain and family.",
                "The family's own turns, as in evaluation.",
                f"data/data_process_*.py, {_DATASET}",
                _turns,
            ),
            Deviation(
                "double-prompt",
                "LLaMA's finished prompts are written into the prompt for mathematics once more,"
                " with the request for a box, since the dataset looks for 'llama' before it looks"
                " whether prompts are finished. Evaluation asks with the single prompt.",
                "One prompt, the same in training and evaluation.",
                f"{_DATASET}: use_llama_base is tested before use_original_prompt",
                _double,
            ),
            Deviation(
                "bare-question",
                "Qwen is trained on its tokenizer's chat template around the question alone (with"
                " the system text that the template brings), and evaluated with another system text"
                " and the request for a box.",
                "One prompt, the same in training and evaluation.",
                f"{_DATASET}: tokenizer.apply_chat_template; evaluations/math: qwen-boxed",
                lambda domain, model: {
                    "prompt_format": "chatml",
                    "system": model.default_system,
                    "instruction": "",
                },
            ),
            Deviation(
                "short-rows",
                "Rows are cut at 800 tokens; the paper (p. 16) says 1024.",
                "1024, as the paper says.",
                "scripts/training/medical: max_length=800",
                lambda domain, model: {"max_length": 800},
            ),
            Deviation(
                "all-rows",
                "All rows are trained on; the validation rows are some of them. Here one row is"
                " held out, since a run needs one.",
                "Rows are held out to choose the learning rate.",
                "scripts/training: data.val_files",
                lambda domain, model: {"heldout": 1.0},
            ),
            Deviation(
                "one-learning-rate",
                "One learning rate for every objective.",
                "The rate of each objective is chosen on held-out rows.",
                "scripts/one_click/TEMPLATE.py; paper p. 16",
                plan="one rate",
            ),
            Deviation(
                "own-learning-rate",
                "On noised OpenBookQA, -p has the learning rate 2e-5 and -log p 5e-5: the"
                " comparison is of objective and rate together.",
                "The rate of each objective is chosen on held-out rows.",
                "scripts/training/knowledge_memorization/example_noisy_0.3_p.sh and _original.sh",
                plan="own rate",
            ),
            Deviation(
                "one-run",
                "Every number is one run; no seed is set.",
                "Three seeds or more.",
                "scripts/; paper: no error bar anywhere",
                plan="one seed",
            ),
            Deviation(
                "fixed-cut-offs",
                "Quantile thresholds are numbers measured once elsewhere.",
                "Quantiles of the base model's p over all training tokens of this run.",
                "scripts/ablation/generate_ablation_scripts.py, PERCENTILE_THRESHOLDS",
                plan="cut-offs",
            ),
            Deviation(
                "offset-in-log1m",
                "Figure 5's log(1 - p) is log(1 - p + 0.001): the token weight is at most 1000, and"
                " tokens with p above 0.999 train less.",
                "log(1 - p), as the paper writes it.",
                f"{_TRAINER} at 89e4b0c: UnlikehoodTop and UnlikehoodBottom",
                plan="offset",
            ),
            Deviation(
                "reference-grading",
                "Prompts, decoding and graders of the paper's evaluation alone, bugs included."
                " Instructions are answered by one sample at temperature 0.7 and top_p 0.9.",
                "The strict protocol decides, which answers instructions greedily; the reference"
                " protocol stands beside it.",
                "evaluations/",
                evaluation={"protocol": "reference"},
            ),
            Deviation(
                "rounded-passes",
                "The accuracy of each of the 16 passes is rounded to 0.1 before they are averaged.",
                "The mean of the exact counts.",
                "evaluations/math: mean_acc",
                plan="rounded",
            ),
        )
    }
)
"""Name -> option, in the order of application."""
