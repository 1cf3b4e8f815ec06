"""Signals reach objectives in training: each step equals the one computed by
hand from full logits in float64, and nothing depends on how the step is split.
"""

import math

import helpers
import pytest
import test_training as plain
import torch
import torch.nn.functional as F
from datasets import Dataset

from probtune.errors import DataError, UsageError
from probtune.objectives import objective
from probtune.training import ProbTuneTrainer

RATE = 0.5
ROWS = 8


def rows(n=ROWS, **changes):
    """Rows with what objectives may need of the data."""
    better = helpers.word_causal_model(5)
    examples = helpers.encoded_rows(n, masked=(1,))
    for index, row in enumerate(examples):
        with torch.no_grad():
            logits = better(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
        ids = torch.tensor(row["input_ids"][1:])
        logp = logits.log_softmax(-1).gather(1, ids[:, None]).squeeze(1)
        row["quality"] = 0.25 + index / n
        row["answer_mask"] = [int(i % 3 == 2) for i in range(len(row["input_ids"]))]
        row["better_logprobs"] = [0.0, *logp.tolist()]
    return examples


class Step:
    """All supervised tokens of a step, concatenated, under a model in float64."""

    def __init__(self, model, data):
        logits, labels, numbers, columns = [], [], [], []
        for number, row in enumerate(data):
            y = torch.tensor(row["labels"][1:])
            where = y != -100
            z = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
            logits.append(z[where])
            labels.append(y[where])
            numbers.append(torch.full((int(where.sum()),), number))
            answer = torch.tensor(row["answer_mask"][1:])[where]
            better = torch.tensor(row["better_logprobs"][1:], dtype=torch.float64)[where]
            columns.append((torch.full_like(better, row["quality"]), answer.bool(), better))
        self.z, self.y = torch.cat(logits), torch.cat(labels)
        self.row = torch.cat(numbers)
        self.quality, self.answer, self.better = (torch.cat(x) for x in zip(*columns, strict=True))
        self.all = self.z.log_softmax(1)
        self.logp = self.all.gather(1, self.y[:, None]).squeeze(1)
        self.special = torch.isin(self.y, torch.tensor(helpers.word_tokenizer().all_special_ids))

    def row_means(self, x):
        sums = torch.zeros(ROWS, dtype=x.dtype).index_add(0, self.row, x)
        counts = torch.bincount(self.row, minlength=ROWS)
        return (sums / counts.clamp(min=1)), counts


def power(logp, a):
    a = a.detach()
    return (1 - (a * logp).exp()) / a


def cayley(s, first):
    p = s.logp.detach().exp()
    a0 = p.mean() / 2
    return power(s.logp, (a0 + (1 - a0) * p / (2 - p)).clamp(0.001, 1))


def talr(s, first):
    means, counts = s.row_means(-s.logp.detach())
    tau = means[counts > 0].median()
    return -(s.logp.detach() / tau).exp().clamp(min=0.01) * s.logp


def sequence_weight(s, first):
    means, _ = s.row_means((s.logp - first.logp).detach())
    return -means[s.row].exp().clamp(max=16) * s.logp


def minor_weight(s, first):
    """MinorSFT's gradient, by autograd from its loss, as a loss with that gradient."""
    means, _ = s.row_means((s.logp - first.logp).detach())
    gain = means.clone().requires_grad_()
    (slope,) = torch.autograd.grad(-2 / 5 * F.logsigmoid(5 * gain).sum(), gain)
    return slope[s.row] * s.logp


def inlying(s, first):
    """The weight of each token's sequence; the row without a target has none."""
    means, counts = first.row_means(-first.logp.detach())
    of_rows = means[counts > 0].repeat(2)  # the epoch holds every row twice
    middle = of_rows.quantile(0.5)
    spread = 1.4826 * (of_rows - middle).abs().quantile(0.5) + 0.1
    return 0.05 + 0.95 / (1 + (((means[first.row] - middle) / spread - 2) / 0.5).exp())


def top(s, share):
    p = s.logp.detach().exp()
    cut = torch.quantile(p.log(), 1 - share).exp()
    return torch.where(p >= cut, -s.logp, 0.0)


def bottom(s, share):
    p = s.logp.detach().exp()
    cut = torch.quantile(p.log(), share).exp()
    return torch.where(p <= cut, -s.logp, 0.0)


def excess(s, other, f, copies=1):
    gap = s.better - other.detach()
    cut = torch.quantile(gap.repeat(copies), 0.4)
    return torch.where(gap >= cut, f, 0.0)


def top_entropy(s, k):
    top = s.all.detach().topk(k, 1).values.log_softmax(1)
    return -(top.exp() * top).sum(1)


def target_sft(s, first, eta):
    """Cross-entropy to the mixture of the project page, less what of it has no gradient."""
    trust = s.logp.exp().detach()
    guided = (s.all.exp().detach() ** (1 - eta)) * first.all.exp().detach() ** eta
    guided = guided / guided.sum(1, keepdim=True)
    target = trust[:, None] * F.one_hot(s.y, s.z.shape[1]) + (1 - trust)[:, None] * guided
    cross_entropy = -(target * s.all).sum(1)
    constant = 1 - trust + trust * s.logp.detach() + (1 - trust) * (guided * guided.log()).sum(1)
    return cross_entropy + constant


# Loss per token, from full logits. `first`: the same step under the model before training.
BY_HAND = {
    "label_smoothing(0.1)": lambda s, first: F.cross_entropy(
        s.z, s.y, label_smoothing=0.1, reduction="none"
    ),
    "brier()": lambda s, first: (s.all.exp() - F.one_hot(s.y, s.z.shape[1])).square().sum(1),
    "gem(0.7)": lambda s, first: (
        -s.logp + ((s.z / 0.7).softmax(1).detach() * s.all).sum(1)
    ),
    "entropy_bonus(0.1, p())": lambda s, first: (
        1 - s.logp.exp() + 0.1 * (s.all.exp() * s.all).sum(1)
    ),
    "kl_anchor(0.5, dft())": lambda s, first: (
        -s.logp.exp().detach() * s.logp
        + 0.5 * F.kl_div(s.all, first.all.detach(), reduction="none", log_target=True).sum(1)
    ),
    "reverse_kl_anchor(0.5, p())": lambda s, first: (
        1 - s.logp.exp()
        + 0.5 * F.kl_div(first.all.detach(), s.all, reduction="none", log_target=True).sum(1)
    ),
    "q_target(0.25, p())": lambda s, first: target_sft(s, first, 0.25),
    "eaft_top(1.0, 3.0, 5)": lambda s, first: -top_entropy(s, 5) / 3 * s.logp,
    "sed(0.2, 2, 0.15)": lambda s, first: (
        -s.logp
        + 0.2 * (s.all.topk(2, 1).values.exp().sum(1) < 0.15) * (s.logp.exp() - 0.5).square()
    ),
    "weighted(p(), 'quality')": lambda s, first: s.quality * (1 - s.logp.exp()),
    "nll_on_answer(p())": lambda s, first: torch.where(s.answer, -s.logp, 1 - s.logp.exp()),
    "on_reference(p())": lambda s, first: -first.logp.exp().detach() * s.logp,
    "iw_sft(0.9, 1.1)": lambda s, first: (
        -(s.logp - first.logp).exp().clamp(0.9, 1.1).detach() * s.logp
    ),
    "iw_sft_sequence(1.0, 16.0)": sequence_weight,
    "minor_sft(5.0)": minor_weight,
    "psft(0.05)": lambda s, first: -(s.logp - first.logp.detach()).exp().clamp(max=1.05),
    "inliers(p())": lambda s, first: inlying(s, first) * (1 - s.logp.exp()),
    "step_top(0.5, nll())": lambda s, first: top(s, 0.5),
    "step_bottom(0.3, nll())": lambda s, first: bottom(s, 0.3),
    "step_cayley()": cayley,
    "step_talr(0.01)": talr,
    "rho1(0.6, p())": lambda s, first: excess(s, s.logp, 1 - s.logp.exp()),
    "token_cleaning(0.6, nll())": lambda s, first: excess(s, first.logp, -s.logp, copies=2),
    "mix(0.5, weighted(brier(), 'quality'), nll_on_special(p()))": lambda s, first: (
        0.5 * s.quality * (s.all.exp() - F.one_hot(s.y, s.z.shape[1])).square().sum(1)
        + 0.5 * torch.where(s.special, -s.logp, 1 - s.logp.exp())
    ),
    "above(0.05, label_smoothing(0.1))": lambda s, first: torch.where(
        s.logp.exp() >= 0.05,
        F.cross_entropy(s.z, s.y, label_smoothing=0.1, reduction="none"),
        0.0,
    ),
}  # fmt: skip


def by_hand(loss_of, data, steps=2):
    """(loss, gradient norm) of each step of plain gradient descent on all rows."""
    model = helpers.word_causal_model().double()
    calls, first = [], None
    for _ in range(steps):
        step = Step(model, data)
        first = first if first is not None else step
        loss = loss_of(step, first).mean()
        model.zero_grad()
        loss.backward()
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
        calls.append((loss.item(), norm))
        with torch.no_grad():
            for p in model.parameters():
                p -= RATE * p.grad
    return calls


@pytest.mark.parametrize("text", BY_HAND)
def test_two_steps_equal_those_by_hand(text, tmp_path):
    data = rows()
    # An epoch is two equal steps, so that psft's block is longer than a step.
    options = dict(max_steps=2, learning_rate=RATE, train_sampling_strategy="sequential")
    training = plain.trainer(tmp_path, rows=2 * data, objective=text, **options)
    training.train()
    assert training.head == "probtune"
    for step, (loss, norm) in zip(plain.logs(training), by_hand(BY_HAND[text], data), strict=True):
        assert step["loss"] == pytest.approx(loss, rel=2e-4, abs=1e-6)
        assert step["grad_norm"] == pytest.approx(norm, rel=2e-4, abs=1e-6)


COUPLED = (
    "mix(0.5, step_top(0.5, nll()), step_cayley())",
    "mix(0.5, step_talr(0.01), rho1(0.6, nll()))",
    "iw_sft_sequence(1.0, 16.0)",
    "minor_sft(1.0)",
    "psft(0.05)",
    "kl_anchor(0.5, inliers(on_reference(p())))",
    "weighted(gem(0.7), 'quality')",
)


@pytest.mark.parametrize("text", COUPLED)
def test_training_does_not_depend_on_the_split(text, tmp_path):
    """A micro-batch of 8 rows, four of 2, and packed rows are the same step."""
    splits = {
        "whole": dict(per_device_train_batch_size=8),
        "four by two": dict(per_device_train_batch_size=2, gradient_accumulation_steps=4),
        "packed": dict(packing=True, max_length=64, dataset_kwargs=None),
    }
    weights = {}
    for name, changes in splits.items():
        options = {"objective": text, "max_steps": 3, "refresh_steps": 2, **changes}
        training = plain.trainer(tmp_path / name, rows=rows(), **options)
        training.train()
        weights[name] = plain.weights(training.model)
    moved = (weights["whole"] - plain.weights(helpers.word_causal_model())).norm()
    for name in ("four by two", "packed"):
        assert float((weights[name] - weights["whole"]).norm()) < 1e-4 * float(moved), name


def test_a_refreshed_state_is_that_of_the_last_refresh(tmp_path):
    """With a refresh at every step the ratio is 1, and psft trains like NLL."""
    weights = []
    for name, changes in (("nll()", {}), ("psft(0.28)", {"refresh_steps": 1})):
        training = plain.trainer(tmp_path, rows=rows(), objective=name, max_steps=3, **changes)
        training.train()
        weights.append(plain.weights(training.model))
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


def test_the_same_data_in_the_same_order_with_blocks_of_steps(tmp_path):
    """Taking several steps' batches at once neither drops nor repeats a row."""
    seen = {}
    for refresh in (1, 3, 100):
        training = plain.trainer(
            tmp_path,
            rows=rows(10),
            objective="psft(1000.0)",
            refresh_steps=refresh,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            max_steps=7,
            learning_rate=0.0,
        )
        training.train()
        seen[refresh] = [step["nll"] for step in plain.logs(training)]
    assert seen[1] == pytest.approx(seen[3]) and seen[1] == pytest.approx(seen[100])


@pytest.mark.parametrize("text", ["kl_anchor(0.5, nll())", "on_reference(p())"])
def test_with_lora_the_reference_is_the_base_without_adapters(text, tmp_path):
    from peft import LoraConfig

    adapters = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    training = plain.trainer(
        tmp_path, rows=rows(), objective=text, max_steps=3, peft_config=adapters
    )
    training.train()
    first, *_, last = plain.logs(training)
    assert last["loss"] < first["loss"] and training._frozen is None
    if text.startswith("kl"):  # at the start the divergence is 0
        assert first["loss"] == pytest.approx(first["nll"], rel=1e-5)


def test_a_measured_reference_is_kept_for_a_resumed_run(tmp_path, monkeypatch):
    text = "on_reference(p())"
    whole = plain.trainer(tmp_path / "whole", rows=rows(), objective=text, max_steps=4)
    whole.train()
    options = dict(rows=rows(), objective=text, max_steps=4, save_steps=2, save_strategy="steps")
    plain.trainer(tmp_path / "cut", **options).train()
    monkeypatch.setattr("probtune.training.stored.token_table", None)  # must not measure again
    resumed = plain.trainer(tmp_path / "cut", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-2"))
    torch.testing.assert_close(plain.weights(resumed.model), plain.weights(whole.model))


def test_a_block_that_was_cut_goes_on_with_its_old_state(tmp_path):
    """A checkpoint after step 2 of a block of 3: the third step compares with the state before the
    first, which the resumed training no longer has.
    """
    options = dict(rows=rows(24), objective="psft(0.05)", refresh_steps=3, max_steps=6)
    options |= dict(learning_rate=0.1, per_device_train_batch_size=2)
    whole = plain.trainer(tmp_path / "whole", **options)
    whole.train()
    options |= dict(save_steps=2, save_strategy="steps")
    plain.trainer(tmp_path / "cut", **options).train()
    resumed = plain.trainer(tmp_path / "cut", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-2"))
    assert torch.equal(plain.weights(resumed.model), plain.weights(whole.model))
    assert plain.logs(resumed)[-1]["nll"] == plain.logs(whole)[-1]["nll"]
    # without the old log-probabilities it is another training
    (tmp_path / "cut" / "checkpoint-2" / "old_logprobs_0.pt").unlink()
    (tmp_path / "cut" / "checkpoint-2" / "manifest.json").unlink(missing_ok=True)
    other = plain.trainer(tmp_path / "cut", **options)
    other.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-2"))
    assert not torch.equal(plain.weights(other.model), plain.weights(whole.model))


@pytest.mark.parametrize(
    "text", ["step_top(0.5, nll())", "psft(0.28)", "brier()", "rho1(0.5, p())"]
)
def test_evaluation_has_a_value(text, tmp_path):
    training = plain.trainer(tmp_path, rows=rows(), objective=text)
    metrics = training.evaluate()
    assert math.isfinite(metrics["eval_loss"]) and metrics["eval_nll"] > 0


ON_BOTH_HEADS = (
    *("p", "power(10)", "eaft(1.0, 3.0)", "deft", "above(0.05, nll)"),
    *("step_top(0.5, nll())", "weighted(p(), 'quality')", "psft(0.05)", "on_reference(p())"),
)


@pytest.mark.parametrize("text", ON_BOTH_HEADS)
def test_our_head_equals_trls(text, tmp_path):
    weights = {}
    for head in ("probtune", "trl"):
        trained = plain.trainer(tmp_path, rows=rows(), objective=text, head=head, max_steps=3)
        trained.train()
        assert trained.head == head
        weights[head] = (plain.logs(trained), plain.weights(trained.model))
    torch.testing.assert_close(weights["probtune"][1], weights["trl"][1], rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(weights["probtune"][0], weights["trl"][0], strict=True):
        for name in ("loss", "grad_norm", "nll", "entropy", "low_weight_share", "num_tokens"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-7), name


# --- what is refused -----------------------------------------------------------------------------


def test_refused_before_training(tmp_path):
    def refused(error, match, data=None, **changes):
        with pytest.raises(error, match=match):
            plain.trainer(tmp_path, rows=data or helpers.encoded_rows(4), **changes)

    refused(DataError, "no column 'quality'", objective="weighted(p(), 'quality')")
    refused(DataError, "no column 'answer_mask'", objective="nll_on_answer(p())")
    refused(UsageError, "better model: name it", objective="rho1(0.5, nll())")
    refused(UsageError, "which TRL's head does not compute", objective="gem(0.7)", head="trl")
    refused(UsageError, "no such file", objective="on_reference(p())", reference="none.arrow")
    refused(UsageError, "refresh_steps must be at least 1", refresh_steps=0)
    refused(UsageError, "head must be one of", head="liger")
    for value, match in (
        (-1.0, "row 1: 'quality' must not be negative"),
        (float("nan"), "must hold finite numbers"),
        ([1.0], r"has 1 numbers for \d+ tokens"),
    ):
        data = [{**row, "quality": value} for row in helpers.encoded_rows(4)]
        refused(DataError, match, data, objective="weighted(p(), 'quality')")
    data = [{**row, "better_logprobs": [0.5] * len(row["input_ids"])} for row in rows(4)]
    refused(DataError, "must be log-probabilities", data, objective="rho1(0.5, p())")


def test_texts_are_tokenized_by_trl_and_keep_their_weights(tmp_path):
    data = [
        {"prompt": "ask 1 + 2 =", "completion": " 3", "quality": 0.5},
        {"prompt": "ask 2 + 2 =", "completion": " 4", "quality": 2.0},
    ]
    training = ProbTuneTrainer(
        helpers.word_causal_model(),
        plain.config(tmp_path, objective="weighted(p(), 'quality')", dataset_kwargs=None),
        train_dataset=Dataset.from_list(data),
        processing_class=helpers.word_tokenizer(),
    )
    row = training.train_dataset[1]
    assert set(row["quality"]) == {2.0} and len(row["quality"]) == len(row["input_ids"])
    training.train()
    assert objective(training.args.objective) == objective("weighted(p(), 'quality')")
