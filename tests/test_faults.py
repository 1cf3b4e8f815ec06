"""Faults on purpose: a seeded part of `make faults` and `make fuzz`, and what each promise of
SECURITY.md is shown by.
"""

import json
import os
import random
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import helpers
import pytest
from test_pipeline import QUIET, settings

from benchmarks import fuzz
from benchmarks.faults.cases import COMMANDS, Bench
from benchmarks.faults.runs import save_model, write_rows
from probtune import pipeline
from probtune.cli import main
from probtune.errors import DataError, Interrupted, UsageError
from probtune.files import damage, remove_leftovers, whole_folder
from probtune.lock import LOCK, FolderLock, is_fresh, locked
from probtune.models import loading
from probtune.pipeline.metrics import read_metrics
from probtune.records import make_record, read_record, write_record
from probtune.reports.report import render
from probtune.settings import TuneSettings
from probtune.shapes import SHAPES
from probtune.terminal import Terminal
from probtune.texts import redacted, secrets_in, visible
from probtune.training import CheckpointClock

ROWS = helpers.sums(40)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    save_model(folder / "base")
    return Bench(folder, folder / "base", write_rows(folder / "rows.jsonl", 30))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_the_same_command_ends_as_without_the_fault(seed, bench):
    verdict = bench.strike(seed)
    assert verdict.wrong is None, verdict


def test_a_kill_in_training_changes_nothing(bench):
    """The first seed that kills `train`, in the default suite."""
    seed = next(s for s in range(100) if random.Random(s).choice(list(COMMANDS)) == "train")
    verdict = bench.strike(seed)
    assert verdict.command == "train" and verdict.wrong is None, verdict


@pytest.mark.parametrize(
    "target", ["texts", "records", "record files", "answers", "letters", "numbers", "parser"]
)
def test_a_seeded_part_of_the_fuzzing(target, tmp_path):
    number = 200 if target == "parser" else 2000
    assert fuzz.fuzz(target, number, tmp_path) >= number


# --- folders --------------------------------------------------------------------------------------


def test_a_folder_is_whole_or_not_there(tmp_path):
    with whole_folder(tmp_path / "a") as beside:
        (beside / "x").write_bytes(b"12345")
        assert not (tmp_path / "a").exists()
    assert damage(tmp_path / "a") is None
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "b") as beside:
        (beside / "x").write_bytes(b"1")
        raise KeyboardInterrupt
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]
    for content, said in ((b"12344", "other bytes"), (b"123", "3 bytes, and 5")):
        (tmp_path / "a" / "x").write_bytes(content)
        assert said in damage(tmp_path / "a")
    (tmp_path / "a" / "x").unlink()
    assert "x is missing" in damage(tmp_path / "a")
    for text in ("", "{}", '{"files": 3}', '{"files": {"x": 1}}'):
        (tmp_path / "a" / "manifest.json").write_text(text)
        assert "manifest.json is damaged" in damage(tmp_path / "a")
    (tmp_path / "a" / "manifest.json").unlink()
    assert "was not finished" in damage(tmp_path / "a")


def test_a_lock_names_its_process_and_a_dead_one_is_none(tmp_path):
    ready, child_ready = os.pipe()
    child = os.fork()
    if child == 0:
        FolderLock(tmp_path).take()
        os.write(child_ready, b"1")
        os.read(ready, 0)
        import time

        time.sleep(60)
        os._exit(0)
    try:
        os.read(ready, 1)
        with pytest.raises(UsageError, match=f"in use: process {child} on .* choose another"):
            FolderLock(tmp_path).take()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert (tmp_path / LOCK).is_file()  # left by the dead process
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    assert not (tmp_path / LOCK).exists()


def test_what_a_kill_left_half_written_is_no_other_run(tmp_path):
    """A first record that was being written, and the lock of the dead process."""
    (tmp_path / LOCK).write_text("")
    (tmp_path / ".run.json.x1y2z3.writing").write_text("{")
    assert is_fresh(tmp_path) and is_fresh(tmp_path / "absent")
    (tmp_path / "p" / "model").mkdir(parents=True)
    (tmp_path / "p" / "model" / ".README.md.a_b.writing").write_text("")
    (tmp_path / "p" / "mine.writing").write_text("kept")
    remove_leftovers(tmp_path, below=True)
    left = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert left == [LOCK, "p/mine.writing"] and not is_fresh(tmp_path)


