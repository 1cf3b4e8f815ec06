"""Checks of what the set-up installs: every package locked with hashes, licences that may be used
together with ours, and holes that pip-audit knows, where it is installed and reaches its database.

python .ci/supply.py
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "constraints" / "locked.txt"
ALLOWED = re.compile(
    r"apache|bsd|\bmit\b|isc|mpl|mozilla|python|psf|zlib|unlicense|public domain|0bsd|cc0|hpnd"
    r"|boost|lgpl|lesser general public",
    re.IGNORECASE,
)
NAMED = {
    "axe-playwright-python": "MIT, by its file LICENSE; axe-core in it: MPL-2.0",
    "zss": "BSD, by its file LICENSE",
    "stop-sequencer": "none stated; evalplus installs it, and we use and ship nothing of it",
}
"""Licences that packages do not state in their metadata."""


def locked(path: Path = LOCK) -> dict[str, tuple[str, int]]:
    """Return name -> (version, number of hashes)."""
    packages: dict[str, tuple[str, int]] = {}
    name = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)==([^ ;]+)", line):
            name = match[1].lower()
            packages[name] = match[2], 0
        if "--hash=sha256:" in line:
            packages[name] = packages[name][0], packages[name][1] + 1
    return packages


def licence_of(package: importlib.metadata.Distribution) -> str:
    """Return what a package says of its licence."""
    data = package.metadata
    classifiers = [c for c in data.get_all("Classifier", []) if c.startswith("License ::")]
    stated = data.get("License-Expression") or "; ".join(c.split(" :: ")[-1] for c in classifiers)
    return stated or (data.get("License") or "").split("\n")[0]


def wrong_licences() -> Iterator[str]:
    """Packages of the lock that are installed under a licence that is not allowed."""
    for name in locked():
        try:
            stated = licence_of(importlib.metadata.distribution(name))
        except importlib.metadata.PackageNotFoundError:
            continue
        if not ALLOWED.search(stated) and name not in NAMED:
            yield f"{name} has a licence that is not allowed: {stated or 'none'}"


def audit() -> list[str]:
    """Return the known holes of the locked versions, and print what could not be looked up."""
    if importlib.util.find_spec("pip_audit") is None:
        print("known holes were not looked up: pip-audit is not installed (pip install pip-audit)")
        return []
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--require-hashes"]
    command += ["--disable-pip", "--progress-spinner", "off", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"known holes were not looked up, since pip-audit could not: {reason}")
        return []
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    print(f"known holes looked up for {len(packages) - len(skipped)} of {len(packages)} packages")
    return [
        f"{package['name']} {package['version']} has the known hole {hole['id']}"
        f" (mended in {', '.join(hole['fix_versions']) or 'no version'})"
        for package in packages
        for hole in package.get("vulns", ())
    ]


def main() -> int:
    bare = [name for name, (_, hashes) in locked().items() if not hashes]
    wrong = list(wrong_licences())
    for line in (*(f"{name} is locked without a hash" for name in bare), *wrong):
        print(line)
    print(f"{len(locked())} packages locked with hashes, {len(wrong)} licences not allowed")
    holes = audit()
    for line in holes:
        print(line)
    return 1 if bare or wrong or holes else 0


if __name__ == "__main__":
    sys.exit(main())
