"""Cost of an evaluation besides the model and the graders.

    python benchmarks/evaluation.py --overhead    our layer over plain lm-eval, same generation
    python benchmarks/evaluation.py --analysis    phase 3 on the paper's protocol for mathematics

`--overhead` runs pairs on the CPU, in turn, with a model large enough that generation dominates:
lm-eval's own `HFLM`, and ours, which also writes every sample. The script checks that both generate
the same texts. The load of the machine shows in wall times, less in CPU times, and least in the CPU
time outside of the model's `generate`. `--analysis` writes 24,272 graded samples (five benchmarks,
16 answers to each question) with random grades, and runs `probtune eval --phase analyse` on them.
Results: benchmarks/evaluation.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

RESULTS = Path(__file__).with_suffix(".json")
QUESTIONS = {"math500": 500, "minerva": 272, "olympiadbench": 675, "aime24": 30, "amc23": 40}


def overhead(pairs: int, tokens: int, questions: int) -> dict:
    import torch
    from lm_eval.models.huggingface import HFLM
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from probtune.data.prompts import PromptSpec
    from probtune.evaluation.backends.hf import HFModel
    from probtune.evaluation.backends.session import Session
    from probtune.evaluation.engine import compile_task, run_task
    from probtune.evaluation.samples import append_samples
    from probtune.evaluation.tasks.base import Decoding, Question

    torch.set_num_threads(1)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    words = [f"w{i}" for i in range(2000)] + ["<eos>"]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<eos>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<eos>", pad_token="<eos>"
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words), hidden_size=512, intermediate_size=1024, num_hidden_layers=6,
            num_attention_heads=8, num_key_value_heads=4, max_position_embeddings=1024,
            bos_token_id=None, eos_token_id=2000, pad_token_id=2000,
        )
    )  # fmt: skip
    rng = random.Random(0)
    drawn = [
        Question(str(i), " ".join(rng.choices(words[:-1], k=40 + i % 20)), "w1")
        for i in range(questions)
    ]
    batch = 8
    compiled = compile_task("cost", drawn, PromptSpec(), Decoding(tokens), ends=[2000])
    texts: dict[str, list[str]] = {}

    def plain() -> None:
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch, backend="causal")
        generate_until = lm.generate_until
        lm.generate_until = lambda *a, **k: texts.setdefault("plain", generate_until(*a, **k))
        run_task(lm, compiled)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "samples.jsonl"
            lm = HFModel(model, tokenizer, context=1024)
            lm.session = Session(
                "cost", [q.id for q in drawn], 0, batch,
                lambda samples: append_samples(path, samples), {}, context=1024,
            )  # fmt: skip
            generate_until = lm.generate_until
            lm.generate_until = lambda *a, **k: texts.setdefault("ours", generate_until(*a, **k))
            run_task(lm, compiled)
            lines = path.read_text().splitlines()
            assert len(lines) == questions and all("finish_reason" in line for line in lines)

    inside = [0.0]
    generate = model.generate

    def noted(*args, **options):
        start = time.process_time()
        try:
            return generate(*args, **options)
        finally:
            inside[0] += time.process_time() - start

    model.generate = noted

    def timed(run) -> dict[str, float]:
        """Return wall and CPU seconds, and the CPU seconds outside of the model's generate."""
        inside[0] = 0.0
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        cpu = time.process_time() - cpu
        return {"wall": time.perf_counter() - wall, "cpu": cpu, "outside": cpu - inside[0]}

    timed(plain), timed(ours)
    assert texts["plain"] == texts["ours"], "the two did not generate the same texts"
    rows = []
    for index in range(pairs):
        order = (plain, ours) if index % 2 == 0 else (ours, plain)
        pair = {run.__name__: timed(run) for run in order}
        rows.append(pair)
        print(f"pair {index}: {pair}", file=sys.stderr)
    # "outside_of_generate" leaves out the noise of generation, which is the same work in both
    ratios = {
        kind: [row["ours"][kind] / row["plain"][kind] - 1 for row in rows]
        for kind in ("wall", "cpu")
    }
    ratios["outside_of_generate"] = [
        (row["ours"]["outside"] - row["plain"]["outside"]) / row["plain"]["cpu"] for row in rows
    ]
    return {
        "load": os.getloadavg()[0],
        "pairs": rows,
        "tokens": tokens,
        "questions": questions,
        "parameters": sum(p.numel() for p in model.parameters()),
        "median_overhead": {kind: statistics.median(values) for kind, values in ratios.items()},
        "worst_overhead": {kind: max(values) for kind, values in ratios.items()},
    }


