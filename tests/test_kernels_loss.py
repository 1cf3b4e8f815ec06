"""The loss of logits: equal to the fused head, to autograd in float64, and to a trainer's step."""

import helpers
import pytest
import torch
import torch.nn.functional as F
from test_kernels import Recorder

import probtune
from probtune.errors import ObjectiveError, UsageError
from probtune.kernels import linear_objective_loss, operator, torch_rows  # noqa: F401 (registers)
from probtune.kernels.reference import statistics_of_logits
from probtune.objectives import MEMBERS, REFERENCE_SIGNALS, nll, objective, p, power

FROM_LOGITS = [
    m.example
    for m in MEMBERS.values()
    if (f := objective(m.example)).distribution_needs == f.needs and not REFERENCE_SIGNALS & f.kinds
]
"""Objectives that need no more than the logits."""


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Blocks of 5 rows, which do not divide the tests' rows."""
    monkeypatch.setattr(torch_rows, "_CPU_BYTES", 4 * 37 * 5)


def batch(dtype=torch.float64, shape=(3, 8), v=37, masked=5, scale=3.0, seed=0):
    torch.manual_seed(seed)
    logits = (scale * torch.randn(*shape, v, dtype=torch.float64)).to(dtype).requires_grad_()
    labels = torch.randint(0, v, shape)
    labels.view(-1)[torch.randperm(labels.numel())[:masked]] = -100
    return logits, labels


def by_hand(f, logits, labels, count=None):
    """float64 autograd through full logits, of aligned labels."""
    counted = labels != -100
    logp, _, _ = statistics_of_logits(logits[counted].double(), labels[counted], entropy=False)
    return f.value(logp).sum() / (count or max(int(counted.sum()), 1))


@pytest.mark.parametrize("text", FROM_LOGITS)
def test_equal_to_the_fused_head(text):
    """Whose weight is the identity; the gradient of the logits is that of the hidden states."""
    logits, labels = batch()
    upstream = torch.tensor(-2.5, dtype=torch.float64)
    actual = probtune.loss(logits, labels, text, shift=False)
    identity = torch.eye(37, dtype=torch.float64)
    expected = linear_objective_loss(logits, identity, labels, text, impl="reference")
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        torch.autograd.grad(actual, logits, upstream),
        torch.autograd.grad(expected, logits, upstream),
    )


@pytest.mark.parametrize("f", helpers.OBJECTIVES, ids=str)
def test_equal_to_autograd_in_float64(f):
    logits, labels = batch(masked=0)
    actual = probtune.loss(logits, labels, f)
    expected = by_hand(f, logits[:, :-1], labels[:, 1:])
    torch.testing.assert_close(actual, expected)
    (gradient,) = torch.autograd.grad(actual, logits)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits)[0])
    assert not gradient[:, -1].any()  # the last position predicts nothing


def test_nll_is_cross_entropy():
    logits, labels = batch(torch.float32)
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(probtune.loss(logits, labels, "nll"), expected)


@pytest.mark.parametrize("text", ["nll", "p", "power(0.5)", "entropy_bonus(0.1, p())"])
def test_gradcheck(text):
    logits, labels = batch(shape=(2, 4), v=7, masked=2)
    assert torch.autograd.gradcheck(lambda z: probtune.loss(z, labels, text), (logits,))


@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 1, 3)])
def test_any_leading_shape(shape):
    logits, labels = batch(shape=shape, masked=1)
    actual = probtune.loss(logits, labels, p(), shift=False)
    flat = logits.detach().flatten(0, -2).requires_grad_()
    expected = probtune.loss(flat, labels.flatten(), p(), shift=False)
    assert actual == expected
    of_flat = torch.autograd.grad(expected, flat)[0]
    assert torch.autograd.grad(actual, logits)[0].flatten(0, -2).equal(of_flat)


