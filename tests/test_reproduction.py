"""Cost, verdicts, tables, checks before a start, and the command, without a model."""

import importlib
import math
import random
import re
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from probtune.cli import main
from probtune.errors import DataError, ProbtuneError, UsageError
from probtune.evaluation.analyse import Measured
from probtune.evaluation.tasks.table import TASKS, find_tasks
from probtune.paper.reproduction import checks
from probtune.paper.reproduction.backbones import BACKBONES, backbone
from probtune.paper.reproduction.cost import Cost, cost_of, devices_needed, memory_bytes
from probtune.paper.reproduction.plan import plan_cell
from probtune.paper.reproduction.printed import MEAN_P, SCALING, average
from probtune.paper.reproduction.recipe import all_recipes, find_recipes
from probtune.paper.reproduction.run import choose, open_cell, run_one
from probtune.paper.reproduction.tables import (
    _macro_number,
    _mean,
    _Number,
    _paper_difference,
    _rounded,
    _task_number,
    cell_table,
    verdict,
)
from probtune.paper.settings import read_configuration
from probtune.pipeline.launch import Job, launch_local, slurm_options
from probtune.records import read_record, write_record
from probtune.settings import settings_from
from probtune.statistics import macro_average
from probtune.terminal import Terminal

QUIET = Terminal(quiet=True)


def cell(name):
    return find_recipes(name)[0]


# Cost


def test_training_costs_eight_operations_a_weight_and_token():
    plan = plan_cell(cell("figlet/qwen2.5-1.5b"), "faithful")
    run = plan.runs[1]
    model, tokens = run.backbone, 40_000 * 300
    attention = 12 * model.layers * model.hidden * 300
    trained = 2 * tokens * (8 * model.parameters + attention)
    probed = tokens * 2 * model.parameters  # the base model's mean p, for Table 5
    expected = (trained + probed) / (0.4 * 989e12) / 3600
    assert cost_of(plan).training_hours == pytest.approx(expected)


def test_answers_are_questions_times_samples_for_each_way_of_asking():
    llama, qwen = (
        cost_of(plan_cell(cell(f"math/{name}"), "fair", seeds=[0])).generations
        for name in ("llama-3.1-8b", "qwen2.5-math-7b")
    )
    one = sum(task.source.rows for task in find_tasks("math")) * 16
    # Base model and the chosen rate of three objectives; each of five rates answers 500 held-out
    # rows. LLaMA is asked in two ways, Qwen in one.
    assert qwen == pytest.approx(4 * one + 3 * 5 * 500, abs=3 * 5)
    assert llama == pytest.approx(8 * one + 3 * 5 * 500, abs=3 * 5)


def test_memory_is_sixteen_bytes_a_weight_in_float32_and_eight_in_bfloat16():
    model = backbone("qwen2.5-7b")
    small = memory_bytes(model, "float32", 1, 1), memory_bytes(model, "bfloat16", 1, 1)
    assert small[0] == pytest.approx(16 * model.parameters, rel=1e-3)
    assert small[1] == pytest.approx(8 * model.parameters, rel=1e-3)
    assert memory_bytes(model, "float32", 8, 3072) > memory_bytes(model, "float32", 4, 3072)


@pytest.mark.parametrize(("needed", "devices"), [(1e9, 1), (71e9, 1), (73e9, 2), (300e9, 8)])
def test_devices_are_a_power_of_two(needed, devices):
    assert devices_needed(needed, 80e9) == devices


def test_costs_add_but_downloads_are_shared_and_the_largest_run_counts():
    plans = [plan_cell(cell(f"knowledge/qwen2.5-7b{end}"), "fair") for end in ("", "-noisy")]
    one, other = map(cost_of, plans)
    both = one + other
    assert both.hours == pytest.approx(one.hours + other.hours)
    assert both.downloads["Qwen/Qwen2.5-7B"] == one.downloads["Qwen/Qwen2.5-7B"]
    assert both.passing_bytes == one.passing_bytes and both.devices == one.devices
    assert Cost() + one == one
    assert cost_of(plans[0], keep_models=True).disk_bytes > one.disk_bytes


