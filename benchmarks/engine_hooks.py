"""Records the hooks of the engines that probtune/integrations uses, and docs/engines.md's matrix.

    make integrations                    environments, records compared, tests
    make integrations ARGS=--record      after a new release: record anew what has passed

Facts alone: names and parameters of functions, read from an installed package's source without
importing it, the release, which Pythons it allows, and with which it was tested.
`tests/engine_hooks.json` holds them.
"""

import argparse
import ast
import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from probtune.integrations.versions import TESTED

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "tests" / "engine_hooks.json"
PAGE = ROOT / "docs" / "engines.md"
BEGIN, END = "<!-- matrix: written by benchmarks/engine_hooks.py -->", "<!-- end of matrix -->"

HOOKS = {
    "transformers": [
        ("transformers/trainer.py", "Trainer.compute_loss"),
        ("transformers/trainer.py", "Trainer.training_step"),
    ],
    "trl": [("trl/trainer/sft_trainer.py", "SFTTrainer.compute_loss")],
    "verl": [
        ("verl/workers/utils/losses.py", "sft_loss"),
        ("verl/trainer/sft_trainer.py", "SFTTrainer._build_engine"),
        ("verl/workers/engine_workers.py", "TrainingWorker.set_loss_fn"),
        ("verl/workers/engine/base.py", "BaseEngine.train_batch"),
        ("verl/workers/engine/base.py", "BaseEngine.get_data_parallel_size"),
        ("verl/workers/engine/base.py", "BaseEngine.get_data_parallel_group"),
        ("verl/workers/engine/base.py", "BaseEngine.is_mp_src_rank_with_outputs"),
    ],
    "torchtitan": [
        ("torchtitan/components/loss.py", "BaseLoss.__init__"),
        ("torchtitan/components/loss.py", "BaseLoss.__call__"),
        ("torchtitan/components/loss.py", "BaseLoss._maybe_compile"),
        ("torchtitan/components/loss.py", "ChunkedLossWrapper.__call__"),
        ("torchtitan/components/loss.py", "compute_logprobs"),
        ("torchtitan/components/metrics.py", "MetricsProcessor.log"),
        ("torchtitan/trainer.py", "Trainer.train_step"),
    ],
    "axolotl": [
        ("axolotl/integrations/base.py", "BasePlugin.register"),
        ("axolotl/integrations/base.py", "BasePlugin.get_input_args"),
        ("axolotl/integrations/base.py", "BasePlugin.post_trainer_create"),
        ("axolotl/core/trainers/base.py", "AxolotlTrainer.compute_loss"),
    ],
    "swift": [
        ("swift/loss/base.py", "BaseLoss.__init__"),
        ("swift/loss/base.py", "BaseLoss.__call__"),
        ("swift/trainers/seq2seq_trainer.py", "Seq2SeqTrainer.compute_loss"),
    ],
    "tinker": [
        ("tinker/lib/public_interfaces/training_client.py", "TrainingClient.forward"),
        ("tinker/lib/public_interfaces/training_client.py", "TrainingClient.forward_backward"),
        (
            "tinker/lib/public_interfaces/training_client.py",
            "TrainingClient.forward_backward_custom",
        ),
    ],
    "automodel": [
        ("nemo_automodel/components/loss/masked_ce.py", "MaskedCrossEntropy.__init__"),
        ("nemo_automodel/components/loss/masked_ce.py", "MaskedCrossEntropy.forward"),
        ("nemo_automodel/recipes/llm/train_ft.py", "_maybe_downgrade_loss_fn"),
        (
            "nemo_automodel/recipes/llm/train_ft.py",
            "TrainFinetuneRecipeForNextTokenPrediction._run_train_optim_step",
        ),
        ("nemo_automodel/components/training/step_scheduler.py", "StepScheduler.__iter__"),
    ],
    "unsloth": [],
    "llamafactory": [
        ("llamafactory/train/sft/trainer.py", "CustomSeq2SeqTrainer.__init__"),
        ("llamafactory/train/tuner.py", "run_exp"),
    ],
    "lightning": [
        ("pytorch_lightning/core/hooks.py", "ModelHooks.on_before_optimizer_step"),
        ("pytorch_lightning/core/module.py", "LightningModule.training_step"),
    ],
}
"""Engine -> (file, function) that an integration replaces, overrides or calls."""


def parameters(source: str, name: str) -> list[str] | None:
    """Return the parameters of a function or method; None if there is no such function."""
    body: list[Any] = ast.parse(source).body
    for part in name.split("."):
        node = next(
            (n for n in body if getattr(n, "name", None) == part and hasattr(n, "body")), None
        )
        if node is None:
            return None
        body = node.body
    a = node.args
    names = [x.arg for x in (*a.posonlyargs, *a.args)]
    names += [f"*{a.vararg.arg}"] if a.vararg else ["*"] if a.kwonlyargs else []
    names += [x.arg for x in a.kwonlyargs]
    return names + ([f"**{a.kwarg.arg}"] if a.kwarg else [])


