"""Options of the head besides hidden states, weight and labels; and errors that peers had."""

import math
from dataclasses import fields

import pytest
import torch
from test_kernels import HEADS, Recorder, gradients, inputs, split

from probtune.kernels import (
    Head,
    head_objective,
    linear_objective,
    linear_objective_loss,
    linear_target_logprobs,
    linear_target_statistics,
    slices,
    torch_rows,
)
from probtune.kernels.distribution import statistic
from probtune.kernels.head import HeadOptions
from probtune.objectives import above, nll, objective, p, power


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Blocks of 5 rows, which do not divide the 23 rows of the tests, and slices of 8 tokens."""
    monkeypatch.setattr(torch_rows, "_CPU_BYTES", 4 * 37 * 5)
    monkeypatch.setattr(slices, "_CPU_BYTES", 4 * 37 * 5)


# --- z-loss, adapter, buffer, temperature --------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_z_loss_equals_the_reference(head):
    with_bias, options = split(head)
    hidden, weight, labels, bias = inputs(masked=[0, 4, 22], bias=with_bias)
    options |= dict(bias=bias, z_loss=0.07, num_items_in_batch=9.0)
    results = []
    for impl in ("reference", "chunked"):
        loss = linear_objective_loss(hidden, weight, labels, above(0.2, p()), impl=impl, **options)
        results.append((loss, *gradients(loss, 1.5, hidden, weight, bias)))
    torch.testing.assert_close(results[1], results[0])
    logits = linear_objective(hidden, weight, labels, p(), impl="reference", **options)
    without = linear_objective(hidden, weight, labels, p(), **(options | {"z_loss": 0.0}))
    assert logits.loss > without.loss


def test_z_loss_is_the_squared_log_sum_exp():
    hidden, weight, labels, _ = inputs()
    plain = linear_objective_loss(hidden, weight, labels, p())
    loss = linear_objective_loss(hidden, weight, labels, p(), z_loss=0.3)
    expected = 0.3 * (hidden @ weight.T).logsumexp(1).square().mean()
    torch.testing.assert_close(loss - plain, expected)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("impl", ["reference", "chunked"])
def test_adapter_equals_the_merged_weight(head, impl):
    """LoRA on the head: X W' + (s X A') B' is X (W + s B A)'."""
    with_bias, options = split(head)
    hidden, weight, labels, bias = inputs(masked=[3, 9], bias=with_bias)
    torch.manual_seed(3)
    down = torch.randn(2, 7, dtype=torch.float64, requires_grad=True)
    up = torch.randn(37, 2, dtype=torch.float64, requires_grad=True)
    leaves = [x for x in (hidden, weight, bias, down, up) if x is not None]
    options["bias"] = bias
    merged = linear_objective_loss(hidden, weight + 0.5 * up @ down, labels, power(0.5), **options)
    adapter = (0.5 * hidden @ down.T, up)
    loss = linear_objective_loss(
        hidden, weight, labels, power(0.5), adapter=adapter, impl=impl, **options
    )
    torch.testing.assert_close(loss, merged)
    expected = torch.autograd.grad(merged, leaves)
    torch.testing.assert_close(torch.autograd.grad(loss, leaves), expected)
    upstream = torch.randn(23, dtype=torch.float64)
    adapter = (0.5 * hidden @ down.T, up)
    loss = linear_target_logprobs(hidden, weight, labels, adapter=adapter, impl=impl, **options)
    merged = linear_target_logprobs(hidden, weight + 0.5 * up @ down, labels, **options)
    torch.testing.assert_close(
        gradients(loss, upstream, *leaves), gradients(merged, upstream, *leaves)
    )


def test_weight_gradient_into_a_buffer():
    """Two micro-batches add to it; autograd gives the weight none, and no factor is accepted."""
    hidden, weight, labels, _ = inputs(torch.float32, masked=[1])
    expected = torch.autograd.grad(linear_objective_loss(hidden, weight, labels, p()), weight)[0]
    buffer = torch.full_like(weight, 0.25)
    for _ in range(2):
        loss = linear_objective_loss(hidden, weight, labels, p(), weight_grad=buffer)
        loss.backward()
    assert weight.grad is None and hidden.grad is not None
    torch.testing.assert_close(buffer, 0.25 + 2 * expected)
    loss = linear_objective_loss(hidden, weight, labels, p(), weight_grad=buffer)
    with pytest.raises(RuntimeError, match="put every factor into num_items_in_batch="):
        (2 * loss).backward()
    untouched = torch.zeros_like(weight)
    linear_objective_loss(
        hidden, weight, torch.full_like(labels, -100), p(), weight_grad=untouched
    ).backward()
    assert not untouched.any()
    with pytest.raises(ValueError, match="weight_grad must be \\(37, 7\\) in torch.float32"):
        linear_objective_loss(hidden, weight, labels, p(), weight_grad=buffer.double())


def test_temperature_is_a_scale():
    hidden, weight, labels, _ = inputs()
    logprobs = linear_target_logprobs(hidden, weight, labels, logit_scale=1 / 0.7)
    expected = linear_target_logprobs(hidden / 0.7, weight, labels)
    torch.testing.assert_close(logprobs, expected)


@pytest.mark.parametrize("impl", ["reference", "chunked"])
@pytest.mark.parametrize("name", ["entropy"])
def test_entropy_has_a_gradient_without_logp(name, impl):
    hidden, weight, labels, _ = inputs(masked=[2])
    statistics = linear_target_statistics(hidden, weight, labels, impl=impl).entropy
    log_probs = (hidden @ weight.T).log_softmax(1)
    expected = statistic(name, log_probs, labels, None) * (labels != -100)
    torch.testing.assert_close(statistics, expected)
    upstream = torch.randn(23, dtype=torch.float64)
    torch.testing.assert_close(
        gradients(statistics, upstream, hidden, weight),
        gradients(expected, upstream, hidden, weight),
    )


# --- leading shapes, shift, the head as a value --------------------------------------------------


def sequences(shape=(3, 5), masked=(1, 7)):
    """(hidden (B, T, D), weight, labels, bias), and the same flat."""
    n = math.prod(shape)
    hidden, weight, labels, bias = inputs(masked=masked, n=n, bias=True)
    return (hidden.view(*shape, -1), weight, labels.view(shape), bias), (hidden, weight, labels)


@pytest.mark.parametrize("shape", [(15,), (3, 5), (1, 3, 5)])
@pytest.mark.parametrize("text", ["power(0.5)", "weighted(p(), 'q')", "kl_anchor(0.2, p())"])
def test_any_leading_shape_is_the_flat_one(shape, text):
    (hidden, weight, labels, bias), flat = sequences(shape)
    low, up = torch.randn(15, 2).double(), torch.randn(37, 2).double()
    signals = {"column:q": torch.linspace(0, 1, 15)}
    other = torch.randn(15, 4).double(), torch.randn(37, 4).double()
    expected = linear_objective(
        *flat, objective(text), bias=bias, adapter=(low, up), signals=signals,
        reference=Head(*other),
    )  # fmt: skip
    result = linear_objective(
        hidden, weight, labels, text, bias=bias, adapter=(low.view(*shape, 2), up),
        signals={"column:q": signals["column:q"].view(shape)},
        reference=Head(other[0].view(*shape, 4), other[1]),
    )  # fmt: skip
    assert result.loss == expected.loss
    for one, all_at_once in zip(result.statistics, expected.statistics, strict=True):
        assert one.equal(all_at_once.view(shape))
    for name in ("value", "weight", "kept"):
        assert getattr(result, name).equal(getattr(expected, name).view(shape))
    leaves = (flat[0], weight, bias)
    torch.testing.assert_close(
        gradients(result.loss, 1.0, *leaves), gradients(expected.loss, 1.0, *leaves), rtol=0, atol=0
    )
    logp = linear_target_logprobs(hidden, weight, labels)
    assert logp.equal(linear_target_logprobs(*flat).view(shape))


def test_shift_is_slicing():
    (hidden, weight, labels, bias), (flat, *_) = sequences((3, 5))
    signals = {"column:q": torch.linspace(0, 1, 15).view(3, 5)}
    f = "weighted(power(0.5), 'q')"
    result = linear_objective(hidden, weight, labels, f, bias=bias, signals=signals, shift=True)
    expected = linear_objective(
        hidden[:, :-1], weight, labels[:, 1:], f, bias=bias,
        signals={"column:q": signals["column:q"][:, 1:]},
    )  # fmt: skip
    torch.testing.assert_close(result, expected, rtol=0, atol=0)
    assert result.value.shape == (3, 4)
    torch.testing.assert_close(
        gradients(result.loss, 1.0, flat, weight), gradients(expected.loss, 1.0, flat, weight)
    )
    result = linear_target_statistics(hidden, weight, labels, shift=True)
    expected = linear_target_statistics(hidden[:, :-1], weight, labels[:, 1:])
    torch.testing.assert_close(result, expected, rtol=0, atol=0)
    one = linear_target_logprobs(hidden[0], weight, labels[0], shift=True)  # a sequence alone
    torch.testing.assert_close(one, expected.logp[0])


def test_a_head_is_the_functions_arguments():
    hidden, weight, labels, bias = inputs(masked=[3], bias=True)
    head = Head(hidden, weight, bias, softcap=4.0, logit_scale=1.3, z_loss=0.1)
    assert set(HeadOptions.__annotations__) == {f.name for f in fields(Head)} - {"hidden", "weight"}
    result = head_objective(head, labels, "p", num_items_in_batch=7)
    expected = linear_objective(
        hidden, weight, labels, p(), bias=bias, softcap=4.0, logit_scale=1.3, z_loss=0.1,
        num_items_in_batch=7,
    )  # fmt: skip
    torch.testing.assert_close(result, expected, rtol=0, atol=0)


def test_statistics_refuse_options_of_the_loss():
    hidden, weight, labels, _ = inputs()
    for name, value in (("z_loss", 0.1), ("two_pass", True), ("row_eps", 0.1)):
        with pytest.raises(ValueError, match=f"take no {name}=, an option of the loss"):
            linear_target_logprobs(hidden, weight, labels, **{name: value})


def test_a_step_without_tokens_divides_by_nothing():
    """The trainer's count of the step is 0 on every rank."""
    hidden, weight, labels, _ = inputs(masked=range(23))
    loss = linear_objective_loss(hidden, weight, labels, p(), num_items_in_batch=torch.tensor(0))
    assert loss == 0.0 and not torch.autograd.grad(loss, weight)[0].any()


