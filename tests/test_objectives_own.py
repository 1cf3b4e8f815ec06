"""A user's own objectives: from a function, a subclass, a file; each as good as a member."""

import copy
import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import helpers
import pytest
import torch
import transformers
from datasets import Dataset
from safetensors.torch import load_file

import probtune
from probtune.cli import main
from probtune.errors import ObjectiveError, UsageError
from probtune.kernels.verification import gradient_error
from probtune.objectives import (
    MEMBERS,
    Objective,
    above,
    chord,
    from_function,
    handle,
    mix,
    nll,
    objective,
    objective_list,
    of_handle,
    own_sources,
    p,
    power,
)
from probtune.pipeline import tune
from probtune.settings import TuneSettings


@dataclass(frozen=True, repr=False)
class Slow(Objective):
    """(1 - p)^2 / 2 times a number."""

    scale: float = 1.0

    def _f(self, logp):
        return self.scale * torch.expm1(logp).square() / 2.0

    def _w(self, logp):
        return -self.scale * logp.exp() * torch.expm1(logp)


class Plain(Objective):
    """Without a dataclass."""

    def __init__(self, scale):
        self.scale = scale

    def _f(self, logp):
        return -self.scale * logp

    def _w(self, logp):
        return torch.full_like(logp, self.scale)


def square(p):
    return (1 - p) ** 2


OWN = [Slow(), Slow(0.5), Plain(2.0), from_function(square), above(0.2, from_function(square))]
FILE = "def square(p):\n    return (1 - p) ** 2\n"


@pytest.mark.parametrize("f", OWN, ids=str)
def test_gradients_agree_with_float64_autograd(f):
    assert gradient_error(f) < 1e-6


