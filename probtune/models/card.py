"""The card of a fine-tuned model: the `README.md` that travels with its folder.

Its metadata is that of the Hugging Face hub (`base_model`, `license`, `model-index`), which
huggingface_hub reads back. What is not known is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..numbers import interval
from ..objectives import MEMBERS, Objective
from ..texts import redacted, visible
from .packaged import PACKAGED

__all__ = ["Card", "Measured", "hub_name", "licence_of", "model_card"]

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_PACKAGED_SOURCE = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Packaged model -> the model on the hub that it is."""
_LICENCE_FIELDS = ("license", "license_name", "license_link")
_METRICS = {
    "exact_match": "exact match, greedy",
    "sampled": "exact match, sampled",
    "token_accuracy": "token accuracy",
    "mean_p": "mean p",
    "nll": "NLL, nats",
}
_PAPER = (
    "Beyond Log Likelihood: Probability-Based Objectives for Supervised Fine-Tuning across the"
    " Model Capability Continuum"
)


@dataclass(frozen=True)
class Measured:
    """A model's results on the held-out rows."""

    name: str
    metrics: Mapping[str, Mapping[str, Any]]
    """Metric -> estimate with its interval."""
    rows: int


@dataclass(frozen=True)
class Card:
    """Facts of a card. Empty ones are left out."""

    objective: Objective
    base: str
    """Folder, hub id or packaged name of the base model."""
    title: str
    adapter: bool = False
    data: str = ""
    """Source of the rows."""
    data_sha256: str = ""
    rows: int = 0
    probe: Mapping[str, Any] = field(default_factory=dict)
    """Record of the probe of the base model."""
    scouted: Mapping[str, Any] = field(default_factory=dict)
    """Record of the probe after the scout."""
    heldout: Sequence[Measured] = ()
    """The base model's results first; those of this model under its objective's name."""
    result: str = ""
    """The comparison in a sentence."""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ("trl", "sft", "probtune")


def hub_name(name: str) -> str | None:
    """Return the hub id that a name of a model or of data is; None for files of this machine.

    >>> hub_name("Qwen/Qwen2.5-1.5B"), hub_name("smollm2-135m"), hub_name("./my-model")
    ('Qwen/Qwen2.5-1.5B', 'HuggingFaceTB/SmolLM2-135M-Instruct', None)
    """
    if name in PACKAGED:
        return _PACKAGED_SOURCE[name]
    if name.startswith((".", "/", "~")) or not _HUB_NAME.fullmatch(name) or Path(name).exists():
        return None
    return None if Path(name).suffix in (".jsonl", ".json", ".csv", ".parquet", ".gguf") else name


def licence_of(base: str) -> dict[str, str]:
    """Return what the base model's own card says of its licence, without a network: in its folder,
    or in the hub's cache; empty where it is not known.
    """
    if base in PACKAGED:
        return {"license": "apache-2.0"}
    import yaml
    from huggingface_hub import metadata_load, try_to_load_from_cache

    path = Path(base).expanduser() / "README.md"
    if not path.is_file():
        name = hub_name(base)
        cached = None if name is None else try_to_load_from_cache(name, "README.md")
        if not isinstance(cached, str):
            return {}
        path = Path(cached)
    try:
        content = metadata_load(path) or {}
    except (ValueError, yaml.YAMLError):  # a card of a stranger
        return {}
    return {k: content[k] for k in _LICENCE_FIELDS if isinstance(content.get(k), str)}


def model_card(card: Card) -> str:
    """Return the card as Markdown with its metadata."""
    from huggingface_hub import ModelCardData

    licence: dict[str, Any] = {**licence_of(card.base)}
    data = ModelCardData(
        base_model=hub_name(card.base),
        datasets=hub_name(card.data) if card.data else None,
        library_name="peft" if card.adapter else "transformers",
        pipeline_tag="text-generation",
        tags=[*card.tags],
        model_name=card.title,
        eval_results=_results(card) or None,
        **licence,
    )
    parts = [
        f"---\n{data.to_yaml()}\n---\n\n# {card.title}",
        _introduction(card),
        _objective(card.objective),
        _probe(card),
        _heldout(card),
        _training(card),
        _how(card, licence),
    ]
    return redacted("\n\n".join(part for part in parts if part)) + "\n"


