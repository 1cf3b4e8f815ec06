import json
import os
import resource
import signal
import subprocess
import sys
import time

import helpers
import pytest

from probtune.cli import main
from probtune.commands import tuning
from probtune.settings import TuneSettings, settings_from


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "probtune", *map(str, arguments)],
        capture_output=True,
        text=True,
        **options,
    )


@pytest.fixture()
def rows(tmp_path):
    return str(helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(30)))


# --- light ---------------------------------------------------------------------------------------


def test_help_is_fast_and_loads_nothing_heavy():
    times = []
    for _ in range(3):
        start = time.monotonic()
        done = run("--help")
        times.append(time.monotonic() - start)
    assert done.returncode == 0 and "start here:" in done.stdout
    assert min(times) < 0.5
    heavy = "torch transformers trl datasets numpy scipy matplotlib rich jinja2 yaml".split()
    script = (
        "import sys, probtune, probtune.cli\n"
        "try: probtune.cli.main(['tune', '--help'])\n"
        f"finally: print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_every_option_is_explained_with_its_default():
    text = run("tune", "--help", env={**os.environ, "COLUMNS": "200"}).stdout
    for name in TuneSettings.__dataclass_fields__:
        assert name.upper() in text or f"--{name.replace('_', '-')}" in text
    assert "(default: 5e-05)" in text and "examples:" in text
    assert run().stdout.startswith("usage: probtune")
    assert run("--version").stdout.startswith("probtune 0.")


# --- objectives ----------------------------------------------------------------------------------


def test_objectives_table(capsys):
    assert main(["objectives"]) == 0
    out = capsys.readouterr().out
    for text in ("power(alpha)", "(1 - p^alpha) / alpha", "above(q, f)", "arxiv.org/abs/2510"):
        assert text in out
    assert main(["objectives", "nll,power(10)", "--tau", "0.3"]) == 0
    assert "prior-leaning" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_objectives_picture(suffix, tmp_path, capsys):
    path = tmp_path / f"curves.{suffix}"
    assert main(["objectives", "nll,p,power(10)", "--plot", str(path)]) == 0
    assert path.stat().st_size > 5000
    assert str(path) in capsys.readouterr().out


# --- errors: one line, the right status, no traceback --------------------------------------------


@pytest.mark.parametrize(
    "arguments, status, said",
    [
        (["tune"], 2, "MODEL is missing"),
        (["tune", "m"], 2, "DATA is missing"),
        (["tune", "./none", "ROWS"], 2, "no such folder"),
        (["tune", "MODEL", "none.jsonl"], 2, "no such file"),
        (["tune", "MODEL", "ROWS", "--objective", "nil"], 2, "did you mean 'nll'"),
        (["tune", "MODEL", "ROWS", "--objective", "power(x)"], 2, "'x' in 'power(x)' is none"),
        (["tune", "MODEL", "ROWS", "--compare", "above(2, nll)"], 2, "q must be in"),
        (["tune", "MODEL", "ROWS", "--learning-rate", "0"], 2, "--learning-rate must be positive"),
        (["tune", "MODEL", "ROWS", "--heldout", "1.5"], 2, "a share below 1 or a whole number"),
        (["tune", "MODEL", "ROWS", "--max-steps", "0"], 2, "--max-steps must be positive"),
        (["tune", "MODEL", "ROWS", "--prompt-column", "q"], 2, "belong together"),
        (["tune", "MODEL", "ROWS", "--training", "x"], 2, "--training takes KEY=VALUE"),
        (["tune", "MODEL", "ROWS", "--config", "none.yaml"], 2, "cannot read --config none.yaml"),
        (["tune", "MODEL", "EMPTY"], 1, "holds no rows"),
        (["tune", "MODEL", "BROKEN"], 1, "broken.jsonl:1 is not JSON"),
        (["tune", "MODEL", "ROWS", "--max-length", "3"], 1, "every label is masked"),
        (["tune", "MODEL", "ROWS", "--out", "ROWS"], 2, "is not a run of probtune"),
        (["tune", "MODEL", "ROWS", "--out", "FILE/x"], 2, "is a file; choose another --out."),
        (["tune", "MODEL", "EMPTY", "--out", "FILE/x"], 2, "is a file; choose another --out."),
        (["tune", "MODEL", "EMPTY", "--scheduler", "x"], 2, "x is not a valid SchedulerType"),
        (["tune", "MODEL", "EMPTY", "--training", "x=1"], 2, "ProbTuneConfig has no such field"),
        (["tune", "MODEL", "EMPTY", "--prompt-format", "x"], 2, "format must be one of plain"),
        (["tune", "MODEL", "EMPTY", "--attention", "x"], 2, "--attention x: cannot load"),
        (["tune", "MODEL", "EMPTY", "--answer", "regex:("], 2, "is not a regular expression"),
        (["probe", "MODEL", "EMPTY"], 1, "holds no rows"),
        (["probe", "MODEL", "ROWS", "--out", "ROWS"], 2, "exists; choose another --out"),
        (["report", "none"], 2, "none: no such folder; name that of a run, or its record."),
        (["report", "ROWS"], 1, "Else name a run's folder."),
        (["report", "FOLDER"], 1, "holds no finished run"),
        (["objectives", "nil"], 2, "did you mean 'nll'"),
        (["objectives", "--plot", "x.gif"], 2, "must end in .png, .svg or .pdf"),
        (["objectives", "--tau", "2"], 2, "--tau must lie strictly between"),
        (["sweep", "MODEL", "EMPTY", "--devices", "0"], 2, "--devices must be at least 1, got 0."),
        (["sweep", "MODEL", "EMPTY", "--learning-rates", "1,2"], 2, "below 1, got 1, 2."),
        (["reproduce", "table-10", "--gpus", "-2"], 2, "--gpus must be at least 1, got -2."),
        (
            ["judge", "x", "--url", "u", "--model", "m", "--concurrent", "0"],
            2,
            "at least 1, got 0.",
        ),
        (["theory", "theorem", "--classes", "0"], 2, "--classes must be at least 2, got 0."),
        (["report", "FOLDER", "--serve", "--port", "65536"], 2, "--port must be at most 65535"),
        (["demo", "--seeds", "a"], 2, "--seeds must be whole numbers"),
        (["demo", "--seeds", "1,1"], 2, "each seed once"),
        (["demo", "--out", "FOLDER"], 2, "is not a demo of probtune"),
    ],
)
def test_one_clear_line(arguments, status, said, word_model, rows, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "broken.jsonl").write_text("{")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("do not touch")
    names = {
        "MODEL": word_model, "ROWS": rows, "EMPTY": "empty.jsonl", "BROKEN": "broken.jsonl",
        "FOLDER": "folder", "FILE/x": f"{rows}/x",
    }  # fmt: skip
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert main([str(names.get(a, a)) for a in arguments]) == status
    said_all = capsys.readouterr().err.strip().splitlines()
    assert said_all[-1].startswith("probtune: ") and said in said_all[-1]
    assert not any("Traceback" in line for line in said_all)
    for path, changed in before.items():
        assert path.stat().st_mtime_ns == changed or path.is_dir()


def test_unknown_commands_and_options(capsys):
    assert main(["tun"]) == 2
    assert main(["tune", "--learning-rat", "1", "--what"]) == 2
    assert main(["demo", "--fast", "--full"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path):
    for arguments in (["--debug", "report", "none"], ["report", "none", "--debug"]):
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == 1 and "Traceback" in done.stderr


def test_an_unexpected_error_is_one_line_too(monkeypatch, capsys, tmp_path):
    def broken(options):
        raise RuntimeError("a\nb")

    monkeypatch.setattr(tuning, "report", broken)
    assert main(["report", "x"]) == 1
    assert capsys.readouterr().err == (
        "probtune: RuntimeError: a b (unexpected; run with --debug for the traceback)\n"
    )


def test_a_full_disk_is_one_line_and_keeps_what_was_finished(word_model, rows, tmp_path):
    """A limit on file size stands for the full disk: the model does not fit, the records did."""

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    out = tmp_path / "out"
    common = ["tune", word_model, rows, "--objective", "nll", "--max-steps", 2, "--out", out]
    done = run(*common, preexec_fn=limited)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "cannot write under" in done.stderr.strip().splitlines()[-1]
    assert (out / "probe.json").exists() and not (out / "nll" / "train.json").exists()
    assert main([str(x) for x in common]) == 0  # with room, the same command finishes


def test_nan_stops_with_step_and_checkpoint(rows, tmp_path, capsys):
    """A learning rate at which the weights overflow."""
    model = tmp_path / "model"
    helpers.save_word_model(model)
    status = main([
        "tune", str(model), str(rows), "--objective", "power(-3)", "--learning-rate", "1e30",
        "--max-steps", "20", "--gradient-accumulation", "1", "--checkpoint-minutes", "0",
        "--out", str(tmp_path / "out"),
    ])  # fmt: skip
    said = capsys.readouterr().err
    assert status == 1 and "Traceback" not in said
    line = said.strip().splitlines()[-1]
    assert "not finite at step" in line or "the loss is" in line
    assert "checkpoint" in line


def test_interrupt_is_status_130(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "report", interrupted)
    assert main(["report", "x"]) == 130
    assert "interrupted; finished stages are kept" in capsys.readouterr().err


# --- settings ------------------------------------------------------------------------------------


def test_yaml_and_command_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "model: m\ndata: d.jsonl\nlearning-rate: 5e-6\nepochs: 2\ncompare: [nll, 'power(0.5)']\n"
        "all: true\nbf16: false\ntraining:\n  adam_beta2: 0.95\nheldout: null\n"
    )
    settings_read = settings_from(
        {"epochs": 3.0, "training": ["adam_beta1=0.8", "optim=sgd"]}, str(path)
    )
    assert settings_read == TuneSettings(
        model="m",
        data="d.jsonl",
        learning_rate=5e-6,
        epochs=3.0,
        compare="nll, power(0.5)",
        all=True,
        bf16=False,
        training={"adam_beta2": 0.95, "adam_beta1": 0.8, "optim": "sgd"},
    )


@pytest.mark.parametrize(
    "text, said",
    [
        ("learning_rat: 1", "unknown setting 'learning_rat'. Did you mean 'learning_rate'"),
        ("zzz: 1", "Known are model, data"),
        ("epochs: many", "epochs must be of type float, got 'many'"),
        ("batch_size: 1.5", "batch_size must be of type int"),
        ("packing: 1", "packing must be of type bool"),
        ("model: true", "model must be of type str"),
        ("- a", "must hold settings as 'name: value', and got a list"),
        ("", "must hold settings as 'name: value', and it is empty"),
        ("a: [", "is not YAML"),
    ],
)
def test_wrong_yaml_is_named_by_file_and_key(text, said, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(f"{text}\n")
    with pytest.raises(ValueError, match="run.yaml") as error:
        settings_from({}, str(path))
    assert said in str(error.value)


def test_default_folder_names_model_and_data():
    assert str(TuneSettings("org/model-1.5B", "data/rows.jsonl").folder) == "runs/model-1.5B-rows"


# --- whole commands ------------------------------------------------------------------------------


def test_tune_probe_report(word_model, rows, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["tune", str(word_model), rows, "--objective", "p", "--compare", "nll"]
    arguments += ["--max-steps", "2", "--out", str(out)]
    assert main(arguments) == 0
    said = capsys.readouterr()
    for text in ("p() *", "base model", "exact match", "±", f"report  {out / 'report.html'}"):
        assert text in said.out
    assert "Training p(), as asked for." in said.err
    assert main(["probe", str(word_model), rows, "--out", str(tmp_path / "probe.json")]) == 0
    said = capsys.readouterr()
    assert "share p < 0.1 [95 %]" in said.out and "model-weak: nll()" in said.out
    assert json.loads((tmp_path / "probe.json").read_text())["kind"] == "probe"
    (out / "report.html").unlink()
    assert main(["report", str(out)]) == 0
    assert (out / "report.html").exists()
    both = tmp_path / "both.html"
    assert main(["report", str(out), str(out / "record.json"), "--out", str(both)]) == 0
    assert "2 runs" in both.read_text()
    assert main(["report", str(tmp_path / "probe.json")]) == 0
    assert main(["report", str(out / "p" / "train.json")]) == 1
    assert "has no report" in capsys.readouterr().err
    notes = tmp_path / "notes.html"
    notes.write_text("mine")
    assert main(["report", str(out), "--out", str(notes)]) == 2
    assert notes.read_text() == "mine"
