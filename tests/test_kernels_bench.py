"""The benchmarks of the head: that they run, and what they call reached."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu
    import head

    return gpu, head


@pytest.mark.slow
def test_the_gpu_script_runs_on_a_cpu(tmp_path):
    """The whole path at tiny shapes: processes, times, errors, targets, JSON and picture."""
    pytest.importorskip("triton")
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--dry-run", "--out", str(tmp_path)]
    done = subprocess.run([*command, "--tests", "none"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert (tmp_path / "gpu.svg").stat().st_size > 1000
    by = {(c["peer"], c["objective"], c["masked"]): c for c in record["cases"]}
    assert {peer for peer, _, _ in by} >= {"ours", "naive"}
    for case in by.values():
        assert case["ms"]["p20"] <= case["ms"]["median"] <= case["ms"]["p80"]
        assert 0 < case["kept"] <= 1
        assert max(case.get("error", {"none": 0.0}).values()) < 1e-2
    ours, plain = by["ours", "power(10)", 0.0], by["naive", "power(10)", 0.0]
    assert max(ours["error"].values()) < max(plain["error"].values())
    assert by["ours", "kept", 0.0]["kept"] == pytest.approx(0.3, abs=0.05)
    assert record["device"]["versions"]["torch"] and record["tests"] == "none"
    assert all({"what", "asked", "found"} == set(target) for target in record["targets"])


def test_what_the_gpu_script_calls_reached(scripts):
    gpu, _ = scripts

    def case(peer, ms, objective="nll()", masked=0.0):
        return {
            "peer": peer, "objective": objective, "masked": masked, "shape": "llama",
            "ms": {"median": ms}, "ceiling_ms": {"median": 30.0}, "peak_mib": ms,
            "error": {"hidden": 0.001, "weight": 0.002},
        }  # fmt: skip

    result = [
        case("ours", 33.0), case("liger", 30.0), case("ours", 10.0, masked=0.5),
        case("liger", 20.0, masked=0.5), case("quack", 30.0, masked=0.5),
        case("ours", 16.5, "kept"), case("ours", 33.0, "power(10)"), case("liger-2048", 40.0),
        case("ours-lean", 38.0),
    ]  # fmt: skip
    values = [target["found"] for target in gpu.targets(result)]
    assert values == [1.1, 0.9091, None, 2.0, 0.5, 1.0, 0.002, 0.95, 0.825, 0.95]
    assert [target["found"] for target in gpu.targets([])] == [None] * 10


def test_the_cpu_targets_take_the_worst_case(scripts):
    _, head = scripts

    def case(peer, seconds, tokens, masked, mib=100.0):
        return {
            "peer": peer, "shape": "small", "tokens": tokens, "masked": masked,
            "dtype": "float32", "seconds": [seconds], "ceiling": [1.0], "peak_mib": mib,
        }  # fmt: skip

    result = [
        case("plain", 2.0, 1024, 0.5), case("torch", 1.6, 1024, 0.5), case("ours", 0.8, 1024, 0.5),
        case("plain", 2.0, 4096, 0.5, 800.0), case("ours", 1.2, 4096, 0.5, 80.0),
    ]  # fmt: skip
    _, rows = head.targets(result)
    assert [row[2] for row in rows] == ["0.50 to 0.60", "0.100"]
    assert rows[0][3].startswith("4096")
