"""The fast ways give what the plain ones give: words put together, conversations filled in."""

import os
import random

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from probtune.data import encoding as encoding_module
from probtune.data import pieces, words, workers
from probtune.data import rows as rows_module
from probtune.data.chat import ChatTemplate
from probtune.data.encoding import encode
from probtune.data.rows import rows_from
from probtune.errors import DataError

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


@pytest.mark.parametrize("seed", [0, 1])
def test_workers_give_what_one_process_gives(tokenizer, monkeypatch, seed):
    def prepared(number):
        monkeypatch.setattr(rows_module, "number_of_workers", lambda: number)
        monkeypatch.setattr(encoding_module, "number_of_workers", lambda: number)
        some = [*rows(160, seed), ("row 160", {"prompt": ""}), *rows(9, seed)]
        checked = rows_from(some, source="x", skip_bad_rows=True)
        return checked, encode(checked.examples, tokenizer, max_length=30)

    monkeypatch.setattr(rows_module, "_ROWS_OF_A_PART", 16)
    monkeypatch.setattr(encoding_module, "_BATCH", 16)
    monkeypatch.setattr(encoding_module, "_BATCHES_ALONE", 2)
    (alone, one), (shared, three) = prepared(1), prepared(3)
    assert alone == shared and alone.sha256 == shared.sha256 and len(alone.bad) == 1
    assert [e.where for e in alone.examples] == [e.where for e in shared.examples]
    assert one.counts == three.counts and one.dropped == three.dropped
    assert one.rows.table() == three.rows.table()
    assert [r.response for r in one.rows] == [r.response for r in three.rows]


def test_what_a_worker_raises_is_raised():
    def odd(number):
        if number == 7:
            raise DataError("row 7 is odd")
        return number * 2

    results = workers.in_order(odd, range(20), workers=2)
    assert [next(results) for _ in range(7)] == [0, 2, 4, 6, 8, 10, 12]
    with pytest.raises(DataError, match="row 7 is odd"):
        next(results)


def test_a_worker_that_dies_is_named():
    def dies(number):
        return number if number < 3 else os._exit(9)

    with pytest.raises(DataError, match="ended with the status 9"):
        list(workers.in_order(dies, range(20), workers=2))


def test_nothing_is_forked_for_few_rows(monkeypatch):
    monkeypatch.setattr(workers, "_start", lambda *args: pytest.fail("forked"))
    assert list(workers.in_order(str, [1], workers=4)) == ["1"]
    assert list(workers.in_order(str, range(5), workers=1)) == list("01234")
