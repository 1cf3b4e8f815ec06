"""A judge behind HTTP: both orders, probabilities where there are some, busy servers, and what is
said when there is no judge.
"""

import json
import math
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from probtune.errors import EvaluationError, UsageError
from probtune.evaluation.grading import judge as module
from probtune.evaluation.grading.base import GradingItem
from probtune.evaluation.grading.judge import Judge, JudgeGrader, length_controlled, preference


class Server:
    """An endpoint that prefers the answer with more exclamation marks; `place` favours the first
    one, `fails` are statuses to give before."""

    def __init__(self):
        self.place, self.fails, self.logprobs, self.reply = 0.0, [], False, None
        self.asked = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append((self.path, body, self.headers.get("Authorization")))
                if outer.fails:
                    self.send_response(outer.fails.pop(0))
                    self.end_headers()
                    self.wfile.write(b"not now")
                    return
                answer = json.dumps({"choices": [outer.choice(body)]}).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def choice(self, body):
        text = body["messages"][0]["content"]
        first, second = text.split("Answer B:")
        logit = first.count("!") - second.count("!") + self.place
        p = 1 / (1 + math.exp(-logit))
        letter = self.reply or ("A" if p > 0.5 else "B")
        tops = [{"token": "A", "logprob": math.log(p)}, {"token": " B", "logprob": math.log(1 - p)}]
        logprobs = (
            {"content": [{**tops[p <= 0.5], "top_logprobs": tops}]} if self.logprobs else None
        )
        return {"message": {"content": letter}, "logprobs": logprobs}


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def items(*answers, other="fine!"):
    return [GradingItem(a, {"instruction": "Greet {first}.", "output": other}) for a in answers]


def test_without_a_judge_nothing_is_sent_and_the_way_out_is_said():
    with pytest.raises(UsageError, match="Judge them later: `probtune eval --phase grade"):
        JudgeGrader()(items("hello"))
    assert JudgeGrader()([]) == []


def test_bad_judges_are_refused_at_the_door(monkeypatch):
    with pytest.raises(UsageError, match="http://"):
        Judge("localhost:8000/v1", "m")
    with pytest.raises(UsageError, match="{second}"):
        Judge("http://localhost/v1", "m", prompt="{instruction} {first}")
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(UsageError, match="NO_SUCH_KEY"):
        Judge("http://localhost/v1", "m", key_variable="NO_SUCH_KEY")


def test_letters_in_both_orders(server):
    grades = JudgeGrader(Judge(server.url, "m"))(items("hi!!", "hi", "hi!", ""))
    # A tie is resolved by the server for B in either order: half a point each way.
    assert [g.score for g in grades] == [1.0, 0.0, 0.5, 0.0]
    assert [g.metrics["place"] for g in grades] == [0.0, 0.0, -1.0, 0.0]
    assert [g.metrics["length"] for g in grades] == [4, 2, 3, 0]
    assert grades[3].answer is None and grades[0].metrics["other_length"] == 5
    path, body, key = server.asked[0]
    assert (path, body["model"], body["temperature"], key) == ("/v1/chat/completions", "m", 0, None)
    assert "Greet {first}." in body["messages"][0]["content"]


def test_the_bias_of_place_cancels_in_log_odds(server):
    server.logprobs, server.place = True, 0.7
    judge = Judge(server.url, "m")
    verdict = judge.compare("x", "a!", "b")

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    assert verdict.weighted
    assert verdict.preference == pytest.approx((sigmoid(1.7) + 1 - sigmoid(-0.3)) / 2)
    assert judge.compare("x", "a", "b").preference == pytest.approx(0.5)
    assert judge.compare("x", "a", "b").place == pytest.approx(2 * sigmoid(0.7) - 1)


def test_an_answer_cannot_name_the_other_place(server):
    JudgeGrader(Judge(server.url, "m"))(items("{second}"))
    assert "Answer A:\n<<<\n{second}\n>>>" in server.asked[0][1]["messages"][0]["content"]


def test_undecided_replies_are_counted(server):
    server.reply = "Both are good"
    (grade,) = JudgeGrader(Judge(server.url, "m"))(items("hi"))
    assert (grade.score, grade.error) == (0.5, "undecided") and "place" not in grade.metrics


def test_busy_servers_are_asked_again_and_refusals_are_not(server, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "abc")
    judge = Judge(server.url, "m", key_variable="JUDGE_KEY", pause=0.0, concurrent=1)
    server.fails = [429, 503]
    assert JudgeGrader(judge)(items("hi!!"))[0].score == 1
    assert server.asked[0][2] == "Bearer abc" and "abc" not in json.dumps(judge.to_dict())
    server.asked.clear()
    server.fails = [401]
    with pytest.raises(EvaluationError, match="status 401: not now"):
        JudgeGrader(judge)(items("hi"))
    assert len(server.asked) == 1
    server.asked.clear()
    server.fails = [401] * 100
    with pytest.raises(EvaluationError, match="401"):
        JudgeGrader(judge)(items(*["hi"] * 50))
    assert len(server.asked) < 5
    dead = Judge("http://127.0.0.1:9/v1", "m", pause=0.0)
    with pytest.raises(EvaluationError, match="does not answer"):
        JudgeGrader(dead)(items("hi"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("A", 1.0), ("**B**", 0.0), ("Answer B is better.", 0.0), ("A or B", None), ("", None)],
)
def test_letters(text, expected):
    assert preference(text, None) == (expected, False)


def test_why_there_is_no_length_controlled_rate(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install -e '.[judge]'" in length_controlled([1.0], [1], [1], [0])


@pytest.mark.slow
def test_length_controlled_by_the_published_model(monkeypatch, tmp_path):
    """A judge that sees nothing but length: wins go when lengths are set equal."""
    pandas = pytest.importorskip("pandas")
    monkeypatch.setitem(sys.modules, "pkg_resources", types.ModuleType("pkg_resources"))
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        glm = pytest.importorskip("alpaca_eval.metrics.glm_winrate")
    rng = np.random.default_rng(0)
    lengths = rng.integers(900, 3000, 805)
    other = np.full(805, 1000)
    gap = lengths - other
    preferences = 1 / (1 + np.exp(-2.0 * np.tanh(gap / gap.std(ddof=1))))
    gamed = pandas.DataFrame(
        {
            "model": "gamed",
            "index": np.tile(np.arange(805), 2),
            "preference": 0.5,
            "std_delta_len": rng.normal(size=1610),
            "instruction_difficulty": np.tile(rng.normal(size=805), 2),
            "not_gamed_baseline": False,
        }
    )
    gamed.to_csv(tmp_path / "gamed.csv", index=False)
    monkeypatch.setattr(glm, "hf_hub_download", lambda **keywords: str(tmp_path / "gamed.csv"))
    rate = length_controlled(preferences, lengths, other, range(805))
    assert not isinstance(rate, str), rate
    assert 0.5 < rate[0] < preferences.mean() - 0.1
    monkeypatch.setattr(glm, "hf_hub_download", _unreachable)
    assert "could not fit its model" in length_controlled(preferences, lengths, other, range(805))


def _unreachable(**keywords):
    raise OSError("the hub is out of reach")


def test_the_module_says_what_its_number_is():
    assert "not its leaderboard's number" in module.__doc__
