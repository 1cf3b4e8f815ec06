"""Trainings on real cells: what objectives gain over NLL on SmolLM2-135M, and what `auto` takes.

    python -m benchmarks.choice.real.trainings               run what is missing, resuming
    python -m benchmarks.choice.real.trainings --limit 2     two cells, then stop
    python -m benchmarks.choice.real.trainings --summary     the table of what was run
    python -m benchmarks.choice.real.trainings --page        the same into the document
    python -m benchmarks.choice.real.trainings --device cuda --layers 0 --rows 1024 --model ID \\
        --results runs/real.jsonl                            every layer, more rows, another model

A cell is a task, a kind of wrong rows, their rate and a seed. Every arm trains on the same rows in
the same order, at every learning rate; validation rows with the cell's own noise pick the rate, as
a user would. Right rows that no arm has seen are the test: *greedy* is the share of them whose
every token, the end included, is the model's first choice; *sampled* is the mean probability of
the whole response. Both come from one forward pass, without decoding.

To fit a laptop the layers below `--layers` (20 of 30) stay frozen and their activations are
computed once; `--layers 0` trains all of them (embeddings and head stay). Where the processor
multiplies bfloat16 the trained layers and the head do (weights and AdamW in float32). A cell takes
twelve minutes of one core, the 83 cells eight hours of two (five more where GSM8K is at hand).
`auto` is what the product's scout and rule say of the same rows, `inliers` weighs them by the
product's two scouts.

The first 29 cells have 96 rows to test, later ones 288 (180 of `spell`). In most of those 29 the
scouts of `inliers` took four steps, no longer eight (not where rows are cut short or one mistake is
made often; in the first 26 they shared the rows in their order, and weighed them also where they
could not tell wrong rows from new ones). In the first 46 scouts may have put a row behind a
prompt with the same answer; the sampled arms of the five in which `auto` weighs rows are newer.
Behind first steps of NLL `auto` had taken p() for sampled answers; `first_steps` compares it.
The last cell is in float32, from a processor that does not multiply bfloat16.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from probtune.data.encoding import Encoded
from probtune.kernels import IGNORE_INDEX
from probtune.kernels.matmuls import cpu_multiplies_bfloat16
from probtune.numbers import signed
from probtune.probe.choosing import METRICS
from probtune.statistics import mean

from ...blocks import Table, aligned, write
from ..rules import paper_rule
from .noise import HELD_OUT as HELD_OUT_KINDS
from .tasks import FACTS, GSM8K, HELD_OUT, LABELS, LATER, LATER_FACTS, TASKS, TEXTS, draw

__all__ = [
    "cell_of",
    "cells",
    "gains_of",
    "means",
    "page",
    "prepare",
    "read",
    "run",
    "run_missing",
    "summary",
    "titled",
]

DOCUMENTS = Path(__file__).parents[3] / "docs"
RESULTS = Path(__file__).with_name("trainings.jsonl")
MODEL = "smollm2-135m"
ARMS = ("nll()", "power(0.5)", "p()", "affine(0.1, 0.9)", "inliers(nll())", "inliers(power(0.5))")
RATES = (1e-4, 3e-4)
PAPER, OTHER, WEIGHED = "paper's rule", "auto for the other answers", "auto with weighed rows"
"""`OTHER`: what `auto` takes for sampled answers read with greedy ones, and the reverse.
`WEIGHED`: `inliers(power(0.5))`, with NLL first as in `auto`, where wrong rows are seen.
"""
_POLICIES = (*(f"`{arm}`" for arm in ARMS[1:]), PAPER, OTHER, WEIGHED, "select", "auto")
"""Headings of what is compared with NLL, in the order of `gains_of`."""
_ROWS, _VALIDATION, _TEST = 128, 64, 288
_PASSES, _STEP = 3, 16
_KINDS = (
    *(("other_row", 0.4), ("none", 0.0), ("slip", 0.2), ("other_row", 0.2)),
    *(("wrong_format", 0.2), ("one_sided", 0.4), ("missing", 0.2), ("other_row", 0.1)),
)
_ABLE = (
    *("addition", "mixed-terse", "upper", "count-on", "mixed-sentences", "steps", "sort", "spell"),
    "shop",
)
"""Tasks that the model may know; of the others the scout cannot tell, and `auto` takes NLL."""
_ECHOED = ("addition", "mixed-sentences", "steps")
"""Tasks with echoes, run when the estimate had learnt to see them."""
_FIRST = ("addition", "mixed-terse", "upper", "gym-chain-sum", "sort", "count-on")


def cells() -> Iterator[tuple[str, str, float, int]]:
    """(task, kind, rate, seed), the most telling first: tasks that the model may know, each with
    many wrong rows, with one of the other kinds and with none; with a second seed one of these and
    one more; then the other tasks.
    """
    yield from sorted(_plan(), key=lambda cell: (cell[0] not in _ABLE, cell[3], cell[2] == 0))


def _plan() -> Iterator[tuple[str, str, float, int]]:
    order = (*_FIRST, *(name for name in TASKS if name not in _FIRST))
    without = {*LABELS, *LATER, *FACTS, *LATER_FACTS, *TEXTS}
    if GSM8K not in os.environ:
        without.add("gsm8k")
    tasks = [(i, name) for i, name in enumerate(order) if name not in without]
    first, others = _KINDS[:2], _KINDS[2:]
    for kind, rate in first:
        yield from ((name, kind, rate, 0) for _, name in tasks)
    yield from ((name, *others[i % len(others)], 0) for i, name in tasks)
    yield from ((name, *first[i % len(first)], 1) for i, name in tasks)
    yield from ((name, *others[(i + 3) % len(others)], 1) for i, name in tasks)
    yield from ((name, "echo", 0.2, 0) for name in _ECHOED)


class _Rows(NamedTuple):
    """Rows as the input of the first trained layer."""

    states: list[Tensor]
    """(tokens, hidden) per row."""
    labels: list[Tensor]
    """(tokens,) per row, not shifted."""
    special: Tensor
    """Ids of the special tokens."""


class _Top:
    """The layers that are trained, with the head, from cached states of the layers below."""

    def __init__(self, model: Any, below: int, *, bfloat16: bool = False):
        self.bfloat16 = bfloat16
        self.base = copy.deepcopy(model.base_model)
        self.base.layers = self.base.layers[below:]
        self.base.config.num_hidden_layers = len(self.base.layers)
        self.head = model.get_output_embeddings().weight.detach()
        self._state = {k: v.clone() for k, v in self.base.state_dict().items() if "embed" not in k}
        self.weights = [p for n, p in self.base.named_parameters() if "embed" not in n]

    def reset(self) -> None:
        self.base.load_state_dict(self._state, strict=False)

    def precision(self) -> torch.autocast:
        """Mixed precision for one step: within one context the weights are cast but once."""
        return torch.autocast(self.head.device.type, torch.bfloat16, enabled=self.bfloat16)

    def logits(self, rows: _Rows, indices: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """(logits, targets, row of each) over the supervised tokens of these rows."""
        device = self.head.device
        states = [rows.states[i] for i in indices]
        batch = torch.nn.utils.rnn.pad_sequence(states, batch_first=True).to(device)
        labels = torch.nn.utils.rnn.pad_sequence(
            [rows.labels[i] for i in indices], batch_first=True, padding_value=IGNORE_INDEX
        ).to(device)[:, 1:]
        hidden = self.base(inputs_embeds=batch, use_cache=False).last_hidden_state[:, :-1]
        row, at = (labels != IGNORE_INDEX).nonzero(as_tuple=True)
        return torch.nn.functional.linear(hidden[row, at], self.head).float(), labels[row, at], row


@torch.no_grad()
def _states(model: Any, encoded: Sequence[Encoded], below: int, special: Tensor) -> _Rows:
    states, labels = [], [torch.from_numpy(row.labels).long() for row in encoded]
    for start in range(0, len(encoded), _STEP):
        ids = [torch.from_numpy(row.input_ids).long() for row in encoded[start : start + _STEP]]
        batch = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(model.device)
        outputs = model.base_model(batch, use_cache=False, output_hidden_states=True)
        hidden = outputs.hidden_states[below]  # padding is on the right, behind what is attended
        states += [hidden[i, : len(row)].clone() for i, row in enumerate(ids)]
    return _Rows(states, labels, special)


def _token_losses(arm: str, logp: Tensor, special: Tensor, weights: Tensor) -> Tensor:
    """f(p) of every token; `special` and `weights` are per token."""
    from probtune import objective

    if arm.startswith("inliers("):
        return weights * _token_losses(arm[len("inliers(") : -1], logp, special, weights)
    if arm.startswith("nll_on_special("):
        inner = _token_losses(arm[len("nll_on_special(") : -1], logp, special, weights)
        return torch.where(special, -logp, inner)
    return objective(arm)(logp)


def _in_force(arm: str, progress: float) -> str:
    """Return an arm as it is when a share of the steps is done."""
    from probtune import objective

    return str(objective(arm).at(progress))


def _train(
    top: _Top,
    rows: _Rows,
    arm: str,
    learning_rate: float,
    weights: np.ndarray,
    seed: int,
    order: int = 0,
) -> None:
    """AdamW with a cosine schedule after two steps of warm-up; the same order for every arm."""
    top.reset()
    top.base.train()
    row_weights = torch.from_numpy(weights).float().to(top.head.device)
    optimizer = torch.optim.AdamW(top.weights, lr=learning_rate, weight_decay=0.0, fused=True)
    number = len(rows.states)
    steps = _PASSES * (number // _STEP)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: min(1.0, (s + 1) / 2) * 0.5 * (1 + np.cos(np.pi * min(1.0, s / steps))),
    )
    rng = np.random.default_rng([seed, 11, order] if order else [seed, 11])
    for passed in range(_PASSES):
        permuted = rng.permutation(number)
        for start in range(0, number - _STEP + 1, _STEP):
            now = _in_force(arm, (passed * (number // _STEP) + start // _STEP) / steps)
            indices = permuted[start : start + _STEP].tolist()
            with top.precision():
                logits, targets, row = top.logits(rows, indices)
            logp = logits.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
            special = torch.isin(targets, rows.special.to(targets.device))
            of_token = row_weights[torch.tensor(indices, device=row.device)][row]
            losses = _token_losses(now, logp, special, of_token)
            (losses.sum() / len(losses)).backward()
            torch.nn.utils.clip_grad_norm_(top.weights, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


@torch.no_grad()
def _measure(top: _Top, rows: _Rows) -> dict[str, float]:
    top.base.eval()
    exact, sampled, ends = [], [], []
    for start in range(0, len(rows.states), 32):
        indices = range(start, min(start + 32, len(rows.states)))
        with top.precision():
            logits, targets, row = top.logits(rows, indices)
        logp = logits.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
        wrong = torch.zeros(len(indices), device=row.device).index_add(
            0, row, (logits.argmax(-1) != targets).float()
        )
        total = torch.zeros(len(indices), device=row.device).index_add(0, row, logp)
        exact.append((wrong == 0).float().cpu())
        sampled.append(total.exp().cpu())
        ends.append(logp[torch.isin(targets, rows.special.to(targets.device))].exp().cpu())
    scores = {"greedy": exact, "sampled": sampled, "end": ends}
    return {name: round(float(torch.cat(parts).mean()), 4) for name, parts in scores.items()}


class Cell(NamedTuple):
    """The rows of a cell as states, and what `auto` and the scouts say of them."""

    top: _Top
    parts: dict[str, _Rows]
    """train, validation, test."""
    judged: Callable[[], np.ndarray]
    """Weights (rows,) of two scouts, which cost two thirds of a pass."""
    line: dict[str, Any]
    """The record of the cell, without its trainings; auto and weighed: what each takes by the way
    of drawing answers.
    """

    def trained(self, arm: str, weights: np.ndarray, *, order: int = 0) -> list[dict[str, Any]]:
        """Scores of validation and test rows after a training with this arm at every rate."""
        results, seed = [], self.line["seed"]
        for learning_rate in RATES:
            _train(self.top, self.parts["train"], arm, learning_rate, weights, seed, order)
            scores = {part: _measure(self.top, self.parts[part]) for part in ("validation", "test")}
            results.append({"learning_rate": learning_rate, **scores})
        return results


def prepare(
    model: Any,
    tokenizer: Any,
    cell: tuple[str, str, float, int],
    *,
    below: int,
    rows: int,
    float32: bool = False,
    tests: int = _TEST,
) -> Cell:
    """Draw a cell's rows, send the scout and ask what auto takes.

    Args:
        below: layers that stay frozen.
        rows: rows to train on.
        float32: no bfloat16.
        tests: right rows that no arm has seen; fewer where a task has no more.
    """
    from probtune.data.chat import added_tokens
    from probtune.models.loading import token_table
    from probtune.probe.after_scout import after_scout, sees_wrong_rows
    from probtune.probe.capability import expected_rows
    from probtune.probe.scout import scout
    from probtune.probe.warmed import expects_ends, expects_form, for_the_base, noise_after
    from probtune.probe.weighing import weigh

    from .estimates import encoded_rows

    task, kind, rate, seed = cell
    number = rows + _VALIDATION
    tests = min(tests, len(draw(TASKS[task], number + tests, seed)) - number)
    encoded, wrong, clean = encoded_rows(tokenizer, task, kind, rate, seed, number, tests)
    train, validation = encoded[:rows], encoded[rows:]
    special = torch.tensor(sorted(added_tokens(tokenizer)))
    first = scout(model, train[: rows // 2], train[rows // 2 :], seed=seed)
    noise = noise_after(first, tokenizer)
    faster = model.device.type != "cpu" or cpu_multiplies_bfloat16()
    top = _Top(model, below, bfloat16=faster and not float32)
    parts = {
        name: _states(model, part, below, special)
        for name, part in (("train", train), ("validation", validation), ("test", clean))
    }
    base = _measure(top, parts["test"])
    before = token_table(model, train)
    base_rows, scout_rows = (
        float(expected_rows(table, tokenizer).mean()) for table in (before, first.spread.table)
    )

    def for_base(objective: str) -> str:
        return for_the_base(
            objective,
            base_rows=base_rows,
            scout_rows=scout_rows,
            end_p=base["end"],
            scouted=first.first_pass,
            planned=_PASSES * (rows // _STEP),
        )[0]

    knows_ends = expects_ends(base["end"])
    knows_form = expects_form(base_rows, scout_rows)
    taken = {
        metric: after_scout(
            noise, metric=metric, knows_ends=knows_ends, knows_form=knows_form
        ).objective
        for metric in METRICS
    }
    chosen = {"auto": {metric: for_base(objective) for metric, objective in taken.items()}}
    weighed = f"inliers({for_base('power(0.5)')})"
    chosen["weighed"] = (
        {metric: weighed for metric in METRICS}
        if sees_wrong_rows(noise, knows_ends=knows_ends)
        else chosen["auto"]
    )
    line = {
        **dict(zip(("task", "kind", "rate", "seed"), cell, strict=True)),
        **{
            "below": below,
            "rows": rows,
            "tests": tests,
            "bfloat16": top.bfloat16,
            "true": float(np.mean(wrong[:rows])),
        },
        **{"estimate": noise.share.value, "known": bool(noise.known), **chosen},
        "mean_p": round(float(np.exp(before.logp).mean()), 4),
        "base": base,
    }

    def judged() -> np.ndarray:
        return weigh(model, tokenizer, train, seed=seed).weights

    return Cell(top, parts, judged, line)


def run(
    model: Any,
    tokenizer: Any,
    cell: tuple[str, str, float, int],
    *,
    arms: Sequence[str] = ARMS,
    **options: Any,
) -> dict[str, Any]:
    """One cell: every arm at every rate, and what auto says.

    Args:
        arms: objectives; those of auto are added.
        options: of `prepare`.
    """
    started = time.process_time()
    ready = prepare(model, tokenizer, cell, **options)
    weights = ready.judged()
    of_auto = (*ready.line["auto"].values(), *ready.line["weighed"].values())
    results = {arm: ready.trained(arm, weights) for arm in dict.fromkeys((*arms, *of_auto))}
    seconds = round(time.process_time() - started, 1)
    return {**ready.line, "arms": results, "cpu_seconds": seconds}


def picked(arm: Sequence[dict[str, Any]], metric: str) -> float:
    """The test score at the learning rate that noisy validation rows pick for this metric."""
    return max(arm, key=lambda r: (r["validation"][metric], r["validation"]["sampled"]))["test"][
        metric
    ]


def read(path: Path = RESULTS) -> list[dict[str, Any]]:
    """The finished cells."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][1:]