def test_every_cell_has_a_positive_cost():
    for recipe in all_recipes():
        for mode in ("fair", "faithful"):
            cost = cost_of(plan_cell(recipe, mode))
            assert cost.training_hours > 0 and cost.generations > 0 and cost.devices <= 8


# The paper's numbers


def test_printed_averages_are_those_of_the_cells_but_where_the_paper_contradicts_itself():
    from probtune.evaluation.tasks.table import DOMAINS, TASKS

    odd = []
    for recipe in all_recipes():
        if recipe.domain not in ("math", "code", "languages"):
            continue
        for objective in ("base", *recipe.objectives):
            printed = average(recipe.cell, objective)
            key = (recipe.backbone.label, objective)
            cells = [TASKS[name].paper.get(key) for name in DOMAINS[recipe.domain]]
            if printed is None or None in cells:
                continue
            if abs(printed - sum(cells) / len(cells)) > 0.06:
                odd.append((recipe.cell, objective))
    assert odd == [("math/qwen2.5-math-1.5b", "p()")]  # 32.75, and its cells give 32.62


def test_every_figure_and_table_of_averages_names_real_cells():
    cells = {recipe.cell for recipe in all_recipes()}
    assert set(SCALING) | set(MEAN_P) <= cells
    recipe = cell("ablations/convexity-weak")
    assert [o for o in recipe.objectives if average(recipe.cell, o) is None] == ["nll()"]


# Verdicts


@pytest.mark.parametrize(
    ("ours", "paper", "error", "word"),
    [
        ((32.0, 30.0, 34.0), 33.0, 1.0, "agrees"),
        ((32.0, 30.0, 34.0), 34.5, 1.0, "cannot tell"),  # outside ours, inside with its own error
        ((32.0, 30.0, 34.0), 36.5, 1.0, "differs"),
        ((32.0, 20.0, 44.0), 33.0, 1.0, "cannot tell"),  # too wide to agree
        ((32.0, 20.0, 44.0), 60.0, 1.0, "differs"),
        ((32.0, math.nan, math.nan), 32.0, 1.0, "cannot tell"),
    ],
)
def test_verdicts_follow_the_rule(ours, paper, error, word):
    judgement = verdict(_Number(*ours), paper, error)
    assert judgement.word == word
    assert judgement.difference == pytest.approx(ours[0] - paper)


def test_the_interval_of_a_difference_has_both_errors():
    judgement = verdict(_Number(50.0, 47.0, 53.0), 50.0, 2.0)
    assert judgement.high == pytest.approx(math.hypot(3.0, 1.959963984540054 * 2.0))


# Runs


def test_a_rate_is_chosen_by_held_out_rows_and_ties_go_to_the_smaller(tmp_path):
    plan = plan_cell(cell("figlet/qwen2.5-1.5b"), "fair", seeds=[0])
    plan = replace(plan, runs=tuple(replace(run, evaluation=None) for run in plan.runs))
    folder = open_cell(plan, tmp_path)
    values = {1e-4: 0.2, 5e-5: 0.5, 2e-5: 0.5, 1e-5: 0.4, 5e-6: 0.1}
    runs = plan.candidates("nll")
    for run in runs[:-1]:
        score = {"metric": "exact_match", "value": values[run.learning_rate]}
        write_record(folder / run.name / "done.json", "reproduction-run", {"heldout": score})
    with pytest.raises(ProbtuneError, match="rate-5e-06-seed-0 is not finished"):
        choose(plan, "nll", folder, QUIET)
    score = {"metric": "exact_match", "value": values[runs[-1].learning_rate]}
    write_record(folder / runs[-1].name / "done.json", "reproduction-run", {"heldout": score})
    model = folder / runs[0].name / "training" / "nll" / "model"
    model.mkdir(parents=True)
    assert choose(plan, "nll", folder, QUIET)["learning_rate"] == 2e-5
    assert not model.exists()
    assert read_record(folder / "nll" / "choice.json")["rates"]["5e-05"] == 0.5


