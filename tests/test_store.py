import helpers
import numpy as np
import pytest
import torch

from probtune.data.encoding import encode
from probtune.data.rows import rows_from
from probtune.errors import DataError, UsageError
from probtune.models.loading import token_table
from probtune.models.store import LogprobStore, fingerprint, merge_stores, store_logprobs


def encoded(n, start=0):
    numbered = ((f"row {i}", row) for i, row in enumerate(helpers.sums(n, start=start), 1))
    tokenizer = helpers.word_tokenizer()
    return encode(rows_from(numbered, source="data").examples, tokenizer, max_length=32).rows


def stored(path, rows, model=None):
    model = model or helpers.word_causal_model()
    table = token_table(model, rows)
    return store_logprobs(path, rows, table, model="tiny", fingerprint=fingerprint(model)), table


def pairs(rows):
    return [(row.input_ids.tolist(), row.labels.tolist()) for row in rows]


def test_any_part_in_any_order_is_found(tmp_path):
    rows = encoded(20)
    _, table = stored(tmp_path / "s.arrow", rows)
    store = LogprobStore(tmp_path / "s.arrow")
    assert store.model == "tiny" and len(store) == 20
    chosen = [7, 3, 19]
    actual = store.columns(pairs([rows[i] for i in chosen]))
    for index, values in zip(chosen, actual, strict=True):
        labels = rows[index].labels.copy()
        labels[0] = -100
        expected = table.logp[table.example == index]
        np.testing.assert_allclose(values[labels != -100], expected, rtol=1e-6)
        assert len(values) == len(labels) and not values[labels == -100].any()


def test_a_store_without_a_row_is_stale(tmp_path):
    store, _ = stored(tmp_path / "s.arrow", encoded(4))
    more = encoded(6)
    assert store.serves(pairs(more[:4])) and not store.serves(pairs(more))
    with pytest.raises(DataError, match=r"stale: row 5 is not in it .*2 of 6 rows .* --store"):
        store.columns(pairs(more))
    changed = [(ids, [-100, *labels[1:]][:-1] + [-100]) for ids, labels in pairs(more[:1])]
    with pytest.raises(DataError, match="stale: first"):
        store.columns(changed, names=["first"])


def test_a_store_of_another_model_is_refused(tmp_path):
    model, other = helpers.word_causal_model(), helpers.word_causal_model(1)
    store, _ = stored(tmp_path / "s.arrow", encoded(2), model)
    store.check_model("tiny", fingerprint(model), same=True)
    store.check_model("tiny", fingerprint(other), same=False)
    with pytest.raises(UsageError, match="measured with another model"):
        store.check_model("tiny", fingerprint(other), same=True)
    with pytest.raises(UsageError, match="compares it with a better one"):
        store.check_model("tiny", fingerprint(model), same=False)


def test_the_fingerprint_sees_training_and_not_adapters_or_dtypes():
    from peft import LoraConfig, get_peft_model

    model = helpers.word_causal_model()
    before = fingerprint(model)
    assert fingerprint(helpers.word_causal_model()) == before
    assert fingerprint(model.bfloat16().float()) != before  # other values
    exact = model.bfloat16()
    assert fingerprint(exact) == fingerprint(exact.float())
    before = fingerprint(model)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    assert fingerprint(adapted) == before
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    assert fingerprint(model) != before


def test_parts_are_merged(tmp_path):
    rows = encoded(6)
    parts = [tmp_path / "0.arrow", tmp_path / "1.arrow"]
    for number, part in enumerate(parts):
        stored(part, rows[number::2])
    merge_stores(parts, tmp_path / "all.arrow")
    assert LogprobStore(tmp_path / "all.arrow").serves(pairs(rows))
    assert not any(part.exists() for part in parts)


def test_a_file_that_is_none_is_named(tmp_path):
    with pytest.raises(UsageError, match="no such file .* --store"):
        LogprobStore(tmp_path / "none.arrow")
    stored(tmp_path / "s.arrow", encoded(2))
    whole = (tmp_path / "s.arrow").read_bytes()
    for content in (b"", b"not arrow", whole[: len(whole) // 2]):
        (tmp_path / "bad.arrow").write_bytes(content)
        with pytest.raises(UsageError, match="is no file of log-probabilities, or it is damaged"):
            LogprobStore(tmp_path / "bad.arrow")