def test_shift_is_slicing_without_a_copy_of_the_logits():
    logits, labels = batch(torch.bfloat16, shape=(8, 16))
    actual = probtune.loss(logits, labels, power(0.5))
    with Recorder() as recorder:
        sliced = probtune.loss(logits[:, :-1], labels[:, 1:], power(0.5), shift=False)
    assert actual == sliced
    torch.testing.assert_close(
        torch.autograd.grad(actual, logits), torch.autograd.grad(sliced, logits), rtol=0, atol=0
    )
    # One block in float32 and one copy of its rows; besides only the gradient is as large as them.
    assert max(recorder.float32) <= 2 * 5 * 37
    assert recorder.largest == logits[:, :-1].numel()


def test_ignored_tokens_and_the_denominator():
    logits, labels = batch(torch.float32)
    whole = probtune.loss(logits, labels, p())
    count = int((labels[:, 1:] != -100).sum())
    parts = [
        probtune.loss(z, y, "p()", num_items_in_batch=count)
        for z, y in zip(logits, labels, strict=True)
    ]
    torch.testing.assert_close(sum(parts), whole)
    tensor = torch.tensor(count)
    assert probtune.loss(logits, labels, p(), num_items_in_batch=tensor) == whole
    other = torch.where(labels == -100, 0, labels + 1)
    padded = torch.nn.functional.pad(logits, (1, 0), value=float("-inf"))
    torch.testing.assert_close(probtune.loss(padded, other, p(), ignore_index=0), whole)


@pytest.mark.parametrize("count", [None, torch.tensor(0), 3])
def test_nothing_supervised_is_zero_and_connected(count):
    logits, labels = batch()
    actual = probtune.loss(logits, labels.fill_(-100), power(0.5), num_items_in_batch=count)
    assert actual == 0.0
    (gradient,) = torch.autograd.grad(actual, logits)
    assert gradient.shape == logits.shape and not gradient.any()


def test_garbage_in_ignored_rows_does_not_leak():
    logits, labels = batch(masked=0)
    labels[1] = -100
    expected = probtune.loss(logits, labels, p())
    with torch.no_grad():
        logits[1] = torch.nan
    actual = probtune.loss(logits, labels, p())
    assert actual == expected
    assert not torch.autograd.grad(actual, logits)[0][1].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    "text", ["nll", "p", "power(0.5)", "power(10)", "log1m", "above(0.2, nll)"]
)
def test_logits_of_80_both_ways(text, dtype):
    """1 - p of 4e-35 and p of 1e-35, where autograd through log_softmax in float32 gives 0 or NaN;
    bfloat16 logits are exact, and only their gradients are rounded."""
    f = objective(text)
    logits = torch.tensor([[80.0, 0.0, 1.0], [-80.0, 0.0, 1.0]], dtype=dtype, requires_grad=True)
    labels = torch.tensor([0, 0])
    actual = probtune.loss(logits, labels, f, shift=False)
    exact = logits.detach().double()
    expected = by_hand(f, exact, labels)
    torch.testing.assert_close(actual.double(), expected)
    (gradient,) = torch.autograd.grad(actual, logits)
    logp, _, _ = statistics_of_logits(exact, labels, entropy=False)
    size = f.logit_gradient(logp) / 2
    others = exact[:, 1:].softmax(1)
    truth = torch.cat([-size.unsqueeze(1), size.unsqueeze(1) * others], 1)
    rtol = 2**-7 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(gradient.double(), truth, rtol=rtol, atol=1e-37)
    assert gradient.isfinite().all()