def test_a_folder_holds_one_reproduction(tmp_path):
    recipe = cell("knowledge/qwen2.5-7b")
    open_cell(plan_cell(recipe, "faithful"), tmp_path)
    open_cell(plan_cell(recipe, "faithful"), tmp_path)
    with pytest.raises(UsageError, match=r"its deviations is \['summed-micro-batches'"):
        open_cell(plan_cell(recipe, "faithful", leave_out=["text-end"]), tmp_path)
    open_cell(plan_cell(recipe, "fair", seeds=[0, 1]), tmp_path)
    open_cell(plan_cell(recipe, "fair", seeds=[0, 1, 2]), tmp_path)  # further seeds extend it


def test_mean_probabilities_stand_beside_the_papers(tmp_path):
    plan = plan_cell(cell("figlet/qwen2.5-7b"), "fair", target="table-5")
    folder = open_cell(plan, tmp_path)
    estimate = {"value": 0.071, "low": 0.070, "high": 0.072}
    likelihood = {"mean_p": estimate, "above_0_55": estimate, "tokens": 10}
    write_record(folder / "base" / "done.json", "reproduction-run", {"likelihood": likelihood})
    table = cell_table(plan, tmp_path)
    (row, share) = table["rows"]
    assert row["what"] == "mean p x 100" and row["paper"] == pytest.approx(7)
    assert row["verdict"].word == "agrees" and share["verdict"] is None
    assert not table["missing"]


def measured(task, scores, protocol="reference"):
    return Measured(TASKS[task], protocol, Path(), {}, {}, (), scores)


def test_passes_are_rounded_as_the_papers_code_does():
    """12 right of 480 are 2.50 %; from passes with 2, 1 and 0 right, it prints 2.49."""
    right = [2] * 3 + [1] * 6 + [0] * 7
    scores = {f"q{n}": [float(n < count) for count in right] for n in range(30)}
    one = measured("aime24", scores)
    assert _rounded(one) == pytest.approx((3 * 6.7 + 6 * 3.3) / 16)
    plain, shifted = (_task_number([one], rounded=rounded) for rounded in (False, True))
    assert plain.value == pytest.approx(2.5) and round(shifted.value, 2) == 2.49
    assert shifted.high - shifted.low == pytest.approx(plain.high - plain.low)


def test_the_average_over_benchmarks_has_a_part_from_seeds():
    generator = random.Random(0)
    tasks = {
        name: [
            measured(name, {q: [float(generator.random() < p)] for q in range(40)})
            for p in (0.3, 0.4, 0.6)
        ]
        for name in ("aime24", "amc23")
    }
    estimate = _macro_number(tasks)
    each = [statistics.mean(_mean(seeds[i]) for seeds in tasks.values()) for i in range(3)]
    assert estimate.value == pytest.approx(100 * statistics.mean(each))
    merged = {
        name: {q: [x for one in seeds for x in one.scores[q]] for q in range(40)}
        for name, seeds in tasks.items()
    }
    questions = macro_average(merged)
    # t of 0.975 with two degrees of freedom, from a table
    seeds = 4.302653 * statistics.stdev(each) / math.sqrt(3)
    expected = 100 * math.hypot((questions.high - questions.low) / 2, seeds)
    assert (estimate.high - estimate.low) / 2 == pytest.approx(expected, rel=1e-5)


def test_the_papers_difference_has_the_error_of_its_four_shares():
    plan = plan_cell(cell("code/qwen2.5-coder-7b"), "fair")
    sizes = {"humaneval": 164, "mbpp": 378}
    tasks = [measured(n, {q: [0.0] for q in range(m)}, "strict") for n, m in sizes.items()]
    difference, error = _paper_difference(plan, "", tasks, "strict")
    assert difference == pytest.approx((83.5 - 80.4 + 83.1 - 78.8) / 2)
    shares = [(83.5, 164), (80.4, 164), (83.1, 378), (78.8, 378)]
    variance = sum(p * (100 - p) / n for p, n in shares)
    assert error == pytest.approx(math.sqrt(variance) / 2)
    assert _paper_difference(plan, "noise", tasks, "strict")[0] is None