# --- rows that are left out ----------------------------------------------------------------------


@pytest.mark.parametrize("row_eps", [2**-10, 2**-4, 0.5])
def test_row_eps_leaves_out_little_and_says_how_much(row_eps):
    hidden, weight, labels, _ = inputs(n=200, scale=1.0)
    actual, exact = [], []
    for target, eps in ((actual, row_eps), (exact, 0.0)):
        result = linear_objective(
            hidden, weight, labels, power(10), row_eps=eps, num_items_in_batch=7.0
        )
        target += [result, *gradients(result.loss, 1.0, hidden, weight)]
    torch.testing.assert_close(actual[0].loss, exact[0].loss)
    assert exact[0].skipped == 0
    assert actual[0].skipped > 0
    error = (actual[2] - exact[2]).abs().max()
    assert 0 < error <= actual[0].skipped * hidden.abs().max()
    of_hidden = (actual[1] - exact[1]).abs()
    assert of_hidden.max() <= actual[0].skipped * weight.abs().max()
    # The sum is exact: every row that was left out counts with twice its logit gradient.
    size = power(10).logit_gradient(exact[0].statistics.logp) / 7.0
    left_out = (of_hidden.amax(1) > 0) & (actual[1].abs().amax(1) == 0)
    torch.testing.assert_close(actual[0].skipped, 2 * size[left_out].sum())


