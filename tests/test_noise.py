"""The estimate of wrong rows: templates, doubt and ignorance are no noise; contradiction is."""

import numpy as np
import pytest

from probtune.probe.after_scout import after_scout, both_ways
from probtune.probe.noise import Others, estimate


def tokens(distributions, targets, example):
    """Columns for `estimate` from whole distributions, (tokens, V)."""
    p = np.asarray(distributions)
    logs = np.log(p)
    entropy = -(p * logs).sum(1)
    return {
        "logp": logs[np.arange(len(p)), targets],
        "top_logp": logs.max(1),
        "entropy": entropy,
        "variance": (p * logs**2).sum(1) - entropy**2,
        "example": np.asarray(example),
        "special": np.zeros(len(p), bool),
    }


def peaked(rng, top, short_list, size, vocabulary=200):
    """Distributions with `top` on token 0 and the rest on a short list or over everything."""
    p = np.full((size, vocabulary), 1e-7)
    for row in p:
        others = rng.choice(np.arange(1, vocabulary), short_list, replace=False)
        row[others] += (1 - top) * rng.dirichlet(np.ones(short_list))
        row[0] = top
    return p / p.sum(1, keepdims=True)


def draw(rng, p, temper=1.0):
    weights = p**temper / (p**temper).sum(1, keepdims=True)
    return np.array([rng.choice(len(row), p=row) for row in weights])


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.2, 0.4])
def test_wrong_rows_of_a_sure_model(rate):
    """The scout has seen the noise too: it gives `rate` of its mass to wrong answers, thinly."""
    rng = np.random.default_rng(0)
    p = peaked(rng, 0.97 - rate, 150 if rate else 3, 600)
    targets = np.where(rng.random(600) < rate, rng.integers(1, 200, 600), 0)
    noise = estimate(**tokens(p, targets, np.arange(600)), rows=600, vocabulary=50_000)
    assert noise.known
    assert abs(noise.share.value - rate) < 0.05


def test_a_mixture_of_templates_is_no_noise():
    """Half of the rows are of a kind that the model half knows, drawn from its own doubt."""
    rng = np.random.default_rng(1)
    sure, unsure = peaked(rng, 0.97, 3, 300), peaked(rng, 0.55, 3, 300)
    p = np.concatenate([sure, unsure])
    noise = estimate(**tokens(p, draw(rng, p), np.arange(600)), rows=600, vocabulary=50_000)
    assert noise.known
    assert noise.share.value < 0.03


def test_length_is_no_noise():
    rng = np.random.default_rng(2)
    p = peaked(rng, 0.9, 3, 4000)
    example = np.sort(np.concatenate([np.arange(200), rng.integers(0, 40, 3800)]))
    noise = estimate(**tokens(p, draw(rng, p), example), rows=200, vocabulary=50_000)
    assert noise.share.value < 0.03


def test_ignorance_is_not_known():
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(200), 500)
    noise = estimate(
        **tokens(p, rng.integers(0, 200, 500), np.arange(500)), rows=500, vocabulary=50_000
    )
    assert not noise.known


def test_rows_are_listed_worst_first_and_special_tokens_do_not_count():
    rng = np.random.default_rng(4)
    p = peaked(rng, 0.9, 150, 100)
    targets = np.zeros(100, int)
    wrong = rng.choice(100, 20, replace=False)
    targets[wrong] = rng.integers(1, 200, 20)
    columns = tokens(p, targets, np.arange(100))
    noise = estimate(**columns, rows=100, vocabulary=50_000)
    right = np.setdiff1d(np.arange(100), wrong)
    assert noise.excess[wrong].min() > noise.excess[right].max()
    listed = noise.worst_first()
    assert set(listed) <= set(wrong) and len(listed) >= 18
    assert list(noise.excess[listed]) == sorted(noise.excess[listed], reverse=True)
    # The same tokens as special ones, each before an end that the model expects.
    every = tokens(
        np.concatenate([p, peaked(rng, 0.9, 150, 100)]),
        np.concatenate([targets, np.zeros(100, int)]),
        np.tile(np.arange(100), 2),
    )
    special = estimate(**{**every, "special": np.ones(200, bool)}, rows=100, vocabulary=50_000)
    assert special.share.value == 0.0 and special.worst_first() == []


