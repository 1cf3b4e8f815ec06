"""Stacked training is training one at a time."""

import numpy as np
import pytest
import torch

from benchmarks.choice import families
from benchmarks.choice.bases import Setting
from benchmarks.choice.cell import train_step
from benchmarks.choice.members import OBJECTIVES, Weights
from benchmarks.choice.stacked import AdamW, decode, expand, initial, response_logits
from probtune.objectives import Signals, objective

RATES = (1e-3, 1e-2)


def setting_and_rows(n=24):
    setting = Setting.of(families.chain, 0, width=16)
    drawn = setting.draw(np.random.default_rng(0), n, new=True)
    return setting, torch.from_numpy(drawn.ids)


def train(setting, base, ids, names, rates, *, mean_p=0.5):
    of_sequence = torch.linspace(0.1, 1.0, len(ids), dtype=torch.float64)
    weights = Weights(names, len(rates), mean_p=mean_p, of_sequence=of_sequence)
    model = expand(base, len(names) * len(rates))
    optimizer = AdamW(list(model.values()), torch.tensor(list(rates) * len(names)).double())
    for step in range(5):
        rows = torch.arange(8) + 4 * step
        train_step(setting, model, optimizer, weights, ids, rows, 1.0 - 0.1 * step)
    return model


def test_every_member_of_a_stack_trains_as_it_would_alone():
    setting, ids = setting_and_rows()
    base = initial(setting.shape, 3, dtype=torch.float64)
    stack = train(setting, base, ids, OBJECTIVES, RATES)
    for i, name in enumerate(OBJECTIVES):
        for j, rate in enumerate(RATES):
            alone = train(setting, base, ids, (name,), (rate,))
            for key, value in alone.items():
                torch.testing.assert_close(
                    stack[key][i * len(RATES) + j], value[0], rtol=1e-9, atol=1e-11
                )
    assert not torch.allclose(stack["head"][0], stack["head"][1])


@pytest.mark.parametrize("name", ("nll()", "power(0.5)", "eaft(1.0, 3.0)", "floor(0.1, dft())"))
def test_one_member_equals_autograd_through_the_objective_torchs_adam_and_its_clipping(name):
    setting, ids = setting_and_rows()
    base = initial(setting.shape, 4, dtype=torch.float64)
    ours = train(setting, base, ids, (name,), (1e-2,))
    theirs = expand(base, 1)
    optimizer = torch.optim.Adam(theirs.values(), lr=1e-2, betas=(0.9, 0.98))
    for step in range(5):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1.0 - 0.1 * step)
        batch = ids[torch.arange(8) + 4 * step]
        targets = batch[:, setting.prompt :]
        every = response_logits(theirs, batch, setting.shape, prompt=setting.prompt)[0]
        every = every.log_softmax(-1)
        valid = targets != setting.world.sign("<pad>")
        logp = every.gather(-1, targets[..., None])[..., 0][valid]
        entropy = -(every.exp() * every).sum(-1)[valid]
        f = objective(name).bind(Signals(entropy=entropy))
        (f.value(logp).sum() / valid.sum()).backward()
        torch.nn.utils.clip_grad_norm_(theirs.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-6, atol=1e-9)


def test_decoding_with_a_cache_is_decoding_without():
    setting, ids = setting_and_rows(6)
    model = {
        k: torch.cat([v, initial(setting.shape, 6)[k]])
        for k, v in initial(setting.shape, 5).items()
    }
    said = decode(model, ids[:, : setting.prompt], setting.shape, steps=setting.room)
    for member in range(2):
        one = {name: value[member : member + 1] for name, value in model.items()}
        rows = ids.clone()
        for position in range(setting.prompt, ids.shape[1]):
            logits = response_logits(one, rows, setting.shape, prompt=setting.prompt)
            rows[:, position] = logits[0, :, position - setting.prompt].argmax(-1)
        assert torch.equal(rows[:, setting.prompt :], said[member])
