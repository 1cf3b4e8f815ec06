import json
from dataclasses import replace

import numpy as np
import pytest

from probtune.demo import grid, pretraining, summary
from probtune.demo.task import NOISE_KINDS, PROMPT_TOKENS, SHUFFLE, VOCABULARY, Problems, rows_of
from probtune.errors import UsageError
from probtune.measure.answers import exact_match, read_rule
from probtune.statistics import mean
from probtune.terminal import Terminal


def draw(n=200, seed=0, **options):
    return Problems.draw(n, np.random.default_rng(seed), **{"shuffled": False, **options})


def test_clean_problems_are_right():
    problems = draw()
    for ids, key in zip(problems.ids, problems.key, strict=True):
        a, b = divmod(int(key), 1000)
        digits = [int(x) for x in ids[PROMPT_TOKENS:-1] if x < 10]
        carry = 0
        for position in range(3):
            total = a // 10**position % 10 + b // 10**position % 10 + carry
            carry = total // 10
            assert digits[2 * position : 2 * position + 2] == [total % 10, carry]
        assert int("".join(map(str, digits[6:]))) == a + b
    assert not problems.corrupted.any()


def test_shuffled_notation_maps_every_digit_of_the_response():
    plain, shuffled = draw(), draw(shuffled=True)
    assert (plain.ids[:, 1:PROMPT_TOKENS] == shuffled.ids[:, 1:PROMPT_TOKENS]).all()
    digits = plain.ids[:, PROMPT_TOKENS:] < 10
    expected = np.where(
        digits, SHUFFLE[plain.ids[:, PROMPT_TOKENS:] % 10], plain.ids[:, PROMPT_TOKENS:]
    )
    assert (shuffled.ids[:, PROMPT_TOKENS:] == expected).all()
    assert sorted(SHUFFLE) == list(range(10)) and (SHUFFLE != np.arange(10)).all()
    assert [VOCABULARY[i] for i in (plain.ids[0, 0], shuffled.ids[0, 0])] == ["dec", "new"]


@pytest.mark.parametrize("noise", NOISE_KINDS)
def test_noise_touches_what_it_says(noise):
    clean, noisy = draw(2000), draw(2000, noise=noise, rate=0.4)
    assert (clean.ids[:, :PROMPT_TOKENS] == noisy.ids[:, :PROMPT_TOKENS]).all()
    changed = clean.ids != noisy.ids
    assert (changed.any(1) == noisy.corrupted).all()
    steps, answer = (
        changed[:, PROMPT_TOKENS : PROMPT_TOKENS + 6],
        changed[:, PROMPT_TOKENS + 7 : -1],
    )
    if noise == "slip":
        assert (steps.sum(1)[noisy.corrupted] == 1).all()
        assert (answer.sum(1)[noisy.corrupted] == 1).all()
    elif noise == "answer":
        assert not steps.any() and (answer.sum(1)[noisy.corrupted] == 1).all()
    elif noise == "terse":
        assert steps[noisy.corrupted].all() and not answer.any()
    if noise == "token":
        assert changed[:, PROMPT_TOKENS:-1].mean() == pytest.approx(0.4 * 10 / 11, abs=0.02)
    else:
        assert noisy.corrupted.mean() == pytest.approx(0.4, abs=0.04)


def test_a_slip_is_a_consistent_wrong_solution():
    noisy = draw(500, noise="slip", rate=1.0)
    for ids in noisy.ids:
        digits = [int(x) for x in ids[PROMPT_TOKENS:-1] if x < 10]
        assert digits[6:] == [digits[5], digits[4], digits[2], digits[0]]


def test_text_and_ids_are_the_same_problem():
    tokenizer = pretraining.make_tokenizer()
    problems = draw(50, shuffled=True, noise="terse", rate=0.5)
    rule = read_rule(grid_answer_rule())
    for ids, row in zip(problems.ids, rows_of(problems), strict=True):
        text = tokenizer(row["prompt"] + row["completion"])["input_ids"]
        assert text == [x for x in ids[:-1].tolist() if x >= 0]
        assert exact_match(rule(row["completion"]), row["completion"].split("|")[1])


