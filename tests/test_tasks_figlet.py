"""The rows of figlet are the paper's, and the harder tests are disjoint from training."""

import hashlib
import importlib.metadata

import pytest

from probtune.errors import UsageError
from probtune.evaluation.tasks import figlet_generator as figlet
from probtune.evaluation.tasks.reading import load_questions
from probtune.evaluation.tasks.table import TASKS

KNOWN = {
    0: ("USNIC", "coil_cop", "53be5422f73bdd31995729c0584605cf281bb4abbd99b5f2cf9e9d5552fcdfb3"),
    1: ("MAD", "war_of_w", "7b80f4c29272896331eaf9d7c9301b541356b05b08664b62a5938fecd871f825"),
    39_999: (
        "KIST",
        "old_banner",
        "8f2b1c7efe8f31b89c1018ba931338bf474b3cae97f417ff9629354f8512c86a",
    ),
    40_000: ("IGAD", "ttyb", "b02f8acd5b21a801ee6c07a4486ac1ae4f1e8156f0f5960deed50d8a4b5410f0"),
    44_999: (
        "TURN",
        "spc_demo",
        "9a56c3372415f51359cd352c2c12805d73b311af73c490bdd31384b8d519c647",
    ),
}


def test_known_rows():
    for row, (index, (word, font, sha256)) in zip(
        figlet.rows_at(KNOWN), KNOWN.items(), strict=True
    ):
        assert (row["index"], row["answer"], row["font"]) == (index, word, font)
        assert hashlib.sha256(row["question"].encode()).hexdigest() == sha256


def test_word_and_font_are_known_without_the_banner():
    for row in figlet.rows_at(range(40_100, 40_130)):
        assert figlet.drawn(row["index"]) == (row["answer"], row["font"])


def test_rows_are_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(figlet, "_BLOCK", 20)
    seen = []
    rows = figlet.figlet_rows(15, 50, progress=seen.append)
    assert [row["index"] for row in rows] == list(range(15, 50))
    assert seen == [5, 25, 35]
    assert len(list(tmp_path.rglob("*.json"))) == 3
    monkeypatch.setattr(figlet, "rows_at", None)
    assert figlet.figlet_rows(15, 50) == rows
    assert figlet.figlet_rows(39, 41) == rows[24:26]


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(figlet, "_BLOCK", 2)
    assert len(figlet.figlet_rows(0, 2)) == 2


def test_the_tests_words_and_fonts_in_training():
    train = [figlet.drawn(index) for index in figlet.TRAIN]
    words, fonts = {word for word, _ in train}, {font for _, font in train}
    test = [figlet.drawn(index) for index in figlet.TEST]
    assert sum(word in words for word, _ in test) / len(test) == pytest.approx(0.929, abs=5e-4)
    assert all(font in fonts for _, font in test)


def test_the_harder_tests_are_disjoint_from_training():
    words = {figlet.drawn(index)[0] for index in figlet.TRAIN}
    chosen = figlet.word_disjoint(1000)
    unseen = [figlet.drawn(index)[0] for index in chosen]
    assert len(set(unseen)) == len(unseen) == 1000
    assert not set(unseen) & words and min(chosen) >= figlet.TEST.stop

    chosen = figlet.font_disjoint(1000)
    assert {figlet.drawn(index)[1] for index in chosen} == figlet.held_out_fonts()
    assert len(chosen) == 1000 and min(chosen) >= figlet.TEST.start


def test_training_leaves_the_held_out_fonts_out(tmp_path, monkeypatch):
    rows = figlet.rows_at(range(30))
    monkeypatch.setattr(figlet, "figlet_rows", lambda start, stop, progress: rows)
    assert figlet.training_rows("figlet") == figlet.training_rows("figlet_words") == rows
    chosen = figlet.training_rows("figlet_fonts")
    assert 0 < len(rows) - len(chosen) == sum(r["font"] in figlet.held_out_fonts() for r in rows)
    with pytest.raises(UsageError, match="figlet_words, figlet_fonts, got 'math'"):
        figlet.training_rows("math")


def test_another_generator_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9")
    figlet._dataset.cache_clear()
    with pytest.raises(UsageError, match=r"needs reasoning-gym 0.1.25.*found 9.9.*-e '.\[figlet"):
        figlet._dataset()
    with pytest.raises(UsageError, match="got 5 to 5"):
        figlet.figlet_rows(5, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["figlet", "figlet_words", "figlet_fonts"])
def test_every_question(name, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    questions = load_questions(TASKS[name])
    assert len(questions) == TASKS[name].source.rows
    assert all(q.gold.isupper() and 2 <= len(q.gold) <= 5 for q in questions)
