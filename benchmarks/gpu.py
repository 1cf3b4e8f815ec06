"""The head on a GPU: time, memory and error beside its peers.

    benchmarks/gpu.sh                     # correctness first, then this; under ten minutes
    python benchmarks/gpu.py --dry-run    # tiny shapes on a CPU: shows that the script works

Forward and backward in bfloat16. One process per peer and shape, which also times the three bare
matmuls of the same shapes; ten warm-ups, at least thirty repetitions, median with 20th and 80th
percentile; memory is the peak above inputs and gradients; error is that of the gradients of hidden
states and weight, in the Frobenius norm, against float64 on the first 512 tokens. Hidden states are
made so that target probabilities lie between 0 and 1 in the shape of a U. Writes gpu.json and
gpu.svg, with device, driver and versions.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gpu_peers

HERE = Path(__file__).parent
SHAPES = {
    "llama": (8192, 4096, 128256, None),
    "qwen": (8192, 1536, 151936, None),
    "gemma": (8192, 2304, 256000, 30.0),
    "dry": (24, 16, 67, None),
}
"""(tokens, hidden size, vocabulary, softcap) of Llama 3.1 8B, Qwen2.5 1.5B and Gemma 2 2B."""
NLL, HALF, KEPT = ("nll()", 0.0), ("nll()", 0.5), ("kept", 0.0)
OURS = [NLL, HALF, ("p()", 0.0), ("power(10)", 0.0), KEPT, ("kept", 0.5), ("eaft(1, 20)", 0.0)]
PLAN = [
    ("ours", "llama", [*OURS, ("nll()", 0.8)]),
    ("liger", "llama", [NLL, HALF]),
    ("quack", "llama", [NLL, HALF]),
    ("liger-scaled", "llama", [NLL, HALF, ("power(10)", 0.0)]),
    ("naive", "llama", [NLL, HALF, ("power(10)", 0.0)]),
    ("cce", "llama", [NLL, HALF, ("power(10)", 0.0)]),
    ("torch", "llama", [NLL, HALF]),
    ("ours-lean", "llama", [NLL, ("power(10)", 0.0)]),
    ("liger-2048", "llama", [NLL]),
    ("liger-float32", "llama", [NLL]),
    ("ours", "qwen", OURS),
    ("ours-epilogue", "qwen", [NLL, HALF, ("power(10)", 0.0)]),
    ("liger", "qwen", [NLL, HALF]),
    ("quack", "qwen", [NLL, HALF]),
    ("trl", "llama", [NLL, HALF]),
    ("compiled", "llama", [NLL]),
    ("ours-chunked", "llama", [NLL, HALF]),
    ("ours-epilogue", "llama", [NLL]),
    ("ours", "gemma", [NLL, HALF]),
    ("liger", "gemma", [NLL, HALF]),
    ("cce", "gemma", [NLL]),
    ("torch", "qwen", [NLL]),
    ("liger-scaled", "qwen", [NLL, HALF]),
]
"""(peer, shape, [(objective, share masked)]), the most telling first: the rest is left out when the
time is up. `kept` is a threshold that keeps 30 % of the supervised rows.
"""
DRY = [
    ("ours", "dry", [NLL, HALF, ("power(10)", 0.0), KEPT]),
    ("ours-lean", "dry", [NLL]),
    ("naive", "dry", [NLL, ("power(10)", 0.0)]),
    ("quack", "dry", [NLL]),
]
_MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on a CPU")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of gpu.json and gpu.svg")
    parser.add_argument("--minutes", type=float, default=5.5, help="then no further process starts")
    parser.add_argument("--tests", default="not run", help="what the correctness tests said")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(**json.loads(options.case))))
        return
    from probtune.records import environment

    if not options.dry_run:
        import torch

        if not torch.cuda.is_available():
            raise SystemExit("no GPU here; --dry-run shows that the script works.")
    started, measured, left_out = time.monotonic(), [], []
    for peer, shape, cases in DRY if options.dry_run else PLAN:
        reason = gpu_peers.missing(peer)
        if reason is None and time.monotonic() - started > 60 * options.minutes:
            reason = "the time was up"
        if reason is None:
            result, reason = run(peer, shape, cases)
            measured += result
        if reason is not None:
            left_out.append({"peer": peer, "shape": shape, "reason": reason})
            print(f"{shape} {peer}: left out, {reason}", flush=True)
        for case in measured[-len(cases) :] if reason is None else []:
            print(line(case), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    record = {
        "environment": environment(), "device": device(), "tests": options.tests,
        "cases": measured, "left_out": left_out, "targets": targets(measured),
    }  # fmt: skip
    (options.out / "gpu.json").write_text(json.dumps(record, indent=1) + "\n")
    if measured:
        draw(measured, options.out / "gpu.svg")
    for target in record["targets"]:
        print(f"{target['what']}: asked {target['asked']}, found {target['found']}")


def run(peer: str, shape: str, cases: list[Any]) -> tuple[list[dict[str, Any]], str | None]:
    """Measure a peer on a shape, in a process of its own; return why if it failed."""
    case = json.dumps({"peer": peer, "shape": shape, "cases": cases})
    env = dict(os.environ)
    if shape == "dry":
        env["TRITON_INTERPRET"] = "1"
    try:
        done = subprocess.run(
            [sys.executable, __file__, "--case", case],
            capture_output=True, text=True, env=env, timeout=120,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return [], "it took more than two minutes"
    if done.returncode:
        return [], (done.stderr.strip().splitlines() or ["it failed"])[-1][:300]
    return json.loads(done.stdout.splitlines()[-1]), None


def measure(peer: str, shape: str, cases: list[list[Any]]) -> list[dict[str, Any]]:
    """Measure every case of a peer on a shape."""
    import torch

    dry = shape == "dry"
    where = "cpu" if dry else "cuda"
    dtype = torch.float16 if dry else torch.bfloat16
    tokens, size, vocabulary, softcap = SHAPES[shape]
    hidden, weight, labels = problem(tokens, size, vocabulary, where, dtype)
    least, budget = (1, 0.0) if dry else (30, 2.0)

    def ceiling() -> None:
        with torch.no_grad():
            z = hidden @ weight.t()
            _ = z @ weight, z.t() @ hidden

    bare = timed(ceiling, where, least, budget)
    measured = []
    for name, masked in cases:
        torch.manual_seed(1)
        y = labels.masked_fill(torch.rand(tokens, device=where) < masked, -100)
        f, positions = chosen(name, hidden, weight, y, softcap)
        step = gpu_peers.PEERS[peer][2](hidden, weight, y, f, softcap)
        if step is None:
            continue

        def once(step: Any = step) -> None:
            hidden.grad = weight.grad = None
            step().backward()

        case = {
            "peer": peer, "shape": shape, "masked": masked, "objective": name, "kept": positions,
            "ms": timed(once, where, least, budget), "ceiling_ms": bare,
        }  # fmt: skip
        hidden.grad = weight.grad = None
        if not dry:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            once()
            grads = (hidden.numel() + weight.numel()) * hidden.element_size()
            case["peak_mib"] = (torch.cuda.max_memory_allocated() - before - grads) / _MIB
            hidden.grad = weight.grad = None
        if name != "kept" and "eaft" not in name:
            case["error"] = error(peer, hidden, weight, y, f, softcap)
        measured.append(case)
    return measured


def problem(
    tokens: int, size: int, vocabulary: int, where: str, dtype: Any
) -> tuple[Any, Any, Any]:
    """Return hidden states that point to their target by a random amount."""
    import torch

    torch.manual_seed(0)
    weight = torch.randn(vocabulary, size, device=where) / size**0.5
    labels = torch.randint(0, vocabulary, (tokens,), device=where)
    towards = weight[labels] / weight[labels].norm(dim=1, keepdim=True)
    amount = 25.0 * torch.rand(tokens, 1, device=where)
    hidden = amount * towards + torch.randn(tokens, size, device=where)
    return hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), labels


def chosen(name: str, hidden: Any, weight: Any, y: Any, softcap: Any) -> tuple[Any, float]:
    """Return the objective, and the share of the supervised rows with a gradient."""
    import torch

    from probtune import above, linear_target_logprobs, nll, objective

    with torch.no_grad():
        logp = linear_target_logprobs(hidden, weight, y, softcap=softcap, impl="chunked")
    logp = logp[y != -100]
    f = objective(name) if name != "kept" else above(float(logp.quantile(0.7).exp()), nll())
    if f.needs:
        return f, 1.0
    return f, float((f.logit_gradient(logp) != 0).float().mean())


def timed(step: Any, where: str, least: int, budget: float) -> dict[str, float]:
    """Return milliseconds: median, 20th and 80th percentile of at least `least` repetitions."""
    import torch

    times = []
    for _ in range(10 if where == "cuda" else 1):
        step()
    started = time.monotonic()
    while len(times) < least or (time.monotonic() - started < budget and len(times) < 100):
        if where == "cuda":
            ends = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            ends[0].record()
            step()
            ends[1].record()
            torch.cuda.synchronize()
            times.append(ends[0].elapsed_time(ends[1]))
        else:
            at = time.perf_counter()
            step()
            times.append(1e3 * (time.perf_counter() - at))
    times.sort()
    low, high = (times[min(int(q * len(times)), len(times) - 1)] for q in (0.2, 0.8))
    return {"median": statistics.median(times), "p20": low, "p80": high, "n": len(times)}


def error(peer: str, hidden: Any, weight: Any, y: Any, f: Any, softcap: Any) -> dict[str, float]:
    """Return the relative error of both gradients on the first 512 tokens."""
    import torch

    from probtune import linear_objective_loss

    rows, y = hidden.detach()[:512].clone().requires_grad_(), y[:512]
    step = gpu_peers.PEERS[peer][2](rows, weight, y, f, softcap)
    assert step is not None
    gradients = torch.autograd.grad(step(), (rows, weight))
    exact = [x.detach().double().requires_grad_() for x in (rows, weight)]
    loss = linear_objective_loss(*exact, y, f, softcap=softcap, impl="chunked")
    truth = torch.autograd.grad(loss, exact)
    return {
        name: float((a.double() - b).norm() / b.norm())
        for name, a, b in zip(("hidden", "weight"), gradients, truth, strict=True)
    }


def device() -> dict[str, Any]:
    """Return the GPU, its driver and the libraries that decide."""
    import importlib.metadata

    import torch

    names = ("torch", "triton", "liger-kernel", "quack-kernels", "cut-cross-entropy", "trl")
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    facts: dict[str, Any] = {"versions": versions, "cuda": torch.version.cuda, "name": None}
    if torch.cuda.is_available():
        query = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,power.limit"]
        try:
            done = subprocess.run(
                [*query, "--format=csv,noheader"], capture_output=True, text=True, check=False
            )
            facts["nvidia-smi"] = done.stdout.strip()
        except FileNotFoundError:
            facts["nvidia-smi"] = None
        facts["name"] = torch.cuda.get_device_name()
    return facts


def targets(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the targets on a GPU with the figure of each, None where a part was not measured."""

    def of(peer: str, objective: str = "nll()", masked: float = 0.0, shape: str = "llama") -> Any:
        same = (peer, objective, masked, shape)
        return next(
            (c for c in cases if (c["peer"], c["objective"], c["masked"], c["shape"]) == same),
            None,
        )

    def ratio(a: Any, b: Any) -> float | None:
        return None if a is None or b is None else a["ms"]["median"] / b["ms"]["median"]

    def faster(*peers: str) -> float | None:
        ratios = [ratio(of(peer, masked=0.5), of("ours", masked=0.5)) for peer in peers]
        return min((x for x in ratios if x is not None), default=None)

    ours, lean = of("ours"), of("ours-lean")
    power = of("ours", "power(10)")
    share = None if ours is None else ours["ceiling_ms"]["median"] / ours["ms"]["median"]
    worst = None if power is None else max(power["error"].values())
    liger, small = of("liger"), of("liger-2048")

    def memory(one: Any, other: Any) -> float | None:
        if one is None or other is None:
            return None
        return one.get("peak_mib", 0.0) / max(other.get("peak_mib", 0.0), 1.0)

    rows = [
        ("NLL, nothing masked, time / Liger", "<= 1.05", ratio(ours, liger)),
        ("NLL, nothing masked, matmul ceiling / time", ">= 0.85", share),
        ("-p, nothing masked, time / NLL", "<= 1.03", ratio(of("ours", "p()"), ours)),
        ("50 % masked, Liger and QuACK / ours", ">= 1.9", faster("liger", "quack")),
        ("threshold that keeps 30 %, time / NLL", "<= 0.60", ratio(of("ours", "kept"), ours)),
        ("-p^10, time / NLL", "<= 0.60 where it keeps 30 %", ratio(power, ours)),
        ("-p^10, error of the gradients", "<= 0.002", worst),
        ("memory in two passes / Liger at chunk 2048", "<= 1", memory(lean, small)),
        ("memory in one pass / Liger at chunk 2048", "<= 1", memory(ours, small)),
        ("two passes, time / Liger at chunk 2048", "not asked", ratio(lean, small)),
    ]
    return [
        {"what": what, "asked": value, "found": None if x is None else round(x, 4)}
        for what, value, x in rows
    ]