def test_row_eps_saves_the_matmuls_and_keeps_rows_with_other_terms():
    hidden, weight, labels, _ = inputs(torch.float32, n=200, scale=1.0)
    rows = []
    for eps in (0.0, 0.1):
        with Recorder() as recorder:
            linear_objective(hidden, weight, labels, power(10), row_eps=eps)
        rows.append(sum(recorder.matmul_rows) / (7 * 37))
    assert 500 < rows[0] <= 600 and rows[1] < 400
    f = objective("entropy_bonus(0.2, power(10))")
    assert linear_objective(hidden, weight, labels, f, row_eps=0.1).skipped == 0
    assert linear_objective(hidden, weight, labels, power(10), row_eps=0.1, z_loss=1.0).skipped == 0
    none = linear_objective(
        hidden, weight, torch.full_like(labels, -100), power(10), row_eps=0.1, two_pass=True
    )
    assert none.loss == 0.0 and none.skipped == 0.0
    with pytest.raises(ValueError, match=r"row_eps must be in \[0, 1\)"):
        linear_objective(hidden, weight, labels, p(), row_eps=1.0)


# --- what it costs -------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen, units", [("nothing", 6), ("hidden", 4), ("weight", 4)])
def test_frozen_inputs_cost_no_matmul(frozen, units):
    """In matmul units of N rows: 2 for the logits, 2 for each gradient that is wanted."""
    hidden, weight, labels, _ = inputs(torch.float32)
    for name, x in (("hidden", hidden), ("weight", weight)):
        x.requires_grad_(name != frozen)
    with Recorder() as recorder:
        linear_objective_loss(hidden, weight, labels, nll()).backward()
    assert 2 * sum(recorder.matmul_rows) == units * 23 * 37 * 7
    with Recorder() as recorder, torch.no_grad():
        linear_objective_loss(hidden, weight, labels, nll())
    assert 2 * sum(recorder.matmul_rows) == 2 * 23 * 37 * 7


