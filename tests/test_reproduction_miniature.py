"""Every recipe from rows to the paper's table, with tiny models of its architecture and family."""

import pytest

from probtune.cli import main
from probtune.paper.reproduction.backbones import backbone
from probtune.paper.reproduction.miniature import save_tiny_model
from probtune.paper.reproduction.recipe import all_recipes, find_recipes
from probtune.records import read_record

SAMPLE = [
    ("math/deepseekmath-7b", "faithful"),
    ("figlet/llama-3.2-3b", "faithful"),
    ("knowledge/qwen2.5-7b-noisy", "fair"),
    ("ablations/likelihood-weak", "fair"),
]
FAIR = ("math/qwen2.5-math-1.5b", "medical/qwen2.5-1.5b", "instructions/qwen2.5-3b")
REST = [
    (recipe.cell, "fair" if recipe.cell in FAIR or recipe.domain == "ablations" else "faithful")
    for recipe in all_recipes()
    if recipe.cell not in dict(SAMPLE)
]


def reproduced(cell, mode, tmp_path):
    """The cell's table from the record."""
    options = ["--miniature", "--mode", mode, "--out", str(tmp_path)]
    assert main(["reproduce", cell, *options]) == 0
    record = read_record(tmp_path / "miniature" / "reproduction.json", "reproduction")
    page = (tmp_path / "miniature" / "reproduction.html").read_text()
    assert f"Reproduction of {cell}" in page and "numbers of the paper" in page
    (table,) = record["cells"]
    assert not table["missing"]
    return table


def compared(cell, tmp_path, monkeypatch):
    """`probtune compare` takes the recipe as what was evaluated of it."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "reproduction").symlink_to(tmp_path / "miniature")
    monkeypatch.chdir(tmp_path)
    assert main(["compare", f"{cell}.yaml", "--out", str(tmp_path / "compared")]) == 0
    labels = read_record(tmp_path / "compared" / "record.json")["labels"]
    assert [(label["name"], len(label["folders"])) for label in labels] == [("nll", 2), ("p", 2)]


def check(cell, mode, tmp_path, monkeypatch):
    table = reproduced(cell, mode, tmp_path)
    (recipe,) = find_recipes(cell)
    assert table["mode"] == mode
    assert table["deviations"] == (list(recipe.deviations) if mode == "faithful" else [])
    objectives = {row["objective"] for row in table["rows"]}
    if recipe.evaluation.tasks == "instructions":
        assert {row["verdict"]["word"] for row in table["rows"]} == {"not judged"}
        return
    assert {"base", recipe.objectives[0]} <= objectives
    protocols = {row["protocol"] for row in table["rows"]} - {""}
    assert protocols == ({"reference"} if mode == "faithful" else {"strict", "reference"})
    words = {row["verdict"]["word"] for row in table["rows"] if row["verdict"]}
    assert words <= {"agrees", "differs", "cannot tell"}
    if cell == "knowledge/qwen2.5-7b-noisy":
        compared(cell, tmp_path, monkeypatch)
    if "table-1" in recipe.shows or "table-10" in recipe.shows:
        assert words and any(row["paper"] is not None for row in table["rows"])
    if mode == "fair" and len(recipe.learning_rates) > 1 and not recipe.vary:
        assert len(table["choices"]) == 2
        assert {row["runs"] for row in table["rows"] if row["objective"] == "p()"} == {2}


@pytest.mark.parametrize(("cell", "mode"), SAMPLE, ids=[cell for cell, _ in SAMPLE])
def test_a_cell_ends_in_the_papers_table(cell, mode, tmp_path, monkeypatch):
    check(cell, mode, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "mode"), REST, ids=[cell for cell, _ in REST])
def test_every_cell_ends_in_the_papers_table(cell, mode, tmp_path, monkeypatch):
    check(cell, mode, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "deepseekmath-7b", "qwen2.5-14b"])
def test_tiny_models_are_of_the_backbones_class_and_family(name, tmp_path):
    from probtune.data.prompts import format_of
    from probtune.models.loading import load_model, load_tokenizer

    model = backbone(name)
    save_tiny_model(model, tmp_path, ["some text to learn tokens from"])
    tokenizer = load_tokenizer(str(tmp_path))
    assert type(load_model(str(tmp_path), dtype="float32")).__name__ == model.architecture
    assert format_of(tokenizer) == model.family
    begins = tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id
    assert begins == (model.family != "chatml")


def test_instructions_are_judged_by_the_judge_that_is_named(tmp_path, monkeypatch):
    from probtune.evaluation.grading.judge import Judge, Verdict

    requests = []

    def compare(self, instruction, answer, other):
        requests.append(self.model)
        return Verdict(1.0 if len(requests) % 2 else 0.5, 0.0, False)

    monkeypatch.setattr(Judge, "compare", compare)
    options = ["reproduce", "instructions/qwen2.5-3b", "--miniature", "--mode", "faithful"]
    options += ["--out", str(tmp_path), "--judge", "http://localhost:1/v1"]
    assert main(options) == 2  # a judge without a name
    assert main([*options, "--judge-model", "someone"]) == 0
    assert main([*options, "--judge-model", "someone"]) == 0  # judged once
    (table,) = read_record(tmp_path / "miniature" / "reproduction.json")["cells"]
    won, controlled = table["rows"]
    assert requests == ["someone"] * 2
    assert won["ours"]["value"] == 75.0 and won["paper"] == 42.0
    assert controlled["verdict"]["word"] == "not judged"  # needs alpaca-eval's 805 instructions


def test_a_stopped_reproduction_goes_on(tmp_path, monkeypatch, capsys):
    import probtune.paper.reproduction.run as run

    before = run._evaluate
    calls = []

    def once(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        before(*arguments)

    monkeypatch.setattr(run, "_evaluate", once)
    options = ["reproduce", "knowledge/qwen2.5-7b", "--mode", "faithful", "--miniature"]
    assert main([*options, "--out", str(tmp_path)]) == 130
    monkeypatch.setattr(run, "_evaluate", before)
    trained = list(tmp_path.rglob("train.json"))
    written = trained[0].stat().st_mtime_ns
    assert main([*options, "--out", str(tmp_path)]) == 0
    assert trained[0].stat().st_mtime_ns == written
    assert "p() - nll()" in capsys.readouterr().out
