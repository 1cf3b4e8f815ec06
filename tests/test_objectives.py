import math

import helpers
import mpmath
import pytest
import scipy.integrate
import scipy.stats
import torch

from probtune.errors import ObjectiveError
from probtune.kernels.verification import gradient_error
from probtune.objectives import (
    ALIASES,
    MEMBERS,
    SIGNALS,
    Signals,
    above,
    anneal_shares,
    below,
    dft,
    log1m,
    nll,
    objective,
    objective_list,
    p,
    power,
    signature,
)

ids = dict(argvalues=helpers.OBJECTIVES, ids=str)

# value, weight at arbitrary precision; the thresholds are the plain functions where they keep
EXACT = {
    "nll": (lambda p, a: -mpmath.log(p), lambda p, a: mpmath.mpf(1)),
    "p": (lambda p, a: 1 - p, lambda p, a: p),
    "power": (lambda p, a: (1 - p**a) / a, lambda p, a: p**a),
    "log1m": (lambda p, a: mpmath.log(1 - p), lambda p, a: p / (1 - p)),
    "dft": (lambda p, a: -p * mpmath.log(p), lambda p, a: p),
}


def n(x):
    return x * mpmath.log(x) + (1 - x) * mpmath.log(1 - x)


def logit(x):
    return mpmath.log(x) - mpmath.log(1 - x)


def cayley_power(p):
    return mpmath.mpf("0.25") + mpmath.mpf("0.75") * p / (2 - p)


# the catalogue's formulas as they stand in the papers, f(1) = 0
CATALOGUE = {
    "gce(0.7)": (lambda p: (1 - p**0.7) / 0.7, lambda p: p**0.7),
    "tsallis(0.75)": (lambda p: (1 - p**0.25) / 0.25, lambda p: p**0.25),
    "tvd()": (lambda p: 1 - p, lambda p: p),
    "affine(0.5, 0.25)": (
        lambda p: -0.5 * mpmath.log(p) + 0.25 * (1 - p),
        lambda p: 0.5 + 0.25 * p,
    ),
    "mixce(0.25)": (lambda p: -0.25 * mpmath.log(p) + 0.75 * (1 - p), lambda p: 0.25 + 0.75 * p),
    "poly1(2)": (lambda p: -mpmath.log(p) + 2 * (1 - p), lambda p: 1 + 2 * p),
    "sce(0.5, 0.25)": (lambda p: -0.5 * mpmath.log(p) + (1 - p), lambda p: 0.5 + p),
    "focal(2)": (
        lambda p: -((1 - p) ** 2) * mpmath.log(p),
        lambda p: (1 - p) ** 2 - 2 * p * (1 - p) * mpmath.log(p),
    ),
    "tailr(0.125)": (
        lambda p: -mpmath.log(mpmath.mpf("0.125") + mpmath.mpf("0.875") * p) / mpmath.mpf("0.875"),
        lambda p: p / (mpmath.mpf("0.125") + mpmath.mpf("0.875") * p),
    ),
    "taylor(3)": (
        lambda p: (1 - p) + (1 - p) ** 2 / 2 + (1 - p) ** 3 / 3,
        lambda p: 1 - (1 - p) ** 3,
    ),
    "luffy(0.125)": (
        lambda p: 1 / mpmath.mpf("1.125") - p / (p + mpmath.mpf("0.125")),
        lambda p: mpmath.mpf("0.125") * p / (p + mpmath.mpf("0.125")) ** 2,
    ),
    "chord()": (lambda p: (1 - p) ** 2 / 2, lambda p: p * (1 - p)),
    "infosft(0.9375)": (
        lambda p: (
            logit(mpmath.mpf("0.9375")) * (mpmath.mpf("0.9375") - p)
            - n(mpmath.mpf("0.9375"))
            + n(p)
            if p < mpmath.mpf("0.9375")
            else mpmath.mpf(0)
        ),
        lambda p: (
            p * (logit(mpmath.mpf("0.9375")) - logit(p))
            if p < mpmath.mpf("0.9375")
            else mpmath.mpf(0)
        ),
    ),
    "cayley(0.5)": (
        lambda p: (1 - p ** cayley_power(p)) / cayley_power(p),
        lambda p: p ** cayley_power(p),
    ),
    "gft(0.25)": (
        lambda p: -mpmath.log(p) if p >= 0.25 else -mpmath.log(0.25) + mpmath.mpf("0.25") - p,
        lambda p: mpmath.mpf(1) if p >= 0.25 else p,
    ),
    "talr(0.5, 0.125)": (
        lambda p: -max(p**2, mpmath.mpf("0.125")) * mpmath.log(p),
        lambda p: max(p**2, mpmath.mpf("0.125")),
    ),
    "floor(0.125, p())": (
        lambda p: -max(p, mpmath.mpf("0.125")) * mpmath.log(p),
        lambda p: max(p, mpmath.mpf("0.125")),
    ),
    "cap(0.75, p())": (
        lambda p: -min(p, mpmath.mpf("0.75")) * mpmath.log(p),
        lambda p: min(p, mpmath.mpf("0.75")),
    ),
    "mix(0.25, nll(), p())": (
        lambda p: -0.25 * mpmath.log(p) + 0.75 * (1 - p),
        lambda p: 0.25 + 0.75 * p,
    ),
}


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("text", CATALOGUE)
def test_the_catalogue_is_its_papers_formulas(text, dtype, tolerance):
    f, (value, weight) = objective(text), CATALOGUE[text]
    with mpmath.workdps(60):
        probabilities = [mpmath.mpf(10) ** -k for k in (30, 12, 5, 2)] + [mpmath.mpf(2) / 5]
        probabilities += [1 - mpmath.mpf(10) ** -k for k in (1, 3, 6, 9, 12)]
        logp = torch.tensor([float(mpmath.log(q)) for q in probabilities], dtype=dtype)
        p_exact = [mpmath.exp(mpmath.mpf(float(x))) for x in logp]
        expected = [
            torch.tensor([float(of(q)) for q in p_exact], dtype=torch.float64)
            for of in (value, weight)
        ]
    close = dict(rtol=tolerance, atol=torch.finfo(dtype).tiny)
    if text.startswith("infosft"):  # the integral is a difference of numbers of order 1
        close["atol"] = torch.finfo(dtype).eps * 4
    torch.testing.assert_close(f.value(logp).double(), expected[0], **close)
    close["atol"] = torch.finfo(dtype).tiny
    torch.testing.assert_close(f.token_weight(logp).double(), expected[1], **close)


