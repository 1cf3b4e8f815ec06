"""Recipes, deviations, plans: every option resolves, and every value says where it comes from."""

import re
from dataclasses import fields, replace

import pytest

from probtune.data.prompts import PromptSpec
from probtune.errors import UsageError
from probtune.evaluation.settings import EvalSettings
from probtune.evaluation.tasks.table import DOMAINS, find_tasks
from probtune.paper.reproduction.backbones import BACKBONES, backbone
from probtune.paper.reproduction.deviations import CUT_OFFS, DEVIATIONS
from probtune.paper.reproduction.plan import plan_cell
from probtune.paper.reproduction.recipe import all_recipes, find_recipes, read_recipe
from probtune.paper.settings import RECIPE_KEYS, RECIPES, read_configuration
from probtune.pipeline.preparation import inner_prompt_of
from probtune.settings import TuneSettings, settings_from

CELLS = [recipe.cell for recipe in all_recipes()]
SOURCED = re.compile(r"  # .*(paper|code:|not stated; ours|ours)")


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_value_says_where_it_stands(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            assert SOURCED.search(line), f"{path}:{number}: {line}"


def test_recipes_are_named_by_their_place_and_cover_the_paper():
    for recipe in all_recipes():
        assert recipe.path == RECIPES / f"{recipe.cell}.yaml"
    shown = {name for recipe in all_recipes() for name in recipe.shows}
    tables = {f"table-{n}" for n in (1, 2, 3, 5, 6, 7, 8, 9, 10)}
    assert tables | {f"figure-{n}" for n in (1, 4, 5, 6, 7)} <= shown
    assert {recipe.domain for recipe in all_recipes()} == {*DOMAINS, "ablations"}


def test_the_keys_of_a_recipe_are_its_own_or_an_evaluations():
    evaluation = {item.name for item in fields(EvalSettings)}
    training = {item.name for item in fields(TuneSettings)}
    own = {"cell", "title", "backbone", "shows", "seeds", "learning_rates", "learning_rate_of"}
    own |= {"processes", "deviations", "vary", "likelihood"}
    assert RECIPE_KEYS <= own | evaluation
    assert not own & (evaluation | training)
    assert not RECIPE_KEYS & training


@pytest.mark.parametrize("cell", CELLS)
def test_the_commands_take_a_recipe_as_it_stands(cell):
    named = settings_from({}, cell, read=read_configuration)
    assert settings_from({"model": f"{cell}.yaml"}, None, read=read_configuration) == named
    assert named.normalizer == "supervised" and named.weights == "float32"
    evaluated = settings_from({}, cell, EvalSettings, read=read_configuration)
    assert evaluated.model == named.model and evaluated.data is None
    assert evaluated.protocols == ("strict", "reference")


@pytest.mark.parametrize("cell", CELLS)
def test_fair_prompts_are_those_of_the_strict_protocol(cell):
    (recipe,) = find_recipes(cell)
    settings = recipe.training
    trained = PromptSpec(settings.prompt_format or "", settings.system, settings.instruction)
    for task in find_tasks(recipe.evaluation.tasks):
        prompt = task.protocols["strict"].prompt(recipe.backbone.family)
        if task.domain == "code":  # EvalPlus's words around the question, in the same turns
            assert prompt.system == trained.system
            assert prompt.format == f"{trained.format}-evalplus"
        else:
            assert prompt.render("Q") == trained.render("Q")


@pytest.mark.parametrize("mode", ["fair", "faithful"])
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_has_a_plan(cell, mode):
    (recipe,) = find_recipes(cell)
    plan = plan_cell(recipe, mode)
    names = [run.name for run in plan.runs]
    assert len(set(names)) == len(names)
    assert sorted(names) == sorted(run.name for stage in plan.stages() for run in stage)
    assert plan.deviations == (recipe.deviations if mode == "faithful" else ())
    if mode == "faithful":
        trained = [run for run in plan.runs if run.trains]
        assert len({run.seed for run in trained}) == 1
        assert all(run.training.accumulation == "sum" or recipe.vary for run in trained)
        assert not any(run.candidate for run in plan.runs)


def test_deviations_apply_in_the_order_of_their_table():
    order = list(DEVIATIONS)
    for recipe in all_recipes():
        places = [order.index(name) for name in recipe.deviations]
        assert places == sorted(places), recipe.cell


def test_each_deviation_changes_something_where_it_applies():
    for recipe in all_recipes():
        if recipe.vary:
            continue
        on = plan_cell(recipe, "faithful")
        for name in recipe.deviations:
            off = plan_cell(recipe, "faithful", leave_out=[name])
            assert name not in off.deviations
            # Rounding changes the table alone; a prompt in a prompt replaces all of the outer one.
            superseded = name == "reference-turns" and "double-prompt" in recipe.deviations
            if DEVIATIONS[name].plan != "rounded" and not superseded:
                assert off.runs != on.runs, (recipe.cell, name)


def test_a_fair_plan_takes_one_deviation_alone():
    (recipe,) = find_recipes("figlet/llama-3.1-8b")
    fair = plan_cell(recipe, "fair")
    plan = plan_cell(recipe, "fair", add=["summed-micro-batches"])
    assert plan.deviations == ("summed-micro-batches",)
    assert [run.training for run in plan.runs] == [
        replace(run.training, accumulation="sum") for run in fair.runs
    ]


def test_decay_and_warm_up_are_the_codes_in_faithful_mode_alone():
    for recipe in all_recipes():
        for mode, options in (
            ("fair", {}),
            ("faithful", {"weight_decay_on": "all", "warmup_rounding": "down"}),
        ):
            for run in plan_cell(recipe, mode).runs:
                assert run.training.training == {**recipe.training.training, **options} or (
                    "max_grad_norm" in recipe.vary
                )


def test_instructions_are_sampled_as_in_the_code():
    """Faithful evaluation draws at temperature 0.7 and top_p 0.9; fair answers greedily as well."""
    (task,) = find_tasks("instructions")
    drawn = task.protocols["reference"].decoding
    assert (drawn.temperature, drawn.top_p, drawn.samples) == (0.7, 0.9, 1)
    for size in ("3b", "7b", "14b"):
        (recipe,) = find_recipes(f"instructions/qwen2.5-{size}")
        assert recipe.training.decoding == "sampled"
        (faithful,) = {run.evaluation.protocol for run in plan_cell(recipe, "faithful").runs}
        (fair,) = {run.evaluation.protocol for run in plan_cell(recipe, "fair").runs}
        assert (faithful, fair) == ("reference", "strict,reference")


def test_llama_reads_a_prompt_in_a_prompt():
    (recipe,) = find_recipes("figlet/llama-3.2-3b")
    settings = plan_cell(recipe, "faithful").runs[1].training
    inner = inner_prompt_of(settings)
    spec = PromptSpec(settings.prompt_format or "", settings.system, settings.instruction)
    assert inner is not None
    text = spec.render(inner.render("Q"))
    assert text.count("<|begin_of_text|>") == 3
    assert text.count("<|start_header_id|>user<|end_header_id|>") == 2
    assert "decoding Figlet" in text and text.rstrip().endswith("assistant<|end_header_id|>")
    assert "put your final answer within \\boxed{}.<|eot_id|>\n" in text


def test_quantiles_become_the_papers_numbers():
    (recipe,) = find_recipes("ablations/quantiles")
    plan = plan_cell(recipe, "faithful")
    trained = {run.objective: run.training.objective for run in plan.runs if run.trains}
    assert trained["top(0.7, nll())"] == f"above({CUT_OFFS[30]}, nll())"
    assert trained["bottom(0.05, p())"] == f"below({CUT_OFFS[5]}, p())"
    fair = {run.objective: run.training.objective for run in plan_cell(recipe, "fair").runs}
    assert fair["top(0.7, nll())"] == "top(0.7, nll())"
    assert plan_cell(recipe, "fair").runs[0].probe


def test_the_noisy_run_of_p_has_its_own_rate():
    (recipe,) = find_recipes("knowledge/qwen2.5-14b-noisy")
    rates = {r.objective: r.learning_rate for r in plan_cell(recipe, "faithful").runs if r.trains}
    assert rates == {"nll()": 5e-5, "p()": 2e-5}


def test_devices_share_the_rows_of_a_step():
    (recipe,) = find_recipes("math/llama-3.1-8b")
    two = plan_cell(recipe, "faithful", processes=2)
    assert two.runs[1].training.gradient_accumulation == 32 and not two.notes
    assert plan_cell(recipe, "faithful").notes
    with pytest.raises(UsageError, match="cannot be spread evenly over 3"):
        plan_cell(recipe, "faithful", processes=3)


def test_a_table_of_base_models_trains_nothing():
    runs = [
        run for r in find_recipes("table-5") for run in plan_cell(r, "fair", target="table-5").runs
    ]
    assert len(runs) == 12
    assert all(run.probe and not run.trains and run.evaluation is None for run in runs)


def test_the_paper_has_the_backbones_in_these_sizes():
    sizes = {name: round(model.parameters / 1e9, 1) for name, model in BACKBONES.items()}
    assert sizes["llama-3.1-8b"] == 8.0 and sizes["llama-3.2-3b"] == 3.2
    assert sizes["deepseekmath-7b"] == 6.9 and sizes["qwen2.5-1.5b"] == 1.5
    assert sizes["qwen2.5-7b"] == 7.6 and sizes["qwen2.5-32b"] == 32.8


WRONG = {
    "cell: x\nbackbon: y\n": "Did you mean 'backbone'",
    "model: x\n": "it has no 'cell:'",
    "cell: [\n": "is not YAML",
}


@pytest.mark.parametrize(("text", "said"), WRONG.items(), ids=range(len(WRONG)))
def test_a_wrong_recipe_is_refused(text, said, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=re.escape(said)):
        read_recipe(str(path))


CHANGES = {
    "learning_rates: [1e-4, 5e-5, 2e-5": ("learning_rates: [1e-4, 5e-5, 3e-5", "must hold"),
    "seeds: [0, 1, 2]": ("seeds: [0, -1]", "seeds takes whole numbers"),
    "shows: [table-1": ("shows: [table-11", "Did you mean 'table-1'"),
    "- text-end": ("- text-ending", "Did you mean 'text-end'"),
    "backbone: llama-3.1-8b": ("backbone: llama-3.2-3b", "is meta-llama/Llama-3.2-3B, not"),
    "normalizer: supervised": ("normaliser: supervised", "unknown setting 'normaliser'"),
}


@pytest.mark.parametrize(("old", "new"), CHANGES.items(), ids=CHANGES)
def test_a_wrong_value_is_named_with_its_place(old, new, tmp_path):
    text = (RECIPES / "math" / "llama-3.1-8b.yaml").read_text()
    assert old in text
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(old, new[0]))
    with pytest.raises(UsageError, match=re.escape(new[1])) as caught:
        read_recipe(str(path))
    assert "mine.yaml" in str(caught.value)