def _introduction(card: Card) -> str:
    base = hub_name(card.base)
    named = f"[{base}](https://huggingface.co/{base})" if base else f"`{Path(card.base).name}`"
    kind = "A LoRA adapter of" if card.adapter else "Fine-tuned from"
    text = f"{kind} {named} with the objective `{card.objective}`, by probtune"
    if card.rows:
        text += f", on {card.rows:,} rows of {_data_name(card)}"
    return f"{text}.{' ' + card.result if card.result else ''}"


def _data_name(card: Card) -> str:
    name = hub_name(card.data)
    return f"`{name or Path(card.data).name}`"


def _objective(objective: Objective) -> str:
    member = MEMBERS.get(type(objective).__name__)
    lines = [f"## Objective\n\n`{objective}`: a function of p, the probability of a target token."]
    if member is not None and member.formula:
        lines.append(
            f"`{member.__name__}` minimises f(p) = `{member.formula}`; it weights a token by"
            f" w(p) = `{member.weight_formula}` relative to -log p, which is ordinary fine-tuning."
        )
    lines.append("Its loss must not be compared with the loss of another objective.")
    return "\n\n".join(lines)


_PROBED = {
    "mean_p": "mean p of the target tokens",
    "below_0_1": "share of tokens with p < 0.1",
    "token_accuracy": "token accuracy",
    "nll": "NLL, nats",
}


def _probe(card: Card) -> str:
    if not card.probe:
        return ""
    columns = [("base model", card.probe)]
    if card.scouted:
        columns.append(("after a scout", card.scouted))
    rows = [
        [
            what,
            *(
                interval(record[name], share=name != "nll", nonnegative=True)
                for _, record in columns
            ),
        ]
        for name, what in _PROBED.items()
        if all(name in record for _, record in columns)
    ]
    suggestion = columns[-1][1]["suggestion"]
    text = (
        f"The probe says {suggestion['verdict']} and suggests `{suggestion['objective']}`."
        f" Intervals are of 95 %."
    )
    header = ["", *(name for name, _ in columns)]
    return f"## The base model on this data, before training\n\n{_table(header, rows)}\n\n{text}"


def _heldout(card: Card) -> str:
    if not card.heldout:
        return ""
    names = [name for name in _METRICS if name in card.heldout[0].metrics]
    rows = [
        [
            f"**{model.name}**" if model.name == str(card.objective) else model.name,
            *(
                interval(model.metrics[name], share=name != "nll", nonnegative=True)
                for name in names
            ),
        ]
        for model in card.heldout
    ]
    table = _table(["", *(_METRICS[name] for name in names)], rows)
    return (
        f"## {card.heldout[0].rows:,} held-out rows\n\n{table}\n\nValues with 95 % intervals; this"
        " model is in bold, the others were trained on the same rows in the same order."
    )


def _results(card: Card) -> list[Any]:
    """Return this model's results as huggingface_hub has them."""
    from huggingface_hub import EvalResult

    own = [model for model in card.heldout if model.name == str(card.objective)]
    name = hub_name(card.data)
    return [
        EvalResult(
            task_type="text-generation",
            task_name="Text generation",
            dataset_type=name or "local",
            dataset_name=f"{name or Path(card.data).name}, {model.rows} held-out rows",
            metric_type=metric,
            metric_name=_METRICS[metric],
            metric_value=float(model.metrics[metric]["value"]),
        )
        for model in own
        for metric in _METRICS
        if metric in model.metrics and model.metrics[metric]["value"] is not None
    ]


def _training(card: Card) -> str:
    rows = [[name.replace("_", " "), f"`{value}`"] for name, value in card.hyperparameters.items()]
    if card.data_sha256:
        rows.append(["data, SHA-256", f"`{card.data_sha256}`"])
    if not rows and not card.command:
        return ""
    parts = ["## Training"]
    if rows:
        parts.append(_table(["", ""], rows))
    if card.command:
        parts.append(f"```bash\n{visible(card.command)}\n```")
    return "\n\n".join(parts)


def _how(card: Card, licence: Mapping[str, str]) -> str:
    parts = []
    if card.versions:
        listed = ", ".join(f"{name} {version}" for name, version in card.versions.items())
        parts.append(f"## Versions\n\n{listed}")
    if licence:
        name = licence.get("license_name", licence.get("license", ""))
        parts.append(f"## Licence\n\nThat of the base model, {name}, as its card names it.")
    parts.append(f"## Paper\n\n[{_PAPER}](https://arxiv.org/abs/2510.00526)")
    return "\n\n".join(parts)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(visible(cell) for cell in line)} |" for line in lines)