def analysis(keep: Path | None) -> dict:
    from probtune.evaluation.evaluate import evaluate
    from probtune.evaluation.reports.parts import MAKERS
    from probtune.evaluation.settings import EvalSettings
    from probtune.records import write_text
    from probtune.reports.report import render
    from probtune.terminal import Terminal

    with tempfile.TemporaryDirectory() as temporary:
        root = keep or Path(temporary)
        samples = fill(root)
        size = sum(path.stat().st_size for path in root.rglob("*.jsonl"))
        start = time.perf_counter()
        record = evaluate(EvalSettings(out=str(root), phase="analyse"), Terminal(quiet=True))
        analysed = time.perf_counter() - start
        write_text(root / "report.html", render([record], MAKERS))
        reported = time.perf_counter() - start - analysed
    assert "torch" not in sys.modules
    return {"samples": samples, "protocols": 2, "mib": size / 2**20,
            "seconds": analysed, "report_seconds": reported}  # fmt: skip


def fill(root: Path) -> int:
    """Fill a folder as the first two phases do, with random grades; return the sample count."""
    from probtune.data.prompts import PromptSpec
    from probtune.evaluation.generate import Generation
    from probtune.evaluation.graded import graded_path, write_graded
    from probtune.evaluation.grading.base import VERSION, versions
    from probtune.evaluation.samples import Sample, append_samples, sha256
    from probtune.evaluation.tasks.base import Decoding
    from probtune.evaluation.tasks.table import TASKS
    from probtune.files import hash_file
    from probtune.records import environment, write_record

    rng = random.Random(0)
    spec, decoding = PromptSpec("chatml"), Decoding(4096, temperature=1.0, samples=16)
    run = {"identity": {"backend": "hf"}, "fingerprint": "none", "tasks": list(QUESTIONS),
           "protocols": ["strict", "reference"], "data": None, "server": None}  # fmt: skip
    write_record(root / "run.json", "eval-run", run)
    total = 0
    for name, n in QUESTIONS.items():
        task = TASKS[name]
        folder = Generation(task, [], spec, decoding, ()).folder(root)
        questions = [f"{name}/{i}" for i in range(n)]
        content = {
            "task": name, "protocols": ["strict", "reference"], "model": "Qwen2.5-Math-1.5B-random",
            "prompt": spec.to_dict(), "decoding": asdict(decoding), "source": asdict(task.source),
            "environment": environment(), "seconds": 0.0,
            "questions": [
                {"id": q, "prompt_sha256": sha256(q), "cluster": None,
                 "protocols": ["strict", "reference"]}
                for q in questions
            ],
        }  # fmt: skip
        write_record(folder / "generation.json", "generation", content)
        hardness = {q: rng.betavariate(0.6, 1.2) for q in questions}
        words = [f"word{i}" for i in range(500)]
        keys = [(q, i) for i in range(16) for q in questions]
        append_samples(
            folder / "samples.jsonl",
            (
                Sample(name, q, i, sha256(q), 1, " ".join(rng.choices(words, k=250)), "stop", 400)
                for q, i in keys
            ),
        )
        grades = {key: rng.random() < hardness[key[0]] for key in keys}
        for protocol in ("strict", "reference"):
            lines = []
            for q in questions:
                for i in range(16):
                    right = grades[q, i] or (protocol == "reference" and rng.random() < 0.02)
                    none = not right and rng.random() < 0.1
                    lines.append({
                        "question": q, "sample": i, "score": float(right),
                        "answer": None if none else "42", "extraction": "none" if none else "boxed",
                        "metrics": {}, "error": None, "truncated": rng.random() < 0.05,
                        "repeats": rng.random() < 0.01, "cluster": None, "tokens": 400,
                    })  # fmt: skip
            header = {"task": name, "protocol": protocol, "grader": VERSION,
                      "versions": versions(),
                      "samples_sha256": hash_file(folder / "samples.jsonl")}  # fmt: skip
            write_graded(graded_path(folder, protocol), header, lines)
        total += len(keys)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--analysis", action="store_true")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--questions", type=int, default=32)
    parser.add_argument("--keep", type=Path, help="folder for the analysed evaluation")
    options = parser.parse_args()
    from probtune.records import environment

    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if options.analysis:
        results["analysis"] = analysis(options.keep) | {"environment": environment()}
        print({k: v for k, v in results["analysis"].items() if k != "environment"})
    if options.overhead:
        results["overhead"] = overhead(options.pairs, options.tokens, options.questions)
        results["overhead"]["environment"] = environment()
        shown = ("median_overhead", "worst_overhead", "parameters")
        print({k: results["overhead"][k] for k in shown})
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