@pytest.mark.parametrize(
    "function, member",
    [
        (lambda p: -torch.log(p), nll()),
        (lambda p: 1 - p, p()),
        (lambda p: (1 - p**0.5) / 0.5, power(0.5)),
        (lambda p: (1 - p) ** 2 / 2, chord()),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_function_equals_the_member_that_it_writes(function, member, dtype):
    f = from_function(function, name="own")
    logp = -torch.logspace(-6, 2, 60, dtype=dtype)
    close = dict(rtol=1e-5, atol=1e-12)
    torch.testing.assert_close(f(logp), member(logp), **close)
    torch.testing.assert_close(f.token_weight(logp), member.token_weight(logp), **close)
    with torch.no_grad():
        torch.testing.assert_close(f.token_weight(logp), member.token_weight(logp), **close)


@pytest.mark.parametrize(
    "function, name, said",
    [
        (square, "p", "name of a member"),
        (square, "a b", "must be an identifier"),
        (lambda p: p, None, "must be an identifier"),
        ("p", None, "takes a function of p"),
        (lambda p: p, "f", "must fall as p rises"),
        (lambda p: 0 * p, "f", "f is constant in p"),
        (lambda p: (1 - p).detach(), "f", "must depend on p"),
        (lambda p: 3.0, "f", "in the shape of p"),
        (lambda p: (1 - p).mean(), "f", "in the shape of p"),
        (lambda p: (1 - p).sqrt(), "f", "weight must be finite .* got inf at p = exp\\(0\\)"),
        (lambda p: torch.log(1 - p), "f", "value must be finite"),
        (lambda p: 1 / p, "f", "value must be finite .* p = exp\\(-200\\)"),
    ],
)
def test_functions_that_cannot_be_trained_are_refused(function, name, said):
    with pytest.raises(ObjectiveError, match=said):
        from_function(function, name=name)


def test_own_objectives_print_and_are_no_members():
    assert [str(f) for f in OWN] == [
        *("Slow(1.0)", "Slow(0.5)", "Plain(2.0)", "square()", "above(0.2, square())")
    ]
    assert not {"Slow", "Plain", "square", "FromFunction"} & {*MEMBERS}
    for f in OWN:
        with pytest.raises(ObjectiveError, match="unknown objective"):
            objective(str(f))


def test_a_handle_is_the_object_itself_and_a_copys_its_own():
    for f in OWN[:-1]:
        assert of_handle(handle(f)) is f
        again = copy.deepcopy(f)
        assert of_handle(handle(again)) is again and handle(again) != handle(f)
    assert of_handle(handle(OWN[-1])) == OWN[-1]
    assert handle(mix(0.5, nll(), p())) == "mix(0.5, nll(), p())"
    assert "_handle" not in vars(p()) and b"own_" not in pickle.dumps(Slow())


def test_a_class_that_can_change_is_refused():
    @dataclass(repr=False)
    class Mutable(Objective):
        _f = Slow._f
        _w = Slow._w

    with pytest.raises(ObjectiveError, match="frozen=True"):
        Mutable()


def test_sources_are_the_users_code():
    sources = own_sources(mix(0.5, OWN[-1], Slow(0.5)))
    assert sources["square()"].startswith("def square(p):")
    assert sources["Slow(0.5)"].startswith("@dataclass") and "expm1" in sources["Slow(0.5)"]
    texts = {}
    for number in (1.0, 2.0):
        f = from_function(lambda p, number=number: number * (1 - p), name="scaled")
        g = from_function(lambda p: number * (1 - p), name="scaled")  # noqa: B023
        texts[number] = own_sources(f), own_sources(g)
    assert texts[1.0][1] != texts[2.0][1]
    assert own_sources(above(0.2, nll())) == {}


def test_a_file_names_a_function_a_class_and_an_object(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from probtune import Objective, power\n"
        f"{FILE}half = power(0.5)\nnumber = 3\n"
        "class Twice(Objective):\n"
        "    def __init__(self, scale=2.0):\n        self.scale = scale\n"
        "    def _f(self, logp):\n        return -self.scale * logp\n"
        "    def _w(self, logp):\n        return 0 * logp + self.scale\n"
        "class Half(Objective):\n    def _f(self, logp):\n        return logp\n"
    )
    read = lambda text: objective(text.replace("mine", str(file.with_suffix(""))), run_code=True)  # noqa: E731
    assert str(read("above(0.2, mine.py:square)")) == "above(0.2, square())"
    assert read("mine.py:half") == power(0.5)
    assert (
        str(read("mine.py:Twice")) == "Twice(2.0)" and str(read("mine.py:Twice(3)")) == "Twice(3.0)"
    )
    assert [str(f) for f in objective_list(f"nll, {file}:square", run_code=True)] == [
        *("nll()", "square()")
    ]
    for text, said in (
        ("mine.py:cube", "has no 'cube'; it has square, half, Twice, Half|has no 'cube'"),
        ("mine.py:number", "must be an objective, a subclass of Objective or a function"),
        ("mine.py:Half", "does not define _w"),
        ("mine.py:square(2)", "takes no parameters"),
        ("mine.py:Twice(1, 2)", "it takes 1 parameter"),
        ("no.py:square", "there is no file no.py"),
    ):
        with pytest.raises(ObjectiveError, match=said):
            read(text)
    file.write_text("import nothing_of_this_name\n")
    with pytest.raises(ObjectiveError, match="ModuleNotFoundError"):
        read("mine.py:square")


def test_a_text_alone_runs_no_code(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("raise SystemExit('it ran')\n")
    for read in (objective, objective_list):
        with pytest.raises(ObjectiveError, match="a text runs no code"):
            read(f"{file}:square")


# --- training -----------------------------------------------------------------------------------


def config(folder, f, **options):
    fields = dict(
        objective=f, max_steps=2, report_to="none", use_cpu=True, bf16=False, disable_tqdm=True,
        save_strategy="steps", save_steps=1, logging_steps=1,
        dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip
    return probtune.ProbTuneConfig(str(folder), **{**fields, **options})


def trained(folder, f, resume=None, **options):
    rows = Dataset.from_list(helpers.encoded_rows(16))
    trainer = probtune.ProbTuneTrainer(
        helpers.word_causal_model(),
        config(folder, f, **options),
        train_dataset=rows,
        processing_class=helpers.word_tokenizer(helpers.CHAT_TEMPLATE),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.mark.parametrize("f", [Slow(), from_function(lambda p: (1 - p) ** 2 / 2, name="slow")])
def test_an_own_objective_trains_as_the_member_that_it_equals(f, tmp_path):
    own, member = trained(tmp_path / "own", f), trained(tmp_path / "member", chord())
    assert own.objective is f and own.args.objective == str(f)
    torch.testing.assert_close(own.model.state_dict(), member.model.state_dict())


def test_the_config_keeps_the_object_and_writes_the_text(tmp_path):
    f = from_function(square)
    own = config(tmp_path, f)
    assert own.resolved_objective is f and own.objective == "square()"
    assert copy.deepcopy(own).resolved_objective is f
    assert json.loads(own.to_json_string())["objective"] == "square()"
    assert pickle.loads(pickle.dumps(own)).objective == "square()"
    (parsed,) = transformers.HfArgumentParser(probtune.ProbTuneConfig).parse_args_into_dataclasses(
        ["--output_dir", str(tmp_path), "--objective", "p", "--use_cpu", "--bf16", "False"]
    )
    assert parsed.resolved_objective == p()


def test_training_goes_on_with_the_same_code_only(tmp_path):
    trained(tmp_path, from_function(lambda p: (1 - p) ** 2, name="own"))
    with pytest.raises(UsageError, match=r"own\(\) has changed since .* line 1 was"):
        other = from_function(lambda p: (1 - p) ** 3, name="own")
        trained(tmp_path, other, resume=True, max_steps=3)
    trained(tmp_path / "same", from_function(square))
    whole = trained(tmp_path / "same", from_function(square), resume=True, max_steps=3)
    assert whole.state.global_step == 3


# --- the command line ---------------------------------------------------------------------------


@pytest.fixture()
def workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    helpers.save_word_model(tmp_path / "model")
    helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(30))
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path


COMMAND = ("tune", "model", "rows.jsonl", "--max-steps", "2", "--batch-size", "4", "--out", "run")


def test_the_command_line_takes_an_objective_from_a_file(workdir, capsys):
    own = ("--objective", "mine.py:square", "--compare", "nll, above(0.2, mine.py:square)")
    assert main([*COMMAND, *own]) == 0
    record = json.loads((workdir / "run" / "record.json").read_text())
    assert [run["name"] for run in record["runs"]] == [
        *("base", "square()", "nll()", "above(0.2, square())")
    ]
    assert record["choice"]["objective"] == "square()" and record["choice"]["sources"] == {
        "square()": FILE
    }
    assert "square()" in (workdir / "run" / "report.html").read_text()
    assert (workdir / "run" / "square" / "model" / "config.json").is_file()
    assert main([*COMMAND, *own]) == 0  # everything is there
    capsys.readouterr()
    (workdir / "mine.py").write_text(FILE.replace("2", "3"))
    assert main([*COMMAND, *own]) == 2
    said = capsys.readouterr().err
    assert "square() has changed" in said and "line 2 was 'return (1 - p) ** 2'" in said


def test_a_configuration_names_code_only_if_it_is_trusted(workdir, capsys):
    (workdir / "run.yaml").write_text("objective: mine.py:square\nseed: 1\n")
    (workdir / "mine.py").write_text("raise SystemExit('it ran')\n")
    assert main([*COMMAND, "--config", "run.yaml"]) == 2
    assert "--trust-objective-code" in capsys.readouterr().err
    (workdir / "mine.py").write_text(FILE)
    assert main([*COMMAND, "--config", "run.yaml", "--trust-objective-code"]) == 0


def test_the_pipeline_takes_objects(workdir):
    settings = TuneSettings("model", "rows.jsonl", max_steps=2, batch_size=4, out="run")
    record = tune(settings, objective=Slow(), compare=[from_function(square)])
    assert record["choice"]["objective"] == "Slow(1.0)"
    assert set(record["choice"]["sources"]) == {"Slow(1.0)", "square()"}
    with pytest.raises(UsageError, match="both called square"):
        tune(
            settings,
            objective=from_function(square),
            compare=[from_function(lambda p: 1 - p, name="square")],
        )

    class p(Slow):  # noqa: N801
        pass

    with pytest.raises(UsageError, match="under the name of a member"):
        tune(settings, objective=p())


def test_the_table_of_objectives_shows_and_verifies_an_own_one(workdir, capsys):
    assert main(["objectives", "mine.py:square", "--verify"]) == 0
    assert "square()" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    "f", [Slow(), from_function(square), above(0.2, from_function(square))], ids=str
)
def test_an_own_objective_compiles(f):
    torch.manual_seed(0)
    hidden, weight = torch.randn(12, 6), torch.randn(20, 6)
    labels = torch.randint(0, 20, (12,))
    results = []
    for wrap in (lambda x: x, torch.compile(fullgraph=True, backend="aot_eager")):
        leaves = [x.clone().requires_grad_() for x in (hidden, weight)]
        loss = wrap(lambda h, w: probtune.linear_objective_loss(h, w, labels, f))(*leaves)
        results.append((loss, *torch.autograd.grad(loss, leaves)))
    torch.testing.assert_close(*results)


@pytest.mark.slow
def test_an_own_objective_trains_on_two_ranks_as_on_one(workdir):
    def command(out, rows):
        options = ["model", "rows.jsonl", "--objective", "mine.py:square", "--out", out]
        options += ["--batch-size", str(rows), "--gradient-accumulation", "1", "--max-steps", "3"]
        return ["-m", "probtune", "train", *options, "--training", "optim=sgd"]

    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    for start, out, rows in ((ranks, "two", 4), ([], "one", 8)):
        command_line = [sys.executable, *start, *command(out, rows)]
        done = subprocess.run(command_line, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (
        load_file(workdir / out / "square" / "model" / "model.safetensors")
        for out in ("one", "two")
    )
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6)
