"""The documents are true: what they name exists, their programs run, their commands are valid."""

import importlib
import json
import re
import shlex
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import yaml
from helpers import example

from probtune.cli import _parser, main
from probtune.objectives import CORE, objective, objective_list, signature
from probtune.settings import TuneSettings

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.M | re.S)
BLOCKS = [
    (path.name, language, textwrap.dedent(block))
    for path in DOCUMENTS
    for _, language, block in FENCE.findall(path.read_text())
]
"""Every fenced block, with its document and its language."""

PROGRAMS = [
    pytest.param(block, id=f"{name}-{block.splitlines()[0]}")
    for name, language, block in BLOCKS
    if language == "python"
]


def commands_of_blocks() -> list[list[str]]:
    """Return the arguments of every `probtune …` in shell blocks, comments left out."""
    lines = []
    for _, language, block in BLOCKS:
        if language in ("", "bash"):
            lines += block.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("probtune ")]


def commands_in_sentences() -> list[list[str]]:
    """Return the words of every `probtune …` between backticks."""
    texts = {
        " ".join(text.split())
        for path in DOCUMENTS
        for text in re.findall(r"`probtune( [^`]+)`", FENCE.sub("", path.read_text()))
    }
    return [text.replace("\\|", "|").split() for text in sorted(texts)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A tiny model."""
    folder = tmp_path_factory.mktemp("tiny")
    with example("tiny_model") as tiny_model:
        tiny_model.save_sums(folder / "sums.jsonl")
        tiny_model.save_tiny_model(
            folder / "sums.jsonl", folder / "model", hidden=64, vocabulary=384
        )
    return folder / "model"


@pytest.fixture()
def desk(tiny, tmp_path, monkeypatch) -> Path:
    """The folder of a user who follows the documents: a tiny model stands under the names of
    models, and train.jsonl holds the README's rows, the pairs."""
    for name in ("smollm2-135m", "my-model"):
        (tmp_path / name).symlink_to(tiny)
    rows = [block for _, language, block in BLOCKS if language == "json"][0].splitlines()
    pairs = [row for row in rows if "prompt" in json.loads(row)]
    (tmp_path / "train.jsonl").write_text("\n".join(pairs * 40) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("program", PROGRAMS)
def test_python_blocks_run_as_they_stand(program, desk):
    exec(compile(program, "block", "exec"), {"__name__": "__main__"})


def test_the_two_losses_of_the_readme_are_equal(desk):
    names: dict = {}
    exec(next(block for name, _, block in BLOCKS if "fused = " in block), names)
    torch.testing.assert_close(names["fused"], names["plain"])


def test_yaml_blocks_are_settings_of_tune_or_of_accelerate():
    from accelerate.commands.config.config_args import ClusterConfig

    names = {*TuneSettings.__dataclass_fields__, *ClusterConfig.__dataclass_fields__}
    for name, language, block in BLOCKS:
        if language == "yaml":
            assert set(yaml.safe_load(block)) <= names, name


NOTEBOOKS = sorted(ROOT.glob("docs/notebooks/*.ipynb"))


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem == "probing"))
        for path in NOTEBOOKS
    ],
)
def test_notebooks_run_and_hold_no_output(path, tmp_path, monkeypatch):
    """The cells in their order, as one program; `make docs` runs them in Jupyter's kernel."""
    cells = json.loads(path.read_text())["cells"]
    programs = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(programs) >= 4 and not any(cell["outputs"] for cell in programs)
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "examples")])
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "__main__"}
    for cell in programs:
        exec(compile("".join(cell["source"]), path.name, "exec"), names)


def test_every_public_name_is_in_the_reference():
    import probtune

    text = (ROOT / "docs" / "api.rst").read_text()
    for name in set(probtune.__all__) - set(probtune._MEMBERS) - {"__version__", "probe"}:
        assert f"probtune.{name}\n" in text, name
    assert "probtune.probe.probing.probe\n" in text and text.endswith("\nMEMBERS\n")


def test_every_page_is_in_the_site():
    text = (ROOT / "docs" / "index.md").read_text()
    pages = [p.relative_to(ROOT / "docs").with_suffix("") for p in ROOT.glob("docs/**/*.md")]
    pages += [p.relative_to(ROOT / "docs").with_suffix("") for p in NOTEBOOKS]
    for page in pages:
        if page.parts[0] not in ("index", "_build"):
            assert f"\n{page}\n" in text, page


def test_rows_of_the_readme_are_rows(desk):
    from probtune.data.rows import read_rows

    for _, language, block in BLOCKS:
        for i, row in enumerate(block.splitlines() if language == "json" else ()):
            (desk / f"{i}.jsonl").write_text(row + "\n")
            assert len(read_rows(str(desk / f"{i}.jsonl"))) == 1


@pytest.mark.parametrize("words", commands_in_sentences(), ids=" ".join)
def test_options_named_in_sentences_exist(words):
    parser = _parser()
    while words and parser._subparsers and re.fullmatch("[a-z-]+", words[0]):
        choices = parser._subparsers._group_actions[0].choices
        assert words[0] in choices
        parser, words = choices[words[0]], words[1:]
    parser.format_usage()  # options are added when a parser is used
    for word in words:
        if re.fullmatch("--?[a-z].*", word):
            assert word.rstrip(",;") in parser._option_string_actions, word


