"""The head on two ranks equals the head on one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_kernels import inputs

from probtune.kernels import VocabParallel, linear_objective_loss
from probtune.kernels.rows import RowStatistics
from probtune.objectives import objective, p


@pytest.mark.slow
@pytest.mark.distributed
def test_two_ranks_equal_one():
    """A vocabulary in slices, with one collective per block; FSDP2 with the head inside the root,
    tied to the embeddings, in a group of its own or with the last norm, with LoRA on it, and in
    mixed precision; tensor parallelism."""
    folder = Path(__file__).parent
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*command, str(folder / "ranks_script.py")], capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split() == ["passed"]


def test_slices_combine_to_the_whole(monkeypatch):
    """The exchange itself, with the other rank's tensor put in by hand."""
    torch.manual_seed(0)
    z = 30.0 * torch.randn(5, 11, dtype=torch.float64)
    z[:, 0] = -torch.inf  # the target's place

    def of(part):
        maximum = part.amax(1)
        e = (part - maximum[:, None]).exp()
        logits = (e * part.clamp(min=-1e9)).sum(1)
        absent = torch.full_like(maximum, -torch.inf)
        return RowStatistics(absent, maximum, e.sum(1), logits, (e * e).sum(1))

    slices = [of(z[:, :7]), of(z[:, 7:])]

    def gather(packed, mine, group=None):
        for target, rows in zip(packed, slices, strict=True):
            target.copy_(torch.stack(list(rows)))

    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group=None: 2)
    monkeypatch.setattr(torch.distributed, "all_gather", gather)
    combined = VocabParallel(0, 11).combine(slices[0])
    torch.testing.assert_close(combined, of(z))


def test_a_dtensor_is_refused_in_words(tmp_path):
    """Whoever gathers it decides what its gradient means."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import distribute_tensor

    hidden, weight, labels, _ = inputs()
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        sharded = torch.nn.Parameter(distribute_tensor(weight.detach(), mesh))
        with pytest.raises(ValueError, match="got a DTensor"):
            linear_objective_loss(hidden, sharded, labels, p())
    finally:
        torch.distributed.destroy_process_group()


def test_what_a_split_vocabulary_cannot_serve_is_refused():
    hidden, weight, labels, _ = inputs()
    with pytest.raises(ValueError, match="is not inside the vocabulary of 40"):
        linear_objective_loss(hidden, weight, labels, p(), parallel=VocabParallel(4, 40))
    for f, impl in ((p(), "reference"), (objective("gem(0.5)"), "auto")):
        with pytest.raises(ValueError, match="a vocabulary split over ranks serves"):
            linear_objective_loss(
                hidden, weight, labels, f, parallel=VocabParallel(0, 40), impl=impl
            )