def grid_answer_rule():
    from probtune.demo.task import ANSWER_RULE

    return ANSWER_RULE


def test_unknown_noise():
    with pytest.raises(ValueError, match="slip, token, answer, terse"):
        draw(noise="salt")


def test_held_out_problems_are_not_trained_on(tmp_path):
    for cell in grid.FULL.cells:
        train, heldout = grid._data(tmp_path, 3, cell, 256)
        prompts = [
            {json.loads(line)["prompt"] for line in path.read_text().splitlines()}
            for path in (train, heldout)
        ]
        assert not prompts[0] & prompts[1]
        assert len(heldout.read_text().splitlines()) == grid.HELD_OUT_ROWS


def test_cells_of_a_seed_share_their_problems(tmp_path):
    texts = set()
    for cell in grid.STANDARD.cells:
        _, heldout = grid._data(tmp_path, 0, cell, 256)
        texts.add(heldout.read_text())
    assert len(texts) == 1


def test_winner_must_beat_every_other():
    def row(a, b, low, high):
        return {
            "first": a,
            "second": b,
            "difference": mean([low, high])._replace(low=low, high=high),
        }

    both = [row("b", "a", 0.1, 0.2), row("c", "a", 0.1, 0.3), row("c", "b", -0.1, 0.2)]
    assert grid._winner(["a", "b", "c"], both) is None
    assert grid._winner(["a", "b", "c"], [*both[:2], row("c", "b", 0.01, 0.2)]) == "c"
    assert grid._winner(["a", "b"], [row("b", "a", -0.3, -0.1)]) == "a"
    assert grid._winner(["a", "b"], [row("b", "a", float("nan"), float("nan"))]) is None


def test_plans():
    assert grid.STANDARD.seeds == (0, 1, 2, 3, 4)
    assert {cell.level for cell in grid.STANDARD.cells} == {"weak", "intermediate", "strong"}
    clean = [cell for cell in grid.STANDARD.cells if not cell.rate]
    assert [(c.level, c.objectives) for c in clean] == [("strong", ("nll()", "p()"))]
    assert grid.FAST.seeds == (0, 1) and {c.level for c in grid.FAST.cells} == {"weak", "strong"}
    names = {objective for cell in grid.FULL.cells for objective in cell.objectives}
    assert "above(0.2, nll())" in names and len({c.noise for c in grid.FULL.cells}) == 4
    for plan in (grid.STANDARD, grid.FAST, grid.FULL):
        assert len({cell.name for cell in plan.cells}) == len(plan.cells)
        assert "pre-trained" in summary.introduction(plan)


@pytest.fixture(scope="module")
def two_seeds(tmp_path_factory):
    """Seeds that no default uses, at both ends, by the whole path."""
    plan = replace(grid.FAST, seeds=(40, 41))
    return grid.run(tmp_path_factory.mktemp("demo") / "two", plan, Terminal(quiet=True))


