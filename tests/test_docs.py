"""What the documents say exists, exists."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from probtune.cli import main
from probtune.objectives import CORE, objective, signature

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def test_the_readmes_table_is_the_table_of_members():
    text = (ROOT / "README.md").read_text()
    for member in CORE.values():
        cells = (f"`{signature(member)}`", member.formula, member.weight_formula, member.summary)
        assert "| " + " | ".join(cells) + " |" in text
    assert text.count("\n| `") == len(CORE)


def test_objectives_written_in_the_documents_can_be_read():
    for path in DOCUMENTS:
        for text in re.findall(
            r"`((?:power|above|below)\([^`a-z]*[0-9][^`]*\))`", path.read_text()
        ):
            objective(text)


def test_tests_named_in_the_documents_exist():
    source = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    for path in DOCUMENTS:
        for name in re.findall(r"`(test_\w+)`", path.read_text()):
            assert f"def {name}(" in source, f"{path.name}: {name}"


def test_links_between_files_resolve():
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            if not target.startswith("http"):
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_file_map_names_what_is_there():
    text = (ROOT / "README.md").read_text().split("## Files")[1].split("##")[0]
    named = re.findall(r"^(\S+/\S*)", text, flags=re.M)
    assert len(named) > 10
    for name in named:
        assert (ROOT / name).exists(), name
    for path in (ROOT / "probtune").iterdir():
        if path.name.startswith("_") or path.stem in ("errors", "records", "terminal"):
            continue
        assert path.name in text or f"{path.stem}/" in text, path.name


@pytest.mark.parametrize(
    "command", re.findall(r"^probtune (\w+)", (ROOT / "README.md").read_text(), re.M)
)
def test_commands_of_the_readme_exist(command, capsys):
    assert main([command, "--help"]) == 0
    assert command in capsys.readouterr().out


def test_python_of_the_readme_names_what_can_be_imported():
    import probtune

    for names in re.findall(r"^from probtune import (.*)$", (ROOT / "README.md").read_text(), re.M):
        for name in names.split(","):
            assert hasattr(probtune, name.strip())


def test_version_is_the_changelogs():
    import probtune

    assert f"## [{probtune.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {probtune.__version__}" in (ROOT / "CITATION.cff").read_text()


@pytest.fixture()
def scripts(monkeypatch):
    """The scripts behind the documents' tables."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    found = {
        name: importlib.import_module(name)
        for name in ("blocks", "head", "objectives_page", "theory")
    }
    yield found
    for name in found:
        sys.modules.pop(name)


@pytest.mark.parametrize(
    "script, name",
    [
        *(("theory", n) for n in ("crossover", "rests", "best_alpha", "escape", "memorisation")),
        *(("theory", n) for n in ("theorem", "pairs")),
        *(("objectives_page", n) for n in ("members", "sources", "needs", "escape")),
    ],
)
def test_tables_are_what_the_scripts_make(script, name, scripts):
    module = scripts[script]
    table = (module.QUICK if script == "theory" else module.TABLES)[name]()
    assert scripts["blocks"].block(module.DOCUMENT, name) == scripts["blocks"].markdown(table)


def test_the_heads_table_is_of_the_committed_measurements(scripts):
    head, blocks = scripts["head"], scripts["blocks"]
    found = json.loads((ROOT / "benchmarks" / "head.json").read_text())
    assert found["environment"]["versions"]["torch"]
    table = head.table(found["cases"])
    assert blocks.block(head.DOCS / "numerics.md", "head") == blocks.markdown(table)


def test_every_table_of_the_theory_is_filled(scripts):
    module = scripts["theory"]
    for name in (*module.QUICK, *module.SIMULATED, "runs"):
        assert scripts["blocks"].block(module.DOCUMENT, name).count("\n") > 3, name