def test_an_interruption_leaves_no_line_of_metrics_and_no_checkpoints(finished, tmp_path):
    """SIGTERM at a step between two log entries; then a kill after the record of the training."""
    chosen, _ = finished
    whole = replace(chosen, out=str(tmp_path / "whole"), objective="nll", compare="", max_steps=4)
    pipeline.train(whole, QUIET)
    stopped = replace(whole, out=str(tmp_path / "stopped"))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        step_end = CheckpointClock.on_step_end

        def stop(clock, args, state, control, **options):
            if state.global_step == 2:
                clock.stop_after_save(15)
            step_end(clock, args, state, control, **options)

        patch.setattr(CheckpointClock, "on_step_end", stop)
        pipeline.train(stopped, QUIET)
    assert [e["step"] for e in read_metrics(stopped.folder / "nll/metrics.jsonl")] == [1]
    pipeline.train(stopped, QUIET)
    steps = [
        [entry["step"] for entry in read_metrics(Path(folder) / "nll/metrics.jsonl")]
        for folder in (whole.out, stopped.out)
    ]
    assert steps[0] == steps[1] == [1, 4]
    (stopped.folder / "nll/checkpoints/checkpoint-2").mkdir(parents=True)
    pipeline.train(stopped, QUIET)
    assert not (stopped.folder / "nll/checkpoints").exists()


@pytest.fixture(scope="module")
def finished(word_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    model = shutil.copytree(word_model, folder / "model")
    data = helpers.write_jsonl(folder / "rows.jsonl", ROWS)
    chosen = settings(model, data, folder / "out")
    return chosen, pipeline.tune(chosen, QUIET)


def edited(path, **changes):
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps(content))


def test_another_base_version_or_setting_is_refused(finished):
    chosen, _ = finished
    run, base = chosen.folder / "run.json", chosen.folder.parent / "model"
    before = run.read_text()
    for changes, said in (
        ({"version": "9.9"}, "version 9.9 of probtune"),
        ({"version": None}, "an earlier version"),
        ({"settings": {**json.loads(before)["settings"], "nonsense": 1}}, "not have: nonsense"),
    ):
        edited(run, **changes)
        with pytest.raises(UsageError, match=said):
            pipeline.tune(chosen, QUIET)
        run.write_text(before)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        content = (base / name).read_bytes()
        (base / name).write_bytes(content.replace(b"  ", b" \t", 1) if name != "model.safetensors"
                                  else content[:-1] + bytes([content[-1] ^ 1]))  # fmt: skip
        with pytest.raises(UsageError, match=f"{name} of .* has changed"):
            pipeline.tune(chosen, QUIET)
        (base / name).write_bytes(content)


def test_a_damaged_model_is_not_measured(finished):
    chosen, _ = finished
    model = chosen.folder / "nll" / "model"
    assert damage(model) is None and not (model / "training_args.bin").exists()
    heldout, weights = model.parent / "heldout.json", model / "model.safetensors"
    record, content = heldout.read_text(), weights.read_bytes()
    heldout.unlink()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RuntimeError, match="is not the model that was trained"):
        pipeline.tune(chosen, QUIET)
    weights.write_bytes(content)
    heldout.write_text(record)


# --- records --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cases", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_damaged_records_are_named_with_the_way_out(cases, finished, capsys, tmp_path):
    """Damaged or foreign records: a report, or an error that is meant."""
    _, record = finished
    rng, path = random.Random(0), tmp_path / "record.json"
    for case in range(cases):
        damaged = json.loads(json.dumps(record))
        part = damaged
        for _ in range(rng.randrange(1, 4)):
            key = rng.choice(list(part) if isinstance(part, dict) else range(len(part)))
            if not isinstance(part[key], dict | list) or not part[key]:
                break
            parent, part = part, part[key]
        else:
            part, key = parent, key
        if case % 2 and isinstance(part, dict):
            del part[key]
        else:
            part[key] = rng.choice([None, "x", [], {}, 3, True])
        path.write_text(json.dumps(damaged))
        status = main(["report", str(path), "--out", str(tmp_path / "r.html")])
        said = capsys.readouterr().err
        assert "unexpected" not in said and status in (0, 1), (case, said)


