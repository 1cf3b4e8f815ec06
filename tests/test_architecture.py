"""The direction of imports, read from the source: each module imports from its left only."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "probtune"

LEAVES = [
    "errors",
    "files",
    "lock",
    "numbers",
    "options",
    "processors",
    "records",
    "statistics",
    "settings",
    "shapes",
    "terminal",
    "texts",
]
CORE = [
    "objectives",
    "kernels",
    "theory",
    "data",
    "models",
    "probe",
    "training",
    "measure",
    "reports",
    "pipeline",
    "demo",
]
WINGS = ["evaluation", "paper"]
LINE = [*CORE, "integrations", *WINGS, "commands", "cli"]
ONLY = {
    "reports": {"errors", "numbers", "records", "statistics", "texts"},
    "probe.features": {"errors"},
    "probe.choosing": {"errors", "numbers"},
    "errors": set(),
    "files": {"errors"},
    "numbers": set(),
    "records": {"errors", "files", "shapes"},
    "shapes": set(),
    "statistics": set(),
    "options": {"errors", "texts"},
    "processors": {"errors"},
    "settings": {"errors", "options"},
    "terminal": {"texts"},
    "texts": set(),
}
"""Stricter than the line: a report and a choice must be made without torch."""


def modules():
    return sorted(
        p for p in PACKAGE.rglob("*.py") if p.name not in ("__init__.py", "__main__.py")
    ) + [PACKAGE / part / "__init__.py" for part in LINE if (PACKAGE / part).is_dir()]


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """The parts of the package that a module imports, wherever in the file."""
    members = set()
    package = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            members |= {(*base, *name.split("."))[0] for name in names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("probtune"):
            raise AssertionError(f"{path}: import our own modules relatively")
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("probtune") for alias in node.names), path
    return {name for name in members if name in LINE + LEAVES}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_to_the_left(path):
    part = part_of(path)
    assert part in LINE + LEAVES, f"{path} has no place in the line of imports"
    module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    only = ONLY.get(module, ONLY.get(part))
    for other in imports_of(path) - {part}:
        if only is not None:
            assert other in only, f"{module} must not import {other}"
        else:
            assert other in LEAVES or LINE.index(other) < LINE.index(part), f"{part} -> {other}"
        if part in WINGS:
            assert other != "integrations", f"{module} must not import {other}"


def test_the_core_knows_no_wing():
    """Also not by name: a module in a text is imported by `importlib` sooner or later."""
    for path in modules():
        if part_of(path) in CORE + LEAVES:
            assert not imports_of(path) & {*WINGS, "integrations"}, path
            for wing in (*WINGS, "integrations"):
                assert f"probtune.{wing}" not in path.read_text(), f"{path} names {wing}"


def test_evaluation_imports_neither_the_paper_nor_training():
    for path in (PACKAGE / "evaluation").rglob("*.py"):
        assert not imports_of(path) & {"training", "paper"}, path


def test_the_line_is_the_one_that_is_documented():
    """CONTRIBUTING names every part, in this order."""
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text()
    line = text[text.index("Imports point one way") :].split("\n- ")[0]
    named = [word.strip(" \n`.;") for word in line.split(":")[1].split(";")[0].split("→")]
    assert named == [part for part in LINE if (PACKAGE / part).exists() or part == "cli"]


def test_only_training_knows_the_trainer_and_only_encoding_the_templates_of_trl():
    for path in modules():
        text = path.read_text()
        uses = {
            node.module.split(".")[1] if "." in (node.module or "") else node.module
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "trl"
        }
        allowed = {"training": {"trainer", "data_utils", "models"}, "data": {"chat_template_utils"}}
        assert uses <= allowed.get(part_of(path), set()), path


def test_the_check_can_fail(tmp_path, monkeypatch):
    bad = PACKAGE / "kernels" / "chunked.py"
    text = bad.read_text()
    copy = tmp_path / "probtune" / "kernels" / "chunked.py"
    copy.parent.mkdir(parents=True)
    copy.write_text(text + "\nfrom ..training import ProbTuneTrainer\n")
    monkeypatch.setattr("test_architecture.PACKAGE", tmp_path / "probtune")
    assert "training" in imports_of(copy)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_stay_small_and_say_what_they_are(path):
    assert len(path.read_text().splitlines()) <= 600, "look for the second subject"
    assert ast.get_docstring(ast.parse(path.read_text())), "a module says what it is"
