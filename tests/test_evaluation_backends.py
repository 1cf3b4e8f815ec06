"""A served model (a server of 40 lines stands for vLLM's) and vLLM in this process (a stand-in of
its interface: the real one was not there to run)."""

import json
import logging
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import helpers
import pytest

from probtune.data.prompts import PromptSpec
from probtune.errors import EvaluationError, UsageError
from probtune.evaluation.backends.opening import open_server
from probtune.evaluation.backends.session import Session
from probtune.evaluation.engine import compile_task, run_task
from probtune.evaluation.tasks.base import Decoding, Question

ServerModel = pytest.importorskip("probtune.evaluation.backends.server").ServerModel
EOS = helpers.WORDS.index("<eos>")
PLAIN = PromptSpec()


class Server:
    """An OpenAI-compatible completions server: its answer is its seed, or `greedy`."""

    def __init__(self, *, dies_after=None, status=200, models=("toy-model",)):
        self.asked = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def _send(self, status, content):
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                self._send(200, {"data": [{"id": m, "max_model_len": 64} for m in models]})

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append(request)
                if dies_after is not None and len(server.asked) > dies_after:
                    self.connection.close()  # no answer at all
                    return
                if status != 200:
                    return self._send(status, {"message": "context too long"})
                text = str(request.get("seed")) if request["temperature"] else "greedy"
                reason = "length" if request["max_tokens"] < 3 else "stop"
                choice = {"index": 0, "text": text, "finish_reason": reason, "stop_reason": None}
                usage = {"completion_tokens": 5}
                self._send(200, {"choices": [choice], "usage": usage})

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    logging.getLogger("lm_eval").setLevel(logging.CRITICAL)


def questions(n=4):
    return [Question(str(i), f"ask {i}", str(i)) for i in range(n)]


def draw(lm, decoding, *, written_before=(), batch_size=4, spec=PLAIN, backend="server"):
    written = []
    lm.session = Session(
        "toy", list("0123"), 0, batch_size, written.extend, {s.key: s for s in written_before},
        begins=spec.begins,
    )  # fmt: skip
    compiled = compile_task("toy", questions(), spec, decoding, ends=[EOS], backend=backend)
    try:
        run_task(lm, compiled)
    finally:
        lm.session, lm.written = None, written
    return written


def test_every_sample_has_its_own_seed_and_reaches_the_server_with_every_knob():
    with Server() as server:
        lm = ServerModel(server.url, "toy-model", helpers.word_tokenizer(), concurrent=3)
        answers = draw(lm, Decoding(8, temperature=1.0, samples=3, stop=("say",)))
    assert len(answers) == 12 and len({s.seed for s in answers}) == 12
    assert {s.text for s in answers} == {str(s.seed) for s in answers}  # each got its own answer
    assert {s.finish_reason for s in answers} == {"stop"}
    assert {s.tokens for s in answers} == {4}  # vLLM counts the end token
    request = server.asked[0]
    assert request["model"] == "toy-model" and request["max_tokens"] == 8
    assert (request["temperature"], request["top_p"], request["top_k"]) == (1.0, 1.0, -1)
    assert request["repetition_penalty"] == 1.0 and request["min_p"] == 0.0
    assert request["stop"] == ["say"] and request["stop_token_ids"] == [EOS]
    ids = [helpers.word_tokenizer()(f"ask {i}")["input_ids"] for i in range(4)]
    assert sorted(a["prompt"] for a in server.asked) == sorted(ids * 3)
    assert "do_sample" not in request and "add_special_tokens" not in request


def test_without_a_tokenizer_prompts_are_text_and_bring_their_own_beginning_or_not():
    with Server() as server:
        lm = ServerModel(server.url, "toy-model")
        answers = draw(lm, Decoding(2))
        assert [s.text for s in answers] == ["greedy"] * 4 and answers[0].seed is None
        assert answers[0].finish_reason == "length" and answers[0].tokens == 5
        assert server.asked[0]["prompt"].startswith("ask ")
        assert server.asked[0]["add_special_tokens"] is True
        draw(lm, Decoding(2), spec=PromptSpec("llama3"))
        assert server.asked[-1]["add_special_tokens"] is False


def test_a_server_that_dies_loses_nothing(monkeypatch):
    import tenacity

    monkeypatch.setattr(tenacity.nap.time, "sleep", lambda _: None)
    decoding = Decoding(8, temperature=1.0, samples=3)
    with Server() as server:
        whole = draw(ServerModel(server.url, "toy-model"), decoding)
    with Server(dies_after=5) as server:
        lm = ServerModel(server.url, "toy-model", concurrent=1)
        lm.max_retries = 1
        with pytest.raises(EvaluationError, match="stopped answering .*the same command goes on"):
            draw(lm, decoding)
        written = list(lm.written)
    assert len(written) == 5
    with Server() as server:
        rest = draw(ServerModel(server.url, "toy-model"), decoding, written_before=written)
        assert len(server.asked) == 7
    key = lambda s: s.key  # noqa: E731
    assert sorted(written + rest, key=key) == sorted(whole, key=key)