def test_names_that_come_close_are_offered():
    with pytest.raises(UsageError, match="math/llama-3.1-8b"):
        find_recipes("math/llama-3.1-8")
    with pytest.raises(UsageError, match="qwen2.5-7b"):
        backbone("qwen2.5-7")
    with pytest.raises(UsageError, match="double-prompt"):
        plan_cell(all_recipes()[0], "fair", add=["double-prompts"])


def test_the_offset_of_figure_5():
    """The gradient of log(1 - p + 0.001) beside that of log(1 - p), over the tokens of Figure 5:
    log-odds between the cut-offs, and beyond them, by straight lines.
    """
    import torch

    from probtune.objectives import log1m

    (recipe,) = find_recipes("ablations/quantiles")
    texts = {
        mode: {run.training.objective for run in plan_cell(recipe, mode).runs if run.trains}
        for mode in ("faithful", "fair")
    }
    assert "log1m(0.001)" in texts["faithful"] and "log1m()" in texts["fair"]
    assert not any("log1m()" in text for text in texts["faithful"])
    shares = torch.tensor([float(share) for share in CUT_OFFS], dtype=torch.float64)
    odds = torch.logit(torch.tensor(list(CUT_OFFS.values()), dtype=torch.float64))
    tokens = torch.linspace(0.05, 99.95, 1000, dtype=torch.float64)
    left = (torch.searchsorted(shares, tokens) - 1).clamp(0, len(shares) - 2)
    slope = (odds[left + 1] - odds[left]) / (shares[left + 1] - shares[left])
    logp = torch.nn.functional.logsigmoid(odds[left] + slope * (tokens - shares[left]))
    with_offset, without = (log1m(offset).logit_gradient(logp) for offset in (1e-3, 0.0))
    assert round(float(with_offset.sum() / without.sum()), 2) == 0.54
    confident = torch.log1p(torch.tensor(-4e-6, dtype=torch.float64))
    assert round(float(log1m(1e-3).logit_gradient(confident)), 3) == 0.004
