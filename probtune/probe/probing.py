"""`probtune.probe(model, rows)`: the probe of a model and rows that a program holds or names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.encoding import Encoded, encode, separator_of
from ..data.rows import Rows, read_rows, rows_from
from ..errors import DataError
from ..models.kinds import check_decoder, check_decoder_folder
from ..models.loading import context_length, load_model, load_tokenizer
from ..numbers import percent
from .capability import Plan, Probe, describe, sample
from .scout import STEPS, split
from .warmed import probe_after_scout

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["WarmedProbe", "probe"]


@dataclass(frozen=True)
class WarmedProbe(Probe):
    """The probe of a base model, with the objective that follows from a scout."""

    scout: dict[str, Any]
    """The scout, the rows that look wrong, and the probe under it, as a run's record has them."""

    @property
    def wrong_rows(self) -> list[str]:
        """Places of the rows that look wrong, worst first; none where the model cannot tell. At
        most 200, of those that were measured.
        """
        noise = self.scout["noise"]
        return [row["where"] for row in noise["worst"]] if noise["known"] else []

    def __str__(self) -> str:
        noise = self.scout["noise"]
        looks = f"{percent(noise['share'])} of {noise['rows']} rows look wrong"
        said = looks if noise["known"] else "it cannot be told which rows are wrong"
        first, *rest = super().__str__().splitlines()
        of_scout = f"after a scout of {self.scout['scout']['steps']} steps: {said}"
        return "\n".join([first, of_scout, *rest])


def probe(
    model: PreTrainedModel | str,
    data: Any,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    examples: int | None = 256,
    max_length: int = 1024,
    prompt_column: str | None = None,
    response_column: str | None = None,
    messages_column: str | None = None,
    separator: str | None = None,
    chat: bool = False,
    chat_template: str | None = None,
    seed: int = 0,
    plan: Plan | None = None,
    warmup: bool = False,
) -> Probe:
    """Measure the base model's target probabilities on a sample of the data, and suggest an
    objective.

    Without a scout the base model is all that is seen: it may not know the form of the answers, and
    wrong rows and new ones look alike. With one the objective is that of `auto` in `probtune tune`.
    Where that is `inliers(…)`, the command has two scouts weigh the rows, and `ProbTuneTrainer`
    takes a column `sequence_weight`, which `probtune.probe.weighing.weigh` makes, or else weighs
    them by the base model.

    Args:
        model: a causal language model, or the folder or hub id to load one from.
        data: rows (`datasets.Dataset` or a list of mappings), or what `read_rows` reads: a path or
            dataset id.
        tokenizer: needed with a model that is loaded already.
        examples: rows drawn at random; None for all.
        max_length: tokens per row; what is longer is cut.
        prompt_column, response_column, messages_column: the columns to use, where they have other
            names than `messages`, `prompt`/`completion` and the like.
        separator, chat, chat_template: as the options of `probtune probe`: text between prompt and
            response, turns around them, and a file with another chat template.
        seed: of the draw and of the intervals.
        plan: the training that is planned; default: one epoch of batches of 32 rows.
        warmup: send a scout: a few steps of NLL on an adapter that is thrown away, then a probe of
            other rows under it. The model is left as it was.

    Returns:
        The probe; `print` it, or read `probe.suggestion.objective`. With `warmup` a `WarmedProbe`.

    Raises:
        UsageError: the model or the data does not exist.
        DataError: rows that cannot be used, named by file and line.
    """
    if not isinstance(model, str):
        check_decoder(model)
    rows = _rows(data, prompt_column, response_column, messages_column)
    plan = plan or Plan.usual(len(rows))
    if isinstance(model, str):
        check_decoder_folder(model)
        tokenizer = tokenizer or load_tokenizer(model, chat_template)
        max_length = min(max_length, context_length(model)[0] or max_length)
    elif tokenizer is None:
        raise DataError(
            "give the tokenizer with a model that is loaded already: probe(model, data,"
            " tokenizer=…)."
        )
    separator = separator_of(rows.schema) if separator is None else separator

    def encoded(chosen: Sequence[Any]) -> Sequence[Encoded]:
        return encode(chosen, tokenizer, max_length=max_length, separator=separator, chat=chat).rows

    parts = [encoded(sample(rows.examples, examples, seed=seed))]
    if warmup:
        measured = len(rows) if examples is None else examples
        parts += [encoded(part) for part in split(rows.examples, measured, seed=seed)]
    if isinstance(model, str):
        model = load_model(model, dtype="auto")
    options = {"of_examples": len(rows), "seed": seed, "plan": plan}
    base = describe(model, tokenizer, parts[0], **options)
    if not warmup:
        return base
    end = base.end_token
    after = probe_after_scout(
        model,
        tokenizer,
        *parts[1:],
        **options,
        base_rows=base.expected_rows.value,
        end_p=None if end is None else end.mean_p.value,
        steps=STEPS,
    )
    fields = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
    fields["suggestion"] = after["probe"]["suggestion"]
    return WarmedProbe(**fields, scout=after)


def _rows(
    data: Any,
    prompt_column: str | None,
    response_column: str | None,
    messages_column: str | None,
) -> Rows:
    columns: dict[str, Any] = {
        "prompt_column": prompt_column,
        "response_column": response_column,
        "messages_column": messages_column,
    }
    if isinstance(data, str | Path):
        return read_rows(str(data), **columns)
    numbered = ((f"row {number}", row) for number, row in enumerate(data, 1))
    return rows_from(numbered, source="data", **columns)
