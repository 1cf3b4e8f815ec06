"""Preparation of training rows: time and memory beside TRL's own, the first optimizer step of many
rows, and one row of 5 MB.

    python benchmarks/data.py [--rows N] [--first-step-rows N]

Each figure comes from a process of its own, so that its peak memory is its own; wall clock and CPU
seconds are both given, since wall clock alone says little on a machine that is shared. Rows are
drawn from Python's own documentation, which comes with every interpreter: 500 characters each,
half prompt and half completion. The table is written to benchmarks/data.json and docs/your-data.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from probtune.records import environment

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "data.json"
PAGE = ROOT / "docs" / "your-data.md"
BEGIN, END = "<!-- data benchmark -->", "<!-- end of data benchmark -->"
MODEL = "smollm2-135m"
MAX_LENGTH = 1024


def write_rows(path: Path, number: int, shape: str) -> None:
    """Write rows of 500 characters."""
    from pydoc_data import topics

    words = " ".join(topics.topics.values()).split()
    rng = random.Random(0)

    def text() -> str:
        start = rng.randrange(len(words) - 100)
        return " ".join(words[start : start + 100])[:250].strip()

    with path.open("w", encoding="utf-8") as file:
        for _ in range(number):
            question, answer = text(), text()
            row: Any = {"prompt": question, "completion": f" {answer}"}
            if shape == "messages":
                turns = (("user", question), ("assistant", answer))
                row = {"messages": [{"role": role, "content": content} for role, content in turns]}
            file.write(json.dumps(row) + "\n")


def tokenizer_with_marks() -> Any:
    """The packaged model's tokenizer; TRL needs {% generation %} marks to mask a conversation."""
    from probtune.models.loading import load_tokenizer

    tokenizer = load_tokenizer(MODEL)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
        "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}"
        "{% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    return tokenizer


def tiny_model(tokenizer: Any) -> Any:
    """A model of the tokenizer's vocabulary that takes no time."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
        )
    )


def ours(path: str) -> dict[str, Any]:
    """Read and tokenize with probtune, up to the dataset that the trainer gets."""
    import trl  # noqa: F401 - both sides load it before the clock starts

    from probtune.data.encoding import encode
    from probtune.data.rows import read_rows

    tokenizer = tokenizer_with_marks()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock = Clock()
    rows = read_rows(path)
    encoding = encode(rows.examples, tokenizer, max_length=MAX_LENGTH)
    dataset = encoding.rows.dataset()
    counts = encoding.counts
    return {
        **clock.stop(),
        "rows": len(dataset),
        "tokens": counts["tokens"],
        "supervised": counts["supervised_tokens"],
        "memory_before_mib": before // 1024,
        "tokens_mib": 8 * counts["tokens"] // 2**20,  # ids and labels of 32 bits
    }


def theirs(path: str) -> dict[str, Any]:
    """Read with `datasets` and prepare with TRL's trainer, in two processes."""
    from datasets import load_dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    tokenizer = tokenizer_with_marks()
    model = tiny_model(tokenizer)
    folder = tempfile.mkdtemp()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock = Clock()
    dataset = load_dataset("json", data_files=path, split="train", cache_dir=folder)
    conversations = "messages" in dataset.column_names
    settings = SFTConfig(
        output_dir=folder,
        max_length=MAX_LENGTH,
        assistant_only_loss=conversations,
        dataset_num_proc=2,
        report_to="none",
        use_cpu=True,
        bf16=False,
    )
    trainer = SFTTrainer(model, settings, train_dataset=dataset, processing_class=tokenizer)
    taken = clock.stop()
    batch: Any = trainer.train_dataset
    supervised = sum(sum(label != -100 for label in row["labels"][1:]) for row in labelled(batch))
    return {
        **taken,
        "rows": len(batch),
        "tokens": sum(map(len, batch["input_ids"])),
        "supervised": supervised,
        "memory_before_mib": before // 1024,
    }


def labelled(rows: Any) -> Any:
    """Rows with labels: TRL's own, or those that its collator makes of the row's masks."""
    masks = [name for name in ("assistant_masks", "completion_mask") if name in rows.column_names]
    for row in rows:
        if "labels" in row:
            yield row
        else:
            pairs = zip(row["input_ids"], row[masks[0]], strict=True)
            yield {"labels": [token if counts else -100 for token, counts in pairs]}


class Clock:
    """Seconds of wall clock and CPU, children included, and peak memory: of this process, and of
    the largest child.
    """

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), cpu_seconds()

    def stop(self) -> dict[str, Any]:
        return {
            "wall_s": round(time.monotonic() - self._wall, 2),
            "cpu_s": round(cpu_seconds() - self._cpu, 2),
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "child_peak_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
        }


def cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def first_step(path: str) -> dict[str, Any]:
    """`probtune train` of a tiny model up to the end of its first optimizer step."""
    from probtune.cli import main

    folder = Path(tempfile.mkdtemp())
    tokenizer = tokenizer_with_marks()
    tiny_model(tokenizer).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    clock = Clock()
    options = ["--objective", "nll", "--max-steps", "1", "--out", str(folder / "run")]
    code = main(["train", str(folder / "model"), path, *options])
    assert code == 0, code
    return clock.stop()


def large_row(path: str) -> dict[str, Any]:
    """One row of 5 MB, cut at 1024 tokens."""
    from probtune.data.encoding import encode
    from probtune.data.rows import rows_from

    tokenizer = tokenizer_with_marks()
    text = "word " * 1_000_000
    row = {"prompt": "Say it.", "completion": f" {text}"}
    clock = Clock()
    rows = rows_from([("row 1", row)], source="one row")
    encoding = encode(rows.examples, tokenizer, max_length=MAX_LENGTH)
    return {**clock.stop(), **encoding.counts}


PARTS = {"ours": ours, "theirs": theirs, "first_step": first_step, "large_row": large_row}


def apart(part: str, path: Path) -> dict[str, Any]:
    """Run a part in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--part", part, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "true"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure(rows: int, first_step_rows: int) -> dict[str, Any]:
    """All figures."""
    results: dict[str, Any] = {"environment": environment(), "load": os.getloadavg(), "rows": rows}
    tokenizer_with_marks()  # built into the cache, so that no part's memory is that of building it
    with tempfile.TemporaryDirectory() as folder:
        for shape in ("prompt/completion", "messages"):
            path = Path(folder) / f"{shape.replace('/', '-')}.jsonl"
            write_rows(path, rows, shape)
            results[shape] = {part: apart(part, path) for part in ("ours", "theirs")}
        results["large_row"] = apart("large_row", path)
        if first_step_rows:
            results["memory"] = []
            for number in (first_step_rows // 4, first_step_rows):
                write_rows(path, number, "messages")
                results["memory"].append(apart("ours", path))
            results["first_step"] = {"rows": first_step_rows, **apart("first_step", path)}
    return results


def table(results: dict[str, Any]) -> str:
    """The page's section."""
    lines = [
        f"{results['rows']:,} rows of 500 characters, read and tokenized with the tokenizer of"
        " SmolLM2-135M; TRL prepares the same file in two processes. CPU seconds include children;"
        f" the machine's load was {results['load'][0]:.1f}.",
        "",
        "| rows | by | wall, s | CPU, s | peak memory, MiB | tokens | supervised |",
        "|---|---|---|---|---|---|---|",
    ]
    for shape in ("prompt/completion", "messages"):
        for part, name in (("ours", "probtune"), ("theirs", "TRL")):
            taken = results[shape][part]
            lines.append(
                f"| {shape} | {name} | {taken['wall_s']} | {taken['cpu_s']} | {taken['peak_mib']:,}"
                f" | {taken['tokens']:,} | {taken['supervised']:,} |"
            )
    pairs = [results[shape] for shape in ("prompt/completion", "messages")]
    ratios = [
        f"{pair['ours'][unit] / pair['theirs'][unit]:.2f}"
        for unit in ("wall_s", "cpu_s")
        for pair in pairs
    ]
    lines += [
        "",
        f"probtune's time is {ratios[0]} (pairs) and {ratios[1]} (conversations) of TRL's by wall"
        f" clock, {ratios[2]} and {ratios[3]} by CPU. A row of 5 MB takes"
        f" {results['large_row']['cpu_s']} s.",
    ]
    if step := results.get("first_step"):
        lines.append(
            f"`probtune train` of {step['rows']:,} conversations ends its first optimizer step"
            f" after {step['wall_s']} s (CPU {step['cpu_s']} s, peak {step['peak_mib']:,} MiB)."
        )
    for taken in results.get("memory", ()):
        beside = taken["peak_mib"] - taken["memory_before_mib"] - taken["tokens_mib"]
        lines.append(
            f"Reading and tokenizing {taken['rows']:,} conversations takes {taken['wall_s']} s (CPU"
            f" {taken['cpu_s']} s) and {taken['tokens_mib']:,} MiB of tokens, {beside} MiB beside"
            f" them and the {taken['memory_before_mib']} MiB of imported packages, and at most"
            f" {taken['child_peak_mib']} MiB in a worker, most of it shared."
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--first-step-rows", type=int, default=400_000)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("path", nargs="?")
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](options.path)))
        return
    results = measure(options.rows, options.first_step_rows)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page = f"{before}{BEGIN}\n\n{table(results)}\n\n{END}{after}"
    PAGE.write_text(page, encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