@pytest.mark.parametrize("f", **ids)
def test_an_objective_is_callable(f):
    logp = torch.tensor([-0.1, -3.0], dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(f(logp), f.value(logp), rtol=0, atol=0)
    (slope,) = torch.autograd.grad(f(logp).sum(), logp)
    torch.testing.assert_close(-slope, f.token_weight(logp.detach()), rtol=0, atol=0)


@pytest.mark.parametrize("text", helpers.EXAMPLES)
def test_values_fall_to_zero_at_p_1_unless_the_member_says_otherwise(text):
    f = objective(text)
    if isinstance(f, log1m):
        return
    assert f.value(torch.zeros((), dtype=torch.float64)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    "one, other",
    [
        ("dft()", "p()"),
        ("power(1)", "p()"),
        ("gce(1)", "p()"),
        ("tailr(1)", "p()"),
        ("taylor(1)", "p()"),
        ("mixce(0)", "p()"),
        ("affine(0, 1)", "p()"),
        ("tvd()", "p()"),
        ("tsallis(0)", "p()"),
        ("tsallis(1)", "nll()"),
        ("tsallis(0.3)", "power(0.7)"),
        ("gce(0.7)", "power(0.7)"),
        ("mixce(1)", "nll()"),
        ("mixce(0.3)", "mix(0.3, nll(), p())"),
        ("poly1(0)", "nll()"),
        ("poly1(1.5)", "affine(1, 1.5)"),
        ("sce(1, 0.5)", "poly1(2)"),
        ("focal(0)", "nll()"),
        ("tailr(0)", "nll()"),
        ("gft(1)", "p()"),
        ("profit(0.2)", "above(0.2, nll())"),
        ("talr(1, 0)", "p()"),
        ("talr(2, 0.1)", "floor(0.1, power(0.5))"),
        ("floor(0, p())", "p()"),
        ("floor(1, p())", "nll()"),
        ("cap(1, p())", "p()"),
        ("cap(1, power(-0.5))", "nll()"),
        ("mix(0, nll(), p())", "p()"),
        ("chord()", "cap(9, chord())"),
    ],
)
def test_identities_of_the_literature(one, other):
    logp = -torch.logspace(-9, 2, 300, dtype=torch.float64)
    weights = [objective(text).token_weight(logp) for text in (one, other)]
    torch.testing.assert_close(*weights, rtol=1e-9, atol=1e-300)


def test_limits_of_the_literature():
    logp = -torch.logspace(-6, 1, 50, dtype=torch.float64)
    close = dict(rtol=2e-3, atol=1e-6)
    one = nll().token_weight(logp)
    torch.testing.assert_close(
        objective("taylor(1000)").token_weight(logp)[:-15], one[:-15], **close
    )
    torch.testing.assert_close(objective("tailr(1e-9)").token_weight(logp), one, **close)
    harmonic = 2 * logp.exp() / (1 + logp.exp())  # the mean of NLL's weight and of p's
    torch.testing.assert_close(objective("tailr(0.5)").token_weight(logp), harmonic)
    half = torch.tensor(0.5, dtype=torch.float64).log()
    assert objective("luffy(0.5)").token_weight(half) == pytest.approx(0.25)  # the peak
    assert objective("chord()").token_weight(half) == pytest.approx(0.25)
    assert objective("infosft(0.5)").token_weight(half) == 0.0


def test_claims_of_leaning_in_the_catalogue():
    assert objective("focal(2)").mass_above(0.5) < nll().mass_above(0.5)
    for text in ("gce(0.7)", "tailr(0.1)", "taylor(3)", "mixce(0.5)", "floor(0.1, p())"):
        share = objective(text).mass_above(0.5)
        assert nll().mass_above(0.5) < share < p().mass_above(0.5), text


def test_a_floor_lifts_what_a_threshold_drops_and_a_cap_does_not():
    low = torch.tensor([0.1], dtype=torch.float64).log()
    gate = above(0.2, nll())
    assert objective("floor(0.1, above(0.2, nll()))").token_weight(low) == pytest.approx(0.1)
    assert objective("floor(0.1, above(0.2, nll()))").keeps(low).all()
    assert not objective("floor(0, above(0.2, nll()))").keeps(low).any()
    assert not objective("cap(0.5, above(0.2, nll()))").keeps(low).any()
    assert objective("mix(0.5, above(0.2, nll()), p())").keeps(low).all()
    assert not objective("mix(1, above(0.2, nll()), p())").keeps(low).any() and not gate.keeps(low)


def test_anneal_moves_from_one_objective_to_the_other():
    f = objective("anneal(nll(), p(), 0.2, 0.6)")
    logp = torch.tensor([0.1, 0.9], dtype=torch.float64).log()
    assert f.at(0.0) == f.at(0.2) == nll() and f.at(0.6) == f.at(1.0) == p()
    torch.testing.assert_close(
        f.at(0.3).value(logp), 0.75 * nll().value(logp) + 0.25 * p().value(logp)
    )
    assert [f.share(t) for t in (0, 0.3, 0.4, 0.9)] == pytest.approx([0, 0.25, 0.5, 1])
    assert objective("anneal(nll, p)").at(0.25).token_weight(logp[0]) == pytest.approx(0.775)
    switch = objective("anneal(nll(), p(), 0.5, 0.5)")
    assert switch.at(0.49) == nll() and switch.at(0.5) == p()
    assert objective("anneal(nll(), p(), 0, 0)").at(0.0) == p()
    assert nll().at(0.3) is not None and nll().at(0.3) == nll() and nll().needs == set()


def test_progress_and_quantiles_are_signals_like_any_other():
    logp = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64).log()
    entropy = torch.tensor([3.0, 1.5, 0.5], dtype=torch.float64)
    f = objective("anneal(top(0.25, nll()), eaft(1, 3), 0, 1)")
    assert f.needs == {"progress", "base_quantile:0.75", "entropy"}
    signals = Signals({"progress": 0.25, "base_quantile:0.75": 0.4, "entropy": entropy})
    at_once = f.bind(signals)
    stepwise = f.fixed(lambda share: 0.4).at(0.25).bind(Signals(entropy=entropy))
    assert at_once.needs == set()
    torch.testing.assert_close(at_once.value(logp), stepwise.value(logp), rtol=0, atol=0)
    by_hand = 0.75 * above(0.4, nll()).token_weight(logp) + 0.25 * entropy / 3
    torch.testing.assert_close(at_once.token_weight(logp), by_hand)
    assert f.at(1.0) == objective("eaft(1, 3)")  # what is over needs nothing any more
    assert f.bind(Signals(special=entropy)) is f  # none of its signals


