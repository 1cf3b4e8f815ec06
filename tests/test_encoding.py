from pathlib import Path

import helpers
import pytest
import trl
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from probtune.data.encoding import encode
from probtune.data.rows import Example, rows_from
from probtune.errors import DataError

EOS = helpers.WORDS.index("<eos>")


def pairs(*rows):
    named = ((f"row {i}", {"prompt": p, "completion": c}) for i, (p, c) in enumerate(rows))
    return rows_from(named, source="x").examples


def words(ids):
    return [helpers.WORDS[i] if i >= 0 else "." for i in ids]


def test_only_the_completion_and_its_end_count():
    (row,) = encode(pairs(("ask 1 + 2 = ", "3")), helpers.word_tokenizer(), max_length=64).rows
    assert words(row.input_ids) == ["ask", "1", "+", "2", "=", "3", "<eos>"]
    assert row.labels.tolist() == [-100] * 5 + row.input_ids[5:].tolist()
    assert row.prompt_ids.tolist() == row.input_ids[:5].tolist() and row.end == EOS
    assert not row.truncated and not row.merged


def test_separator_only_where_there_is_no_white_space():
    rows = pairs(("ask 1 + 2 =", "3"), ("ask 1 + 2 =", " 3"), ("ask 1 + 2 = ", "3"))
    encoded = encode(rows, helpers.word_tokenizer(), max_length=64, separator=" ").rows
    assert len({tuple(row.input_ids.tolist()) for row in encoded}) == 1
    stuck = encode(rows[:1], helpers.word_tokenizer(), max_length=64).rows
    assert len(stuck[0].input_ids) == 6  # "=3" is one unknown word


def test_cut_rows_and_dropped_rows_are_counted():
    rows = pairs(("ask 1 = ", "1 2 3"), ("ask 1 + 2 + 3 = ", "6"), ("ask 1 = ", "1"))
    encoding = encode(rows, helpers.word_tokenizer(), max_length=5)
    assert encoding.counts == {
        "rows": 2,
        "tokens": 10,
        "supervised_tokens": 4,
        "truncated": 1,
        "dropped": 1,
        "refused": 0,
        "merged_boundary": 0,
        "without_end": 0,
    }
    assert encoding.dropped[0].where == "row 1" and encoding.rows[0].end is None


def test_every_label_masked_is_an_error():
    with pytest.raises(DataError, match=r"every label is masked.*max_length = 3 \(first: row 0\)"):
        encode(pairs(("ask 1 + 2 = ", "3")), helpers.word_tokenizer(), max_length=3)


def test_long_rows_are_cut_before_they_are_tokenized():
    """The tokens are those of the whole text, and no text of megabytes reaches the tokenizer."""
    tokenizer = byte_tokenizer([("a", "b"), ("ab", "ab")])
    lengths = []
    inner = type(tokenizer).__call__

    class Counting(type(tokenizer)):
        def __call__(self, texts, **options):
            lengths.extend(map(len, [texts] if isinstance(texts, str) else texts))
            return inner(self, texts, **options)

    tokenizer.__class__ = Counting
    rows = pairs(("Q: ", "abab " * 40_000), ("abab " * 40_000, "yes"), ("Q: ", "ab"))
    encoding = encode(rows, tokenizer, max_length=50)
    assert max(lengths) < 10_000 and encoding.counts["dropped"] == 1
    whole = inner(tokenizer, "Q: " + "abab " * 40_000)["input_ids"]
    assert encoding.rows[0].input_ids.tolist() == whole[:50] and encoding.rows[0].truncated


def test_progress_adds_up():
    seen = []
    rows = pairs(*[("ask 1 = ", "1")] * 1100)
    encode(rows, helpers.word_tokenizer(), max_length=9, progress=seen.append)
    assert sum(seen) == 1100