def test_what_a_server_refuses_is_named():
    with Server(status=400) as server:
        lm = ServerModel(server.url, "toy-model")
        lm.max_retries = 1
        with pytest.raises(EvaluationError, match="HTTP 400"):
            draw(lm, Decoding(8))
    with Server(models=("other",)) as server:
        with pytest.raises(UsageError, match="serves other, not 'toy-model'"):
            open_server(server.url, "toy-model")
    with pytest.raises(EvaluationError, match="no OpenAI-compatible server answers at"):
        open_server(server.url, "toy-model")


def test_opening_a_server(word_model):
    with Server(models=("toy-model", str(word_model))) as server:
        opening = open_server(f"{server.url}/", "toy-model")
        assert opening.context == 64 and opening.tokenizer is None and opening.family is None
        assert opening.ends(PromptSpec()) == []
        opening = open_server(server.url, "toy-model", tokenizer=str(word_model))
        assert opening.family == "plain" and opening.ends(PromptSpec()) == [EOS]
        assert open_server(server.url, str(word_model)).family == "plain"
        with pytest.raises(UsageError, match="no such folder"):
            open_server(server.url, "toy-model", tokenizer="./none")
        assert opening.load(7)._concurrent == 7


# --- vLLM ----------------------------------------------------------------------------------------


@pytest.fixture()
def vllm(monkeypatch):
    """The part of vLLM that lm-eval's class and ours touch."""
    fake = types.ModuleType("vllm")
    fake.__spec__ = types.SimpleNamespace(name="vllm")

    class SamplingParams:
        def __init__(self, **settings):
            self.__dict__.update(settings, seed=None)

    class LLM:
        requests = []

        def __init__(self, **settings):
            config = types.SimpleNamespace(max_model_len=64)
            self.llm_engine = types.SimpleNamespace(model_config=config)

        def generate(self, prompts, sampling_params, use_tqdm, lora_request):
            outputs = []
            for prompt, settings in zip(prompts, sampling_params, strict=True):
                LLM.requests.append((prompt["prompt_token_ids"], settings))
                ended = prompt["prompt_token_ids"][-1] % 2 == 0
                answer = types.SimpleNamespace(
                    text=f"{prompt['prompt_token_ids'][-1]} {settings.seed}",
                    token_ids=[1, 2, EOS] if ended else [1, 2, 3],
                    finish_reason="stop" if ended else "length",
                )
                outputs.append(types.SimpleNamespace(outputs=[answer]))
            return outputs

    fake.LLM, fake.SamplingParams, fake.TokensPrompt = LLM, SamplingParams, dict
    modules = {"vllm": fake}
    for name, members in (
        ("vllm.lora.request", {"LoRARequest": object}),
        ("vllm.tokenizers", {"get_tokenizer": lambda *a, **k: helpers.word_tokenizer()}),
        ("vllm.transformers_utils.tokenizer", {"get_tokenizer": None}),
    ):
        for part in range(1, name.count(".") + 2):
            path = ".".join(name.split(".")[:part])
            modules.setdefault(path, types.ModuleType(path))
        modules[name].__dict__.update(members)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("lm_eval.models.vllm_causallms", "probtune.evaluation.backends.vllm"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.8.0")
    yield LLM
    for name in ("lm_eval.models.vllm_causallms", "probtune.evaluation.backends.vllm"):
        sys.modules.pop(name, None)


def test_vllm_keeps_seeds_tokens_and_reasons(vllm, word_model):
    from probtune.evaluation.backends.vllm import VLLMModel

    lm = VLLMModel(str(word_model), context=64)
    decoding = Decoding(8, temperature=1.0, samples=2, stop=("say",))
    answers = draw(lm, decoding, backend="vllm", batch_size=5)
    assert len(answers) == 8 and len({s.seed for s in answers}) == 8
    for sample in answers:
        last = helpers.WORDS.index(sample.question)
        assert sample.text == f"{last} {sample.seed}"
        assert sample.finish_reason == ("stop" if last % 2 == 0 else "length")
        assert sample.tokens == (2 if last % 2 == 0 else 3)
    settings = vllm.requests[0][1]
    assert (settings.top_k, settings.top_p, settings.temperature) == (-1, 1.0, 1.0)
    assert settings.max_tokens == 8 and settings.stop_token_ids == [EOS]
    assert settings.skip_special_tokens is True and "say" in settings.stop
    before = len(vllm.requests)
    rest = draw(lm, decoding, backend="vllm", batch_size=5, written_before=answers[:3])
    assert len(vllm.requests) - before == 5 and answers[:3] + rest == answers