def test_every_signal_of_a_member_is_a_row_of_the_table():
    for member in MEMBERS.values():
        assert objective(member.example).kinds <= SIGNALS.keys(), member


def test_anneal_inside_other_objectives():
    f = objective("floor(0.1, anneal(nll(), anneal(p(), power(2), 0.5, 1), 0, 0.5))")
    assert f.at(0.0) == objective("floor(0.1, nll())")
    assert f.at(1.0) == objective("floor(0.1, power(2))")
    assert anneal_shares(f, 0.75) == [1.0, 0.5]
    assert objective(repr(f)) == f


def test_signals_are_bound():
    logp = torch.tensor([0.2, 0.2, 0.9], dtype=torch.float64).log()
    entropy = torch.tensor([3.0, 1.5, 0.0], dtype=torch.float64)
    special = torch.tensor([True, False, False])
    f = objective("eaft(1, 3)")
    assert f.needs == {"entropy"} and nll().needs == set()
    bound = f.bind(Signals(entropy=entropy))
    torch.testing.assert_close(bound.token_weight(logp), entropy / 3)
    torch.testing.assert_close(bound.value(logp), -entropy / 3 * logp)
    assert bound.needs == set() and repr(bound) == "eaft(1.0, 3.0)"
    # a target that is exactly as likely as a sample is on average has the power 1
    logp = torch.tensor([-1.5, -1.5, -9.0], dtype=torch.float64)
    bound = objective("idft()").bind(Signals(entropy=entropy))
    torch.testing.assert_close(
        bound.token_weight(logp)[1:], torch.exp(logp[1:] * torch.tensor([1.0, 2.0]).double())
    )
    mixed = objective("nll_on_special(floor(0.1, eaft(1, 3)))")
    assert mixed.needs == {"entropy", "special"}
    half = mixed.bind(Signals(special=special))
    assert half.needs == {"entropy"}
    whole = half.bind(Signals(entropy=entropy))
    assert whole.needs == set()
    torch.testing.assert_close(
        whole.token_weight(logp), torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64)
    )
    both = mixed.bind(Signals(special=special, entropy=entropy))
    torch.testing.assert_close(both.value(logp), whole.value(logp))
    assert both.keeps(logp).all()


