"""The bench on real cells: what it trains is the model, and its table says what was measured."""

import helpers
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from benchmarks.blocks import block, markdown
from benchmarks.choice.real import first_steps, noise, orders, pruned, stated, trainings
from benchmarks.choice.real.tasks import DEVELOPMENT
from probtune.data.encoding import encode
from probtune.data.rows import rows_from
from probtune.models.loading import load_tokenizer
from probtune.probe.after_scout import stated_gain
from probtune.probe.choosing import METRICS


@pytest.fixture(scope="module")
def material(word_model):
    tokenizer = load_tokenizer(str(word_model))
    rows = rows_from(((f"row {i}", row) for i, row in enumerate(helpers.sums(48))), source="sums")
    model = helpers.word_causal_model(0, num_hidden_layers=2)
    encoded = encode(rows.examples, tokenizer, max_length=64).rows
    return model, encoded, torch.tensor(tokenizer.all_special_ids)


@pytest.mark.parametrize("below", [0, 1])
def test_cached_states_give_the_logits_of_the_whole_model(material, below):
    model, encoded, special = material
    top = trainings._Top(model, below)
    rows = trainings._states(model, encoded[:5], below, special)
    logits, targets, row = top.logits(rows, range(5))
    for index in range(5):
        labels = torch.from_numpy(encoded[index].labels).long()[1:]
        with torch.no_grad():
            whole = model(torch.from_numpy(encoded[index].input_ids).long()[None]).logits[0, :-1]
        assert_close(logits[row == index], whole[labels != -100], rtol=1e-4, atol=1e-5)
        assert_close(targets[row == index], labels[labels != -100])


def test_every_arm_trains_and_starts_where_the_others_did(material):
    model, encoded, special = material
    top = trainings._Top(model, 0)
    rows = trainings._states(model, encoded, 0, special)
    before = trainings._measure(top, rows)
    weights = np.ones(len(encoded))
    scores = {}
    of_auto = "anneal(nll(), nll_on_special(power(0.5)), 0.33, 0.33)"
    for arm in (*trainings.ARMS, of_auto):
        trainings._train(top, rows, arm, 3e-3, weights, seed=0)
        scores[arm] = trainings._measure(top, rows)
        assert scores[arm] != before
    trainings._train(top, rows, "nll()", 3e-3, weights, seed=0)
    assert trainings._measure(top, rows) == scores["nll()"]
    assert scores["inliers(nll())"] == scores["nll()"]  # all weights are 1
    assert scores["nll()"]["sampled"] > before["sampled"]


def test_the_cells_cover_every_task_and_kind_in_a_day(monkeypatch):
    monkeypatch.delenv(trainings.GSM8K, raising=False)
    cells = list(trainings.cells())
    assert len(cells) == len(set(cells)) == 83
    assert cells[0] == ("addition", "other_row", 0.4, 0)
    of_task = {task: [cell for cell in cells if cell[0] == task] for task, *_ in cells}
    echoed = {cell[0] for cell in cells if cell[1] == "echo"}
    assert len(echoed) == 3 and len(of_task) == 16
    assert all(len(mine) == 5 + (task in echoed) for task, mine in of_task.items())
    for kind, rate in trainings._KINDS:
        assert len({task for task, *noise, _ in cells if noise == [kind, rate]}) >= 5
    assert {seed for *_, seed in cells} == {0, 1}


def line(task, auto, greedy, knows=True):
    """A finished cell whose arms reach these shares."""
    arms = {
        arm: [
            {
                "learning_rate": rate,
                "validation": {"greedy": score - 0.1 * (rate > 2e-4), "sampled": score},
                "test": {"greedy": score + (rate > 2e-4), "sampled": score / 2},
            }
            for rate in (1e-4, 3e-4)
        ]
        for arm, score in greedy.items()
    }
    base = {"greedy": 0.1, "sampled": 0.05, "end": 0.1}
    return {
        **{"task": task, "kind": "slip", "rate": 0.2, "seed": 0, "below": 20, "rows": 192},
        **{
            "true": 0.2,
            "estimate": 0.19,
            "known": knows,
            "auto": {"greedy": auto, "sampled": auto},
            "weighed": {"greedy": auto, "sampled": auto},
            "mean_p": 0.7,
            "base": base,
            "arms": arms,
        },
    }


