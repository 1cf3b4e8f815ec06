import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import probtune

EXTRAS = {"lm_eval", "vllm", "evalplus", "pebble", "math_verify", "rapidfuzz", "triton"}
EXTRAS |= {
    "nemo_automodel",
    "axolotl",
    "pytorch_lightning",
    "lightning",
    "torchtitan",
    "tinker",
    "verl",
}
"""Packages that a module may import and that a plain installation lacks."""

MODULES = [
    info.name
    for info in pkgutil.walk_packages(probtune.__path__, "probtune.")
    if not info.name.endswith("__main__")
]


def test_everything_named_can_be_imported_and_nothing_else_is_there():
    assert probtune.__all__ == sorted(probtune.__all__)
    for name in probtune.__all__:
        assert getattr(probtune, name) is not None
    assert set(probtune.__all__) == set(probtune._HOME_OF) | {"__version__"}
    assert dir(probtune) == probtune.__all__
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = probtune.nope


def test_names_the_documentation_promises():
    from probtune import (  # noqa: F401
        ProbTuneConfig,
        ProbTuneTrainer,
        above,
        below,
        dft,
        linear_objective_loss,
        linear_target_logprobs,
        log1m,
        nll,
        objective,
        objectives,
        p,
        power,
        probe,
    )

    assert set(objectives.MEMBERS) <= set(probtune.__all__)
    assert set(objectives.MEMBERS) <= set(objectives.__all__)


def test_every_member_can_be_imported_from_the_package():
    for name, member in probtune.objectives.MEMBERS.items():
        assert getattr(probtune, name) is member


def test_importing_loads_no_torch():
    script = "import sys, probtune; dir(probtune); print('torch' in sys.modules, len(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split()[0] == "False"


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_an_explicit_and_true_all(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        pytest.skip(f"{name} needs {error.name}, which is not installed")
    if not hasattr(module, "__all__"):
        assert [k for k, v in vars(module).items() if inspect.isfunction(v)] == [], name
        return
    # constants first, as ruff sorts it
    assert module.__all__ == sorted(module.__all__, key=lambda n: (not n.isupper(), n))
    for public in module.__all__:
        assert hasattr(module, public), f"{name}.{public}"
    for key, value in vars(module).items():
        if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == name:
            assert key.startswith("_") or key in module.__all__, f"{name}.{key} is not listed"


@pytest.mark.parametrize("name", [n for n in probtune.__all__ if n != "__version__"])
def test_public_names_are_documented(name):
    assert inspect.getdoc(getattr(probtune, name))