# --- what peers got wrong ------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 2, 22, 23])
def test_any_number_of_rows_with_weight(number):
    hidden, weight, labels, _ = inputs()
    with torch.no_grad():
        probs = linear_target_logprobs(hidden, weight, labels).exp().sort(descending=True).values
    cut = above(float(probs[number - 1]) * (1 - 1e-9) if number else 1 - 1e-12, nll())
    results = []
    for impl in ("reference", "chunked"):
        result = linear_objective(hidden, weight, labels, cut, impl=impl)
        assert result.kept.sum() == number
        results.append(gradients(result.loss, 1.0, hidden, weight))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("n, d, v", [(1, 1, 2), (2, 3, 2), (7, 1, 129), (1, 5, 1000), (130, 2, 3)])
def test_sizes_that_divide_nothing(n, d, v):
    hidden, weight, labels, _ = inputs(n=n, d=d, v=v)
    results = []
    for impl in ("reference", "chunked"):
        loss = linear_objective_loss(hidden, weight, labels, p(), impl=impl)
        results.append((loss, *gradients(loss, 1.0, hidden, weight)))
    torch.testing.assert_close(*results)


def test_a_vocabulary_of_one_is_certain():
    hidden, weight, labels, _ = inputs(v=1)
    for f in (nll(), p()):
        loss = linear_objective_loss(hidden, weight, labels, f)
        for gradient in gradients(loss, 1.0, hidden, weight):
            assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_bits_every_time(dtype):
    hidden, weight, labels, _ = inputs(dtype, n=100, masked=[1])
    result = []
    for _ in range(2):
        loss = linear_objective_loss(hidden, weight, labels, power(0.5))
        result.append((loss, *torch.autograd.grad(loss, (hidden, weight))))
    assert all(a.equal(b) for a, b in zip(*result, strict=True))


def test_second_derivatives_and_a_second_backward_are_refused_in_words():
    hidden, weight, labels, _ = inputs()
    loss = linear_objective_loss(hidden, weight, labels, p())
    logp = linear_target_logprobs(hidden, weight, labels).sum()
    for output in (loss, logp):
        with pytest.raises(RuntimeError, match="no second derivatives: take the gradient without"):
            torch.autograd.grad(output, hidden, create_graph=True)
        output.backward()
        with pytest.raises(RuntimeError, match="second time"):
            output.backward()


def test_tied_embeddings_get_both_gradients():
    """The same tensor as embedding and head, as in small models."""
    _, weight, labels, _ = inputs()
    tokens = torch.arange(23)
    results = []
    for impl in ("reference", "chunked"):
        loss = linear_objective_loss(weight[tokens], weight, labels, p(), impl=impl)
        results.append(torch.autograd.grad(loss, weight)[0])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_inputs_that_are_not_contiguous(dtype):
    hidden, weight, labels, _ = inputs(dtype)
    loose_hidden = torch.stack([hidden, hidden], 2).detach()[:, :, 0].requires_grad_()
    loose_weight = weight.detach().t().contiguous().t().requires_grad_()
    expected = linear_objective_loss(hidden, weight, labels, p())
    loss = linear_objective_loss(loose_hidden, loose_weight, labels, p())
    torch.testing.assert_close(
        gradients(loss, 1.0, loose_hidden, loose_weight),
        gradients(expected, 1.0, hidden, weight),
    )