def test_deft_lies_between_nll_and_p():
    logp = -torch.logspace(-6, 1, 40, dtype=torch.float64)
    for collision, same in ((torch.ones(40), p()), (torch.full((40,), 1e-12), nll())):
        bound = objective("deft()").bind(Signals(collision=collision.double()))
        torch.testing.assert_close(
            bound.token_weight(logp), same.token_weight(logp), rtol=1e-9, atol=0
        )


def test_signals_that_are_missing_are_named():
    for text, words in (
        ("eaft()", "the entropy of the distribution"),
        ("deft()", "the collision probability"),
        ("floor(0.1, idft())", "the entropy of the distribution"),
        ("nll_on_special(p())", "which tokens are special"),
    ):
        for name in ("value", "token_weight"):
            with pytest.raises(ObjectiveError, match=words):
                getattr(objective(text), name)(torch.tensor([-1.0]))


def test_quantiles_are_fixed_by_the_base_model():
    def quantile(share):  # of a base model whose p are spread evenly from 0 to 0.5
        return share / 2

    assert objective("top(0.2, nll())").fixed(quantile) == above(0.4, nll())
    assert objective("bottom(0.2, p())").fixed(quantile) == below(0.1, p())
    nested = objective("floor(0.1, anneal(nll(), top(0.5, bottom(0.5, p())), 0, 0.5))")
    assert nested.needs == {"progress", "base_quantile:0.5"}
    fixed = nested.fixed(quantile)
    assert repr(fixed) == "floor(0.1, anneal(nll(), above(0.25, below(0.25, p())), 0.0, 0.5))"
    assert fixed.needs == {"progress"} and fixed.fixed(quantile) is fixed
    assert nll().fixed(quantile) == nll() and objective(repr(nested)) == nested


def test_an_open_quantile_names_the_command_that_fixes_it():
    for text in ("top(0.5, nll())", "mix(0.5, p(), bottom(0.1, nll()))"):
        for name in ("value", "token_weight", "keeps"):
            with pytest.raises(ObjectiveError, match="`probtune tune` fixes it"):
                getattr(objective(text), name)(torch.tensor([-1.0]))


def test_a_scheduled_objective_has_no_value_of_its_own():
    f = objective("above(0.2, anneal(nll(), p()))")
    for call in (f.value, f.token_weight, f.logit_gradient, f.keeps):
        with pytest.raises(ObjectiveError, match=r"take \.at\(progress\)"):
            call(torch.tensor([-1.0]))


