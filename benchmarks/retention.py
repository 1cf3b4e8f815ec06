"""Retention beside the score: replayed answers of the model against a KL anchor, on SmolLM2-135M.

    python benchmarks/retention.py        ten minutes on a core; writes retention.json and the table

A task that the model half knows (capitals, in capital letters and nothing else) is trained on by
LoRA in three ways, with the same task rows: NLL, NLL with rows that the model answered itself
(`probtune replay`), and NLL with a KL anchor. Retention is KL(base || tuned) per token on answers
of the base model to other prompts. One seed and few rows: how to measure, not which is best.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from blocks import Table, write  # noqa: E402

from probtune.cli import main as probtune  # noqa: E402
from probtune.objectives import objective as read_objective  # noqa: E402
from probtune.pipeline import slug  # noqa: E402

DOCUMENT = Path(__file__).parents[1] / "docs" / "your-data.md"
RESULTS = Path(__file__).with_suffix(".json")
MODEL = "smollm2-135m"
ANCHOR = "kl_anchor(1.0, nll())"

CAPITALS = dict(
    part.split(":")
    for part in (
        "France:Paris Italy:Rome Spain:Madrid Portugal:Lisbon Germany:Berlin Austria:Vienna"
        " Poland:Warsaw Greece:Athens Turkey:Ankara Egypt:Cairo Kenya:Nairobi Ghana:Accra"
        " Nigeria:Abuja Morocco:Rabat Japan:Tokyo China:Beijing India:Delhi Nepal:Kathmandu"
        " Thailand:Bangkok Vietnam:Hanoi Iran:Tehran Iraq:Baghdad Canada:Ottawa Cuba:Havana"
        " Peru:Lima Chile:Santiago Ecuador:Quito Colombia:Bogota Norway:Oslo Sweden:Stockholm"
        " Finland:Helsinki Denmark:Copenhagen Ireland:Dublin Hungary:Budapest Romania:Bucharest"
        " Bulgaria:Sofia Russia:Moscow Ukraine:Kyiv Serbia:Belgrade Croatia:Zagreb"
        " Belgium:Brussels Netherlands:Amsterdam Estonia:Tallinn Latvia:Riga Lithuania:Vilnius"
        " Syria:Damascus Lebanon:Beirut Jordan:Amman Senegal:Dakar Tunisia:Tunis"
        " Algeria:Algiers Ethiopia:Addis Uganda:Kampala Zambia:Lusaka Somalia:Mogadishu"
        " Kuwait:Kuwait Qatar:Doha Taiwan:Taipei Philippines:Manila Indonesia:Jakarta"
    ).split()
)
THINGS = (
    *("the moon", "a river", "bread", "winter", "a bicycle", "the heart", "gold", "a library"),
    *("rain", "a bridge", "salt", "a garden", "the wind", "a clock", "wool", "a volcano"),
    *("honey", "a mirror", "the sea", "paper", "a candle", "sleep", "iron", "a market"),
)
REQUESTS = ("Describe {} in one short sentence.", "Name one use of {}.")


def rows(countries: list[str]) -> list[dict[str, str]]:
    return [
        {"prompt": f"What is the capital of {name}?", "completion": CAPITALS[name].upper()}
        for name in countries
    ]


def save(path: Path, content: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in content))


def run(*arguments: object) -> None:
    words = [str(argument) for argument in arguments]
    print("probtune", *words, flush=True)
    if probtune(words) != 0:
        sys.exit("stopped")


def measure(folder: Path) -> dict[str, object]:
    """Train the arms, and measure score and retention of each."""
    countries = list(CAPITALS)
    random.Random(0).shuffle(countries)
    save(folder / "train.jsonl", rows(countries[:40]))
    save(folder / "heldout.jsonl", rows(countries[40:]))
    prompts = [request.format(thing) for thing in THINGS for request in REQUESTS]
    random.Random(0).shuffle(prompts)
    for name, part in (("replay", prompts[:24]), ("other", prompts[24:])):
        (folder / f"{name}.txt").write_text("\n".join(part) + "\n")
        drawing = ("--chat", "--max-new-tokens", 48, "--out", folder / f"{name}.jsonl")
        run("replay", MODEL, folder / f"{name}.txt", *drawing)
    replayed = len((folder / "replay.jsonl").read_text().splitlines())
    own = (
        *("--chat", "--heldout-data", folder / "heldout.jsonl", "--batch-size", 8),
        *("--gradient-accumulation", 1, "--lora-rank", 16, "--learning-rate", 5e-4),
        *("--epochs", 3, "--scout-steps", 0, "--answer", "whole", "--max-new-tokens", 8),
    )
    mixed = f"{folder / 'train.jsonl'},{folder / 'replay.jsonl'}"
    run("tune", MODEL, folder / "train.jsonl", "--objective", "nll", "--compare", ANCHOR, *own,
        "--out", folder / "plain")  # fmt: skip
    run("tune", MODEL, mixed, "--objective", "nll", *own, "--out", folder / "mixed")
    arms = []
    for name, data in (("nll()", "plain"), (ANCHOR, "plain"), ("nll() and replay", "mixed")):
        record = json.loads((folder / data / "record.json").read_text())
        objective = name.removesuffix(" and replay")
        score, model = _of(record, objective, folder / data)
        out = folder / f"{len(arms)}.json"
        run("forgetting", MODEL, model, "--data", folder / "other.jsonl", "--chat",
            "--max-new-tokens", 0, "--out", out)  # fmt: skip
        divergence = json.loads(out.read_text())["divergence"]["data"]
        arms.append({"arm": name, "score": score, "divergence": divergence})
    (base,) = (run["heldout"]["metrics"] for run in record["runs"] if run["name"] == "base")
    return {"replayed rows": replayed, "base": base, "arms": arms}


def _of(record: dict, objective: str, folder: Path) -> tuple[dict, Path]:
    """Return the held-out exact match of an objective, and the folder of its model."""
    (arm,) = (run for run in record["runs"] if run["name"] == objective)
    return arm["heldout"]["metrics"], folder / slug(read_objective(objective)) / "model"


def table(record: dict) -> Table:
    def cell(estimate: dict) -> str:
        return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"

    lines = [["not trained", cell(record["base"]["nll"]), cell(record["base"]["mean_p"]), "0"]]
    for arm in record["arms"]:
        name = f"`{arm['arm']}`" if "and" not in arm["arm"] else "`nll()`, with replayed rows"
        score = arm["score"]
        lines.append(
            [name, cell(score["nll"]), cell(score["mean_p"]), cell(arm["divergence"]["forward"])]
        )
    return [
        "trained by",
        "held-out NLL",
        "held-out mean p",
        "KL(base, tuned) on other prompts, nats",
    ], lines


def main() -> None:
    from probtune.records import environment

    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        record = measure(Path(folder))
    record["seconds"] = time.monotonic() - started
    record["environment"] = environment()
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    write(DOCUMENT, "retention", table(record))


if __name__ == "__main__":
    main()
