"""The fast ways give what the plain ones give: words put together, conversations filled in."""

import random

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from probtune.data import pieces, words
from probtune.data.chat import ChatTemplate
from probtune.data.encoding import encode
from probtune.data.rows import rows_from

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' }}"
    "{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
PIECES = (
    *("word", " word", "  two", " it's", "café", " naïve", "\n", "\n\n", "\t", " 1", "23", ", and"),
    *(" a", "!", "?\n", " <|im_end|>", "😀", " \u2028", "e\u0301", "x_y", " (z)", "'ll", " I", "."),
)


@pytest.fixture(scope="module")
def tokenizer():
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    bare.train_from_iterator(["".join(PIECES)] * 9, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<|im_end|>")
    fast.add_tokens(["<|im_start|>"], special_tokens=True)
    fast.chat_template = CHATML
    return fast


def rows(number, seed):
    rng = random.Random(seed)

    def text():
        return "".join(rng.choices(PIECES, k=rng.randrange(1, 30)))

    for index in range(number):
        turns = [("user", "assistant")[i % 2] for i in range(2 * rng.randrange(1, 3))]
        messages = [{"role": role, "content": f"x{text()}"} for role in turns]
        pair = {"prompt": f"x{text()}", "completion": f"x{text()}"}
        yield f"row {index}", {"messages": messages} if seed else pair


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("max_length", [40, 1000])
def test_fast_equals_plain(tokenizer, monkeypatch, seed, max_length):
    examples = rows_from(rows(300, seed), source="x").examples
    assert words.word_tokenizer(tokenizer, special=False) is not None
    filled = []
    quickly = ChatTemplate._quickly
    monkeypatch.setattr(
        ChatTemplate, "_quickly", lambda *args: filled.append(quickly(*args)) or filled[-1]
    )
    fast = encode(examples, tokenizer, max_length=max_length)
    assert not seed or sum(row is not None for row in filled) > 50
    monkeypatch.setattr(pieces, "word_tokenizer", lambda *args, **options: None)
    monkeypatch.setattr(ChatTemplate, "_quickly", lambda *args: None)
    plain = encode(examples, tokenizer, max_length=max_length)
    assert fast.counts == plain.counts and fast.dropped == plain.dropped
    for mine, theirs in zip(fast.rows, plain.rows, strict=True):
        for name in ("input_ids", "labels", "prompt_ids"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name), mine.where)
        assert (mine.response, mine.end, mine.merged) == (
            theirs.response,
            theirs.end,
            theirs.merged,
        )


def test_a_tokenizer_that_joins_words_is_left_alone(tokenizer):
    other = Tokenizer(models.BPE())
    other.pre_tokenizer = pre_tokenizers.Metaspace()
    assert (
        words.word_tokenizer(PreTrainedTokenizerFast(tokenizer_object=other), special=False) is None
    )
