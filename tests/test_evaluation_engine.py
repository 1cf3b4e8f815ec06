"""lm-eval's traps, each closed and each shown to be there."""

import logging

import helpers
import pytest
import torch
from transformers import GenerationConfig

from probtune.data.prompts import PromptSpec
from probtune.errors import EvaluationError, UsageError
from probtune.evaluation.backends.opening import fingerprint, open_model
from probtune.evaluation.backends.session import Session, cut_at_context
from probtune.evaluation.engine import compile_task, generation_arguments, run_task
from probtune.evaluation.tasks.base import Decoding, Question

HFModel = pytest.importorskip("probtune.evaluation.backends.hf").HFModel
EOS = helpers.WORDS.index("<eos>")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


@pytest.fixture(scope="module")
def tokenizer():
    return helpers.word_tokenizer()


@pytest.fixture()
def lm(tokenizer):
    return HFModel(helpers.word_causal_model(), tokenizer)


def questions(n=5):
    return [Question(str(i), " ".join(["ask"] * (1 + i % 3)) + f" {i}", str(i)) for i in range(n)]


def draw(lm, requests, decoding, *, before=(), batch_size=4, seed=0, ends=(EOS,), **options):
    """The samples of one run, in the order in which they were written."""
    written = []
    lm.session = Session(
        "toy", [q.id for q in requests], seed, batch_size, written.extend,
        {s.key: s for s in before}, **options,
    )  # fmt: skip
    try:
        run_task(lm, compile_task("toy", requests, PromptSpec(), decoding, ends=ends))
    finally:
        lm.session = None
    return written