def test_near_one_every_digit_is_kept():
    """log_softmax in float32 has lost all of 1 - p = 1e-9."""
    logits = torch.tensor([[20.7232658, 0.0]], requires_grad=True)
    labels = torch.tensor([0])
    exact = torch.sigmoid(-logits.detach().double()[0, 0])
    actual = probtune.loss(logits, labels, p(), shift=False)
    torch.testing.assert_close(actual.double(), exact, rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(actual, logits)
    torch.testing.assert_close(-gradient[0, 0].double(), exact, rtol=1e-6, atol=0)
    assert torch.log_softmax(logits, 1)[0, 0] == 0  # the plain way cannot see it


def test_bfloat16_logits_under_autocast():
    logits, labels = batch(torch.bfloat16)
    expected = by_hand(power(0.5), logits[:, :-1], labels[:, 1:])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = probtune.loss(logits, labels, power(0.5))
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected, rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(actual, logits)
    assert gradient.dtype == torch.bfloat16
    (truth,) = torch.autograd.grad(expected, logits)
    assert (gradient - truth).double().norm() < 3e-3 * truth.double().norm()


def test_two_losses_with_different_factors():
    """A retained graph and a factor per sequence, as importance weights give it."""
    logits, labels = batch()
    factors = torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64)
    each = torch.stack([probtune.loss(logits[i], labels[i], p()) for i in range(3)])
    expected = torch.stack([by_hand(p(), logits[i, :-1], labels[i, 1:]) for i in range(3)])
    for retain in (True, False):
        torch.testing.assert_close(
            torch.autograd.grad((each * factors).sum(), logits, retain_graph=retain),
            torch.autograd.grad((expected * factors).sum(), logits, retain_graph=retain),
        )


@pytest.mark.parametrize(
    "change, said",
    [
        (dict(labels=torch.zeros(2, 4).long()), r"leading shape of the logits, \(2, 3\)"),
        (dict(labels=torch.zeros(2, 3)), "labels must be int64 or int32"),
        (dict(labels=torch.full((2, 3), 5)), "label 5 in row 0 is outside the vocabulary of 5"),
        (dict(logits=torch.zeros(5)), r"logits must be \(..., T, V\)"),
        (dict(logits=torch.zeros(2, 3, 5).long()), "of a floating dtype"),
        (dict(num_items_in_batch=0), "num_items_in_batch must be positive"),
        (dict(objective="nil"), "did you mean 'nll'"),
        (dict(objective="weighted(p(), 'q')"), "which is not known here"),
        (dict(objective="kl_anchor(0.1, p())"), "which is not known here"),
        (dict(objective="anneal(nll(), p())"), "changes over training"),
    ],
)
def test_wrong_input_is_named(change, said):
    good = dict(logits=torch.zeros(2, 3, 5), labels=torch.zeros(2, 3).long(), objective=p())
    with pytest.raises(ValueError, match=said):
        probtune.loss(**{**good, **change})


def test_the_operator_equals_the_function_and_passes_the_checks_of_torch():
    logits, labels = batch(torch.float32)
    count, flat = torch.tensor(7.0), labels.flatten()
    expected = probtune.loss(logits, labels, p(), shift=False, num_items_in_batch=count)
    actual, _ = torch.ops.probtune.loss(logits, flat, count, "p()", True)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    upstream = torch.tensor(-1.5)
    torch.testing.assert_close(
        torch.autograd.grad(actual, logits, upstream),
        torch.autograd.grad(expected, logits, upstream),
    )
    torch.library.opcheck(
        torch.ops.probtune.loss.default,
        (logits, flat, count, "p()", True),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
@pytest.mark.parametrize(
    "f", ["nll", power(0.5), objective("entropy_bonus(0.1, above(0.05, p()))")]
)
def test_compiled_in_one_graph(f):
    logits, labels = batch(torch.float32)

    def step(z, y):
        return 2.0 * probtune.loss(3.0 * z, y, f)

    expected = step(logits, labels)
    compiled = torch.compile(step, fullgraph=True)
    actual = compiled(logits, labels)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        torch.autograd.grad(actual, logits), torch.autograd.grad(expected, logits)
    )
    labels[0] = -100  # other rows, the same graph
    torch.testing.assert_close(compiled(logits, labels), step(logits, labels))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
