"""Time and memory of the head with the objective on a CPU, beside its peers.

    python benchmarks/head.py            # about twelve minutes on 2 idle cores; --quick: one
    make bench-head

Forward and backward with gradients of hidden states and weights. Every peer runs in a process of
its own, which also times the three bare matmuls of the same shapes (the ceiling) between its
repetitions; ratios are of times in units of that ceiling, so that a machine that slows down between
processes does not decide. Writes benchmarks/head.json with the environment, the table of
docs/numerics.md and docs/head.svg.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blocks import write

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PEERS = {
    "plain": "plain logits",
    "torch": "torch linear_cross_entropy",
    "torch-chunked": "torch linear_cross_entropy, chunked",
    "trl": "TRL's fused head",
    "ours": "ours, NLL",
    "ours-kept": "ours, a threshold that keeps 30 %",
}
SHAPES = {"small": (576, 49152), "wide": (1536, 37984)}
"""(hidden size, vocabulary); `wide` is Qwen2.5-1.5B with a quarter of its vocabulary."""
EVERY = ("plain", "torch", "trl", "ours", "ours-kept")
FEW = ("plain", "ours", "ours-kept")
GRID = [
    ("small", 512, 0.5, "float32", FEW),
    ("small", 1024, 0.0, "float32", EVERY),
    ("small", 1024, 0.5, "float32", (*EVERY, "torch-chunked")),
    ("small", 1024, 0.8, "float32", EVERY),
    ("small", 2048, 0.5, "float32", FEW),
    ("small", 4096, 0.0, "float32", ("plain", "ours")),
    ("small", 4096, 0.5, "float32", FEW),
    ("wide", 512, 0.0, "float32", ("plain", "torch", "ours", "ours-kept")),
    ("wide", 512, 0.5, "float32", EVERY),
    ("wide", 512, 0.8, "float32", ("plain", "torch", "ours", "ours-kept")),
    ("small", 512, 0.0, "bfloat16", ("plain", "torch", "ours")),
    ("small", 512, 0.5, "bfloat16", ("plain", "torch", "ours", "ours-kept")),
    ("wide", 512, 0.5, "bfloat16", ("plain", "torch", "ours", "ours-kept")),
]
"""Cases and who takes part: what takes longest (torch's chunked head, TRL's, 4096 tokens) does so
where it is the question.
"""
QUICK = [("small", 512, 0.5, "float32", FEW)]
ASKS = [
    ("nothing masked, time / best other", "ours", 0.0, 1.02),
    ("50 % masked, time / best other", "ours", 0.5, 0.52),
    ("50 % masked, 30 % of the rows kept, time / best other", "ours-kept", 0.5, 0.32),
]
"""(What, head, share masked, at most): the targets of the CPU, beside memory."""
_MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small case; writes nothing")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(**json.loads(options.case))))
        return
    from probtune.records import environment

    cases = []
    for shape, tokens, masked, dtype, peers in QUICK if options.quick else GRID:
        for peer in peers:
            case = {
                "peer": peer, "shape": shape, "tokens": tokens, "masked": masked, "dtype": dtype,
                "repeats": options.repeats, "threads": options.threads,
            }  # fmt: skip
            result = run(case)
            cases.append({**case, **result})
            shown = ", ".join(f"{name} {value:.3g}" for name, value in summary(cases[-1]).items())
            print(f"{shape} {tokens} {masked:.0%} {dtype:8s} {peer:14s} {shown}", flush=True)
    print()
    for header, rows in (table(cases), targets(cases)):
        for row in [header, *rows]:
            print(" | ".join(row))
        print()
    if not options.quick:
        record = {"environment": environment(), "cases": cases}
        (HERE / "head.json").write_text(json.dumps(record, indent=1) + "\n")
        write(DOCS / "numerics.md", "head", table(cases))
        write(DOCS / "numerics.md", "head targets", targets(cases))
        draw(cases, DOCS / "head.svg")


def run(case: dict[str, Any]) -> dict[str, Any]:
    """Measure a case in a process of its own."""
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{case} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(
    peer: str, shape: str, tokens: int, masked: float, dtype: str, repeats: int, threads: int
) -> dict[str, Any]:
    """Return the seconds of each repetition of the peer and of the bare matmuls, and peak MiB above
    inputs and gradients.
    """
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    size, vocabulary = SHAPES[shape]
    kind = getattr(torch, dtype)
    hidden = torch.randn(tokens, size, dtype=kind, requires_grad=True)
    weight = (torch.randn(vocabulary, size) / size**0.5).to(kind).requires_grad_()
    labels = torch.randint(0, vocabulary, (tokens,))
    labels[torch.rand(tokens) < masked] = -100
    step = PREPARE[peer](hidden, weight, labels)
    grads = (hidden.numel() + weight.numel()) * hidden.element_size()

    def once() -> float:
        hidden.grad = weight.grad = None
        started = time.perf_counter()
        step().backward()
        return time.perf_counter() - started

    upstream = torch.randn(tokens, vocabulary, dtype=kind)

    def ceiling(buffer: Any) -> float:
        with torch.no_grad():
            started = time.perf_counter()
            torch.mm(hidden, weight.t(), out=buffer)
            _ = buffer @ weight, buffer.t() @ hidden
            return time.perf_counter() - started

    once(), ceiling(upstream)
    pairs = [(once(), ceiling(upstream)) for _ in range(repeats)]
    upstream = None
    hidden.grad = weight.grad = None
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = memory("VmRSS")
    once()
    return {
        "seconds": [a for a, _ in pairs],
        "ceiling": [b for _, b in pairs],
        "peak_mib": (memory("VmHWM") - before - grads) / _MIB,
    }


def plain(hidden: Any, weight: Any, labels: Any) -> Callable[[], Any]:
    import torch.nn.functional as F

    return lambda: F.cross_entropy((hidden @ weight.t()).float(), labels)


def torch_head(hidden: Any, weight: Any, labels: Any, **options: Any) -> Callable[[], Any]:
    import torch.nn.functional as F

    return lambda: F.linear_cross_entropy(hidden, weight, labels, ignore_index=-100, **options)


def torch_chunked(hidden: Any, weight: Any, labels: Any) -> Callable[[], Any]:
    import torch

    return torch_head(hidden, weight, labels, options=torch.nn.LinearCrossEntropyOptions())


def trl(hidden: Any, weight: Any, labels: Any) -> Callable[[], Any]:
    from types import SimpleNamespace

    import torch
    from transformers.modeling_outputs import BaseModelOutputWithPast
    from trl.trainer.utils import add_fused_lm_head

    # The patched forward of a model whose backbone returns the given hidden states.
    head = SimpleNamespace(weight=weight, bias=None)
    config = SimpleNamespace(model_type="bench")
    config.get_text_config = lambda: config

    class Model:
        def forward(self):
            raise AssertionError

        def base_model(self, **_):
            return BaseModelOutputWithPast(last_hidden_state=hidden[None])

        def get_output_embeddings(self):
            return head

    model = Model()
    model.config = config  # type: ignore[attr-defined]
    add_fused_lm_head(model, outputs=("log_probs",))  # type: ignore[arg-type]
    shifted, count = labels[None], (labels != -100).sum()

    def step() -> Any:
        out = model.forward(fused_lm_head=True, shift_labels=shifted)  # type: ignore[call-arg]
        return -out.log_probs.sum() / torch.as_tensor(count)

    return step


def ours(hidden: Any, weight: Any, labels: Any) -> Callable[[], Any]:
    from probtune import linear_objective_loss, nll

    return lambda: linear_objective_loss(hidden, weight, labels, nll())


def ours_kept(hidden: Any, weight: Any, labels: Any) -> Callable[[], Any]:
    import torch

    from probtune import above, linear_objective_loss, linear_target_logprobs, nll

    with torch.no_grad():
        logp = linear_target_logprobs(hidden, weight, labels)[labels != -100]
    cut = above(float(torch.quantile(logp, 0.7).exp()), nll())
    return lambda: linear_objective_loss(hidden, weight, labels, cut)


PREPARE = {
    "plain": plain,
    "torch": torch_head,
    "torch-chunked": torch_chunked,
    "trl": trl,
    "ours": ours,
    "ours-kept": ours_kept,
}


def memory(name: str) -> int:
    """Return the bytes of a line of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    raise SystemExit(f"no {name} in /proc/self/status: memory is measured on Linux only.")