def test_parameters_have_the_papers_defaults():
    assert objective("focal") == objective("focal(2)") == objective("focal(gamma=2)")
    assert repr(objective("focal()")) == "focal(2.0)" and repr(objective("taylor")) == "taylor(2)"
    assert objective("talr(m=0.1)") == objective("talr(1, 0.1)")
    assert objective("sce") == objective("sce(0.1, 1)")
    assert signature(MEMBERS["focal"]) == "focal(gamma=2.0)"


@pytest.mark.parametrize(
    "text",
    [
        *helpers.EXAMPLES,
        "power(10)",
        "eaft()",
        "eaft(2, 0.5)",
        "idft()",
        "floor(0.1, eaft())",
        "above(0.2, idft())",
        "deft()",
        "cap(0.9, deft())",
        "nll_on_special(p())",
        "nll_on_special(mix(0.5, eaft(), idft(2)))",
    ],
)
def test_gradients_agree_with_float64_autograd(text):
    assert gradient_error(objective(text)) < 1e-6


def test_the_verification_can_fail():
    class wrong(type(p())):
        def _w(self, logp):
            return logp.exp() * 1.001

        def logit_gradient(self, logp):
            return self._w(logp) * -torch.expm1(logp)

    assert gradient_error(wrong()) > 1e-4


@pytest.mark.parametrize("f", **ids)
def test_logit_gradient_identity_by_central_differences(f):
    """df/dz = w(p) (softmax - onehot), with the weight and the threshold held where they are
    detached: the identity everything else stands on."""
    torch.manual_seed(0)
    step = 1e-6
    for _ in range(20):
        z = 3 * torch.randn(7, dtype=torch.float64)
        y = int(torch.randint(7, (1,)))
        logp = z.log_softmax(0)
        p_now = float(logp[y].exp())
        if any(abs(p_now - q) < 1e-4 for q in f.thresholds):
            continue
        detached = any(name in str(f) for name in ("dft", "floor", "cap", "talr", "cayley"))
        expected = f.token_weight(logp[y]) * (logp.exp() - torch.eye(7, dtype=torch.float64)[y])
        gradient = torch.zeros(7, dtype=torch.float64)
        for k in range(7):
            shift = torch.zeros(7, dtype=torch.float64)
            shift[k] = step
            if detached:  # differences of log p, times the weight held at z
                high, low = (-((z + s).log_softmax(0)[y]) for s in (shift, -shift))
                gradient[k] = f.token_weight(logp[y]) * (high - low) / (2 * step)
            else:
                high, low = (f.value((z + s).log_softmax(0)[y]) for s in (shift, -shift))
                gradient[k] = (high - low) / (2 * step)
        scale = float(expected.abs().max())
        torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-6 * scale + 1e-9)


@pytest.mark.parametrize("f", **ids)
def test_weight_is_minus_the_derivative_of_value(f):
    logp = -torch.logspace(-6, 1.7, 200, dtype=torch.float64)
    logp.requires_grad_()
    (slope,) = torch.autograd.grad(f.value(logp).sum(), logp)
    torch.testing.assert_close(-slope, f.token_weight(logp.detach()), rtol=1e-10, atol=0)


