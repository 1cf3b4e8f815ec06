import pytest

from probtune.cli import main

QUESTIONS = {
    "crossover": (["--noise", "0.1", "--classes", "10", "--budget", "30"], ["0.7213", "0.9000"]),
    "phase-diagram": (["--size", "12"], ["power(-0.5)", "Share of the plane"]),
    "escape": (["--objectives", "nll,p"], ["2.793", "5009"]),
    "theorem": ([], ["c < 10 d", "0.0476", "no"]),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_is_a_table_and_a_picture(question, tmp_path, capsys):
    arguments, words = QUESTIONS[question]
    path = tmp_path / "picture.svg"
    assert main(["theory", question, *arguments, "--plot", str(path)]) == 0
    out = capsys.readouterr().out
    for word in words:
        assert word in out
    assert path.read_text().count("<path") > 5 and str(path) in out
    assert main(["theory", question, *arguments]) == 0


def test_advice(capsys):
    assert main(["theory", "advice", "--p", "0.01", "--noise", "0.2", "--budget", "1,30"]) == 0
    out = capsys.readouterr().out
    assert "power(0.3)" in out and "budget too small for NLL" in out


def test_help_teaches(capsys):
    assert main(["theory"]) == 0
    assert "phase-diagram" in capsys.readouterr().out
    for question in (*QUESTIONS, "advice"):
        assert main(["theory", question, "--help"]) == 0
        assert f"probtune theory {question}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["crossover", "--noise", "0.95"], "0.95"),
        (["crossover", "--noise", "x"], "numbers as 0.1,0.2"),
        (["crossover", "--noise", "nan"], "finite"),
        (["escape", "--p", "0.7"], "must lie below --to"),
        (["escape", "--objectives", "nl"], "did you mean 'nll'"),
        (["theorem", "--noise", "1"], "[0, 1)"),
        (["phase-diagram", "--size", "1"], "at least 2"),
        (["phase-diagram", "--max-noise", "0.95", "--size", "3"], "0.95"),
        (["phase-diagram", "--objectives", "below(0.7,nll)", "--size", "3"], "edge"),
        (["advice", "--p", "2", "--noise", "0.1"], "strictly between"),
        (["crossover", "--plot", "x.gif"], ".png, .svg or .pdf"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, words, capsys):
    assert main(["theory", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error.splitlines()[-1]
