"""The set-up is locked, and what is built from the source is the same every time."""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("supply", ROOT / ".ci" / "supply.py")
assert spec is not None and spec.loader is not None
supply = importlib.util.module_from_spec(spec)
spec.loader.exec_module(supply)


def test_every_dependency_is_locked_with_hashes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *extras["dev"], *extras["eval"], *extras["figlet"]]
    locked = supply.locked()
    assert len(locked) > 100 and all(hashes for _, hashes in locked.values())
    pinned = (ROOT / "constraints" / "cpu.txt").read_text()
    for requirement in named:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower()
        assert name in locked or f"{name}==" in pinned or name == "probtune", requirement
    for requirement in named:
        if match := re.fullmatch(r"(\S+?)==([\d.]+\d)", requirement):
            assert locked[match[1].lower()][0] == match[2]


def test_licences_of_what_is_installed_are_allowed():
    assert list(supply.wrong_licences()) == []


def test_a_package_without_a_hash_or_with_another_licence_is_named(tmp_path, monkeypatch, capsys):
    lock = tmp_path / "locked.txt"
    lock.write_text("pytest==1.0\nnumpy==2.0 \\\n    --hash=sha256:00\n")
    monkeypatch.setattr(supply.locked, "__defaults__", (lock,))
    monkeypatch.setattr(supply, "licence_of", lambda package: "Proprietary")
    monkeypatch.setattr(supply, "audit", list)
    assert supply.main() == 1
    out = capsys.readouterr().out
    assert "pytest is locked without a hash" in out and "not allowed: Proprietary" in out


def test_holes_are_named_and_what_was_not_looked_up_is_counted(monkeypatch, capsys):
    packages = [
        {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]},
        {"name": "b", "version": "1", "vulns": []},
        {"name": "c", "skip_reason": "not found"},
    ]
    monkeypatch.setattr(supply.importlib.util, "find_spec", lambda name: name)

    def answers(output):
        answer = SimpleNamespace(stdout=output, stderr="no route\n", returncode=0)
        monkeypatch.setattr(supply.subprocess, "run", lambda *a, **k: answer)
        return supply.audit()

    assert answers(json.dumps({"dependencies": packages})) == [
        "a 1 has the known hole PYSEC-1 (mended in 2)"
    ]
    assert "looked up for 2 of 3 packages" in capsys.readouterr().out
    assert answers("") == [] and "could not: no route" in capsys.readouterr().out


@pytest.mark.slow
def test_two_builds_are_one_wheel(tmp_path):
    """Needs hatchling, or the network to fetch it."""
    build = ["-m", "pip", "wheel", "--quiet", "--no-deps", ".", "--wheel-dir"]
    if importlib.util.find_spec("hatchling") is not None:
        build = ["-m", "hatchling", "build", "--target", "wheel", "--directory"]
    hashes = set()
    for name in ("first", "second"):
        environment = os.environ | {"SOURCE_DATE_EPOCH": "1700000000"}
        command = [sys.executable, *build, str(tmp_path / name)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode and "hatchling" in done.stderr:
            pytest.skip("hatchling is not installed and cannot be fetched")
        assert done.returncode == 0, done.stderr
        (wheel,) = (tmp_path / name).glob("*.whl")
        hashes.add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert len(hashes) == 1