def neighbours(rows):
    """Each row behind the prompt of the one before."""
    return np.roll(np.arange(rows), 1)


def mixture(rate, kind, rows=600, seed=5, answers=None):
    """Rows of three templates, each behind its own and behind another prompt: log p of the targets
    and of the favourites.

    sure        one token; the model knows it from its prompt, and would guess it by chance else
    stumbles    four tokens, half of which the model would not write; only the prompt helps
    long        thirty tokens that continue each other with any prompt, after one that needs its own

    A wrong row of kind `other` has the target of another prompt throughout; one of kind `slip` has
    one token that no prompt speaks for; one of kind `usual` an answer that the model gives to any,
    one of kind `common` an answer that it nearly gives to any.
    """
    rng = np.random.default_rng(seed)
    wrong = rng.random(rows) < rate
    columns = {name: [] for name in ("logp", "top", "other", "other_top", "row")}
    for row in range(rows):
        template = row % 3
        length = (1, 4, 30)[template]
        own, other = rng.uniform(-0.2, 0, length), rng.uniform(-9, -5, length)
        top = own.copy()
        if template == 1:
            far = rng.random(length) < 0.5
            own = np.where(far, rng.uniform(-4.5, -1.5, length), own)
            top = np.where(far, -0.5, own)
        if template == 2:
            other[1:] = own[1:] + rng.normal(0, 0.2, length - 1)
        if wrong[row] and kind == "other":
            own = other + rng.normal(0, 0.3, length)
            top = np.full(length, -0.3)
            own = np.minimum(own, top)
        elif wrong[row] and kind == "common":
            own, top = rng.uniform(-2.5, -1.8, length), np.full(length, -0.3)
            other = own + rng.normal(0, 0.1, length)
        elif wrong[row] and kind == "usual":
            own = top = other = rng.uniform(-0.6, -0.3, length)
        elif wrong[row]:
            at = rng.integers(length)
            own[at], top[at] = rng.uniform(-8, -5), -0.1
            other[at] = own[at] + rng.normal(0, 0.3)
        columns["logp"].append(own)
        columns["top"].append(top)
        columns["other"].append(np.minimum(other, -0.3))
        columns["other_top"].append(np.full(length, -0.3))
        columns["row"].append(np.full(length, row))
    flat = {name: np.concatenate(pieces) for name, pieces in columns.items()}
    size = len(flat["row"])
    noise = estimate(
        logp=flat["logp"],
        top_logp=flat["top"],
        entropy=np.full(size, 0.5),
        variance=np.full(size, 0.5),
        example=flat["row"],
        special=np.zeros(size, bool),
        rows=rows,
        vocabulary=50_000,
        others=Others(flat["other"], flat["other_top"], neighbours(rows)),
        answers=answers and answers(wrong),
    )
    return noise, wrong


@pytest.mark.parametrize("kind", ["other", "slip"])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4])
def test_a_mixture_of_three_templates_behind_exchanged_prompts(rate, kind):
    noise, wrong = mixture(rate, kind)
    assert noise.known
    assert abs(noise.share.value - wrong.mean()) < 0.08
    if rate == 0:
        assert noise.share.value < 0.03


def test_an_answer_to_many_prompts_is_usual_or_a_common_mistake():
    """The model writes it whatever the prompt: nothing tells whether it is right."""
    few, wrong = mixture(0.04, "usual")
    assert few.known and few.unmoved == pytest.approx(wrong.mean(), abs=0.01)
    many, wrong = mixture(0.3, "usual")
    assert many.unmoved == pytest.approx(wrong.mean(), abs=0.02)
    assert many.share.value < 0.1 and not many.known
    reason = after_scout(many).reason
    assert f"{many.unmoved:.0%} of the rows have an answer that the model gives" in reason