def line(case: dict[str, Any]) -> str:
    ms, bare = case["ms"], case["ceiling_ms"]["median"]
    parts = [
        f"{case['shape']} {case['peer']:14s} {case['objective']:12s} masked {case['masked']:.0%}",
        f"kept {case['kept']:.0%}",
        f"{ms['median']:.2f} ms [{ms['p20']:.2f}, {ms['p80']:.2f}], {ms['median'] / bare:.2f} bare",
    ]
    if "peak_mib" in case:
        parts.append(f"{case['peak_mib']:.0f} MiB")
    if "error" in case:
        parts.append("error " + ", ".join(f"{x:.1e}" for x in case["error"].values()))
    return "; ".join(parts)


def draw(cases: list[dict[str, Any]], path: Path) -> None:
    """Draw time in units of the bare matmuls, one row per case, one dot per peer."""
    from matplotlib.figure import Figure

    from probtune.reports.figures import save

    keys = list(dict.fromkeys((c["shape"], c["objective"], c["masked"]) for c in cases))
    figure = Figure(figsize=(9, 0.4 * len(keys) + 2.2), layout="constrained")
    axis = figure.subplots()
    for k, peer in enumerate(gpu_peers.PEERS):
        those = [c for c in cases if c["peer"] == peer]
        if those:
            x = [c["ms"]["median"] / c["ceiling_ms"]["median"] for c in those]
            y = [keys.index((c["shape"], c["objective"], c["masked"])) for c in those]
            axis.plot(x, y, "o", color=f"C{k % 10}", label=gpu_peers.PEERS[peer][0])
    names = [f"{shape}, {f}, {masked:.0%} masked" for shape, f, masked in keys]
    axis.set_yticks(range(len(keys)), names, fontsize=7)
    axis.invert_yaxis()
    axis.axvline(1.0, color="0.7", linewidth=1)
    axis.set_xlim(left=0)
    axis.set_xlabel("time / the three bare matmuls of all tokens")
    figure.legend(loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    save(figure, str(path))


if __name__ == "__main__":
    main()
