"""Lists that fit a terminal, next commands, and what a notebook shows."""

import re
import xml.etree.ElementTree as ElementTree

import helpers
import pytest

from probtune import from_function, probe
from probtune.cli import main
from probtune.evaluation.commands.evaluation import next_command
from probtune.evaluation.settings import EvalSettings
from probtune.objectives import MEMBERS, objective
from probtune.records import write_record
from probtune.terminal import Terminal


@pytest.fixture()
def narrow(monkeypatch):
    """A terminal of 80 columns."""
    monkeypatch.setattr(Terminal, "width", 80)


@pytest.mark.parametrize("command", [["objectives"], ["eval", "--list"]])
def test_lists_fit_80_columns(command, narrow, capsys):
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 20 and max(map(len, lines)) <= 80
    if command == ["objectives"]:
        names = [line.split()[0] for line in lines if line]
        assert [name for name in names if name in MEMBERS] == list(MEMBERS)


def test_a_benchmark_by_name_is_told_in_full(narrow, capsys):
    assert main(["eval", "--list", "--tasks", "gpqa_medical"]) == 0
    out = capsys.readouterr().out
    assert "must not be passed on" in out and "m1_eval_data.json" in out and "gsm8k" not in out


def test_objectives_by_name_are_told_in_full(narrow, capsys):
    assert main(["objectives", "power,tailr(0.2)"]) == 0
    out = capsys.readouterr().out
    for text in (
        "power(0.5)\n",
        "(1 - p^alpha) / alpha",
        "tailr(0.2)\n",
        "forgives what the model",
    ):
        assert text in out
    assert main(["objectives", "powr"]) == 2


def options_of(line):
    return dict(re.findall(r"--([a-z-]+) (\S+)", line))


def test_the_last_line_of_a_probe_and_of_a_training_goes_on(word_model, tmp_path, capsys):
    rows = helpers.write_jsonl(tmp_path / "sums.jsonl", helpers.sums(40))
    assert main(["probe", str(word_model), str(rows), "--seed", "3", "--max-steps", "2"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"next    probtune tune {word_model} {rows} ")
    assert options_of(last)["seed"] == "3" and options_of(last)["max-steps"] == "2"
    arguments = [str(word_model), str(rows), "--objective", "p", "--max-steps", "1"]
    assert main(["train", *arguments, "--out", str(tmp_path / "out"), "--heldout", "4"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"next    probtune tune {word_model} {rows} --objective p")
    assert options_of(last)["out"] == str(tmp_path / "out")


def test_an_evaluation_goes_on_with_another_model_or_a_comparison(tmp_path):
    settings = EvalSettings(model="base", tasks="gsm8k", limit=5, out=str(tmp_path / "a"))
    assert next_command(settings) == "probtune eval OTHER_MODEL --tasks gsm8k --limit 5"
    for name, kind in (("a", "eval"), ("b", "eval"), ("c", "tune")):
        write_record(tmp_path / name / "record.json", kind, {})
    assert next_command(settings) == f"probtune compare {tmp_path / 'a'} {tmp_path / 'b'}"


# --- notebooks ----------------------------------------------------------------------------------


def parsed(html):
    return ElementTree.fromstring(html)


@pytest.mark.parametrize("member", MEMBERS.values(), ids=lambda m: m.__name__)
def test_every_objective_has_a_picture_or_says_what_it_needs(member):
    tree = parsed(objective(member.example)._repr_html_())
    assert (tree.find("svg") is None) == ("needs" in [cell.text for cell in tree.iter("th")])


def test_the_curve_is_the_weight():
    tree = parsed(objective("power(2)")._repr_html_())
    points = [point.split(",") for point in tree.find("svg/polyline").get("points").split()]
    x, y = zip(*(map(float, point) for point in points), strict=True)
    heights = [1 - b / 90 for b in y]
    assert heights == pytest.approx([(a / 260 / 0.995) ** 2 for a in x], abs=2e-3)


def test_an_objective_of_ones_own_is_shown():
    mine = from_function(lambda p: 1 - p**2, name="mine")
    assert "svg" in mine._repr_html_() and parsed(mine._repr_html_()) is not None


def test_a_probe_is_shown(word_model, tmp_path):
    measured = probe(str(word_model), helpers.sums(20))
    tree = parsed(measured._repr_html_())
    assert len(tree.findall("svg/rect")) == len(measured.histogram)
    text = "".join(tree.itertext())
    assert measured.suggestion.objective in text and measured.suggestion.reason in text