class Uniform(torch.nn.Module):
    """Stands for the head: every token is nearly as likely as any other."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, hidden):
        # A slope: between equal logits the 50 most probable tokens would not be defined.
        slope = torch.linspace(0, 1e-3, self.size)
        return hidden.new_zeros(*hidden.shape[:-1], self.size) + slope


def uniform_model(vocabulary, **changes):
    model = helpers.word_causal_model(vocab_size=vocabulary, **changes)
    model.lm_head = Uniform(vocabulary)
    return model


# --- sampling ------------------------------------------------------------------------------------


def test_sampling_is_from_all_tokens_where_transformers_takes_fifty(tokenizer):
    """400 draws from 309 equally likely tokens: 50 distinct ones by default, over 200 with ours."""
    model = uniform_model(309)
    options = {"input_ids": torch.zeros(8, 1, dtype=torch.long), "max_new_tokens": 50}
    torch.manual_seed(0)
    plain = model.generate(**options, do_sample=True, temperature=1.0, top_p=1.0, eos_token_id=None)
    assert len({*plain[:, 1:].flatten().tolist()}) == 50
    lm = HFModel(model, tokenizer)
    seen = set()
    original = lm._model_generate

    def noted(context, *args, **kwargs):
        tokens = original(context, *args, **kwargs)
        seen.update(tokens[:, context.shape[1] :].flatten().tolist())
        return tokens

    lm._model_generate = noted
    draw(lm, questions(8), Decoding(50, temperature=1.0), batch_size=8, ends=())
    assert len(seen) > 200


def test_nothing_leaks_from_the_models_generation_settings(tokenizer):
    """Settings that come with a model, and would change every answer."""
    decoding = Decoding(8, temperature=1.0, samples=2)
    model = helpers.word_causal_model()
    clean = draw(HFModel(model, tokenizer), questions(), decoding)
    leaky = GenerationConfig(
        repetition_penalty=5.0, top_k=1, top_p=0.1, temperature=0.1, max_new_tokens=2,
        min_new_tokens=2, no_repeat_ngram_size=1, suppress_tokens=[1, 2, 3],
    )  # fmt: skip
    model.generation_config = leaky
    assert draw(HFModel(model, tokenizer), questions(), decoding) == clean
    assert model.generation_config is leaky
    greedy = Decoding(8)
    assert draw(HFModel(model, tokenizer), questions(), greedy) == draw(
        HFModel(helpers.word_causal_model(), tokenizer), questions(), greedy
    )


@pytest.mark.parametrize("backend, off", [("hf", 0), ("vllm", -1), ("server", -1)])
def test_every_knob_is_set(backend, off):
    arguments = generation_arguments(
        Decoding(16, temperature=0.7, stop=("x",)), stop=["<end>"], ends=[3], backend=backend
    )
    assert arguments["do_sample"] is True and arguments["temperature"] == 0.7
    assert (
        arguments["top_p"] == 1.0
        and arguments["top_k"] == off
        and arguments["repetition_penalty"] == 1.0
    )
    assert arguments["until"] == ["<end>", "x"] and arguments["max_gen_toks"] == 16
    assert arguments["eos_token_id" if backend == "hf" else "stop_token_ids"] == [3]
    assert generation_arguments(Decoding(16), backend=backend)["do_sample"] is False


def test_all_samples_are_kept_and_scored(lm):
    """Plain lm-eval scores only the first of `repeats`."""
    from lm_eval.api.task import ConfigurableTask

    decoding = Decoding(4, temperature=1.0, samples=3)
    seen = []

    def grader(items, /, *, progress=None):
        from probtune.evaluation.grading.base import Grade

        seen.append([item.text for item in items])
        return [Grade(float(i == 1), item.text, "whole") for i, item in enumerate(items)]

    compiled = compile_task("toy", questions(), PromptSpec(), decoding, grader=grader, ends=[EOS])
    assert run_task(lm, compiled)["score"] == pytest.approx(1 / 3)
    assert [len(texts) for texts in seen] == [3] * 5 and len({*seen[0]}) > 1
    plain = ConfigurableTask(config={k: v for k, v in compiled.items() if k != "filter_list"})
    assert [name for f in plain._filters for name in [f.name]] == ["none"]  # take_first


def test_compiled_task_runs_in_lm_eval_alone_and_asks_the_exact_text(lm):
    spec = PromptSpec(instruction="  \n")  # white space at the end must survive
    compiled = compile_task("toy", questions(), spec, Decoding(4), ends=[EOS])
    prompts = []
    original = type(lm).__mro__[1].generate_until

    def noted(requests, **options):
        prompts.extend(r.args[0] for r in requests)
        return original(lm, requests, **options)

    lm.generate_until = noted
    assert run_task(lm, compiled)["samples"] == 1
    assert prompts == [spec.render(q.text) for q in questions()]


def test_greedy_has_one_sample():
    with pytest.raises(UsageError, match="3 samples of greedy decoding would be the same"):
        compile_task("toy", questions(), PromptSpec(), Decoding(4, samples=3))
    with pytest.raises(UsageError, match="toy has no questions"):
        compile_task("toy", [], PromptSpec(), Decoding(4))


# --- what a sample holds -------------------------------------------------------------------------


def scripted(*words):
    """A model that writes these words, whatever it is asked."""
    ids = [helpers.WORDS.index(word) for word in words]

    class Script(torch.nn.Module):
        def forward(self, hidden):
            at = min(Script.step, len(ids) - 1)
            Script.step += 1
            logits = hidden.new_zeros(*hidden.shape[:-1], len(helpers.WORDS))
            logits[..., ids[at]] = 50.0
            return logits

    Script.step = 0
    model = helpers.word_causal_model()
    model.lm_head = Script()
    return model


@pytest.mark.parametrize(
    "words, text, reason, tokens",
    [
        (["1", "2", "<eos>", "9"], "1 2", "stop", 2),
        (["1", "2", "user", "9"], "1 2", "stop", 2),  # a turn's end that is a token
        (["1", "2", "say", "9"], "1 2 ", "stop", 2),  # a stop text
        (["1", "2", "3", "4"], "1 2 3 4", "length", 4),
        (["<eos>"], "", "stop", 0),
        (["1", "2", "3", "<eos>"], "1 2 3", "stop", 3),  # at the limit, but ended
    ],
)
def test_text_reason_and_tokens(words, text, reason, tokens, tokenizer):
    lm = HFModel(scripted(*words), tokenizer)
    ends = (EOS, helpers.WORDS.index("user"))
    (sample,) = draw(lm, questions(1), Decoding(4, stop=("say",)), ends=ends)
    assert (sample.text, sample.finish_reason, sample.tokens) == (text, reason, tokens)
    assert sample.seed is None and sample.key == ("0", 0)


def test_rows_of_a_batch_end_at_their_own_place(tokenizer):
    """In a batch, a row that ended is padded while the others go on."""
    lm = HFModel(helpers.word_causal_model(seed=3), tokenizer)
    decoding = Decoding(12, temperature=1.0, samples=4)
    ends = (EOS, helpers.WORDS.index("<pad>"))
    answers = draw(lm, questions(6), decoding, batch_size=24, ends=ends)
    assert len({s.tokens for s in answers}) > 3
    for s in answers:
        assert s.tokens == len(s.text.split())
        assert s.finish_reason == ("length" if s.tokens == 12 else "stop")


@pytest.mark.parametrize("adds", [True, False])
@pytest.mark.parametrize("brings", [True, False])
def test_one_beginning_of_text(adds, brings):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [*helpers.WORDS, "<|begin_of_text|>", "<|start_header_id|>", "<|eot_id|>"]
    bos = words.index("<|begin_of_text|>")
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if adds:
        inner.post_processor = processors.TemplateProcessing(
            single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<|begin_of_text|>", eos_token="<eos>", pad_token="<pad>"
    )
    lm = HFModel(helpers.word_causal_model(vocab_size=len(words)), tokenizer)
    spec = PromptSpec("llama3" if brings else "plain")
    seen = []
    original = lm._model_generate

    def noted(context, *args, **kwargs):
        seen.extend(context.tolist())
        return original(context, *args, **kwargs)

    lm._model_generate = noted
    lm.session = Session("toy", ["0"], 0, 4, lambda _: None, {}, begins=spec.begins)
    run_task(lm, compile_task("toy", questions(1), spec, Decoding(2), ends=[EOS]))
    assert seen[0].count(bos) == int(adds or brings)


# --- going on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoding", [Decoding(8), Decoding(8, temperature=1.0, samples=3)])
@pytest.mark.parametrize("number", [1, 4, 6])
def test_a_resumed_run_equals_an_uninterrupted_one(lm, decoding, number):
    whole = draw(lm, questions(7), decoding)
    torch.manual_seed(99)  # the state of the process must not matter
    rest = draw(lm, questions(7), decoding, before=whole[:number])
    assert whole[:number] + rest == whole
    assert draw(lm, questions(7), decoding, before=whole) == []
    assert draw(lm, questions(7), decoding, seed=1) != whole or decoding.samples == 1


def test_more_samples_extend_a_run(lm):
    few = draw(lm, questions(6), Decoding(8, temperature=1.0, samples=2))
    many = draw(lm, questions(6), Decoding(8, temperature=1.0, samples=4), before=few)
    assert {s.sample for s in few} == {0, 1} and {s.sample for s in many} == {2, 3}
    again = draw(lm, questions(6), Decoding(8, temperature=1.0, samples=4))
    assert again[:12] == few  # 12 = 3 whole batches
    assert again[12:] == many


def test_samples_of_one_question_differ_and_the_callers_generator_is_left_alone(lm):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    answers = draw(lm, questions(2), Decoding(8, temperature=1.0, samples=8))
    assert torch.equal(torch.random.get_rng_state(), before)
    for question in "01":
        assert len({s.text for s in answers if s.question == question}) > 4
    assert len({s.seed for s in answers}) == 4  # one for each batch of 4


# --- the context ---------------------------------------------------------------------------------


def test_what_exceeds_the_context_is_refused_or_cut_and_counted(lm):
    with pytest.raises(UsageError) as error:
        draw(lm, questions(5), Decoding(61), context=64)
    for said in ("context of 64", "in 1 questions", "longest prompt: 4", "--max-new-tokens 60"):
        assert said in str(error.value)
    answers = draw(lm, questions(5), Decoding(61), context=64, fit=True, ends=())
    assert {s.finish_reason for s in answers} == {"length"}
    assert max(s.tokens for s in answers) <= 64 - 2
    with pytest.raises(UsageError, match="fills the model's context of 4"):
        cut_at_context([("q", 4)], 2, 4, fit=True, task="toy")
    assert cut_at_context([("q", 3), ("r", None)], 9, 8, fit=True, task="toy") == [5, 8]


# --- opening a model -----------------------------------------------------------------------------


def test_opening_reads_what_decides_before_the_weights(word_model, tmp_path):
    opening = open_model(str(word_model))
    assert opening.family == "plain" and opening.context == 64 and opening.model is None
    assert opening.ends(PromptSpec()) == [EOS]
    assert opening.ends(PromptSpec(), ["user", "not a token"]) == [
        helpers.WORDS.index("user"), EOS
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"chatml writes <\|im_start\|>, which is no token of"):
        opening.check(PromptSpec("chatml"))
    with pytest.raises(UsageError, match="no such folder"):
        open_model("./none")
    helpers.save_word_model(tmp_path / "a", seed=0)
    helpers.save_word_model(tmp_path / "b", seed=0)
    helpers.save_word_model(tmp_path / "c", seed=1)
    first, same, other = (fingerprint(str(tmp_path / name)) for name in "abc")
    assert first == same != other


def test_vllm_is_named_where_it_is_missing(word_model):
    with pytest.raises(UsageError, match="vllm serve MODEL.*--backend server --server http"):
        open_model(str(word_model), backend="vllm")


def test_adapters_are_loaded_with_their_base(word_model, tmp_path):
    peft = pytest.importorskip("peft")
    base = helpers.word_causal_model()
    adapted = peft.get_peft_model(base, peft.LoraConfig(target_modules=["q_proj"], r=2))
    adapted.peft_config["default"].base_model_name_or_path = str(word_model)
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if "lora_B" in name:
                value.fill_(3.0)
    adapted.save_pretrained(tmp_path / "adapter")
    opening = open_model(str(tmp_path / "adapter"))
    answers = draw(opening.load(4), questions(), Decoding(8))
    assert answers != draw(open_model(str(word_model)).load(4), questions(), Decoding(8))
    with pytest.raises(UsageError, match="vLLM is not installed"):
        open_model(str(tmp_path / "adapter"), backend="vllm")


def test_a_backend_that_returns_nothing_is_named():
    class Silent:
        name, shares_generator, answers_singly = "silent", False, False

        def lengths(self, prompts, begins):
            return None

        def draw(self, requests, arguments, done):
            pass

    session = Session("toy", ["0"], 0, 4, lambda _: None, {})
    instance = type(
        "Instance",
        (),
        {"doc": {"id": "0"}, "args": ("ask", generation_arguments(Decoding(2)))},
    )()
    with pytest.raises(EvaluationError, match="silent backend returned nothing for question '0'"):
        session.answer(Silent(), [instance])
