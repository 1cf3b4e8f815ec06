"""Gradients in a second pass, a slice of the vocabulary at a time."""

import pytest
import torch
from test_kernels import HEADS, MASKS, Recorder, gradients, inputs, split

from probtune.kernels import (
    linear_objective,
    linear_objective_loss,
    linear_target_logprobs,
    matmuls,
    slices,
    torch_rows,
)
from probtune.objectives import above, nll, objective, p, power

TEXTS = ["nll", "power(10)", "above(0.2, nll)", "deft()", "entropy_bonus(0.2, brier())"]


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Slices of 8 tokens, which do not divide 37, and blocks of 5 rows for the statistics."""
    monkeypatch.setattr(torch_rows, "_CPU_BYTES", 4 * 37 * 5)
    monkeypatch.setattr(slices, "_CPU_BYTES", 4 * 37 * 5)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("head", HEADS)
def test_two_passes_equal_the_reference(text, head):
    with_bias, options = split(head)
    hidden, weight, labels, bias = inputs(masked=MASKS["scattered"], bias=with_bias)
    options |= dict(bias=bias, z_loss=0.03, num_items_in_batch=5.0)
    results = []
    for more in (dict(impl="reference"), dict(two_pass=True)):
        result = linear_objective(hidden, weight, labels, objective(text), **options, **more)
        results.append((result, gradients(result.loss, -2.5, hidden, weight, bias)))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("masked", MASKS.values(), ids=MASKS)
def test_any_rows_ignored(masked):
    hidden, weight, labels, _ = inputs(masked=masked)
    results = []
    for two_pass in (False, True):
        loss = linear_objective_loss(hidden, weight, labels, p(), two_pass=two_pass)
        results.append((loss, gradients(loss, 1.0, hidden, weight)))
    torch.testing.assert_close(*results)


def test_adapter_buffer_and_frozen_inputs():
    hidden, weight, labels, bias = inputs(torch.float32, masked=[3], bias=True)
    torch.manual_seed(1)
    low, up = torch.randn(23, 2, requires_grad=True), torch.randn(37, 2, requires_grad=True)
    results = []
    for two_pass in (False, True):
        buffer = torch.ones_like(weight)
        loss = linear_objective_loss(
            hidden, weight, labels, above(0.1, p()), bias=bias, adapter=(low, up),
            weight_grad=buffer, two_pass=two_pass,
        )  # fmt: skip
        results.append((*torch.autograd.grad(loss, (hidden, bias, low, up)), buffer))
    torch.testing.assert_close(*results)
    frozen = weight.detach()
    for leaves in ((hidden, frozen), (hidden.detach(), weight)):
        results = []
        for two_pass in (False, True):
            loss = linear_objective_loss(*leaves, labels, nll(), two_pass=two_pass)
            leaves_used = [x for x in leaves if x.requires_grad]
            results.append(torch.autograd.grad(loss, leaves_used))
        torch.testing.assert_close(*results)


def test_costs_two_matmuls_more_and_holds_a_slice(monkeypatch):
    """2 N + 6 K, and of half-precision weights no float32 copy."""
    monkeypatch.setattr(slices, "_CPU_BYTES", 4 * 200 * 16)
    hidden, weight, labels, _ = inputs(torch.float16, n=60, d=30, v=500, scale=0.3)
    with torch.no_grad():
        probs = linear_target_logprobs(hidden, weight, labels).exp()
    cut = above(float(probs.median()), nll())
    units = 60 * 30 * 500
    for two_pass, expected in ((False, 2 + 4 * 0.5), (True, 2 + 6 * 0.5)):
        with Recorder() as recorder:
            linear_objective_loss(hidden, weight, labels, cut, two_pass=two_pass)
        assert 2 * sum(recorder.matmul_rows) / units == pytest.approx(expected, rel=0.05)


def test_weight_gradient_is_written_once(monkeypatch):
    """In one pass a sum over blocks is float32, and cast at the end."""
    monkeypatch.setattr(matmuls, "_SLICE", 16)
    hidden, weight, labels, _ = inputs(torch.bfloat16, n=60, d=30, v=50, scale=0.3)
    for two_pass in (False, True):
        with Recorder() as recorder:
            linear_objective_loss(hidden, weight, labels, power(0.5), two_pass=two_pass)
        assert (weight.numel() in recorder.float32) != two_pass


def test_what_needs_the_whole_distribution_is_refused():
    hidden, weight, labels, _ = inputs()
    with pytest.raises(ValueError, match="needs the whole distribution at once"):
        linear_objective_loss(hidden, weight, labels, objective("gem(0.5)"), two_pass=True)


@pytest.mark.parametrize("name", ["two_pass", "weight_grad", "row_eps"])
def test_the_reference_takes_no_option_that_it_would_ignore(name):
    hidden, weight, labels, _ = inputs()
    option = {"two_pass": True, "weight_grad": torch.zeros_like(weight), "row_eps": 0.1}[name]
    with pytest.raises(ValueError, match=f"impl='reference' .* takes no {name}="):
        linear_objective(hidden, weight, labels, nll(), impl="reference", **{name: option})


def test_no_supervised_row_leaves_the_buffer_alone():
    hidden, weight, labels, _ = inputs(masked=range(23))
    buffer = torch.full_like(weight, 0.5)
    loss = linear_objective_loss(hidden, weight, labels, nll(), two_pass=True, weight_grad=buffer)
    loss.backward()
    assert loss == 0 and (buffer == 0.5).all() and not hidden.grad.any()