@pytest.mark.parametrize("f", **ids)
def test_logit_gradient_is_weight_times_one_minus_p(f):
    logp = -torch.logspace(-12, 1.8, 300, dtype=torch.float64)
    expected = f.token_weight(logp) * -torch.expm1(logp)
    torch.testing.assert_close(f.logit_gradient(logp), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize(
    "f", [nll(), p(), log1m(), dft(), *(power(a) for a in (-0.5, 1e-3, 0.5, 10.0))], ids=str
)
def test_exact_from_1e_30_to_1_minus_1e_12(f, dtype, tolerance):
    with mpmath.workdps(60):
        probabilities = [mpmath.mpf(10) ** -k for k in (30, 12, 5, 2)] + [mpmath.mpf(1) / 2]
        probabilities += [1 - mpmath.mpf(10) ** -k for k in (1, 3, 6, 9, 12)]
        value, weight = EXACT[type(f).__name__]
        alpha = mpmath.mpf(getattr(f, "alpha", 0))
        logp = torch.tensor([float(mpmath.log(q)) for q in probabilities], dtype=dtype)
        # what the rounded input stands for
        p_exact = [mpmath.exp(mpmath.mpf(float(x))) for x in logp]
        expected_value = torch.tensor(
            [float(value(q, alpha)) for q in p_exact], dtype=torch.float64
        )
        expected_weight = torch.tensor(
            [float(weight(q, alpha)) for q in p_exact], dtype=torch.float64
        )
    close = dict(rtol=tolerance, atol=torch.finfo(dtype).tiny)  # p^10 underflows
    torch.testing.assert_close(f.value(logp).double(), expected_value, **close)
    torch.testing.assert_close(f.token_weight(logp).double(), expected_weight, **close)
    logp.requires_grad_()
    (slope,) = torch.autograd.grad(f.value(logp).sum(), logp)
    torch.testing.assert_close(-slope.double(), expected_weight, **close)


@pytest.mark.parametrize("f", **ids)
def test_both_ends_are_finite_or_infinite_but_never_nan(f):
    logp = torch.tensor([0.0, -1e-45, -200.0], requires_grad=True)
    value = f.value(logp)
    assert not value.isnan().any()
    value.sum().backward()
    assert logp.grad is not None and not logp.grad.isnan().any()
    with torch.no_grad():
        assert not f.token_weight(logp).isnan().any()
        assert f.logit_gradient(logp)[0] <= 1.0  # p = 1


def test_second_derivative_and_vmap():
    logp = torch.tensor([-0.3, -2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(power(0.5).value, logp)
    torch.testing.assert_close(
        torch.func.vmap(torch.func.grad(power(0.5).value))(logp.detach()),
        -power(0.5).token_weight(logp.detach()),
    )


@pytest.mark.parametrize("x", ["1e-30", "0.3", "0.999", "0.99999999"])
def test_log1m_with_an_offset_is_the_paper_codes(x):
    offset = mpmath.mpf(1e-3)
    f, exact = log1m(1e-3), mpmath.mpf(x)
    logp = torch.tensor(float(mpmath.log(exact)), dtype=torch.float64)
    exact = mpmath.exp(mpmath.mpf(float(logp)))
    assert float(f.value(logp)) == pytest.approx(float(mpmath.log(1 - exact + offset)), rel=1e-12)
    weight = exact / (1 - exact + offset)
    assert float(f.token_weight(logp)) == pytest.approx(float(weight), rel=1e-12)
    assert float(f.logit_gradient(logp)) == pytest.approx(float(weight * (1 - exact)), rel=1e-7)
    assert str(log1m(0.0)) == "log1m()" and objective(str(f)) == f and log1m() != f
    with pytest.raises(ObjectiveError, match="offset"):
        log1m(-1.0)


def test_log1m_is_held_at_the_smallest_normal_number():
    for dtype in (torch.float32, torch.float64):
        zero = torch.zeros((), dtype=dtype)
        assert log1m().value(zero) == pytest.approx(math.log(torch.finfo(dtype).tiny))
        assert torch.isfinite(log1m().token_weight(zero))
        assert log1m().logit_gradient(zero) == 1.0


def test_closed_forms_with_two_equal_logits():
    half = torch.tensor(0.5, dtype=torch.float64).log()
    assert dft().value(half) == pytest.approx(float(nll().value(half)) / 2)
    assert p().value(half) == pytest.approx(0.5)
    assert power(2).value(half) == pytest.approx(0.375)
    assert log1m().value(half) == pytest.approx(math.log(0.5))


def test_power_has_nll_and_p_as_members():
    logp = -torch.logspace(-9, 1.5, 100, dtype=torch.float64)
    for alpha in (0.0, 1e-30, 1e-13, -1e-13):
        torch.testing.assert_close(power(alpha).value(logp), nll().value(logp), rtol=1e-10, atol=0)
    torch.testing.assert_close(power(1).value(logp), p().value(logp), rtol=0, atol=0)
    torch.testing.assert_close(power(1).token_weight(logp), dft().token_weight(logp))
    small, nearly = power(1e-4).value(logp), nll().value(logp)
    assert (small <= nearly).all()  # convergence from below, first order in alpha
    torch.testing.assert_close(small, nearly * (1 + 1e-4 * logp / 2), rtol=3e-6, atol=0)


def test_thresholds_set_the_weight_and_keep_the_boundary():
    logp = torch.tensor([0.1, 0.2, 0.2000001, 0.9], dtype=torch.float64).log()
    assert above(0.2, nll()).keeps(logp).tolist() == [False, True, True, True]
    assert below(0.2, nll()).keeps(logp).tolist() == [True, True, False, False]
    torch.testing.assert_close(
        above(0.2, nll()).value(logp) + below(0.2, nll()).value(logp),
        nll().value(logp) * torch.tensor([1, 2, 1, 1]),
    )
    assert above(0.0, p()).token_weight(torch.tensor(-1e4)) == 0.0  # p underflows, q = 0 keeps
    assert above(0.0, nll()).keeps(torch.tensor(-math.inf))


def test_half_precision_is_widened():
    logp = torch.tensor([-0.001], dtype=torch.bfloat16)
    assert p().value(logp).dtype == torch.float32
    assert power(0.5).token_weight(logp).dtype == torch.float32


# --- leaning ------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.3, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("tau", [0.2, 0.5, 0.9])
def test_mass_above_equals_the_beta_distribution(alpha, tau):
    """W_f of the power family is p^alpha (1 - p), the density of Beta(alpha + 1, 2) up to scale."""
    expected = scipy.stats.beta.sf(tau, alpha + 1, 2)
    assert power(alpha).mass_above(tau) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("f", [above(0.2, nll()), below(0.9, p()), log1m()], ids=str)
def test_mass_above_equals_adaptive_quadrature(f):
    def density(x):
        return float(f.logit_gradient(torch.tensor(x, dtype=torch.float64).log()))

    points = [*f.thresholds, 0.4]
    upper = scipy.integrate.quad(density, 0.4, 1, points=[q for q in points if q > 0.4] or None)[0]
    whole = scipy.integrate.quad(density, 1e-12, 1, points=points, limit=200)[0]
    assert f.mass_above(0.4) == pytest.approx(upper / whole, abs=1e-5)


def test_claims_of_leaning():
    """Prop. 3.2: concave f peaks above 1/2, convex f below; and what the docstrings say."""
    assert nll().leaning() == "prior-averse"
    assert power(-0.5).leaning() == "prior-averse"
    assert power(10).leaning() == log1m().leaning() == "prior-leaning"
    assert p().leaning() == dft().leaning() == "neutral"
    assert p().leaning(0.3) == "prior-leaning" and p().leaning(0.7) == "prior-averse"
    assert power(-0.5).mass_above(0.5) < nll().mass_above(0.5)
    x = torch.linspace(0.001, 0.999, 999, dtype=torch.float64).log()
    for alpha in (0.0, 0.3, 0.9):
        assert x[power(alpha).logit_gradient(x).argmax()].exp() <= 0.5
    for alpha in (1.1, 2.0, 10.0):
        assert x[power(alpha).logit_gradient(x).argmax()].exp() >= 0.5
        assert x[power(alpha).logit_gradient(x).argmax()].exp() == pytest.approx(
            alpha / (1 + alpha), abs=2e-3
        )


@pytest.mark.parametrize("tau", [0.0, 1.0, -1.0, math.nan])
def test_tau_out_of_range(tau):
    with pytest.raises(ObjectiveError, match="strictly between 0 and 1"):
        nll().leaning(tau)


# --- text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", **ids)
def test_text_round_trip(f):
    assert objective(repr(f)) == f
    assert repr(objective(repr(f))) == repr(f)
    assert objective(f) is f


def test_texts_that_mean_the_same():
    assert objective("nll") == objective(" nll() ") == nll()
    assert objective("power(alpha=-0.5)") == power(-0.5) == objective("power(-.5)")
    assert objective("above(q=0.2, f=nll)") == above(0.2, nll())
    assert repr(above(0.2, nll())) == "above(0.2, nll())"
    assert repr(power(1)) == "power(1.0)"
    assert objective_list("nll, p,power(0.5)") == (nll(), p(), power(0.5))
    assert objective_list("above(0.2, nll)") == (above(0.2, nll()),)
    assert hash(power(0.5)) == hash(objective("power(0.5)"))


@pytest.mark.parametrize(
    "text, said",
    [
        ("nil", "^unknown objective 'nil'; did you mean 'nll'\\? All: probtune objectives.$"),
        ("-p", "did you mean 'p'"),
        ("-log p", "did you mean 'nll'"),
        ("cross_entropy", "did you mean 'nll'"),
        ("lq(0.7)", "did you mean 'gce'"),
        ("powr(0.5)", "did you mean 'power'"),
        ("quux", "Known: nll\\(\\), p\\(\\), power\\(alpha\\)"),
        ("", "unknown objective"),
        ("p(", r"cannot read the objective 'p\(': it has 1 '\(' and 0 '\)'"),
        ("nll,,p", "nothing stands between two commas"),
        (
            "power(a)",
            r"a number, an objective or a name in quotes, and 'a' in .* is none of them\.$",
        ),
        ("weighted(nll(), q)", r"a name in quotes, and 'q' in .* is none of them\.$"),
        ("floor(0.1, ddft)", "is none of them; did you mean 'dft'\\?$"),
        ("nll() + p()", "unknown objective"),
        ("nll().value", "unknown objective"),
        ("__import__('os').system('true')", "unknown objective"),
        ("power", "takes 1 parameter; for example power\\(0.5\\)"),
        ("power(1, 2)", "takes 1 parameter"),
        ("power(beta=1)", "takes 1 parameter"),
        ("power(1, alpha=2)", "takes 1 parameter"),
        ("power(**{})", "one by one"),
        ("nll(1)", "takes 0 parameters"),
        ("power('a')", "alpha must be a finite number"),
        ("power(True)", "a number or an objective"),
        ("power(1e999)", "alpha must be a finite number"),
        ("power(p)", "alpha must be a finite number"),
        ("above(1.5, nll())", r"q must be in \[0, 1\], got 1.5"),
        ("below(-0.1, nll())", r"q must be in \[0, 1\], got -0.1"),
        ("floor(0.5, cap(0.3, p()))", "above the cap 0.3"),
        ("cap(0.3, floor(0.5, p()))", "below the floor 0.5"),
        ("floor(-1, p())", "at least 0, got -1"),
        ("floor(p(), 0.1)", "m must be a finite number"),
        ("cap(0, p())", "must be positive"),
        ("mix(2, nll(), p())", r"share must be in \[0, 1\]"),
        ("mix(0.5, nll())", "takes 3 parameters"),
        ("mix(0.5, nll(), 3)", "g must be an objective"),
        ("gce(0)", "use nll"),
        ("gce(2)", r"in \[0, 1\]"),
        ("affine(0, 0)", "must not both be 0"),
        ("affine(-1, 0)", "at least 0"),
        ("taylor(1.5)", "whole number"),
        ("taylor(0)", "at least 1"),
        ("luffy(0)", "must be positive"),
        ("infosft(1)", "strictly between 0 and 1"),
        ("gft(0)", "must be positive"),
        ("top(0, nll())", "share must be positive"),
        ("eaft(1, 0)", "scale must be positive"),
        ("idft(0)", "must be positive"),
        ("idft(1, 2, 1)", "low not above high"),
        ("nll_on_special(3)", "f must be an objective"),
        ("top(1.5, nll())", r"share must be in \[0, 1\]"),
        ("anneal(nll(), p(), 0.6, 0.2)", "start = 0.6 lies after end = 0.2"),
        ("anneal(nll(), 0.2)", "g must be an objective"),
        ("anneal(nll(), p(), 2)", r"start must be in \[0, 1\]"),
        ("talr(0)", "tau must be positive"),
        ("focal(-1)", "at least 0"),
        ("focal(1, 2)", "takes 1 parameter"),
        ("focal(1, gamma=2)", "takes 1 parameter"),
        ("above(0.2, 0.3)", "must be an objective"),
        ("above(nll(), 0.2)", "q must be a finite number"),
        ("(" * 500 + ")" * 500, "unknown objective"),
    ],
)
def test_wrong_texts_say_what_is_known(text, said):
    with pytest.raises(ObjectiveError, match=said):
        objective(text)


def test_wrong_values_and_lists():
    with pytest.raises(ObjectiveError, match="finite"):
        power(math.nan)
    with pytest.raises(ObjectiveError, match="finite"):
        power("0.5")
    with pytest.raises(ObjectiveError, match="an objective is a text"):
        objective(0.5)
    with pytest.raises(ObjectiveError, match="more than once"):
        objective_list("nll, p, nll()")
    with pytest.raises(ValueError):  # callers of the API may catch the standard error
        objective("nope")


def test_one_table_of_members():
    assert [member.__name__ for member in MEMBERS.values()] == list(MEMBERS)
    for member in MEMBERS.values():
        f = objective(member.example)
        if member.__name__ in ALIASES:  # a function that returns the member that runs
            assert type(f).__name__ in MEMBERS and type(f).__name__ not in ALIASES
        else:
            assert type(f) is member
        assert signature(member).startswith(member.__name__ + "(")
        for text in (member.formula, member.weight_formula, member.summary, member.source):
            assert text
        assert member.__doc__
