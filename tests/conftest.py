"""Settings that must hold before torch and the Hugging Face libraries load."""

import gc
import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
if not torch.cuda.is_available():
    # Before anything loads Triton: the kernels then run on a CPU, interpreted.
    os.environ["TRITON_INTERPRET"] = "1"


def pytest_collection_finish(session):
    """accelerate collects garbage before every training. What is imported by now never is any, and
    looking through it took half of the time of a test that trains.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _quiet():
    from probtune.terminal import quiet_libraries

    quiet_libraries()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; the product never needs it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"REAL DATA NOT FOUND at {folder}: this test has not run")
    return folder


@pytest.fixture(scope="session")
def word_model(tmp_path_factory) -> Path:
    """A tiny saved model over a vocabulary of words, loaded by the ordinary path."""
    import helpers

    folder = tmp_path_factory.mktemp("models") / "words"
    helpers.save_word_model(folder)
    return folder