@pytest.mark.parametrize("kind", [k for k in SHAPES if k not in ("demo", "tune")])
def test_what_a_record_lacks_is_named(kind, tmp_path):
    path = tmp_path / "x.json"
    write_record(path, kind, {})
    key = next(iter(SHAPES[kind]))
    with pytest.raises(DataError, match=f"'{key}' is missing.*(writes it again|another --out)"):
        read_record(path, kind)
    for text in ("", "[" * 100_000, '{"kind": "run", "schema": "1"}', '{"kind": 1, "schema": 1}'):
        path.write_text(text)
        with pytest.raises(DataError, match="writes it again|choose another"):
            read_record(path)


# --- trust ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"hub_token": "x"}},
        {"training": {"model_init_kwargs": {"token": "x"}}},
        {"training": {"run_name": "hf_" + "a" * 30}},
        {"data": "https://me:pw@host/rows.jsonl"},
        {"data": "https://host/rows.jsonl?token=abc"},
    ],
)
def test_secrets_are_refused_and_never_shown(changes, capsys):
    with pytest.raises(UsageError, match="holds a secret") as caught:
        TuneSettings(**{"model": "m", "data": "d", **changes})
    for secret in ("pw@", "abc", "a" * 30):
        assert secret not in str(caught.value)
    Terminal().say("read https://me:pw@host/x?token=abc with hub_token=hf_1")
    assert "pw" not in capsys.readouterr().err


def test_public_names_are_no_secrets():
    assert secrets_in({"pad_token": "<pad>", "max_new_tokens": "3", "data": "a:b@c"}) is None


def test_control_characters_and_directions_are_visible(finished, capsys):
    _, record = finished
    hostile = "a\x1b[31m\u202eb\x00"
    assert visible(hostile) == "a\\x1b[31m\\u202eb\\x00" and redacted(hostile) == hostile
    Terminal().show(hostile)
    assert main(["objectives", "--list", "\x1b[31m"]) == 2
    streams = capsys.readouterr()
    assert not {"\x1b", "\u202e", "\x00"} & set(streams.out + streams.err)
    page = render([{**record, "settings": {**record["settings"], "model": hostile + "<script>"}}])
    assert not {"\x1b", "\u202e", "\x00"} & set(page) and page.count("<script") == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited on Linux")