@pytest.mark.parametrize("arguments", commands_of_blocks(), ids=shlex.join)
def test_commands_of_the_documents_are_valid(arguments, capsys):
    """The parser takes every option, and every objective named can be read."""
    try:
        options = vars(_parser().parse_args(arguments))
    except SystemExit as stop:
        pytest.fail(f"probtune {shlex.join(arguments)}: {stop}\n{capsys.readouterr().err}")
    own = ".py:" in (options.get("objective") or "")  # a file of the reader's
    if options.get("objective") not in (None, "auto") and not own:
        objective(options["objective"])
    if options.get("compare"):
        objective_list(options["compare"])


CHEAP = [
    arguments
    for arguments in commands_of_blocks()
    if "--list" in arguments
    or (arguments[0] == "reproduce" and "--dry-run" in arguments)
    or arguments[0] in ("objectives", "theory")
    or arguments[0] == "probe"
]


@pytest.mark.parametrize("arguments", CHEAP, ids=shlex.join)
def test_cheap_commands_of_the_documents_run(arguments, desk, capsys):
    arguments = ["my-model" if part == "MODEL" else part for part in arguments]
    assert main(arguments) == 0, capsys.readouterr().err


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


def test_the_file_map_names_what_exists():
    text = (ROOT / "README.md").read_text().split("## Files")[1].split("##")[0]
    named = re.findall(r"^(\S+/\S*)", text, flags=re.M)
    assert len(named) > 10
    for name in named:
        assert (ROOT / name).exists(), name
    for path in (ROOT / "probtune").iterdir():
        leaves = ("errors", "files", "lock", "options", "records", "shapes", "terminal", "texts")
        if path.name.startswith("_") or path.stem in leaves:
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
    modules = {
        name: importlib.import_module(name)
        for name in ("blocks", "head", "objectives_page", "theory")
    }
    yield modules
    for name in modules:
        sys.modules.pop(name)


@pytest.mark.parametrize(
    "script, name",
    [
        *(("theory", n) for n in ("crossover", "rests", "best_alpha", "escape", "memorisation")),
        *(("theory", n) for n in ("theorem", "pairs", "reach", "above_one")),
        *(("objectives_page", n) for n in ("members", "sources", "needs", "escape")),
    ],
)
def test_tables_are_what_the_scripts_make(script, name, scripts):
    module = scripts[script]
    table = (module.QUICK if script == "theory" else module.TABLES)[name]()
    assert scripts["blocks"].block(module.DOCUMENT, name) == scripts["blocks"].markdown(table)


def test_the_heads_table_is_of_the_committed_measurements(scripts):
    head, blocks = scripts["head"], scripts["blocks"]
    measurements = json.loads((ROOT / "benchmarks" / "head.json").read_text())
    assert measurements["environment"]["versions"]["torch"]
    table = head.table(measurements["cases"])
    assert blocks.block(head.DOCS / "numerics.md", "head") == blocks.markdown(table)


def test_the_size_of_a_page_is_that_of_the_committed_measurements(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    pages = importlib.import_module("pages")
    sys.modules.pop("pages")
    content = json.loads(pages.RESULTS.read_text())
    assert pages.sentence(content) in pages.DOCUMENT.read_text()
    for name, limit in pages.LIMITS.items():
        assert content["numbers"][name]["median"] < limit


def test_every_table_of_the_theory_is_filled(scripts):
    module = scripts["theory"]
    for name in (*module.QUICK, *module.SIMULATED, "runs"):
        assert scripts["blocks"].block(module.DOCUMENT, name).count("\n") > 3, name


def test_every_block_has_a_language_that_a_test_reads():
    """Shell blocks have none; `text` is for what cannot run."""
    for name, language, block in BLOCKS:
        assert language in ("", "bash", "json", "python", "text", "yaml"), f"{name}: {language}"
        assert language == "python" or "import " not in block, f"{name}: {block}"


@pytest.fixture()
def gallery(tmp_path, monkeypatch):
    """The gallery's script, with a command line that writes what it is asked for."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module("gallery")
    module.commands = []

    def command(arguments):
        module.commands.append(arguments)
        target = Path(arguments[arguments.index("--out") + 1])
        if arguments[0] == "report":
            assert (Path(arguments[1]) / "record.json").is_file()
            target.write_text("page")
            return 0
        (target / "cell").mkdir(parents=True)
        for folder in (target, target / "cell"):
            (folder / "record.json").write_text("{}")
        return 0

    monkeypatch.setattr(module, "probtune", command)
    monkeypatch.setattr(module, "FOLDER", tmp_path / "gallery")
    monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
    yield module
    sys.modules.pop("gallery")


PAGES = {"demo.html", "demo-cell.html", "demo-real.html", "demo-real-cell.html"}


def test_the_gallery_holds_the_reports_of_the_demos(gallery, tmp_path):
    assert gallery.main(["--real"]) == 0
    demos = [arguments[:2] for arguments in gallery.commands if arguments[0] == "demo"]
    assert demos == [["demo", "--fast"], ["demo", "--real"]]
    assert {path.name for path in (tmp_path / "gallery").iterdir()} == PAGES


def test_the_gallery_takes_finished_demos(gallery, tmp_path):
    for name in ("a", "b"):
        gallery.probtune(["demo", "--fast", "--out", str(tmp_path / name)])
    gallery.commands.clear()
    assert gallery.main(["--demo", "a", "--real", "b"]) == 0
    assert {arguments[0] for arguments in gallery.commands} == {"report"}
    assert {path.name for path in (tmp_path / "gallery").iterdir()} == PAGES
    gallery.MOST_BYTES = 3
    with pytest.raises(SystemExit, match="demo.html has 4 bytes"):
        gallery.main(["--demo", str(tmp_path / "a")])