def test_a_run_on_several_devices_is_launched_by_accelerate(monkeypatch, tmp_path):
    from accelerate.commands.launch import launch_command_parser

    requests = []
    done = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(subprocess, "run", lambda command, check: requests.append(command) or done)
    plan = plan_cell(cell("math/qwen2.5-32b"), "faithful", processes=4)
    with pytest.raises(ProbtuneError, match="training on 4 devices ended with status 1"):
        run_one(plan, plan.runs[1], open_cell(plan, tmp_path), QUIET)
    command = requests[0]
    options = launch_command_parser().parse_args(command[3:])
    assert options.num_processes == 4 and options.use_fsdp and options.fsdp_version == "2"
    assert options.module and options.training_script == "probtune"
    assert options.mixed_precision == "no"  # bfloat16 weights
    config = options.training_script_args[-1]
    assert settings_from({}, config, read=read_configuration) == replace(
        plan.runs[1].training,
        probe_examples=128,
        out=str(tmp_path / "math/qwen2.5-32b/faithful/nll/seed-0/training"),
    )


# Before a start


def test_too_little_memory_names_what_is_enough():
    plan = plan_cell(cell("math/qwen2.5-14b"), "fair")
    with pytest.raises(UsageError, match=r"about 240 GB .* use --gpus 4"):
        checks.check_memory(plan, [80e9] * 8)
    checks.check_memory(plan_cell(cell("math/qwen2.5-14b"), "fair", processes=4), [80e9] * 8)
    with pytest.raises(UsageError, match="planned for 4 devices, and there are 2"):
        checks.check_memory(plan_cell(plan.recipe, "fair", processes=4), [80e9] * 2)
    with pytest.raises(UsageError, match="--miniature"):
        checks.check_memory(plan, [])


def test_a_missing_package_is_said_before_training(monkeypatch):
    plan = plan_cell(cell("code/qwen2.5-coder-7b"), "fair", backend="vllm")
    installed = {"lm_eval", "evalplus"}
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: name if name in installed else None
    )
    with pytest.raises(UsageError, match="vllm is needed"):
        checks.check_packages([plan])
    installed.remove("evalplus")
    with pytest.raises(UsageError, match=r"pip install -e '.\[code\]'"):
        checks.check_packages([plan])
    probed = plan_cell(cell("math/llama-3.1-8b"), "fair", target="table-5")
    installed.clear()
    checks.check_packages([probed])


def test_too_little_disk_is_said(tmp_path):
    with pytest.raises(ProbtuneError, match="GB free, and the plan needs about 1000000 GB"):
        checks.check_disk(Cost(kept_bytes=1e15), tmp_path / "not" / "there")
    checks.check_disk(Cost(), tmp_path)


