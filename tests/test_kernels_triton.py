"""The Triton kernels, under the interpreter where there is no GPU, and compiled ahead of time."""

import os
import subprocess
import sys

import pytest
import torch
from test_kernels import Recorder, gradients, inputs, split

from probtune.kernels import linear_objective, linear_target_statistics
from probtune.kernels.reference import statistics_of_logits
from probtune.kernels.rows import front_first
from probtune.objectives import objective

pytest.importorskip("triton")
import triton
import triton.language as tl

from probtune.kernels import slices, triton_epilogue, triton_rows

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SCALED = dict(bias=True, logit_scale=1.7)
HEADS = {
    "triton": [dict(), dict(SCALED, softcap=4.0)],
    "epilogue": [dict(), SCALED],
}
TEXTS = ["nll", "above(0.2, nll)", "deft()", "entropy_bonus(0.2, brier())"]
CASES = [
    (impl, head, text)
    for impl, heads in HEADS.items()
    for head in heads
    for text in TEXTS
    if impl == "triton" or not objective(text).terms
]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Blocks of at most 9 rows and programs of 16 columns, which divide neither 23 nor 37."""
    monkeypatch.setattr(triton_rows, "_BYTES", 9 * 37 * 4)
    monkeypatch.setattr(triton_rows, "_COLUMNS", 16)
    monkeypatch.setattr(slices, "_CPU_BYTES", 9 * 37 * 4)


def on_device(*tensors):
    return [None if x is None else x.detach().to(DEVICE).requires_grad_(x.is_floating_point())
            for x in tensors]  # fmt: skip


@pytest.mark.parametrize("impl, head, text", CASES)
def test_equal_to_the_reference(impl, head, text):
    """Values, statistics and gradients in float32, with rows ignored and rows without weight."""
    with_bias, options = split(head)
    tensors = inputs(torch.float32, masked=[0, 4, 5, 22], bias=with_bias)
    hidden, weight, labels, bias = on_device(*tensors)
    results = []
    for name in ("reference", impl):
        actual = linear_objective(
            hidden, weight, labels, objective(text), bias=bias, impl=name, z_loss=0.01, **options
        )
        results.append((actual, gradients(actual.loss, -2.5, hidden, weight, bias)))
    (expected, slow), (result, fast) = results
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("impl", ["triton", "epilogue"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_two_passes_equal_one(impl, dtype):
    tensors = inputs(dtype, masked=[1, 22], bias=True, scale=1.0)
    hidden, weight, labels, bias = on_device(*tensors)
    results = []
    for two_pass in (False, True):
        loss = linear_objective(
            hidden, weight, labels, objective("above(0.02, nll)"), bias=bias, logit_scale=1.3,
            two_pass=two_pass, impl=impl,
        ).loss  # fmt: skip
        results.append((loss, *gradients(loss, 1.0, hidden, weight, bias)))
    small = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 0, "atol": 2e-3}
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(two, one, **small)


@pytest.mark.parametrize("impl", ["triton", "epilogue"])
def test_statistics_with_any_upstream_gradient(impl):
    hidden, weight, labels, _ = on_device(*inputs(torch.float32, masked=[3]))
    torch.manual_seed(1)
    upstream = torch.randn(2, 23, device=DEVICE)
    upstream[:, 6] = 0.0
    if impl == "epilogue":
        upstream[1] = 0.0
    results = []
    for name in ("reference", impl):
        out = linear_target_statistics(hidden, weight, labels, impl=name)
        total = (out.logp * upstream[0]).sum()
        if impl != "epilogue":
            total = total + (out.entropy * upstream[1]).sum()
        results.append((*out, *torch.autograd.grad(total, (hidden, weight))))
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=2e-5)


def rounded_gradients(hidden, weight, labels, f):
    """The best that gradients of the logits in the inputs' dtype allow: exact statistics, one
    rounding, exact sums, results rounded.
    """
    h, w = hidden.detach().double(), weight.detach().double()
    logits = (h @ w.T).requires_grad_()
    logp, _, _ = statistics_of_logits(logits, labels, entropy=False)
    (dz,) = torch.autograd.grad(f.value(logp).mean(), logits)
    dz = dz.to(hidden.dtype).double()
    return [(dz @ w).to(hidden.dtype), (dz.T @ h).to(hidden.dtype)]


@pytest.mark.parametrize("text", ["nll", "p", "power(10)"])
@pytest.mark.parametrize("impl", ["chunked", "chunked in bfloat16", "triton", "epilogue"])
def test_error_in_half_precision_is_that_of_rounded_gradients(impl, text, monkeypatch):
    """At most 1.2 times, on every path."""
    monkeypatch.setattr(triton_rows, "_COLUMNS", 128)
    monkeypatch.setattr(triton_rows, "_BYTES", 2**20)
    impl, _, bfloat16 = impl.partition(" in ")
    dtype = torch.bfloat16 if bfloat16 else torch.float16
    hidden, weight, labels, _ = inputs(dtype, n=64, d=16, v=100, scale=1.5)
    labels = labels.clamp(max=3)
    f = objective(text)
    exact = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    loss = linear_objective(*exact, labels, f, impl="reference").loss
    truth = torch.autograd.grad(loss, exact)
    best = rounded_gradients(hidden, weight, labels, f)
    hidden, weight = on_device(hidden, weight)
    loss = linear_objective(hidden, weight, labels.to(DEVICE), f, impl=impl).loss
    gradient = torch.autograd.grad(loss, (hidden, weight))
    for expected, rounded, x in zip(truth, best, gradient, strict=True):
        error = (x.double().cpu() - expected).norm()
        floor = (rounded.double() - expected).norm()
        assert error < 1.2 * floor


def test_numbers_in_16_bits_lose_one_part_in_4096():
    @triton.jit
    def there_and_back(x, out, n: tl.constexpr):
        at = tl.arange(0, n)
        tl.store(out + at, triton_epilogue.unpacked(triton_epilogue.packed(tl.load(x + at))))

    e = torch.cat([torch.logspace(-12, 0, 4091), torch.tensor([0.0, 1.0, 1 - 2**-24, 0.5, 2**-31])])
    e = e.to(DEVICE)
    unpacked = torch.empty_like(e)
    there_and_back[(1,)](e, unpacked, 4096)
    normal = e > 2**-31
    assert 2**-13 < ((unpacked - e).abs() / e)[normal].max() <= 2**-12
    assert (
        not unpacked[e < 2**-32].any() and (unpacked[-5:-3].cpu() == torch.tensor([0.0, 1.0])).all()
    )


def test_the_interpreter_is_not_trusted_with_bfloat16():
    if DEVICE == "cuda":
        pytest.skip("there is no interpreter")
    hidden, weight, labels, _ = inputs(torch.bfloat16)
    with pytest.raises(ValueError, match="bfloat16 wrongly"):
        linear_objective(hidden, weight, labels, objective("nll"), impl="epilogue")


@pytest.mark.parametrize(
    "impl, dtype, text, options, said",
    [
        ("triton", torch.float64, "nll", {}, "the inputs are float64; use impl='auto'"),
        ("epilogue", torch.float64, "nll", {}, "the inputs are float64; use impl='auto'"),
        ("triton", torch.float32, "gem(0.5)", {}, "needs more of the distribution"),
        ("epilogue", torch.float32, "brier()", {}, "no gradient of collision"),
        ("epilogue", torch.float32, "nll", {"softcap": 4.0}, "softcapped logits"),
    ],
)
def test_what_the_kernels_do_not_serve_is_refused(impl, dtype, text, options, said):
    hidden, weight, labels, _ = inputs(dtype)
    with pytest.raises(ValueError, match=said):
        linear_objective(hidden, weight, labels, objective(text), impl=impl, **options)


def test_rows_beyond_two_billion_elements():
    """Row 2 of a matrix whose rows are 2^30 elements apart begins at 2^31, where 32-bit offsets
    wrap. The memory between the rows is never touched."""
    stride, v = 2**30, 37
    big = torch.empty(2 * stride + v, dtype=torch.float16, device=DEVICE).as_strided(
        (3, v), (stride, 1)
    )
    torch.manual_seed(0)
    rows = torch.randn(3, v)
    big.copy_(rows)
    labels = torch.tensor([3, 0, 36], device=DEVICE)
    copied = torch.empty(5, 3, device=DEVICE)
    out = torch.empty(3, v, device=DEVICE)
    triton_rows.row_statistics[(3,)](
        big, stride, labels, big, *copied, 0, v, 1.0, 1.0, TRANSFORM=False, BIAS=False,
        SOFTCAP=False, ENTROPY=False, COLLISION=False, COLUMNS=64,
    )  # fmt: skip
    logits = big.float().cpu()
    logp, _, _ = statistics_of_logits(logits, labels.cpu(), entropy=False)
    u = copied[0] - copied[1] - copied[2].log()
    torch.testing.assert_close(torch.nn.functional.logsigmoid(u).cpu(), logp)
    ones = torch.ones(3, device=DEVICE)
    triton_rows.row_gradients[(3,)](
        big, stride, out, v, labels, labels, copied[1].contiguous(), ones / copied[2], ones, ones,
        -ones, 0, v, 1.0, ACTIVE=False, OF_LOGIT=False, SQUARE=False, SOFTCAP=False, COLUMNS=64,
    )  # fmt: skip
    expected = logits.scatter(1, labels.cpu()[:, None], float("-inf")).softmax(1)
    expected.scatter_(1, labels.cpu()[:, None], -1.0)
    torch.testing.assert_close(out.cpu(), expected)


class Waits(Recorder):
    """Calls that make the host wait for a device, where there is one."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().split(".")[0].removeprefix("aten::")
        moved = name == "_to_copy" and (kwargs or {}).get("device") is not None
        if moved or name in ("nonzero", "_local_scalar_dense", "item", "unique", "masked_select"):
            self.found.append(name)
        return super().__torch_dispatch__(func, types, args, kwargs)