def test_one_mistake_that_is_made_often_has_rows_weighed():
    """The first steps of NLL would teach it, and an objective that trusts the model keep it."""

    def one_sided(wrong):
        return np.where(wrong, np.arange(600) % 4, np.arange(600) + 4)

    noise, wrong = mixture(0.4, "common", answers=one_sided)
    assert noise.known and noise.repeated == pytest.approx(wrong.mean(), abs=0.02)
    weighed = {"greedy": "inliers(nll())", "sampled": "inliers(power(0.3))"}
    for metric in weighed:
        choice = after_scout(noise, metric=metric)
        assert choice.objective == weighed[metric] and choice.runner_up == "nll()"
        assert "wrong answers that are given often" in choice.reason
    both = both_ways(noise)
    assert "inliers(nll()), for sampled ones (--decoding sampled) inliers(power(0.3))" in both
    # Four answers that the model is far from, as refusals: wrong rows like any others.
    refused, _ = mixture(0.3, "other", answers=one_sided)
    assert refused.repeated == 0.0 and after_scout(refused).objective == "power(0.5)"


@pytest.mark.parametrize("number", [600, 4])
def test_labels_and_answers_of_their_own_are_no_such_mistake(number):
    noise, _ = mixture(0.4, "common", answers=lambda wrong: np.arange(600) % number)
    assert noise.repeated == 0.0 and after_scout(noise).objective == "power(0.5)"


def of_one_token(p, top, others, **options):
    """Rows of a token with this probability, and this one of the favourite."""
    rows = len(p)
    return estimate(
        logp=np.log(p),
        top_logp=np.full(rows, np.log(top)),
        entropy=np.full(rows, 0.15),
        variance=np.full(rows, 0.3),
        example=np.arange(rows),
        special=np.zeros(rows, bool),
        rows=rows,
        vocabulary=50_000,
        others=others,
        **options,
    )


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3])
def test_yes_and_no_behind_a_prompt_whose_own_answer_is_wrong(rate):
    """There the right answer is the same, and the other prompt supports it no less."""
    rng = np.random.default_rng(0)
    rows = 400
    truth, wrong = rng.random(rows) < 0.5, rng.random(rows) < rate
    answer = truth ^ wrong
    donors = np.array([rng.choice(np.flatnonzero(answer != a)) for a in answer])
    own, other = (np.where(answer == of, 0.97, 0.02) for of in (truth, truth[donors]))
    others = Others(np.log(other), np.full(rows, np.log(0.97)), donors)
    noise = of_one_token(own, 0.97, others, answers=answer.astype(int))
    assert noise.known and (noise.suspicious == wrong).all() and noise.unmoved == 0.0
    assert noise.excess[wrong].min(initial=99) > noise.excess[~wrong].max()
    assert noise.repeated == 0.0


@pytest.mark.parametrize("exchanged", [True, False])
def test_an_echo_looks_wrong_whatever_the_model_says(exchanged):
    """The model is as sure of it as of any other row."""
    echo = np.arange(100) < 20
    behind, sure = (np.full(100, np.log(p)) for p in (0.01, 0.95))
    others = Others(behind, sure, neighbours(100)) if exchanged else None
    noise = of_one_token(np.full(100, 0.95), 0.95, others, echoes=echo)
    assert noise.known and noise.share.value == 0.2 and (noise.echoes == echo).all()
    assert sorted(noise.worst_first()) == list(range(20))
    assert noise.excess[echo].min() > noise.excess[~echo].max() + 5
    reason = after_scout(noise).reason
    assert "20% of the rows look wrong to it, 20% because their answers repeat" in reason


def test_prompts_that_say_nothing_make_nothing_known():
    """The targets are as likely behind any prompt: nothing tells a wrong row from a hard one."""
    noise, _ = mixture(1.0, "other")
    assert not noise.known


