"""`probtune tune` on two processes: every stage, one writer, the record of one process."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import helpers
import pytest
import torch
from safetensors.torch import load_file
from test_pipeline import QUIET, settings

from probtune import cli, pipeline, training
from probtune.errors import UsageError
from probtune.models.ranks import Ranks
from probtune.objectives import objective
from probtune.pipeline.fine_tuning import _padding_free, training_config
from probtune.pipeline.selecting import as_launched
from probtune.records import read_record
from probtune.training import ProbTuneConfig, check_trainer

ROOT = Path(__file__).parents[1]


def run(*command, ranks=0):
    """Run a command of probtune, under torchrun on this many processes."""
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    done = [sys.executable, *(start if ranks else []), "-m", "probtune", *map(str, command)]
    return subprocess.run(
        done, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )


def compared(one, two, where="record"):
    """Assert that two records are the same up to rounding, but for times and places."""
    if where.rsplit(".", 1)[-1] in (
        *("seconds", "environment", "processes", "batch_size", "written"),
    ):
        return
    if isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for name, value in one.items():
            compared(value, two[name], f"{where}.{name}")
    elif isinstance(one, list):
        assert len(one) == len(two), where
        for i, (a, b) in enumerate(zip(one, two, strict=True)):
            compared(a, b, f"{where}.{i}")
    elif isinstance(one, float):
        assert two == pytest.approx(one, rel=2e-3, abs=2e-5), where
    else:
        assert one == two, where


@pytest.mark.slow
@pytest.mark.distributed
def test_tune_on_two_processes_is_tune_on_one(word_model, tmp_path):
    """Probe, scout, two trainings, measuring, selection and comparison, from one configuration."""
    rows = helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(40))
    for out, batch in (("one", 8), ("two", 4)):
        (tmp_path / f"{out}.yaml").write_text(
            f"model: {word_model}\ndata: {rows}\nobjective: 'select:auto,p'\nheldout: 9\n"
            f"batch_size: {batch}\ngradient_accumulation: 1\nmax_steps: 3\nlearning_rate: 0.1\n"
            f"training: {{optim: sgd}}\nout: {tmp_path / out}\n"
            "compare: 'top(0.5, nll), inliers(p)'\n"
        )
    alone = run("tune", "--config", tmp_path / "one.yaml")
    assert alone.returncode == 0, alone.stderr[-2000:]
    both = run("tune", "--config", tmp_path / "two.yaml", ranks=2)
    assert both.returncode == 0, both.stderr[-3000:]
    assert both.stdout.count("held-out rows, ± one standard error") == 1  # one speaks
    one, two = (read_record(tmp_path / out / "record.json", "tune") for out in ("one", "two"))
    assert [r["train"]["processes"] for r in two["runs"] if r["train"]] == [2, 2, 2, 2]
    compared(one, two)
    for path in (tmp_path / "one").glob("*/model/model.safetensors"):
        same = load_file(tmp_path / "two" / path.relative_to(tmp_path / "one"))
        torch.testing.assert_close(same, load_file(path), rtol=1e-5, atol=1e-6)
    again = run("tune", "--config", tmp_path / "two.yaml", ranks=2)  # nothing is left to do
    assert again.returncode == 0, again.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.distributed
def test_one_failing_process_stops_all_with_one_message(word_model, tmp_path):
    rows = helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(12))
    done = run("tune", word_model, rows, "--heldout", 11, "--out", tmp_path / "out", ranks=2)
    assert done.returncode != 0
    assert done.stderr.count("2 processes share 1 training rows") == 1, done.stderr[-3000:]
    assert "go on with" not in done.stderr


@pytest.mark.slow
@pytest.mark.distributed
def test_a_process_that_fails_alone_is_the_one_that_tells(word_model, tmp_path):
    """A row that only one process trains on has no finite loss."""
    rows = [{**row, "quality": 1.0} for row in helpers.sums(40)]
    rows[17]["quality"] = 3e38
    data = helpers.write_jsonl(tmp_path / "rows.jsonl", rows)
    options = [
        "--objective",
        "weighted(affine(0,20), 'quality')",
        "--heldout",
        9,
        "--batch-size",
        4,
    ]
    done = run("tune", word_model, data, *options, "--out", tmp_path / "out", ranks=2)
    assert done.returncode != 0
    assert done.stderr.count("the loss is inf at step") == 1, done.stderr[-3000:]
    assert "by peer" not in done.stderr


def test_a_connection_that_another_process_closed_is_not_unexpected(monkeypatch, capsys):
    error = RuntimeError("[pair.cc:553] Connection closed by peer [127.0.0.1]:24210.")
    assert not cli._of_another_process(error)  # alone
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli._of_another_process(error)
    assert not cli._of_another_process(ValueError("closed by peer"))


def test_more_processes_than_rows_are_refused(word_model, tmp_path):
    rows = helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(12))
    chosen = settings(word_model, rows, tmp_path / "out", heldout=10.0)
    begun = pipeline.run.Run(chosen, QUIET, ranks=Ranks(0, 3))
    begun.check()
    with pytest.raises(UsageError, match="3 processes share 2 training rows"):
        begun.prepare()
    begun.close()


def test_fsdp_that_a_cpu_ignores_is_refused(word_model, tmp_path):
    rows = helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(12))
    chosen = settings(word_model, rows, tmp_path / "out", training={"fsdp": "full_shard"})
    with pytest.raises(UsageError, match="would ignore it on this CPU"):
        pipeline.tune(chosen, QUIET)


def test_fsdp_of_the_launcher_that_a_cpu_ignores_is_refused(word_model, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    rows = helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(12))
    with pytest.raises(UsageError, match="accelerate's configuration asks for FSDP"):
        pipeline.tune(settings(word_model, rows, tmp_path / "out"), QUIET)


@pytest.mark.parametrize(
    ("sizes", "objective", "said"),
    [
        ({"DP_REPLICATE": 2, "DP_SHARD": 2}, "p", r"for 4 processes \(dp_replicate 2 x dp_shard 2"),
        ({"TP": 2}, "p", "tensor parallelism needs accelerators"),
        ({"TP": 1, "CP": 2}, "p", "pad them with --training pad_to_multiple_of=4"),
        ({"SP": 2}, "p", "would drop the objective"),
        ({"CP": 2}, "step_top(0.5, nll())", "splits sequences"),
        ({"CP": 2, "groups": ["slow"]}, "p", "splits sequences; leave out groups"),
        ({"CP": 2, "padding_free": True}, "p", "keep joined rows apart; leave out packing and"),
    ],
)
def test_parallelism_that_cannot_be_honoured(sizes, objective, said, tmp_path, monkeypatch):
    """Before anything is read."""
    options = {name: value for name, value in sizes.items() if name.islower()}
    config = ProbTuneConfig(str(tmp_path), objective=objective, **options)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_PARALLELISM_CONFIG", "true")
    for name in sizes.keys() - options.keys():
        monkeypatch.setenv(f"PARALLELISM_CONFIG_{name}_SIZE", str(sizes[name]))
    with pytest.raises(UsageError, match=said):
        check_trainer(config)


def test_context_parallelism_on_a_cpu_is_refused(tmp_path, monkeypatch):
    config = ProbTuneConfig(str(tmp_path), objective="p", pad_to_multiple_of=4)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_PARALLELISM_CONFIG", "true")
    monkeypatch.setenv("PARALLELISM_CONFIG_CP_SIZE", "2")
    with pytest.raises(UsageError, match="context parallelism needs accelerators"):
        check_trainer(config)


def test_groups_beside_context_parallelism_are_refused_before_rows_are_read(
    word_model, tmp_path, monkeypatch
):
    monkeypatch.setattr(training.requests, "launched", lambda: 2)
    monkeypatch.setenv("ACCELERATE_USE_PARALLELISM_CONFIG", "true")
    monkeypatch.setenv("PARALLELISM_CONFIG_CP_SIZE", "2")
    chosen = settings(word_model, tmp_path / "none.jsonl", tmp_path / "out", group_by="kind")
    with pytest.raises(UsageError, match=r"splits sequences; leave out groups \(--group-by\)"):
        training_config(tmp_path, objective("p"), chosen)


def test_auto_takes_what_context_parallelism_can_train(monkeypatch):
    """It takes NLL in place of what weighs sequences, and does not fail after two scouts."""
    said = []
    terminal = SimpleNamespace(say=said.append)
    weighs, plain = (objective(x) for x in ("inliers(power(0.3))", "p"))
    assert as_launched(weighs, terminal) == weighs and not said
    monkeypatch.setenv("ACCELERATE_USE_PARALLELISM_CONFIG", "true")
    monkeypatch.setenv("PARALLELISM_CONFIG_CP_SIZE", "2")
    assert as_launched(plain, terminal) == plain and not said
    assert str(as_launched(weighs, terminal)) == "nll()"
    assert "splits sequences, which inliers(power(0.3)) weighs" in said[0]


def test_context_parallelism_joins_no_rows_by_itself(monkeypatch):
    """Rows are joined by themselves if an attention reads boundaries."""
    monkeypatch.setattr(training, "reads_boundaries", lambda model: True)
    chosen = settings("model", "rows.jsonl", None, batch_size=4)
    terminal = SimpleNamespace(say=lambda text: None)
    assert _padding_free(chosen, None, terminal)
    monkeypatch.setenv("ACCELERATE_USE_PARALLELISM_CONFIG", "true")
    monkeypatch.setenv("PARALLELISM_CONFIG_CP_SIZE", "2")
    assert not _padding_free(chosen, None, terminal)


def test_adapters_on_split_layers_are_refused(word_model, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_PARALLELISM_CONFIG", "true")
    monkeypatch.setenv("PARALLELISM_CONFIG_TP_SIZE", "2")
    rows = helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(12))
    chosen = settings(word_model, rows, tmp_path / "out", lora_rank=2)
    with pytest.raises(UsageError, match="splits the layers under the adapters"):
        pipeline.tune(chosen, QUIET)


def test_offload_that_the_processes_cannot_sum(tmp_path, monkeypatch):
    config = ProbTuneConfig(str(tmp_path), fsdp=True, fsdp_config={"cpu_offload": True})
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="fsdp_offload_params: true"):
        check_trainer(config)
    monkeypatch.setenv("FSDP_OFFLOAD_PARAMS", "true")
    check_trainer(config)


def test_a_field_of_training_that_nobody_reads_is_refused(word_model, tmp_path):
    rows = helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(12))
    chosen = settings(word_model, rows, tmp_path / "out", training={"adam_beta": 0.9})
    with pytest.raises(UsageError, match="Did you mean 'adam_beta"):
        pipeline.tune(chosen, QUIET)


def test_a_parallelism_that_the_trainer_would_read_too_late_is_refused(word_model, tmp_path):
    """It had ended in "'dict' object has no attribute 'total_size'"."""
    rows = tmp_path / "none.jsonl"
    training = {"parallelism_config": {"cp_size": 2}}
    chosen = settings(word_model, rows, tmp_path / "out", training=training)
    with pytest.raises(UsageError, match="put it into accelerate's configuration"):
        pipeline.tune(chosen, QUIET)


def test_a_key_of_fsdp_config_that_nobody_reads_is_refused(word_model, tmp_path):
    rows = helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(12))
    sharding = {"fsdp": True, "fsdp_config": {"fsdp_version": 2, "fsdp_cpu_offlaod": True}}
    chosen = settings(word_model, rows, tmp_path / "out", training=sharding)
    with pytest.raises(UsageError, match="no key 'fsdp_cpu_offlaod'. Did you mean 'cpu_offload'"):
        pipeline.tune(chosen, QUIET)


def test_trainings_on_other_numbers_of_processes_are_not_compared(word_model, tmp_path):
    rows = helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(20))
    chosen = settings(word_model, rows, tmp_path / "out", compare="p", max_steps=1)
    pipeline.train(chosen, QUIET)
    record = tmp_path / "out" / "nll" / "train.json"
    record.write_text(record.read_text().replace('"processes":1', '"processes":2'))
    (tmp_path / "out" / "p" / "train.json").unlink()
    with pytest.raises(UsageError, match="nll.. was trained on 2 processes, and this run has 1"):
        pipeline.train(chosen, QUIET)


def test_shares_join_in_the_order_of_the_rows():
    rows = list(range(7))
    shares = [Ranks(rank, 3).share(rows) for rank in range(3)]
    assert shares == [[0, 3, 6], [1, 4], [2, 5]]

    class Gathered(Ranks):
        def gathered(self, value):
            return shares

    assert Gathered(0, 3).joined(shares[0]) == rows


def test_later_processes_leave_the_message_to_the_first(monkeypatch, capsys):
    monkeypatch.setattr(cli, "_PATIENCE_S", 0.0)
    monkeypatch.setenv("RANK", "1")
    assert cli._interrupted("stopped", 143, ["tune"]) == 143
    assert capsys.readouterr().err == ""

    def ended(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.time, "sleep", ended)
    assert cli._fail("the same", 2) == 2 and capsys.readouterr().err == ""
    monkeypatch.undo()
    assert cli._fail("said", 2) == 2 and "said" in capsys.readouterr().err