def test_validation_picks_the_rate_and_gains_are_against_nll():
    scores = dict.fromkeys(trainings.ARMS, 0.5) | {"power(0.5)": 0.6, "p()": 0.2}
    lines = [line("addition", "power(0.5)", scores), line("steps", "nll()", scores, knows=False)]
    header, rows = trainings.page(lines)
    first = dict(zip(header, rows[0], strict=True))
    assert first["nll"] == "50" and first["`power(0.5)`"] == "+10" and first["`p()`"] == "-30"
    assert first["auto"] == "+10" and first["task"] == "**addition**"
    assert dict(zip(header, rows[2], strict=True))["estimate"] == "19% (not known)"
    assert first["select"] == "+10"
    header, rows = trainings.means(lines)
    of = {tuple(row[:2]): dict(zip(header, row, strict=True)) for row in rows}
    every = of["2: all", "greedy"]
    assert every["auto"].startswith("+5.0 [") and every["auto's worst"] == "+0"
    assert every["select"].startswith("+10.0 [")  # of either it takes power(0.5)
    assert of["1: auto leaves NLL", "sampled"]["`p()`"].startswith("-15.0")
    assert every["auto loses > 1"] == "0%" and "1: auto leaves NLL" in trainings.summary(lines)
    assert every["paper's rule"].startswith("-30.0 [")  # p(), since mean p is 0.7
    header, rows = trainings.ahead(lines)
    of = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert of["greedy"]["paper's rule"].startswith("+35.0 [")
    assert of["greedy"]["select"].startswith("-5.0 [")
    assert trainings.summary([]) == "no cell was run yet."


def test_the_other_way_of_drawing_answers_is_read():
    scores = dict.fromkeys(trainings.ARMS, 0.5) | {"power(0.5)": 0.6, "p()": 0.2}
    one = line("addition", "power(0.5)", scores)
    one["auto"]["sampled"] = "p()"
    gains = {m: trainings.gains_of(one, m) for m in ("greedy", "sampled")}
    assert gains["greedy"][trainings.OTHER] == pytest.approx(-30)
    assert gains["sampled"][trainings.OTHER] == pytest.approx(5)


def test_the_documents_show_the_committed_trainings():
    lines = trainings.read()
    for name, printed in (
        ("trainings-means", trainings.means(lines)),
        ("trainings-ahead", trainings.ahead(lines)),
    ):
        document = trainings.DOCUMENTS / "choosing-an-objective.md"
        assert block(document, name) == markdown(printed)
    assert block(trainings.DOCUMENTS / "choice-bench.md", "trainings") == markdown(
        trainings.page(lines)
    )
    greedy, sampled = (
        np.mean([trainings.gains_of(line, metric)["auto"] for line in lines]) for metric in METRICS
    )
    readme = " ".join((trainings.DOCUMENTS.parent / "README.md").read_text().split())
    gains = f"gains {greedy:.1f} points greedy and {sampled:.1f} sampled"
    assert f"on {len(lines)} cells of SmolLM2-135M that {gains}" in readme


def test_a_cell_is_the_mean_of_its_orders():
    ahead, behind = (
        line("steps", "power(0.5)", {"nll()": 0.5, "power(0.5)": score}) for score in (0.6, 0.44)
    )
    one = ahead | {"orders": {"1": ahead["arms"], "2": behind["arms"]}}
    two = one | {"task": "sort", "orders": {"1": behind["arms"], "2": behind["arms"]}}
    header, rows = orders.page([one, two])
    of = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert [of["steps"][name] for name in ("one order", "another", "mean")] == [
        *("+10.0", "-6.0", "+2.0")
    ]
    assert of["steps"]["mean, sampled answers"] == "+1.0"
    header, rows = orders.means([one, two])
    greedy = dict(zip(header, rows[0], strict=True))
    assert greedy["gain over NLL [95 %]"].startswith("-2.0 [") and greedy["worst"] == "-6.0"
    assert greedy["lose > 1"] == "50%"
    assert greedy["of one order"] == "8.0"  # one cell's orders are 16 apart, the other's 0


def test_orders_are_of_cells_in_which_auto_leaves_nll_for_greedy_answers():
    taken = {(r["task"], r["kind"], r["rate"], r["seed"]): r["auto"] for r in trainings.read()}
    assert orders.cells() and all(taken[cell]["greedy"] != "nll()" for cell in orders.cells())


def test_the_documents_show_the_committed_orders():
    lines = orders.read(orders.RESULTS)
    document = orders.DOCUMENTS / "choice-bench.md"
    assert block(document, "orders") == markdown(orders.page(lines))
    assert block(document, "orders-means") == markdown(orders.means(lines))
    of = {
        row[1]: dict(zip(orders.means(lines)[0], row, strict=True))
        for row in orders.means(lines)[1]
    }
    gain, worst = of["greedy"]["gain over NLL [95 %]"].split()[0], of["greedy"]["worst"]
    text = " ".join((orders.DOCUMENTS / "choosing-an-objective.md").read_text().split())
    assert f"{len(lines)} of these cells" in text
    assert (
        f"`auto` gains {float(gain):.1f} points greedy, the worst cell loses {-float(worst):.1f}"
        in text
    )