@pytest.mark.parametrize("row_eps", [0.0, 0.1])
def test_the_host_waits_for_the_number_of_rows_only(row_eps):
    """Once per block, 23 rows in blocks of 8; besides once for the labels, whose check `tolist`
    makes, which no dispatcher sees."""
    hidden, weight, labels, _ = on_device(*inputs(torch.float32, masked=[0, 4]))
    for text in ("nll", "above(0.2, nll)"):
        with Waits() as waits:
            linear_objective(
                hidden, weight, labels, objective(text), impl="triton", row_eps=row_eps
            )
        assert waits.found == ["nonzero"] * 3


@pytest.mark.gpu
def test_the_host_waits_four_times_on_a_gpu(recwarn):
    hidden, weight, labels, _ = on_device(*inputs(torch.float32, masked=[0, 4]))
    f = objective("above(0.2, nll)")
    linear_objective(hidden, weight, labels, f, impl="triton").loss.backward()  # compiles
    recwarn.clear()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        linear_objective(hidden, weight, labels, f, impl="triton").loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(recwarn) == 4


def test_one_block_of_memory():
    """The gradients take the place of the logits: nothing else is as large as a block."""
    hidden, weight, labels, _ = on_device(*inputs(torch.float16, n=60, d=2))
    for impl in ("triton", "epilogue"):
        with Waits() as recorder:
            linear_objective(hidden, weight, labels, objective("p"), impl=impl).loss.backward()
        sizes = [size for size in recorder.sizes if size >= 8 * 37]
        assert sizes == [sizes[0]], impl