def recorded(engine: str) -> dict[str, Any] | None:
    """Return the release of an installed engine and the parameters of its hooks."""
    package = TESTED[engine].package
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return None
    hooks = {}
    for file, name in HOOKS[engine]:
        source = Path(str(distribution.locate_file(file))).read_text(encoding="utf-8")
        hooks[f"{file}: {name}"] = parameters(source, name)
    return {
        "package": package,
        "version": distribution.version,
        "python": distribution.metadata["Requires-Python"],
        "hooks": hooks,
    }


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return the hooks of the engines in `new` that are not what was recorded."""
    lines = []
    for engine, record in new.items():
        before = old.get(engine, {"hooks": {}})
        for hook, names in record["hooks"].items():
            if before["hooks"].get(hook) != names:
                lines.append(f"{engine} {record['version']}: {hook} is {names}, recorded as"
                             f" {before['hooks'].get(hook)}")  # fmt: skip
    return lines


STEPS = {
    "transformers": "one optimizer step; proof",
    "trl": "one optimizer step; proof",
    "lightning": "one optimizer step with the package",
    "automodel": "one step with its loss class; the downgrade",
    "torchtitan": "one step with its loss classes",
    "axolotl": "one step of the plug-in on transformers' trainer",
    "swift": "one step of the loss class on transformers' trainer",
    "verl": "one step with nested tensors; `train_batch` of an engine of the test",
    "llamafactory": "one step of a trainer of the test with its constructor",
    "tinker": "one step of a client of the test",
    "unsloth": "one step on transformers' trainer",
}
"""Engine -> what tests/test_integrations.py runs; the docs say it beside the releases."""

RUNS = {
    "axolotl": "**its own training**, `axolotl train` of a configuration",
    "swift": "**its own training**, `swift sft` with `--loss_type`",
    "llamafactory": "**its own training**, by the launcher",
    "verl": "**its own training**, by the launcher, FSDP 2 on a CPU platform of the test",
    "torchtitan": "**its own trainer**, two micro-batches of its debug model",
    "automodel": "**its own training**, its recipe by the launcher",
}
"""Engine -> what tests/test_engine_runs.py runs, in an environment with the engine's own pins."""


def tested(engine: str, *, own_run: bool) -> dict[str, Any]:
    """Return with what an engine is tested in this environment."""
    release = importlib.metadata.version
    return {
        "version": release(TESTED[engine].package),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "torch": release("torch").split("+")[0],
        "transformers": release("transformers"),
        "own_run": own_run,
    }


def matrix(record: dict[str, Any]) -> str:
    """Return the table of docs/engines.md: a line for each release, environment and kind of run."""
    lines = [
        "| engine | release | Python | transformers | torch | what is run |",
        "|---|---|---|---|---|---|",
    ]
    for entry_of, entry in record.items():
        pythons: dict[tuple[str, ...], list[str]] = {}
        for run in entry.get("tested", []):
            text = (RUNS if run["own_run"] else STEPS)[entry_of]
            key = (run["version"], run["transformers"], run["torch"], text)
            pythons.setdefault(key, []).append(run["python"])
        for (version, transformers, torch, text), names in pythons.items():
            lines.append(
                f"| {entry['package']} | {version} | {', '.join(sorted(names))} | {transformers} |"
                f" {torch} | {text} |"
            )
    return "\n".join(lines)


def write(new: dict[str, Any], old: dict[str, Any], *, own_run: bool) -> None:
    """Record the engines of `new` and that their tests have passed, and write the matrix."""
    for engine, entry in new.items():
        this = tested(engine, own_run=own_run)
        runs = [
            run
            for run in old.get(engine, {}).get("tested", [])
            if (run["python"], run["own_run"]) != (this["python"], own_run)
        ]
        newest = max([entry, old.get(engine, entry)], key=lambda e: _numbers(e["version"]))
        runs = sorted([*runs, this], key=lambda r: (r["own_run"], _numbers(r["python"])))
        old[engine] = {**newest, "tested": runs}
    record = {engine: old[engine] for engine in TESTED if engine in old}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    text = PAGE.read_text()
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    PAGE.write_text(f"{before}{BEGIN}\n{matrix(record)}\n{after}")


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engines", nargs="*", help="default: those that are installed")
    parser.add_argument("--write", action="store_true", help="their tests have passed here")
    parser.add_argument("--own-run", action="store_true", help="those of the engine's own training")
    options = parser.parse_args()
    old = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    names = options.engines or TESTED
    new = {engine: record for engine in names if (record := recorded(engine)) is not None}
    if options.write:
        write(new, old, own_run=options.own_run)
        return 0
    changed = differences(old, new)
    for entry in new.values():
        print(f"{entry['package']:20s} {entry['version']:12s} {len(entry['hooks'])} hooks")
    for line in changed:
        print(line)
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