def cell_of(line: dict[str, Any]) -> tuple[str, str, float, int]:
    """Return a finished cell's (task, kind, rate, seed)."""
    return line["task"], line["kind"], line["rate"], line["seed"]


def titled(lines: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Yield the lines in the order of a table, each with its cells of task, wrong rows and seed;
    held-out tasks and kinds are bold.
    """
    for r in sorted(lines, key=lambda r: (r["task"], r["rate"], r["kind"], r["seed"])):
        name = f"**{r['task']}**" if r["task"] in HELD_OUT else r["task"]
        kind = f"**{r['kind']}**" if r["kind"] in HELD_OUT_KINDS else r["kind"]
        yield r, [name, f"{kind} {r['true']:.0%}", str(r["seed"])]


def gains_of(line: dict[str, Any], metric: str) -> dict[str, float]:
    """Policy -> gain over NLL in a cell, in points."""
    arms = line["arms"]
    nll = picked(arms["nll()"], metric)
    (other,) = (m for m in METRICS if m != metric)
    of_both = [*arms["nll()"], *arms["power(0.5)"]]
    return {
        **{arm: 100 * (picked(arms[arm], metric) - nll) for arm in ARMS[1:]},
        PAPER: 100 * (picked(arms[paper_rule(line).objective], metric) - nll),
        OTHER: 100 * (picked(arms[line["auto"][other]], metric) - nll),
        WEIGHED: 100 * (picked(arms[line["weighed"][metric]], metric) - nll),
        "select": 100 * (picked(of_both, metric) - nll),
        "auto": 100 * (picked(arms[line["auto"][metric]], metric) - nll),
    }


def page(lines: list[dict[str, Any]]) -> Table:
    """Scores of every cell in percent: NLL's, and the difference of each policy to it."""
    header = ["task", "wrong rows", "seed", "estimate", "answers", "base", "nll"]
    header += [*_POLICIES, "auto takes"]
    rows = []
    for r, titles in titled(lines):
        caveat = "" if r["known"] else " (not known)"
        for metric in METRICS:
            gains = (f"{gain:+.0f}" for gain in gains_of(r, metric).values())
            nll = picked(r["arms"]["nll()"], metric)
            rows.append(
                [
                    *(
                        *titles,
                        f"{r['estimate']:.0%}{caveat}",
                        metric,
                        f"{100 * r['base'][metric]:.0f}",
                    ),
                    *(f"{100 * nll:.0f}", *gains, f"`{r['auto'][metric]}`"),
                ]
            )
    return header, rows


def means(lines: list[dict[str, Any]]) -> Table:
    """Gain over NLL in points, mean over cells with its 95 % interval, for each policy; of auto
    also the worst cell and the share of cells that lose more than a point.
    """
    leaves = [r for r in lines if any(taken != "nll()" for taken in r["auto"].values())]
    rows = []
    for which, part in (("all", lines), ("auto leaves NLL", leaves)):
        for metric in METRICS if part else ():
            each = [gains_of(r, metric) for r in part]
            gains = {name: np.array([gain[name] for gain in each]) for name in each[0]}
            rows.append(
                [
                    *(f"{len(part)}: {which}", metric),
                    *(signed(mean(of)._asdict(), 1) for of in gains.values()),
                    *(f"{gains['auto'].min():+.0f}", f"{(gains['auto'] < -1).mean():.0%}"),
                ]
            )
    return ["cells", "answers", *_POLICIES, "auto's worst", "auto loses > 1"], rows


def ahead(lines: list[dict[str, Any]]) -> Table:
    """`auto` against every other policy in points, paired by cell: mean with its 95 % interval."""
    rows = []
    for metric in METRICS if lines else ():
        each = [gains_of(r, metric) for r in lines]
        differences = (
            signed(mean(np.array([gain["auto"] - gain[name] for gain in each]))._asdict(), 1)
            for name in each[0]
            if name != "auto"
        )
        rows.append([metric, *differences])
    return ["`auto` minus", *_POLICIES[:-1]], rows


def summary(lines: list[dict[str, Any]]) -> str:
    """The tables for the terminal."""
    if not lines:
        return "no cell was run yet."
    return "\n\n".join(aligned(table(lines)) for table in (page, means, ahead))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choice.real.trainings")
    parser.add_argument("--summary", action="store_true", help="print the table, run nothing")
    parser.add_argument("--page", action="store_true", help="write the tables into docs/ and stop")
    parser.add_argument("--limit", type=int, metavar="N", help="stop after N cells")
    parser.add_argument("--model", default=MODEL, help=f"MODEL of the product (default {MODEL})")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--layers", type=int, default=20, help="frozen layers (default 20; 0: none)"
    )
    parser.add_argument("--rows", type=int, default=_ROWS, help=f"training rows (default {_ROWS})")
    parser.add_argument("--float32", action="store_true", help="no bfloat16, to check its ranking")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of finished cells")
    options = parser.parse_args()
    if options.page:
        lines = read(options.results)
        write(DOCUMENTS / "choice-bench.md", "trainings", page(lines))
        write(DOCUMENTS / "choosing-an-objective.md", "trainings-means", means(lines))
        write(DOCUMENTS / "choosing-an-objective.md", "trainings-ahead", ahead(lines))
        return
    if not options.summary:
        run_missing(
            options.results,
            cells(),
            model=options.model,
            device=options.device,
            limit=options.limit,
            below=options.layers,
            rows=options.rows,
            float32=options.float32,
        )
    print(summary(read(options.results)))


def run_missing(
    path: Path,
    planned: Iterable[tuple[str, str, float, int]],
    *,
    model: str = MODEL,
    device: str = "cpu",
    limit: int | None = None,
    by: Callable[..., dict[str, Any]] = run,
    **options: Any,
) -> None:
    """Run the cells that a file does not hold, each of them written as soon as it is finished.

    Args:
        limit: cells to run at most.
        by: what runs a cell.
        options: of what runs it.
    """
    from probtune.models.loading import load_model, load_tokenizer
    from probtune.records import environment

    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        first = {"environment": environment(), "model": model}
        path.write_text(json.dumps(first) + "\n", encoding="utf-8")
    done = {cell_of(line) for line in read(path)}
    todo = [cell for cell in planned if cell not in done][:limit]
    loaded, tokenizer = load_model(model, device=device), load_tokenizer(model)
    for count, cell in enumerate(todo, 1):
        line = by(loaded, tokenizer, cell, **options)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        name, seconds = " ".join(map(str, cell)), line["cpu_seconds"]
        print(f"{count} of {len(todo)}: {name}, {seconds:.0f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