@pytest.mark.parametrize(
    "template", ["{{ 'x' * 3000000000 }}", "{% for i in range(99999999999) %}x{% endfor %}"]
)
def test_a_template_has_limits(template, word_model, tmp_path, capsys):
    path = tmp_path / "t.jinja"
    path.write_text(template)
    data = helpers.write_jsonl(tmp_path / "rows.jsonl", ROWS)
    arguments = ["data", str(data), "--model", str(word_model), "--chat"]
    assert main([*arguments, "--chat-template", str(path)]) == 2
    assert "the chat template" in capsys.readouterr().err


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [
        *("--epochs inf", "--heldout inf", "--seed -1", "--seed 4294967296", "--lora-rank 1e9"),
        *("--batch-size 99999999999999999999", "--checkpoint-minutes nan", "--weight-decay 1e9"),
        *(f"--training adam_beta2={x}" for x in ("abc", "nan", "2", "!!python/object:os.x")),
        *("--training dataloader_num_workers=-1", "--training eval_strategy=steps"),
        *("--training max_grad_norm=-1", "--training logging_steps=-1", "--config ''"),
        *("--scheduler cosine_with_min_lr", "--objective power(alpha=1,alpha=2)"),
        *("--objective ｎｌｌ", f"--objective power(0x{'f' * 2000})", "--training fsdp=full_shard"),
        *("--max-new-tokens 1000000000", "--objective above(0.9,nll)", "--compare nll,"),
        *("--heldout 1e-9", "--heldout -1", "--split nope", "--subset x"),
        *("--draws 1000000000", "--checkpoint-minutes 1e300", "--scout-steps 1000000000"),
        *("--objective entropy_bonus(1e9,nll)", "--objective focal(1e9)", "--lora-targets ,"),
        *("--training neftune_noise_alpha=nan", "--seed 18446744073709551616", "--out ''"),
        *("--max-length 0", "--max-length 1000000000000", "--probe-examples -5", "--epochs 1e30"),
        *("--gradient-accumulation 1000000000000", "--max-steps 1000000000000000", "--draws -1"),
        *("--warmup-ratio nan", "--learning-rate -1", "--learning-rate inf", "--compare p,p"),
        *("--objective power(1e300)", "--training adam_epsilon=-1", "--training x"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(option, word_model, tmp_path, capsys):
    data = helpers.write_jsonl(tmp_path / "rows.jsonl", ROWS)
    name, _, value = option.partition(" ")
    arguments = ["tune", str(word_model), str(data), "--out", str(tmp_path / "out")]
    assert main([*arguments, name, value.strip("'")]) == 2
    assert not (tmp_path / "out" / "base").exists() and "unexpected" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        *("probe MODEL DATA --out /proc/x", "probe MODEL DATA --out nope/x.json"),
        *("probe MODEL DATA --out ''", "probe MODEL DATA --out ."),
        *("probe MODEL DATA --probe-examples -1", "probe MODEL DATA --store /proc/x.arrow"),
        *("report . --out nope/x.html", "report . --out ''", "report . --out /dev/full"),
        *("objectives --plot nope/a.png", "objectives --plot ''", "objectives --plot a.xyz"),
        *("data DATA --model MODEL --max-length 0", "data DATA --model MODEL --split nope"),
        *("data DATA --model MODEL --max-length 99999999999999999999", "data DATA --model ''"),
        *("demo --seeds ''", "demo --seeds -1", "demo --seeds 0-99999999999", "demo --seeds 0,0"),
        *("demo --seeds 1e3", "demo --seeds 1-0", "demo --out ''"),
        *(
            f"eval MODEL --tasks figlet_words {option}"
            for option in (
                *("--limit -1", "--limit 0", "--limit nan", "-k 0", "-k 1000000000"),
                *("--temperature nan", "--temperature -1", "--temperature inf", "--seed -1"),
                *("--max-new-tokens 0", "--max-new-tokens -1", "--batch-size 0", "--protocol ''"),
                *("--seed 99999999999999999999999", "--data nope", "--out ''", "--tasks ,"),
                "--temperature 1e30",
            )
        ),
        *(
            f"calibration MODEL DATA {option}"
            for option in ("--rows -1", "--rows 0", "--questions 0", "--out /proc/x")
        ),
        *(
            f"forgetting MODEL MODEL --data DATA {option}"
            for option in ("--rows -1", "--rows 0", "--window 0", "--max-new-tokens -1")
        ),
        *(f"drift MODEL MODEL {option}" for option in ("--out /proc/x", "--out nope/x")),
    ],
)
def test_requests_that_mean_nothing_are_refused(command, word_model, tmp_path, monkeypatch, capsys):
    """Within a second, before weights are loaded, and without a folder being made."""
    data = helpers.write_jsonl(tmp_path / "rows.jsonl", ROWS)
    monkeypatch.chdir(tmp_path)
    names = {"MODEL": str(word_model), "DATA": str(data)}
    arguments = [names.get(word, word) for word in shlex.split(command)]
    monkeypatch.setattr(loading, "load_model", lambda *a, **k: pytest.fail("weights were loaded"))
    assert main(arguments) == 2, capsys.readouterr()
    assert "unexpected" not in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]


def test_a_record_made_here_is_read_by_its_shape():
    assert make_record("run", {"settings": {}, "hashes": {}})["schema"] == 1