def test_a_batch_of_sequences_is_compiled_in_one_graph():
    """The fused head on (B, T, D), with the shift."""
    torch.manual_seed(0)
    hidden = torch.randn(2, 5, 7, requires_grad=True)
    weight = torch.randn(37, 7, requires_grad=True)
    labels = torch.randint(0, 37, (2, 5))

    def step(hidden, weight, labels):
        return linear_objective_loss(hidden, weight, labels, "power(0.5)", shift=True)

    actual = torch.compile(step, fullgraph=True)(hidden, weight, labels)
    expected = step(hidden, weight, labels)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        torch.autograd.grad(actual, (hidden, weight)),
        torch.autograd.grad(expected, (hidden, weight)),
    )


# --- transformers.Trainer ------------------------------------------------------------------------


def parameters_after_a_step(folder, rows, batch_size, **changes):
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    model = helpers.word_causal_model()
    arguments = TrainingArguments(
        str(folder), per_device_train_batch_size=batch_size, max_steps=1, learning_rate=0.5,
        gradient_accumulation_steps=len(rows) // batch_size, optim="sgd", max_grad_norm=1e9,
        lr_scheduler_type="constant", use_cpu=True, report_to="none", save_strategy="no",
        disable_tqdm=True, **changes,
    )  # fmt: skip
    tokenizer = helpers.word_tokenizer()
    trainer = Trainer(
        model, arguments, train_dataset=rows, processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        compute_loss_func=probtune.compute_loss_func("power(0.5)"),
    )  # fmt: skip
    trainer.train()
    return {name: x.detach().clone() for name, x in model.named_parameters()}


def test_a_step_of_the_trainer_does_not_depend_on_how_it_is_split(tmp_path):
    """8 x 1 = 1 x 8 = the fused head on all rows by hand, with a row without a supervised token."""
    rows = helpers.encoded_rows(8, masked=(2,))
    model = helpers.word_causal_model()
    length = max(len(row["labels"]) for row in rows)
    ids, labels = torch.zeros(2, 8, length, dtype=torch.int64)
    labels.fill_(-100)
    for i, row in enumerate(rows):
        ids[i, : len(row["labels"])] = torch.tensor(row["input_ids"])
        labels[i, : len(row["labels"])] = torch.tensor(row["labels"])
    hidden = model.model(ids).last_hidden_state
    linear_objective_loss(hidden, model.lm_head.weight, labels, power(0.5), shift=True).backward()
    expected = {n: x.detach() - 0.5 * x.grad for n, x in model.named_parameters()}
    for batch_size in (1, 8):
        actual = parameters_after_a_step(tmp_path, rows, batch_size)
        torch.testing.assert_close(actual, expected)


def test_rows_that_are_split_over_ranks_are_refused(monkeypatch):
    """As an accelerator under context parallelism tells every one of them."""
    from accelerate import ParallelismConfig
    from accelerate.state import AcceleratorState

    function = probtune.compute_loss_func("p")
    batch = {"logits": torch.zeros(1, 2, 3)}, torch.zeros(1, 2).long()
    shared = AcceleratorState._shared_state
    monkeypatch.setitem(shared, "parallelism_config", ParallelismConfig(dp_shard_size=2))
    assert function(*batch) == pytest.approx(2 / 3)
    monkeypatch.setitem(shared, "parallelism_config", ParallelismConfig(cp_size=2))
    with pytest.raises(UsageError, match="before their labels are shifted"):
        function(*batch)


def test_what_the_trainer_cannot_give_is_refused_at_once():
    for text in ("weighted(p(), 'q')", "rho1(0.6, nll())", "kl_anchor(0.1, p())"):
        with pytest.raises(ObjectiveError, match="ProbTuneTrainer"):
            probtune.compute_loss_func(text)
    with pytest.raises(ObjectiveError, match="changes over training"):
        probtune.compute_loss_func("anneal(nll(), p())")
    function = probtune.compute_loss_func(nll())
    with pytest.raises(ValueError, match="no logits"):
        function({"logits": None}, torch.zeros(1, 2).long())
    with pytest.raises(ValueError, match="no labels"):
        function({"logits": torch.zeros(1, 2, 3)}, None)
