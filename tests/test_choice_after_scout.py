"""The rule after a scout: its numbers and the document's tables come from the committed results."""

import json

import numpy as np
import pytest

from benchmarks.blocks import block
from benchmarks.blocks import markdown as as_text
from benchmarks.choice import after_scout as bench
from benchmarks.choice import policies, selecting, table
from benchmarks.choice.real import estimates, noise, tasks
from probtune.errors import UsageError
from probtune.probe import after_scout as rule
from probtune.probe.noise import Noise
from probtune.statistics import wilson


@pytest.fixture(scope="module")
def grid():
    return table.load()


def test_the_committed_numbers_are_those_of_the_bench(grid):
    assert json.loads(bench.TARGET.read_text()) == bench.rule(grid)
    assert block(bench.DOCUMENT, "after_scout") == as_text(bench.page(grid))
    assert block(policies.DOCUMENT, "policies") == as_text(policies.page(grid))
    second = table.load(policies.SECOND)
    assert len(second.cells) == 40 and not second.metadata["failed"]
    assert block(bench.DOCUMENT, "second confirmation") == as_text(policies.second(second, grid))


def test_the_document_shows_the_committed_estimates():
    short, longer = estimates.read(), estimates.read(estimates.LONGER)
    assert short and longer
    for page, name, printed in (
        ("choice-bench.md", "estimates", estimates.page(short)),
        ("choice-bench.md", "estimates-longer", estimates.page(longer)),
        ("choosing-an-objective.md", "estimates-by-kind", estimates.by_kind(short)),
    ):
        assert block(estimates.DOCUMENTS / page, name) == as_text(printed)


def noise_of(wrong, rows, known=True):
    suspicious = np.arange(rows) < wrong
    share, none = wilson(suspicious.astype(float)), np.zeros(rows)
    return Noise(share, known, 0.6, none, suspicious, none.astype(bool), none.astype(bool))


@pytest.mark.parametrize("metric", ["greedy", "sampled"])
def test_one_question_decides(metric):
    wrong, right = rule.TAKEN[metric]
    seen = rule.after_scout(noise_of(20, 100), metric=metric)
    assert seen.objective == wrong and seen.expected_gain.low < seen.expected_gain.points
    assert "20% of the rows look wrong" in seen.reason
    few = rule.after_scout(noise_of(7, 100), metric=metric)
    assert few.objective == right and "few or none" in few.reason
    by_chance = rule.after_scout(noise_of(6, 64), metric=metric)  # 9 %, the interval from 4 %
    assert by_chance.objective == right and "of 64 too few to be sure" in by_chance.reason
    assert rule.after_scout(noise_of(24, 256), metric=metric).objective == wrong  # 9 %, from 6 %
    unknown = rule.after_scout(noise_of(90, 100, known=False), metric=metric)
    assert unknown.objective == "nll()" and "too few to tell" in unknown.reason
    no_support = noise_of(9, 100, known=False)._replace(power=0.3)
    in_words = rule.after_scout(no_support, metric=metric)
    assert in_words.objective == "nll()" and "30% of the answers are more likely" in in_words.reason
    for choice in (seen, few, unknown, in_words):  # the user's words, no names of features
        assert choice.runner_up != choice.objective
        assert not {"usual_p", "half-sureness", "noise_known"} & set(choice.reason.split())


@pytest.mark.parametrize("metric", ["greedy", "sampled"])
def test_the_objectives_are_chosen_on_development_cells(grid, metric):
    assert bench.chosen(grid, metric) == rule.TAKEN[metric]
    cells = grid.where("development")
    means = bench.gains(grid, bench.taken(grid, rule.TAKEN[metric])[:, None], metric)[cells].mean(1)
    assert (means < -1.0).mean() <= bench.MOST_LOSING and means.min() >= bench.WORST


def test_the_metric_is_checked():
    with pytest.raises(UsageError, match="greedy, sampled"):
        rule.after_scout(noise_of(0, 10), metric="beam")


def test_held_out_tasks_and_kinds_are_named():
    assert not set(tasks.DEVELOPMENT) & set(tasks.HELD_OUT)
    assert {*tasks.DEVELOPMENT, *tasks.HELD_OUT} == set(tasks.TASKS)
    assert not set(noise.DEVELOPMENT) & set(noise.HELD_OUT)


@pytest.mark.parametrize("name", [n for n, t in tasks.TASKS.items() if t.own])
def test_rows_are_distinct_and_reproducible(name):
    rows = tasks.draw(tasks.TASKS[name], 60, seed=1)
    assert rows == tasks.draw(tasks.TASKS[name], 60, seed=1)
    assert len({row.prompt for row in rows}) == 60
    few = {*tasks.FACTS, *tasks.LATER_FACTS}
    for kind in ["other_row"] if name in few else noise.KINDS:  # those that are run
        changed, wrong = noise.corrupt(rows, kind=kind, rate=0.4, seed=2)
        assert sum(wrong) == 24
        differ = [a.response != b.response for a, b in zip(rows, changed, strict=True)]
        assert differ == wrong, kind


def test_the_document_shows_what_selecting_gains(grid):
    assert block(selecting.DOCUMENT, "selecting") == as_text(selecting.page(grid))


def test_the_arm_with_the_better_validation_is_selected(grid):
    """As `probtune tune` does it: the first of equals, and never worse on the rows that decide."""
    arms = ("nll()", "p()")
    chosen = selecting.selected(grid, arms, "greedy")
    rate = grid.scores["validation_exact"].argmax(-1)[..., None]
    right = np.take_along_axis(grid.scores["validation_exact"], rate, -1)[..., 0]
    nll, p = (right[..., grid.index(name)] for name in arms)
    assert (chosen[nll > p] == grid.index("nll()")).all()
    assert (chosen[nll < p] == grid.index("p()")).all()
    assert (chosen[nll == p] == grid.index("nll()")).all()


def test_behind_first_steps_of_nll_both_ways_take_the_same():
    """p() learns too slowly from what a few steps of NLL leave improbable."""
    for metric in ("greedy", "sampled"):
        seen = rule.after_scout(noise_of(20, 100), metric=metric, knows_form=False)
        assert seen.objective == "power(0.5)"
        assert seen.expected_gain == rule.stated_gain("wrong", "power(0.5)", metric)
        few = rule.after_scout(noise_of(0, 100), metric=metric, knows_form=False)
        assert few.objective == rule.TAKEN[metric].right
        unknown = rule.after_scout(noise_of(90, 100, known=False), metric=metric, knows_form=False)
        assert (unknown.objective, unknown.runner_up) == ("nll()", "power(0.5)")
    said = rule.both_ways(noise_of(20, 100), knows_form=False)
    assert said.startswith("The same for greedy and for sampled answers: +") and "p()" not in said


def test_both_ways_of_drawing_answers_are_stated():
    said = rule.both_ways(noise_of(20, 100))
    for metric in ("greedy", "sampled"):
        gain = rule.after_scout(noise_of(20, 100), metric=metric).expected_gain
        assert f"{gain}" in said and rule.TAKEN[metric].wrong in said
    assert said.endswith("For both, take power(0.5).")
    said = rule.both_ways(noise_of(0, 100))
    assert "greedy answers auto takes nll()." in said and "it takes power(0.3)" in said
    unknown = rule.both_ways(noise_of(90, 100, known=False))
    assert unknown == "The same for greedy and for sampled answers."