@pytest.fixture(scope="module")
def one_seed(tmp_path_factory):
    """One of them, where one is to claim nothing."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    plan = replace(
        grid.FAST, seeds=(40,), cells=grid.FAST.cells[:1], recipe={**grid.RECIPE, "epochs": 3.0}
    )
    return folder, plan, grid.run(folder, plan, Terminal(quiet=True))


@pytest.mark.slow
def test_the_ends_of_the_continuum(two_seeds):
    """Signs with a wide margin: NLL wins at the weak end, -p at the strong end. In the mean of two
    seeds: a strong base now and then gains nothing from -p, and rounding decides which
    (docs/log.md).
    """
    weak, strong = (
        {name: sum(x["by_seed"]) / 2 for name, x in cell["exact_match"].items()}
        for cell in two_seeds["cells"]
    )
    assert weak["nll()"] - weak["p()"] > 0.15
    assert strong["p()"] - strong["nll()"] > 0.05
    cells = two_seeds["cells"]
    assert cells[0]["mean_p"]["value"] < 0.6 < cells[1]["mean_p"]["value"]
    assert cells[0]["verdicts"] == ["model-weak", "model-weak"]


def test_one_seed_claims_nothing(one_seed, capsys):
    _, _, record = one_seed
    assert [cell["winner"] for cell in record["cells"]] == [None]
    summary.show(record, Terminal(quiet=True))
    out = capsys.readouterr().out
    assert "beats NLL" not in out and "Not shown here:" in out


def test_levels_are_set_by_the_probe(one_seed):
    folder, _, _ = one_seed
    reached = json.loads((folder / "seed-40" / "base" / "pretraining.json").read_text())["mean_p"]
    assert reached["weak"] < 0.6 and reached["intermediate"] >= 0.80 and reached["strong"] >= 0.93


def test_the_saved_tokenizer_is_the_one_that_is_loaded(one_seed):
    """transformers replaces custom tokenizers of some model types by the family's own."""
    from probtune.models.loading import load_tokenizer

    folder, _, _ = one_seed
    loaded = load_tokenizer(str(folder / "seed-40" / "base" / "weak"))
    for row, ids in zip(rows_of(draw(20)), draw(20).ids, strict=True):
        assert loaded(row["prompt"] + row["completion"])["input_ids"] == ids[:-1].tolist()


def test_a_finished_demo_is_not_run_again(one_seed):
    folder, plan, record = one_seed
    again = grid.run(folder, plan, Terminal(quiet=True))
    assert again["cells"] == record["cells"] and again["seconds"] < 30
    with pytest.raises(UsageError, match="another demo"):
        grid.run(folder, replace(plan, seeds=(41,)), Terminal(quiet=True))


def test_a_seed_that_does_not_learn_is_left_out_and_said(tmp_path, monkeypatch, capsys):
    from probtune.errors import ProbtuneError

    class Now:
        """Runs tasks at once, in this process."""

        def __init__(self, *args, **kwargs):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *args):
            pass

        def submit(self, function, *args):
            from concurrent.futures import Future

            future = Future()
            try:
                future.set_result(function(*args))
            except ProbtuneError as error:
                future.set_exception(error)
            return future

        def shutdown(self, **options):
            pass

    def fails(folder, seed):
        raise ProbtuneError(f"seed {seed}: addition was not learnt")

    monkeypatch.setattr(grid, "ProcessPoolExecutor", Now)
    monkeypatch.setattr(grid, "_pretrain", fails)
    with pytest.raises(ProbtuneError, match=r"no seed could be pre-trained: seed \d"):
        grid.run(tmp_path / "a", grid.FAST, Terminal(quiet=True))


def test_intervals_lie_where_their_numbers_can(monkeypatch, tmp_path):
    """Student's t of two seeds alone goes below -1 and above 1, and for a share out of [0, 1]."""

    def record(path, kind):
        second = 0.1 if "seed-0" in str(path) else 0.9
        runs = [
            {
                "name": name,
                "heldout": {"metrics": {k: {"value": v} for k in ("exact_match", "nll")}},
            }
            for name, v in (("base", 0.0), ("nll()", 1.0), ("p()", second))
        ]
        share = {"value": 0.4}
        return {
            "runs": runs,
            "probe": {"mean_p": share, "below_0_1": share, "suggestion": {"verdict": "strong"}},
            "choice": {"objective": "p()"},
            "scout": {"noise": {"known": True, "share": share}},
        }

    monkeypatch.setattr(grid, "read_record", record)
    cell = next(c for c in grid.STANDARD.cells if tuple(c.objectives) == ("nll()", "p()"))
    summary = grid._summarise(tmp_path, (0, 1), cell)
    (pair,) = summary["differences"]
    assert (pair["difference"].low, pair["difference"].high) == (-1.0, 1.0)
    regret = summary["auto"]["regret"]["estimate"]
    assert (regret.low, regret.high) == (-1.0, 1.0)
    assert pair["difference"].value == pytest.approx(-0.5) == -regret.value
    matched = summary["exact_match"]["p()"]["estimate"]
    assert (matched.value, matched.low, matched.high) == (pytest.approx(0.5), 0.0, 1.0)
