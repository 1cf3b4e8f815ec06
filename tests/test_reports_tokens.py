"""Target tokens in records: what is looked at, and how little room it takes."""

import base64
import json
import math
import zlib

import helpers
import numpy as np
import pytest
import torch
from page_records import tune_record

from probtune import pipeline
from probtune.data.encoding import encode
from probtune.data.rows import read_rows, rows_from
from probtune.errors import DataError, UsageError
from probtune.models.loading import load_model, token_table
from probtune.models.looks import look
from probtune.objectives import objective
from probtune.pipeline.fine_tuning import training_config
from probtune.pipeline.metrics import read_metrics
from probtune.pipeline.viewing import weights_of
from probtune.reports.content import Texts, token_sets
from probtune.reports.groups import by_group
from probtune.reports.movement import movement
from probtune.reports.report import render
from probtune.reports.tokens import BYTES_A_ROW, GRID, code_p, code_rank, pack, pick, unpack
from probtune.settings import TuneSettings
from probtune.terminal import Terminal


@pytest.fixture(scope="module")
def folder(word_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("tokens") / "o"
    rows = [{**row, "kind": "odd" if i % 2 else "even"} for i, row in enumerate(helpers.sums(40))]
    data = helpers.write_jsonl(out.parent / "rows.jsonl", rows)
    settings = TuneSettings(
        str(word_model),
        str(data),
        compare="nll,p",
        max_steps=2,
        out=str(out),
        heldout=10,
        group_by="kind",
        eval_steps=1,
    )
    pipeline.tune(settings, Terminal(quiet=True))
    return out


def test_a_look_agrees_with_the_table_and_with_the_logits(word_model, folder):
    model = load_model(str(word_model))
    named = ((f"row {i}", row) for i, row in enumerate(helpers.sums(5)))
    examples = rows_from(named, source="x").examples
    rows = encode(examples, helpers.word_tokenizer(), max_length=64).rows
    looks, table = look(model, rows), token_table(model, rows)
    assert len(looks) == 5
    for index, one in enumerate(looks):
        mine = table.example == index
        assert (one.token == table.token[mine]).all()
        np.testing.assert_allclose(one.logp, table.logp[mine], atol=1e-5)
        np.testing.assert_allclose(one.entropy, table.entropy[mine], atol=1e-5)
        assert ((one.rank == 1) == table.is_top1[mine]).all()
        row = rows[index]
        logits = model(torch.tensor(row.input_ids)[None]).logits[0]
        where = [i - 1 for i, label in enumerate(row.labels.tolist()) if label != -100 and i]
        for at, position in enumerate(where):
            order = logits[position].argsort(descending=True)
            assert order[one.rank[at] - 1] == one.token[at]
            assert one.top[at].tolist() == order[:5].tolist()


def test_the_record_holds_the_tokens_of_every_model_in_little_room(folder):
    record = json.loads((folder / "record.json").read_text())
    packed = record["tokens_of_rows"]
    assert len(packed["data"]) <= BYTES_A_ROW * packed["rows"]
    content = unpack(packed)
    names = [run["name"] for run in record["runs"]]
    assert list(content["models"]) == names
    for run in record["runs"]:
        items = run["heldout"]["items"]
        for row, entry in zip(content["rows"], content["models"][run["name"]], strict=True):
            p = [GRID[ord(c) - 256] for c in entry["p"]]
            assert len(p) == len(row["t"]) == items["tokens"][row["i"]]
            assert math.isclose(sum(p), items["p"][row["i"]], abs_tol=0.025 * len(p))
            top1 = sum(ord(c) == 256 for c in entry["r"])
            assert top1 == items["top1"][row["i"]]
    assert record["weights"]["nll()"] == [1.0] * 255
    scout = unpack(record["scout"]["tokens_of_rows"])
    excess = [row["excess"] for row in scout["rows"]]
    assert excess == sorted(excess, reverse=True) and scout["rows"][0]["prompt"]
    for row, entry in zip(scout["rows"], scout["models"]["after the scout"], strict=True):
        assert len(entry["r"]) == len(entry["a"]) == len(row["t"])
        for at, (others, codes) in entry["a"].items():
            rank = ord(entry["r"][int(at)]) - 256
            assert (others[0] == row["t"][int(at)]) == (rank == 0)
            assert list(codes) == sorted(codes, reverse=True) and len(codes) == 5
    assert unpack(record["probe"]["tokens_of_rows"])["models"]["base"]


def test_long_rows_of_many_models_stay_below_the_budget():
    rng = np.random.default_rng(0)

    def one():
        tokens = rng.integers(0, 50_000, 300)
        return {
            "token": tokens.tolist(),
            **{k: "".join(chr(256 + c) for c in rng.integers(0, 255, 300)) for k in "phr"},
            "top": {
                str(i): [rng.integers(0, 50_000, 5).tolist(), "abcde"] for i in range(0, 300, 5)
            },
        }

    rows = [one() for _ in range(20)]
    packed = pack(
        [{"i": i, "where": f"rows.jsonl:{i}"} for i in range(20)],
        dict.fromkeys(("base", "nll()", "p()"), rows),
        lambda token: f"t{token}",
    )
    assert len(packed["data"]) <= BYTES_A_ROW * 20
    content = unpack(packed)
    with pytest.raises(DataError, match="is not whole"):
        damaged = tune_record(2)
        damaged["tokens_of_rows"] = {**packed, "data": packed["data"][5:]}
        render([damaged])
    assert packed["longest"] < 300 and content["rows"][0]["cut"] == 300 - packed["longest"]
    first = content["models"]["p()"][0]
    assert first["p"] == rows[0]["p"][: packed["longest"]]
    assert content["vocabulary"][content["rows"][0]["t"][0]] == f"t{rows[0]['token'][0]}"


def test_earlier_records_are_read():
    content = {"vocabulary": ["a"], "rows": [{"t": [0]}], "models": {"base": [{"p": "\u0100"}]}}
    data = base64.b64encode(zlib.compress(json.dumps(content).encode())).decode()
    assert unpack({"rows": 1, "longest": 64, "alternatives": 0, "data": data}) == content


def test_codes_are_close():
    for p in (1e-5, 0.001, 0.01, 0.3, 0.5, 0.97, 0.9999):
        shown = GRID[code_p(math.log(p))]
        assert abs(shown - p) <= 0.05 * min(p, 1 - p)
    assert [round(2 ** (code_rank(r) / 16)) for r in range(1, 21)] == list(range(1, 21))


def test_half_of_the_rows_are_the_most_surprising():
    surprise = [0.0] * 90 + [5.0] * 10
    chosen = pick(surprise, 20)
    assert set(range(90, 100)) < set(chosen) and len(chosen) == 20
    assert pick(surprise, 20) == chosen and pick(surprise, 100) == list(range(100))


def test_weights_are_those_of_the_objectives():
    weights = weights_of([objective("p"), objective("power(0.5)"), objective("above(0.5, nll)")])
    np.testing.assert_allclose(weights["p()"], GRID, atol=1e-4)
    np.testing.assert_allclose(weights["power(0.5)"], np.sqrt(GRID), atol=1e-4)
    assert set(weights["above(0.5, nll())"]) == {0.0, 1.0}


def test_groups_of_rows_add_up_to_the_whole(folder, tmp_path):
    record = json.loads((folder / "record.json").read_text())
    probe = record["probe"]
    assert {group["name"] for group in probe["groups"]} == {"odd", "even"}
    assert sum(group["tokens"] for group in probe["groups"]) == probe["tokens"]
    whole = sum(g["tokens"] * g["mean_p"]["value"] for g in probe["groups"]) / probe["tokens"]
    assert whole == pytest.approx(probe["mean_p"]["value"])
    groups = by_group(record)
    assert sum(group["rows"] for group in groups) == record["data"]["heldout"]["rows"]
    for k, run in enumerate(record["runs"]):
        exact = sum(g["rows"] * g["models"][k]["exact_match"]["value"] for g in groups)
        assert exact == pytest.approx(sum(run["heldout"]["items"]["exact"]))
    assert "kind" not in record["data"]["unused_columns"]
    page = (folder / "report.html").read_text()
    assert "<h2>By kind</h2>" in page
    for slug in ("nll", "p"):
        log = json.loads((folder / slug / "train.json").read_text())["group_log"]
        every = read_metrics(folder / slug / "metrics.jsonl")
        entries = [entry for entry in every if "heldout" not in entry]
        assert [e["step"] for e in log] == [e["step"] for e in entries] == [1, 2]
        for entry, measured in zip(entries, log, strict=True):
            assert entry["tokens_per_second"] > 0
            parts = measured["groups"].values()
            tokens = sum(part["tokens"] for part in parts)
            assert tokens == sum(entry["p_histogram"]) and len(parts) == 2
            for key in ("nll", "mean_p"):
                mean = sum(part["tokens"] * part[key] for part in parts) / tokens
                assert mean == pytest.approx(entry[key])
        for what in ("NLL", "mean p"):
            assert f'aria-label="{what}, {slug}() during training"' in page
            assert f'aria-label="{what}, {slug}() (held-out rows) during training"' in page
    with pytest.raises(DataError, match="no row of .* has the column 'source' of --group-by"):
        read_rows(str(folder.parent / "rows.jsonl"), group_by="source")


def test_what_moved_adds_up_to_the_change(folder):
    record = json.loads((folder / "record.json").read_text())
    for model, run in zip(movement(record), record["runs"][1:], strict=True):
        assert model["name"] == run["name"]
        assert sum(map(sum, model["moves"])) == pytest.approx(1)
        (whole, *kinds) = model["kinds"]
        base = record["runs"][0]["heldout"]["metrics"]["nll"]["value"]
        change = run["heldout"]["metrics"]["nll"]["value"] - base
        assert whole["rose"] <= 0 <= whole["fell"]
        assert whole["rose"] + whole["fell"] == pytest.approx(change, abs=0.05)
        assert sum(kind["tokens"] for kind in kinds) == whole["tokens"] == model["tokens"]


def test_groups_of_held_out_rows_are_measured_during_training(folder):
    record = json.loads((folder / "record.json").read_text())
    last = {}
    for slug in ("nll", "p"):
        train = json.loads((folder / slug / "train.json").read_text())
        entries = read_metrics(folder / slug / "metrics.jsonl")
        of_all = [entry["heldout"] for entry in entries if "heldout" in entry]
        assert of_all == [{k: v for k, v in e.items() if k != "step"} for e in train["heldout_log"]]
        for whole, entry in zip(of_all, train["heldout_group_log"], strict=True):
            parts = entry["groups"].values()
            assert entry["groups"].keys() == {"odd", "even"}
            for key in ("nll", "mean_p"):
                mean = sum(part["tokens"] * part[key] for part in parts)
                assert mean / sum(part["tokens"] for part in parts) == pytest.approx(whole[key])
        last[f"{slug}()"] = entry["groups"]
    for group in by_group(record):
        for model in group["models"][1:]:
            measured = last[model["name"]][group["name"]]["mean_p"]
            assert measured == pytest.approx(model["mean_p"]["value"], abs=1e-4)


def test_held_out_rows_are_measured_during_training(folder):
    record = json.loads((folder / "record.json").read_text())
    for run in record["runs"][1:]:
        log, metrics = run["train"]["heldout_log"], run["heldout"]["metrics"]
        assert [entry["step"] for entry in log] == [1, 2]
        for name in ("nll", "mean_p"):
            assert log[-1][name] == pytest.approx(metrics[name]["value"], abs=1e-4)
    assert "NLL (held-out rows) during training" in (folder / "report.html").read_text()
    settings = TuneSettings("m", "d", eval_steps=1)
    with pytest.raises(UsageError, match="needs answer, which only training rows have"):
        training_config(folder, objective("nll_on_answer(p())"), settings)


def test_a_page_of_many_sets_has_fewer_rows_of_each():
    record = tune_record(60, viewed=60)
    whole, thin = token_sets(record), token_sets(record, 60)
    assert [len(one["rows"]) for one in whole] == [60, 60]
    assert [len(one["rows"]) for one in thin] == [20, 20]
    assert {one["of"] for one in (*whole, *thin)} == {60}

    def by_row(one, model):
        words = [[one["vocabulary"][t] for t in row["t"]] for row in one["rows"]]
        others = [
            {at: [one["vocabulary"][t] for t in ids] for at, (ids, _) in entry["a"].items()}
            for entry in one["models"][model]
        ]
        codes = [entry["p"] for entry in one["models"][model]]
        where = [row["where"] for row in one["rows"]]
        return dict(zip(where, zip(words, others, codes, strict=True), strict=True))

    for name in ("base", "p()"):
        assert by_row(thin[0], name).items() <= by_row(whole[0], name).items()


@pytest.mark.parametrize("number", [2, 7])
def test_long_texts_of_a_page_share_its_room(monkeypatch, number):
    monkeypatch.setattr("probtune.reports.content.MOST_CHARACTERS", 2400)
    texts = Texts()
    for i in range(number):
        texts.index(f"begin {i} " + 1000 * "x" + f" end {i}")
    texts.index("short")
    if number == 2:
        assert texts.longest is None
        return
    assert texts.longest == (2400 - 5) // number
    long, short = texts.all()[0], texts.all()[-1]
    assert len(long) <= texts.longest and short == "short"
    assert long.startswith("begin 0 ") and long.endswith(" end 0")
