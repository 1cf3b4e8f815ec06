"""Training beside TRL's `SFTTrainer`: seconds of a step and peak memory, on this machine.

    make bench-train                       the whole table; half an hour on two idle cores
    make bench-train ARGS='--try'          one setting of the small model, in two minutes
    make bench-train ARGS='--only smollm2-135m,packed,80 --rounds 3'
                                           one setting anew, the fastest of three rounds

Every figure comes from a process of its own, forked from one that holds the imports and has
computed nothing, so that its peak memory is its own. Within one run the arms of a setting follow
each other, and their ratios to TRL's nll are what counts: times of different runs must not be
compared. Written are benchmarks/train.json, docs/speed.md and docs/speed.svg.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from probtune.records import environment

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "train.json"
PAGE, PICTURE = ROOT / "docs" / "speed.md", ROOT / "docs" / "speed.svg"

MODELS = {"smollm2-135m": (4, 256), "10 M": (8, 256)}
"""Model -> rows and tokens of a micro-batch."""
LAYOUTS = ("padded", "packed")
MASKED = (0, 50, 80)
"""Percent of the tokens that are not supervised."""
ARMS = (
    *("TRL nll", "TRL chunked_nll", "TRL dft"),
    *("ours nll", "ours p", "ours power(10)", "ours eaft"),
    LAYERS := "layers alone",
)
"""`LAYERS` trains the layers below the output layer on the mean of their last states, without an
output layer: no loss can be faster.
"""
_SETTING = ("model", "layout", "masked")
STEPS, WARM = 3, 1
"""Steps that are timed, and those before them."""


def rows_of(number: int, length: int, masked: int, vocabulary: int) -> list[dict[str, Any]]:
    """Rows of random tokens, half to all of `length`, whose first part is not supervised."""
    import random

    rng = random.Random(0)
    rows = []
    for _ in range(number):
        size = rng.randint(length // 2, length)
        ids = [rng.randrange(10, vocabulary) for _ in range(size)]
        prompt = size * masked // 100
        rows.append({"input_ids": ids, "labels": [-100] * prompt + ids[prompt:]})
    return rows


def model_of(name: str) -> Any:
    """Return the packaged model, or one of 10 M random parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if name != "10 M":
        from probtune.models.loading import load_model

        return load_model(name, dtype=torch.float32)
    config = LlamaConfig(
        hidden_size=256, intermediate_size=1024, num_attention_heads=8, num_key_value_heads=4,
        num_hidden_layers=6, vocab_size=16384, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=1, pad_token_id=0, max_position_embeddings=1024,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def trainer_of(arm: str, model: Any, rows: Any, layout: str, length: int, batch: int) -> Any:
    """Return the trainer of an arm; TRL's as it is, or ours."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from probtune.models.packaged import model_folder
    from probtune.training import CHECKPOINTING, ProbTuneConfig, ProbTuneTrainer

    who, _, what = arm.partition(" ")
    options: dict[str, Any] = {
        "output_dir": tempfile.mkdtemp(), "per_device_train_batch_size": batch,
        "max_steps": WARM + STEPS, "use_cpu": True, "bf16": False, "report_to": "none",
        "save_strategy": "no", "disable_tqdm": True, "logging_steps": WARM + STEPS,
        CHECKPOINTING: False, "packing": layout == "packed", "max_length": length,
        "dataset_kwargs": None if layout == "packed" else {"skip_prepare_dataset": True},
    }  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(model_folder("smollm2-135m"))
    tokenizer.pad_token = tokenizer.eos_token
    parts = {"train_dataset": Dataset.from_list(rows), "processing_class": tokenizer}
    if arm == LAYERS:
        return _without_head(SFTTrainer)(model, SFTConfig(**options), **parts)
    if who == "TRL":
        return SFTTrainer(model, SFTConfig(**options, loss_type=what), **parts)
    return ProbTuneTrainer(model, ProbTuneConfig(**options, objective=what), **parts)


def _without_head(trainer_class: Any) -> Any:
    class Layers(trainer_class):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            inputs = {k: v for k, v in inputs.items() if k != "labels"}
            return model.base_model(**inputs, use_cache=False).last_hidden_state.mean()

    return Layers


def measure(model_name: str, layout: str, masked: int, arm: str) -> dict[str, float]:
    """Train a few steps, and return the time of the fastest and the peak memory of the process."""
    import warnings

    import datasets
    import transformers

    warnings.simplefilter("ignore")
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.set_seed(0)
    batch, length = MODELS[model_name]
    model = model_of(model_name)
    number = batch * (WARM + STEPS) * (2 if layout == "packed" else 1)
    rows = rows_of(number, length, masked, model.config.vocab_size)
    trainer = trainer_of(arm, model, rows, layout, length, batch)
    times: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            self.started = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            times.append(time.perf_counter() - self.started)

    trainer.add_callback(Clock())
    logging = Spent(arm)
    trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = {"seconds": min(times[WARM:]), "peak_mib": peak / 1024, "steps": len(times)}
    return result | {"logging_share": logging.seconds / sum(times)}


class Spent:
    """Seconds that our trainer spends on the sums and the histogram that it logs."""

    def __init__(self, arm: str):
        from probtune.training import trainer

        self.seconds = 0.0
        if arm.startswith("ours"):
            for name in ("row_sums", "p_histogram"):
                setattr(trainer, name, self._timed(getattr(trainer, name)))

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            started = time.perf_counter()
            result = function(*arguments)
            self.seconds += time.perf_counter() - started
            return result

        return timed


def in_process(*setting: Any) -> dict[str, float]:
    """Measure in a process of its own."""
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=lambda: theirs.send(measure(*setting)))
    process.start()
    theirs.close()
    try:
        return mine.recv()
    except EOFError:
        raise SystemExit(f"{setting} failed; its error stands above.") from None
    finally:
        process.join()


def prepare() -> None:
    """Import what a measurement imports."""
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import torch  # noqa: F401
    import trl.trainer.sft_trainer  # noqa: F401

    import probtune.models.loading
    import probtune.training  # noqa: F401


def table(results: list[dict[str, Any]]) -> str:
    """Return the results as Markdown: ratios to TRL's nll of the same setting."""
    lines = [f"| setting | {' | '.join(ARMS)} |", "|---" * (len(ARMS) + 1) + "|"]
    for quantity, name in (("seconds", "time"), ("peak_mib", "memory")):
        for entry in results:
            first = entry["arms"][ARMS[0]][quantity]
            measured = (entry["arms"].get(arm) for arm in ARMS)
            cells = ["-" if arm is None else f"{arm[quantity] / first:.2f}" for arm in measured]
            unit = f"{first:.2f} s" if quantity == "seconds" else f"{first:,.0f} MiB"
            cells[0] += f" ({unit})"
            where = f"{entry['model']}, {entry['layout']}, {entry['masked']} % masked"
            lines.append(f"| {name}: {where} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(results: list[dict[str, Any]]) -> None:
    """Draw the ratios of time, one panel for each model."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    names = [name for name in MODELS if any(entry["model"] == name for entry in results)]
    figure, axes = plt.subplots(1, len(names), figsize=(5 * len(names), 4), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        entries = [entry for entry in results if entry["model"] == name]
        ticks = range(len(entries))
        for arm in ARMS:
            ratios = [
                e["arms"].get(arm, {}).get("seconds", np.nan) / e["arms"][ARMS[0]]["seconds"]
                for e in entries
            ]
            axis.plot(ticks, ratios, marker="o", label=arm, ls="-" if arm[0] == "o" else ":")
        axis.set_xticks(ticks, [f"{e['layout']}\n{e['masked']} %" for e in entries])
        axis.set_title(name)
        axis.set_ylabel("time of a step, TRL's nll = 1")
        axis.set_ylim(bottom=0)
    axes[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(PICTURE, metadata={"Date": None})


def _most_logging(results: list[dict[str, Any]]) -> float:
    return max(arm["logging_share"] for entry in results for arm in entry["arms"].values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--try", dest="short", action="store_true", help="one setting, no files")
    parser.add_argument("--only", metavar="MODEL,LAYOUT,MASKED", help="this setting anew")
    parser.add_argument("--rounds", type=int, default=1, help="rounds over the arms (default 1)")
    options = parser.parse_args()
    settings = [(m, a, share) for m in reversed(MODELS) for a in LAYOUTS for share in MASKED]
    results: dict[tuple[Any, ...], dict[str, Any]] = {}
    of_machine = environment()
    if options.short:
        settings = [("10 M", "padded", 50)]
    elif options.only:
        named = {",".join(map(str, setting)): setting for setting in settings}
        if options.only not in named:
            parser.error(f"--only takes one of {'; '.join(named)}")
        settings = [named[options.only]]
        before = json.loads(RESULTS.read_text())
        of_machine = before["environment"]
        results = {tuple(entry[name] for name in _SETTING): entry for entry in before["results"]}
    prepare()
    started = time.monotonic()
    for setting in settings:
        entry = {**dict(zip(_SETTING, setting, strict=True)), "rounds": options.rounds}
        if options.only:
            entry["environment"] = environment()
        entry["arms"] = rounds(setting, options.rounds)
        results[setting] = entry
        print(table([entry]), flush=True)
        if not options.short:
            save(list(results.values()), of_machine)
    print(f"{time.monotonic() - started:.0f} s")


def rounds(setting: tuple[str, str, int], number: int) -> dict[str, dict[str, float]]:
    """Measure every arm in turn, `number` times over, and return the fastest of each."""
    arms: dict[str, dict[str, float]] = {}
    for _ in range(number):
        for arm in ARMS:
            result = in_process(*setting, arm)
            print(f"{arm:18s} {result['seconds']:.3f} s", file=sys.stderr, flush=True)
            if arm not in arms or result["seconds"] < arms[arm]["seconds"]:
                arms[arm] = result
    return arms


def save(results: list[dict[str, Any]], of_machine: dict[str, Any]) -> None:
    """Write the record, the picture and the page of the settings so far."""
    record = {"environment": of_machine, "results": results}
    RESULTS.write_text(json.dumps(record, indent=1, default=str) + "\n")
    draw(results)
    PAGE.write_text(
        "# Speed of training\n\nSeconds of an optimizer step and peak memory of a process beside"
        " TRL's `SFTTrainer` on the same rows, as ratios to its nll. Made by `make bench-train`,"
        " which writes `benchmarks/train.json` with the machine and the versions.\n\n"
        f"![Time of a step](speed.svg)\n\n{table(results)}\n\nThe sums and the histogram of p"
        f" that our trainer logs take at most {_most_logging(results):.2%} of a training."
        f" `{LAYERS}` is a step without any output layer, below which no loss can be.\n"
    )


if __name__ == "__main__":
    main()
