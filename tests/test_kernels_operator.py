"""The head as one operator of a graph."""

import pytest
import torch
from test_kernels import HEADS, gradients, inputs, split
from torch._subclasses.fake_tensor import FakeTensorMode

from probtune.kernels import Head, linear_objective, linear_objective_loss
from probtune.kernels.operator import in_graph
from probtune.objectives import objective, p, power


def call(hidden, weight, labels, f, *, signals=None, **options):
    return in_graph(Head(hidden, weight, **options), labels, f, None, signals or {}, None, True)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    "text, two_pass",
    [
        ("nll", False),
        ("above(0.2, p())", True),
        ("entropy_bonus(0.2, p())", False),
        ("entropy_bonus(0.2, p())", True),
        ("gem(0.5)", False),
        ("weighted(p(), 'q')", False),
    ],
)
def test_operator_equals_the_function(text, two_pass, head):
    with_bias, options = split(head)
    hidden, weight, labels, bias = inputs(masked=[0, 5, 22], bias=with_bias)
    signals = {"column:q": torch.linspace(0, 1, 23)} if "weighted" in text else None
    expected = linear_objective(
        hidden, weight, labels, objective(text), bias=bias, signals=signals, **options
    )
    options |= dict(bias=bias, signals=signals, two_pass=two_pass)
    actual = call(hidden, weight, labels, objective(text), **options)
    flat = (expected.loss, expected.skipped, *expected.statistics, *expected[2:5])
    torch.testing.assert_close(actual, flat)
    assert not any(x.requires_grad for x in actual[1:])
    torch.testing.assert_close(
        gradients(actual[0], -1.5, hidden, weight, bias),
        gradients(expected.loss, -1.5, hidden, weight, bias),
    )


def test_operator_passes_the_checks_of_torch():
    """Schema, fake tensors, autograd registration."""
    hidden, weight, labels, bias = inputs(torch.float32, masked=[3], bias=True)
    low = torch.randn(23, 2, requires_grad=True)
    up = torch.randn(37, 2, requires_grad=True)
    arguments = (
        hidden, weight, bias, low, up, labels, torch.tensor(22.0), "power(0.5)", "", [], [],
        None, 1.0, 4.0, 1.3, 0.1, 0.0, False, "auto", True, [True] * 5,
    )  # fmt: skip
    torch.library.opcheck(
        torch.ops.probtune.linear_objective.default,
        arguments,
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )


def test_shapes_are_known_without_values():
    with FakeTensorMode():
        hidden = torch.empty(23, 7, dtype=torch.bfloat16, requires_grad=True)
        weight = torch.empty(37, 7, dtype=torch.bfloat16, requires_grad=True)
        result = call(hidden, weight, torch.empty(23, dtype=torch.int64), p())
        assert result[0].shape == () and result[0].dtype == torch.float32
        assert [x.shape for x in result[2:]] == [(23,)] * 6
        of_hidden, of_weight = torch.autograd.grad(result[0], (hidden, weight))
        assert (of_hidden.shape, of_weight.dtype) == ((23, 7), torch.bfloat16)


def test_operator_has_no_second_derivatives_and_takes_tensors_only():
    hidden, weight, labels, _ = inputs()
    loss = call(hidden, weight, labels, p())[0]
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(loss, hidden, create_graph=True)
    with pytest.raises(ValueError, match="signals are tensors, and 'step' is a str"):
        call(hidden, weight, labels, p(), signals={"step": "x"})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
@pytest.mark.parametrize("softcap", [None, 4.0])
def test_compiled_in_one_graph(softcap):
    """A peer's softcap did not compile (Liger issue 1362)."""
    f = power(0.5)

    def step(hidden, weight, labels):
        loss = linear_objective_loss(2.0 * hidden, weight, labels, f, softcap=softcap)
        return loss * 3.0

    hidden, weight, labels, _ = inputs(torch.float32, masked=[0, 22])
    expected = step(hidden, weight, labels)
    compiled = torch.compile(step, fullgraph=True)
    actual = compiled(hidden, weight, labels)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        torch.autograd.grad(actual, (hidden, weight)),
        torch.autograd.grad(expected, (hidden, weight)),
    )
    labels = labels.clone()
    labels[:9] = -100  # other rows, the same graph
    torch.testing.assert_close(compiled(hidden, weight, labels), step(hidden, weight, labels))