def test_the_stated_range_is_that_of_what_is_taken():
    first = "anneal(nll(), nll_on_special({}), 0.17, 0.17)"
    greedy = stated.stated(first.format("power(0.5)"), "greedy", "greedy")
    assert greedy == stated_gain("wrong", "power(0.5)", "greedy") and greedy.low < 0 < greedy.high
    assert stated.stated("p()", "sampled", "sampled") == stated_gain("wrong", "p()", "sampled")
    both = stated.stated(first.format("power(0.5)"), "sampled", "sampled")
    assert both == stated_gain("wrong", "power(0.5)", "sampled")
    sampled = stated.stated(first.format("power(0.3)"), "sampled", "sampled")
    assert sampled == stated_gain("right", "power(0.3)", "sampled")
    for nothing in ("nll()", "inliers(nll())", f"inliers({first.format('power(0.3)')})"):
        assert stated.stated(nothing, "sampled", "sampled") is None


def test_the_document_shows_the_stated_range():
    header, rows = stated.table()
    document = stated.trainings.DOCUMENTS / "choice-bench.md"
    assert block(document, "stated") == markdown((header, rows))
    shares = [int(row[header.index("in the stated range [95 %]")].split("%")[0]) for row in rows]
    text = (document.parent / "choosing-an-objective.md").read_text(encoding="utf-8")
    assert f"of SmolLM2-135M [{min(shares)} to {max(shares)} %]" in text


def test_first_steps_are_of_development_cells():
    tasks, kinds = {c[0] for c in first_steps.CELLS}, {c[1] for c in first_steps.CELLS}
    assert tasks <= set(DEVELOPMENT) and kinds <= set(noise.DEVELOPMENT)
    one = line("steps", "nll()", {arm: 0.5 + 0.1 * ("p()" in arm) for arm in first_steps.ARMS})
    header, rows = first_steps.page([one])
    of = {tuple(row[:2]): dict(zip(header, row, strict=True)) for row in rows}
    cell = of["`anneal(nll(), nll_on_special(p()), 0.17, 0.17)`", "greedy"]
    assert cell["steps, slip 20%"] == "+10.0" and len(rows) == 2 * (len(first_steps.ARMS) - 1)


def test_what_follows_first_steps_is_compared_where_both_were_trained():
    first, second = (
        f"anneal(nll(), nll_on_special({f}), 0.17, 0.17)" for f in ("power(0.5)", "p()")
    )
    both = line("steps", first, {"nll()": 0.5, first: 0.7, second: 0.6})
    assert first_steps.followed(both, "greedy") == pytest.approx(10)
    assert first_steps.followed(both, "sampled") == pytest.approx(5)
    orders = {"1": both["arms"], "2": line("steps", first, {first: 0.5, second: 0.6})["arms"]}
    assert first_steps.followed(both | {"orders": orders}, "greedy") == (pytest.approx(0))
    for arms in ({first: 0.7}, {"nll()": 0.7}, {"power(0.5)": 0.7, "p()": 0.6}):
        lone = line("steps", next(iter(arms)), {"nll()": 0.5, **arms})
        assert first_steps.followed(lone, "greedy") is None


def test_the_document_shows_another_model():
    document = trainings.DOCUMENTS / "choice-bench.md"
    expected = pruned.page(trainings.read(pruned.RESULTS), pruned.estimates.read())
    assert block(document, "estimates-pruned") == markdown(expected)


def test_a_model_without_a_layer():
    """Is one in which that layer adds nothing."""
    ids = torch.arange(12)[None]
    silent = helpers.word_causal_model(num_hidden_layers=3)
    for part in (silent.model.layers[1].self_attn.o_proj, silent.model.layers[1].mlp.down_proj):
        torch.nn.init.zeros_(part.weight)
    left = pruned.without(helpers.word_causal_model(num_hidden_layers=3), 1)
    assert left.config.num_hidden_layers == 2
    assert_close(left(ids).logits, silent(ids).logits)


def test_the_document_shows_what_follows_first_steps():
    document = trainings.DOCUMENTS / "choice-bench.md"
    assert block(document, "after-nll") == markdown(first_steps.after_nll())


def test_cells_are_distinct_and_cover_held_out_tasks_and_kinds():
    cells = list(trainings.cells())
    assert len(set(cells)) == len(cells)
    tasks, kinds = {c[0] for c in cells}, {c[1] for c in cells}
    assert len(tasks) >= 10 and {"addition", "steps"} <= tasks
    assert kinds == {*("none", "other_row", "slip", "wrong_format", "one_sided", "missing", "echo")}
    assert {c[2] for c in cells} == {0.0, 0.1, 0.2, 0.4} and {c[3] for c in cells} == {0, 1}