def test_rows_move_to_the_front_in_place():
    torch.manual_seed(0)
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        mask = torch.rand(50) < share
        order = front_first(mask)
        count = int(mask.sum())
        assert sorted(order.tolist()) == mask.nonzero().squeeze(1).tolist()
        stays = order == torch.arange(count)
        assert (stays == mask[:count]).all() and (order[~stays] >= count).all()


def test_same_bits_every_time():
    hidden, weight, labels, _ = on_device(*inputs(torch.float32, masked=[1]))
    result = [
        torch.autograd.grad(
            linear_objective(hidden, weight, labels, objective("p"), impl="triton").loss,
            (hidden, weight),
        )
        for _ in range(2)
    ]
    assert all(a.equal(b) for a, b in zip(*result, strict=True))


# --- compiled ahead of time ----------------------------------------------------------------------

COMPILE = """
import itertools, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from probtune.kernels import triton_epilogue as e, triton_rows as r

POINTERS = {
    "labels": "*i64", "active": "*i64", "x": "*bf16", "hidden": "*bf16", "weight": "*bf16",
    "bias": "*fp32", "others": "*i16", "gradients": "*bf16",
}
NUMBERS = {"logit_scale": "fp32", "softcap": "fp32"}
INTEGERS = {"stride", "gradients_stride", "hidden_stride", "weight_stride", "others_stride",
            "start", "vocabulary", "tiles", "num_rows", "depth", "size"}
SIZES = {
    r.row_statistics: dict(COLUMNS=4096), r.row_gradients: dict(COLUMNS=4096),
    e.matmul_statistics: dict(ROWS=128, COLUMNS=128, DEPTH=64, GROUP=8),
    r.scaled: dict(COLUMNS=4096), e.rescaled: dict(TILE=128, COLUMNS=4096),
}
TARGETS = [GPUTarget("cuda", 80, 32), GPUTarget("cuda", 90, 32), GPUTarget("hip", "gfx942", 64)]
for (kernel, sizes), target in itertools.product(SIZES.items(), TARGETS):
    constants, signature = {}, {}
    for name in kernel.arg_names:
        if name.isupper():
            constants[name] = sizes.get(name, True)
            signature[name] = "constexpr"
        elif name in INTEGERS:
            signature[name] = "i32"
        else:
            signature[name] = NUMBERS.get(name) or POINTERS.get(name, "*fp32")
    options = {"num_warps": 4, "num_stages": 2} if target.backend == "hip" else {"num_warps": 8}
    made = triton.compile(ASTSource(kernel, signature, constants), target=target, options=options)
    binary = made.asm["hsaco" if target.backend == "hip" else "cubin"]
    print(kernel.__name__, target.arch, len(binary))
"""


def test_every_kernel_compiles_for_three_gpus(tmp_path):
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    env |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 15 and all(int(line[2]) > 1000 for line in lines)