def ending(p_end, p_top, rows=200):
    """Rows of two sure tokens and an end token; behind another prompt only the end is as likely.

    p_end, p_top: of the end token, and of the favourite in its place, per row or for all rows.
    """
    p = np.full((rows, 3), 0.95)
    top, other = p.copy(), np.full((rows, 3), 0.02)
    p[:, 2], top[:, 2], other[:, 2] = p_end, np.maximum(p_top, p_end), p_end
    return estimate(
        logp=np.log(p.ravel()),
        top_logp=np.log(top.ravel()),
        entropy=np.full(3 * rows, 0.3),
        variance=np.full(3 * rows, 0.5),
        example=np.repeat(np.arange(rows), 3),
        special=np.tile([False, False, True], rows),
        rows=rows,
        vocabulary=50_000,
        others=Others(np.log(other.ravel()), np.full(3 * rows, np.log(0.5)), neighbours(rows)),
    )


def test_a_row_that_ends_where_the_model_would_go_on_is_cut_short():
    """The scout has seen the cut rows too: it gives their ends about their share."""
    cut = np.arange(200) % 7 == 0
    noise = ending(np.where(cut, 0.2, 0.96), np.where(cut, 0.7, 0.0))
    assert noise.known and (noise.cut_short == cut).all() and (noise.suspicious == cut).all()
    assert noise.share.value == cut.mean() and cut[noise.worst_first()].all()
    assert noise.excess[cut].min() > noise.excess[~cut].max()
    assert after_scout(noise).objective == "power(0.5)"
    # Where special tokens keep NLL, no objective of p learns less from what is wrong there.
    for metric, weighed in (("greedy", "inliers(nll())"), ("sampled", "inliers(power(0.3))")):
        choice = after_scout(noise, metric=metric, knows_ends=False)
        assert noise.contradicting.value == 0.0 and choice.objective == weighed
        assert "14% because they end where it would go on" in choice.reason
        assert "mend them or leave them out" in choice.reason and choice.runner_up == "nll()"
    assert both_ways(noise, knows_ends=False).endswith("For both, take inliers(nll()).")


@pytest.mark.parametrize(
    ("p_end", "p_top"),
    [
        (np.linspace(0.2, 0.9, 200), 0.6),  # free text may end here or there
        (np.where(np.arange(200) < 30, 0.06, 0.8), 0.9),  # an unsettled scout
        (np.where(np.arange(200) < 30, 0.4, 0.96), 0.45),  # as good an end as any
        (np.where(np.arange(200) < 30, 0.01, 0.96), 0.2),  # improbable, yet nothing else is likely
    ],
)
def test_an_end_that_the_model_is_not_sure_of_accuses_nobody(p_end, p_top):
    noise = ending(p_end, p_top)
    assert noise.known and not noise.cut_short.any() and noise.share.value == 0.0
    unseen = "rows cut short are not seen" in after_scout(noise).reason
    assert unseen is not noise.tells_ends and unseen == (np.median(p_end) < 0.9)


@pytest.mark.parametrize(
    ("p_before", "elsewhere", "accused"),
    [
        (0.9, 1e-4, True),  # the model was on its way
        (0.04, 1e-4, False),  # it had stumbled over a word that its prompt speaks for
        (
            0.05,
            0.04,
            True,
        ),  # over one that no prompt speaks for: a slip of its own, or a strange word
    ],
)
def test_a_model_that_has_lost_its_way_accuses_nobody(p_before, elsewhere, accused):
    """Twenty rows of three tokens; the last token of the first row is far from the favourite."""
    p, top, other = np.full((20, 3), 0.9), np.full((20, 3), 0.9), np.full((20, 3), 1e-3)
    p[0], other[0] = (0.9, p_before, 1e-3), (1e-4, elsewhere, 1e-2)
    noise = estimate(
        logp=np.log(p).ravel(),
        top_logp=np.log(top).ravel(),
        entropy=np.full(60, 0.5),
        variance=np.full(60, 1.0),
        example=np.repeat(np.arange(20), 3),
        special=np.zeros(60, bool),
        rows=20,
        vocabulary=50_000,
        others=Others(np.log(other).ravel(), np.full(60, np.log(0.5)), neighbours(20)),
    )
    assert noise.known and noise.worst_first() == ([0] if accused else [])