def test_offline_and_gated_models_are_said_before_a_download(monkeypatch, tmp_path):
    from huggingface_hub import HfApi, constants, errors

    plan = plan_cell(cell("knowledge/qwen2.5-7b"), "fair")
    with pytest.raises(DataError, match="HF_HUB_OFFLINE=0 hf download Qwen/Qwen2.5-7B"):
        checks.check_hub([plan], tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    gated = plan_cell(cell("math/llama-3.1-8b"), "fair")
    with pytest.raises(DataError, match=r"licence \(llama3.1\): accept it on .* HF_TOKEN"):
        checks.check_hub([gated], tmp_path)

    def away(*_, **__):
        raise errors.HTTPError("no route to host")

    monkeypatch.setattr(HfApi, "repo_info", away)
    with pytest.raises(DataError, match=r"no route to host\. Where it can, run `hf download Qwen"):
        checks.check_hub([plan], tmp_path)


# Side by side


def test_jobs_share_the_devices_and_a_failure_is_told(tmp_path):
    pytest.importorskip("submitit")
    text = (
        "import os, sys, pathlib;"
        " pathlib.Path(sys.argv[1]).write_text(os.environ['CUDA_VISIBLE_DEVICES'])"
    )
    jobs = [
        Job((sys.executable, "-c", text, str(tmp_path / f"{n}.txt")), devices)
        for n, devices in enumerate((1, 2))
    ]
    launch_local([jobs], range(2), tmp_path / "logs", QUIET)
    assert (tmp_path / "0.txt").read_text() in ("0", "1")
    assert (tmp_path / "1.txt").read_text() == "0,1"
    bad = Job((sys.executable, "-c", "raise SystemExit(3)", "the-bad-one"), 1)
    with pytest.raises(ProbtuneError, match="1 runs failed, first the-bad-one"):
        launch_local([[bad]], range(2), tmp_path / "logs", QUIET)


def test_slurm_options_are_key_and_value():
    assert slurm_options(["partition=gpu"])["partition"] == "gpu"
    with pytest.raises(UsageError, match="KEY=VALUE"):
        slurm_options(["gpu"])


def test_every_run_becomes_one_job_in_its_wave(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(
        "probtune.pipeline.launch.launch_slurm",
        lambda waves, options, logs, terminal: seen.extend([waves, options]),
    )
    monkeypatch.setattr(checks, "check_hub", lambda plans, out: None)
    monkeypatch.setattr(checks, "check_disk", lambda cost, out: None)
    command = ["reproduce", "medical/qwen2.5-1.5b", "--yes", "--slurm", "partition=a"]
    assert main([*command, "--out", str(tmp_path)]) == 1  # nothing was measured
    waves, options = seen
    assert options["partition"] == "a"
    assert [len(wave) for wave in waves] == [1, 10, 2, 4]
    assert waves[2][0].command[-2:] == ("--run", "medical/qwen2.5-1.5b::nll/choice")
    plan = plan_cell(cell("medical/qwen2.5-1.5b"), "fair")
    names = {job.command[-1].partition("::")[2] for wave in waves for job in wave}
    assert {run.name for run in plan.runs} <= names


# The command


@pytest.mark.parametrize("mode", ["fair", "faithful"])
def test_everything_of_the_paper_resolves_offline(mode, capsys):
    assert main(["reproduce", "all", "--mode", mode, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "every option of 37 cells resolves" in told
    assert all(recipe.cell in told for recipe in all_recipes())


def test_a_dry_run_shows_prompts_and_runs(capsys):
    options = ["reproduce", "medical/llama-3.2-3b", "--mode", "faithful", "--dry-run"]
    assert main([*options, "--without", "double-prompt"]) == 0
    told = capsys.readouterr().out
    assert "Cutting Knowledge Date" in told and "nll/seed-0" in told
    assert "short-rows" in told and "double-prompt" not in told


def test_the_list_names_cells_and_deviations(capsys):
    assert main(["reproduce", "--list"]) == 0
    told = capsys.readouterr().out
    assert "math/qwen2.5-32b" in told and "bare-question" in told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "name a cell"),
        (["table-4"], "Did you mean"),
        (["table-1", "--seeds", "a"], "--seeds takes numbers"),
        (["table-1", "--with", "nothing"], "there is no deviation"),
        (["math/qwen2.5-32b", "--gpus", "3", "--dry-run"], "cannot be spread evenly"),
        (["knowledge/qwen2.5-7b", "--run", "knowledge/qwen2.5-7b::x"], "there is no run"),
    ],
)
def test_a_wrong_request_is_refused(options, said, capsys, tmp_path):
    assert main(["reproduce", *options, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err


def test_backbones_are_as_their_published_shapes():
    for model in BACKBONES.values():
        assert model.hidden % model.heads == 0 and model.heads % model.key_value_heads == 0


@pytest.mark.parametrize("name", ["cells", "deviations", "backbones"])
def test_the_page_has_the_tables_of_the_code(name, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    blocks, page = map(importlib.import_module, ("blocks", "reproduction_page"))
    assert blocks.block(page.DOCUMENT, name) == blocks.markdown(page.TABLES[name]())


def test_the_page_names_all_contradictions():
    text = (Path(__file__).resolve().parents[1] / "docs" / "reproduction.md").read_text()
    assert [letter for letter in "abcdefghijklmno" if f"\n| {letter} | " not in text] == []
    for target in re.findall(r"`probtune reproduce ([^` ]+)", text):
        if target not in ("--list", "all", "mine.yaml"):
            assert find_recipes(target)