def byte_tokenizer(merges=(), template=None, extra=(), bos=None):
    """A byte-level tokenizer as GPT-2's, with chosen merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: i for i, symbol in enumerate(alphabet)}
    for a, b in merges:
        vocabulary[a + b] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        bos_token=bos,
        additional_special_tokens=list(extra),
        chat_template=template,
    )


def test_tokens_merged_across_the_prompts_end_are_counted():
    tokenizer = byte_tokenizer([(":", ")")])
    encoding = encode(pairs(("smile:", ")"), ("smile:", "(")), tokenizer, max_length=64)
    assert [row.merged for row in encoding.rows] == [True, False]
    assert encoding.counts["merged_boundary"] == 1
    first = encoding.rows[0]
    assert tokenizer.decode([x for x in first.labels if x != -100]) == ":)<|endoftext|>"


CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "2 * 3?"},
    {"role": "assistant", "content": "6"},
    {"role": "user", "content": "And 4 * 5?"},
    {"role": "assistant", "content": "It is 20."},
]


def conversation(messages=CONVERSATION, first_trained=0):
    return Example("row 0", messages=tuple(messages), first_trained=first_trained)


def supervised(tokenizer, row):
    """The supervised stretches as text."""
    spans, current = [], []
    for token, label in zip(row.input_ids, row.labels, strict=True):
        if label != -100:
            assert label == token
            current.append(token)
        elif current:
            spans, current = [*spans, current], []
    return [tokenizer.decode(span).strip() for span in [*spans, current] if span]


FAMILIES = {
    "qwen2_5": ("<|im_start|>", "<|im_end|>"),
    "qwen3": ("<|im_start|>", "<|im_end|>", "<think>", "</think>"),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "phi3": ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_real_templates_train_on_the_assistant_turns_and_their_end(family):
    """The published templates, which have no generation marks of their own."""
    template = (Path(trl.__file__).parent / "chat_templates" / f"{family}.jinja").read_text()
    bos = "<|begin_of_text|>" if family == "llama3" else None
    tokenizer = byte_tokenizer(template=template, extra=FAMILIES[family], bos=bos)
    (row,) = encode([conversation()], tokenizer, max_length=2000).rows
    first, second = supervised(tokenizer, row)
    assert "6" in first and "It is 20." in second
    assert row.end is not None and tokenizer.decode([row.end]) in second
    assert "4 * 5" not in first + second and "Be brief" not in first + second
    prompt = tokenizer.decode(row.prompt_ids)
    assert "4 * 5" in prompt and "It is 20." not in prompt
    # Qwen 3 writes an empty thought into the answer only, so generation sees another context.
    assert row.merged == (family == "qwen3")


MARKED = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}<eot>{% endgeneration %}{% else %}{{ m.content }}<eot>{% endif %}{{ '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
UNMARKED = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<eot>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize("template", [MARKED, UNMARKED], ids=["marked", "found by prefixes"])
def test_own_templates(template):
    tokenizer = byte_tokenizer(template=template, extra=["<eot>"])
    (row,) = encode([conversation()], tokenizer, max_length=2000).rows
    assert supervised(tokenizer, row) == ["6<eot>", "It is 20.<eot>"]
    assert tokenizer.decode(row.prompt_ids).endswith("<user>And 4 * 5?<eot>\n<assistant>")
    assert row.response == "It is 20."
    (last,) = encode([conversation(first_trained=3)], tokenizer, max_length=2000).rows
    assert supervised(tokenizer, last) == ["It is 20.<eot>"]


def test_prompt_and_completion_through_the_template():
    tokenizer = byte_tokenizer(template=UNMARKED, extra=["<eot>"])
    (row,) = encode(pairs(("2 * 3?", "6")), tokenizer, max_length=99, chat=True).rows
    assert tokenizer.decode(row.input_ids) == "<user>2 * 3?<eot>\n<assistant>6<eot>\n"
    assert supervised(tokenizer, row) == ["6<eot>"]


def test_a_template_that_rewrites_history_is_refused():
    rewriting = (
        "{% for m in messages %}{% if m.role == 'assistant' and not loop.last %}(gone)"
        "{% else %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    tokenizer = byte_tokenizer(template=rewriting)
    with pytest.raises(DataError, match="row 0 is refused.*rendered differently"):
        encode([conversation()], tokenizer, max_length=99)


def test_a_row_the_template_refuses_is_named_or_left_out():
    strict = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + UNMARKED
    )
    tokenizer = byte_tokenizer(template=strict, extra=["<eot>"])
    good = conversation(CONVERSATION[1:])
    with pytest.raises(DataError, match="refused by the chat template: no system role"):
        encode([good, conversation()], tokenizer, max_length=99)
    encoding = encode([good, conversation()], tokenizer, max_length=99, skip_bad_rows=True)
    assert len(encoding.rows) == 1 and encoding.counts["refused"] == 1


def test_conversations_need_a_template():
    with pytest.raises(DataError, match="no chat template: take the instruct version"):
        encode([conversation()], helpers.word_tokenizer(), max_length=99)


def test_a_template_without_an_end_token_is_counted():
    bare = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    encoding = encode([conversation()], byte_tokenizer(template=bare), max_length=999)
    assert encoding.counts["without_end"] == 1 and encoding.rows[0].end is None