def half_known(rng, rows, length):
    """Rows of `length` tokens: the prompt speaks for each row, and the model, sure of most tokens,
    is far from one in ten of them.
    """
    size = rows * length
    wrong = rng.random(size) < 0.1
    logp = np.where(wrong, np.log(0.001), np.log(0.9))
    columns = {
        "logp": logp,
        "top_logp": np.full(size, np.log(0.9)),
        "entropy": np.full(size, 0.5),
        "variance": np.full(size, 1.0),
        "example": np.repeat(np.arange(rows), length),
        "special": np.zeros(size, bool),
    }
    # Behind another prompt the right tokens are improbable, and the far ones are as they were.
    elsewhere = np.where(wrong, logp, np.log(0.02))
    others = Others(elsewhere, np.full(size, np.log(0.6)), neighbours(rows))
    return estimate(**columns, rows=rows, vocabulary=50_000, others=others)


def test_a_model_that_is_right_too_seldom_accuses_nobody():
    """Clean worked answers beyond the model: nearly all long rows look wrong."""
    rng = np.random.default_rng(0)
    long = half_known(rng, 200, 40)
    assert long.power > 0.9 and long.share.value > 0.5 and not long.known
    short = half_known(rng, 400, 1)
    assert short.known and abs(short.share.value - 0.1) < 0.04


def test_a_model_that_hesitates_everywhere_knows_nothing():
    """The prompt matters, but of what does not look wrong the model would write nearly nothing."""
    size = 300
    columns = {
        "logp": np.full(size, np.log(0.05)),
        "top_logp": np.full(size, np.log(0.2)),
        "entropy": np.full(size, 2.0),
        "variance": np.full(size, 1.0),
        "example": np.arange(size),
        "special": np.zeros(size, bool),
    }
    elsewhere, favourite = np.full(size, np.log(1e-4)), np.full(size, np.log(0.2))
    others = Others(elsewhere, favourite, neighbours(size))
    noise = estimate(**columns, rows=size, vocabulary=50_000, others=others)
    assert noise.power == 1.0 and noise.share.value == 0.0
    assert noise.hesitates and not noise.known


def facts(lifts):
    """Rows of one token, 1e-4 behind other prompts; the model's favourite has at least a half."""
    lifts = np.asarray(lifts)
    size = len(lifts)
    logp = np.log(1e-4) + lifts
    return estimate(
        logp=logp,
        top_logp=np.maximum(logp, np.log(0.5)),
        entropy=np.full(size, 0.5),
        variance=np.full(size, 0.5),
        example=np.arange(size),
        special=np.zeros(size, bool),
        rows=size,
        vocabulary=50_000,
        others=Others(np.full(size, np.log(1e-4)), np.full(size, np.log(0.5)), neighbours(size)),
    )


def test_facts_that_are_half_known_cannot_be_told_from_wrong_rows():
    """Their prompts support them by anything between nothing and all; wrong rows by nothing."""
    sure = np.full(320, 9.0)
    half = facts([*sure, *np.linspace(0.0, 5.5, 80)])
    assert half.share.value == pytest.approx(0.0675)
    assert half.halfway == pytest.approx(27 / 28) and not half.known
    wrong = facts([*sure, *np.full(27, 0.5), *np.full(53, 4.5)])
    assert (
        wrong.share.value == half.share.value
        and wrong.halfway == pytest.approx(1 / 28)
        and wrong.known
    )
    few = facts([*np.full(380, 9.0), *np.linspace(0.0, 5.5, 20)])
    assert few.share.value == pytest.approx(0.0175) and few.halfway == 0.0 and few.known
    assert "7% of the rows look wrong, too much like right ones" in after_scout(half).reason


def test_a_model_that_writes_too_few_tokens_itself_accuses_nobody():
    few = facts([*np.full(216, 9.0), *np.full(84, 4.5), *np.full(30, 0.0)])
    assert few.usual_tokens == pytest.approx(0.72) and few.hesitates and not few.known
    assert "would write only 72% of the tokens itself" in after_scout(few).reason
    enough = facts([*np.full(228, 9.0), *np.full(72, 4.5), *np.full(30, 0.0)])
    assert enough.usual_tokens == pytest.approx(0.76) and enough.known