def summary(case: dict[str, Any]) -> dict[str, float]:
    """Return medians: seconds, in units of the ceiling; the latter's smallest and largest; MiB."""
    ratios = [a / b for a, b in zip(case["seconds"], case["ceiling"], strict=True)]
    return {
        "seconds": statistics.median(case["seconds"]),
        "ceilings": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
        "mib": case["peak_mib"],
    }


def groups(cases: list[dict[str, Any]]) -> dict[tuple, dict[str, dict[str, float]]]:
    """Return case -> peer -> its summary, with `relative`: its ceilings over those of the best head
    that is not ours.
    """
    out: dict[tuple, dict[str, dict[str, float]]] = {}
    for case in cases:
        key = (case["shape"], case["tokens"], case["masked"], case["dtype"])
        out.setdefault(key, {})[case["peer"]] = summary(case)
    for peers in out.values():
        best = min(x["ceilings"] for peer, x in peers.items() if not peer.startswith("ours"))
        for values in peers.values():
            values["relative"] = values["ceilings"] / best
    return out


def table(cases: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return for each case and peer: time relative to the best other head, in ceilings with its
    range, memory.
    """
    rows = []
    for (shape, tokens, masked, dtype), peers in groups(cases).items():
        size, vocabulary = SHAPES[shape]
        for peer, x in peers.items():
            rows.append([
                f"{tokens} x {size} x {vocabulary} {dtype}, {masked:.0%} masked",
                PEERS[peer],
                f"{x['relative']:.2f}",
                f"{x['ceilings']:.2f} [{x['least']:.2f}, {x['most']:.2f}]",
                f"{x['seconds']:.2f}",
                f"{max(x['mib'], 0.0):.0f}",
            ])  # fmt: skip
    header = ["case", "head", "time / best other", "time / bare matmuls", "seconds", "MiB"]
    return header, rows


def targets(cases: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return the targets on a CPU, and the worst case of each."""
    everything = groups(cases)
    rows = []
    for dtype in dict.fromkeys(key[3] for key in everything):
        of_dtype = {key: peers for key, peers in everything.items() if key[3] == dtype}
        for what, head, masked, most in ASKS:
            those = [
                (peers[head]["relative"], key)
                for key, peers in of_dtype.items()
                if key[2] == masked and head in peers
            ]
            if those:
                worst, key = max(those)
                where = f"{key[1]} x {SHAPES[key[0]][0]} x {SHAPES[key[0]][1]}"
                ends = dict.fromkeys((f"{min(those)[0]:.2f}", f"{worst:.2f}"))
                rows.append([f"{dtype}, {what}", f"<= {most}", " to ".join(ends), where])
    shares = [
        (max(peers["ours"]["mib"], 0.0) / peers["plain"]["mib"], key)
        for key, peers in everything.items()
        if key[1] == 4096
    ]
    if shares:
        worst, key = max(shares)
        where = f"{key[1]} x {SHAPES[key[0]][0]} x {SHAPES[key[0]][1]}, {key[2]:.0%} masked"
        rows.append(["4096 tokens, memory / plain", "<= 0.125", f"{worst:.3f}", where])
    return ["what", "asked", "found", "worst case"], rows


def draw(cases: list[dict[str, Any]], path: Path) -> None:
    """Draw a row of dots per case: time relative to the best other head, and memory."""
    from matplotlib.figure import Figure

    from probtune.reports.figures import save

    grid = groups(cases)
    figure = Figure(figsize=(9, 0.55 * len(grid) + 1.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for k, peer in enumerate(PEERS):
        points = [(row, peers[peer]) for row, peers in enumerate(grid.values()) if peer in peers]
        rows = [row for row, _ in points]
        for axis, name in zip(axes, ("relative", "mib"), strict=True):
            x = [max(values[name], 1.0) if name == "mib" else values[name] for _, values in points]
            axis.plot(x, rows, "o", color=f"C{k}", label=PEERS[peer])
    axes[0].set_yticks(
        range(len(grid)),
        [f"{t} x {SHAPES[s][0]} x {SHAPES[s][1]}\n{d}, {m:.0%} masked" for s, t, m, d in grid],
        fontsize=7,
    )
    axes[0].invert_yaxis()
    axes[0].axvline(1.0, color="0.7", linewidth=1)
    axes[0].set_xlabel("time, relative to the best head that is not ours")
    axes[0].set_xlim(left=0)
    axes[1].set_xscale("log")
    axes[1].set_xlabel("peak memory above inputs and gradients, MiB")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    save(figure, str(path))


if __name__ == "__main__":
    main()
