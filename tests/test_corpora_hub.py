"""Answers of the hub before a download, and the messages that follow from them."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import datasets
import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from probtune.errors import DataError
from probtune.paper.corpora import CORPORA, hub, prepare

http = importlib.import_module(errors.HfHubHTTPError.__mro__[1].__module__.split(".")[0])
"""The HTTP library that the hub's client uses: httpx, or its successor."""

MAGICODER = CORPORA["magicoder"]
PART = MAGICODER.parts[0]


def refused(kind, status):
    response = http.Response(status, request=http.Request("GET", "https://huggingface.co"))
    return kind("refused", response=response)


@pytest.fixture()
def answers(monkeypatch):
    """The hub, answering as a test says; loading counts as an error unless a test allows it."""
    info = SimpleNamespace(sha="a" * 40, gated=False, siblings=[])
    state = SimpleNamespace(info=info, error=None, token=None, asked=[])

    def dataset_info(self, name, **keywords):
        state.asked.append((name, keywords["revision"]))
        if state.error is not None:
            raise state.error
        return state.info

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: state.token)
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: pytest.fail("downloaded"))
    return state


def file(name, megabytes):
    return SimpleNamespace(rfilename=name, size=round(megabytes * 1e6))


@pytest.mark.parametrize(
    "error, said",
    [
        (http.ConnectError("Name or service not known"), "Name or service not known. Check"),
        (refused(errors.HfHubHTTPError, 503), "--data FILE"),
        (refused(errors.GatedRepoError, 403), "hf auth login"),
        (refused(errors.RepositoryNotFoundError, 404), "HF_TOKEN"),
        (refused(errors.RevisionNotFoundError, 404), PART.revision),
    ],
)
def test_a_hub_that_refuses_is_said_before_any_download(error, said, answers, tmp_path):
    answers.error = error
    with pytest.raises(DataError) as raised:
        prepare(MAGICODER, out=tmp_path / "out")
    assert said in str(raised.value) and PART.dataset in str(raised.value)
    assert answers.asked == [(PART.dataset, PART.revision)], "the pinned commit is asked for"
    assert not (tmp_path / "out").exists()


def test_gated_data_without_a_token_is_said_before_any_download(answers, tmp_path, monkeypatch):
    answers.info.gated = "manual"
    with pytest.raises(DataError, match="accept them on .*hf auth login.*HF_TOKEN"):
        prepare(MAGICODER, out=tmp_path)
    answers.token = "a token without the agreement"

    def auth_check(self, name, repo_type):
        raise refused(errors.GatedRepoError, 403)

    monkeypatch.setattr(huggingface_hub.HfApi, "auth_check", auth_check)
    with pytest.raises(DataError, match="accepted its terms"):
        prepare(MAGICODER, out=tmp_path)


def test_too_small_a_disk_is_said_before_any_download(answers, tmp_path, monkeypatch):
    answers.info.siblings = [file("data-oss_instruct-decontaminated.jsonl", 203)]
    free = SimpleNamespace(free=round(600e6))
    monkeypatch.setattr("shutil.disk_usage", lambda path: free)
    with pytest.raises(DataError, match=r"0\.6 GB free, but 0\.6 GB are needed.*HF_HOME"):
        prepare(MAGICODER, out=tmp_path)
    free.free = round(610e6)
    assert hub.check([PART], tmp_path) == [hub.Offer("a" * 40, 203_000_000)]


def test_the_size_is_of_the_files_that_hold_the_part(answers, tmp_path):
    entry = CORPORA["muri"].parts
    languages = [f"{part.config}/train-00000-of-00001.parquet" for part in entry]
    answers.info.siblings = [
        file("README.md", 1),
        file("mar/test-00000-of-00001.parquet", 2),
        *(file(name, 10 + i) for i, name in enumerate(languages)),
    ]
    offers = hub.check(entry, tmp_path)
    assert [offer.bytes for offer in offers] == [round((10 + i) * 1e6) for i in range(7)]
    assert len(answers.asked) == 1, "one dataset is asked for once"


def test_without_a_network_only_the_cache_is_read(monkeypatch, tmp_path):
    assert hub.offline(), "as all tests"
    with pytest.raises(DataError, match="not in the cache, and HF_HUB_OFFLINE"):
        prepare(MAGICODER, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def loaded(monkeypatch, rows, calls):
    def load_dataset(name, config, **keywords):
        calls.append((name, config, keywords))
        kind = datasets.IterableDataset if keywords["streaming"] else datasets.Dataset
        if kind is datasets.Dataset:
            return datasets.Dataset.from_list(rows)
        return kind.from_generator(lambda: iter(rows))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


def test_a_changed_number_of_rows_is_refused_with_both(answers, tmp_path, monkeypatch):
    calls = []
    loaded(monkeypatch, [dict(PART.example) for _ in range(4)], calls)
    with pytest.raises(DataError, match="has 4 rows, known are about 75200"):
        prepare(MAGICODER, out=tmp_path / "out")
    assert calls[0][2]["revision"] == "a" * 40, "what the hub named is what is read"
    assert not (tmp_path / "out").exists()


def test_some_rows_are_streamed_and_the_commit_is_kept(answers, tmp_path, monkeypatch):
    calls = []
    loaded(monkeypatch, [dict(PART.example, problem=f"Problem {i}") for i in range(9)], calls)
    manifest = prepare(MAGICODER, out=tmp_path / "out", limit=3)
    (part,) = manifest.record["parts"]
    assert calls[0][2]["streaming"] and manifest.rows == 3
    assert part["revision"] == "a" * 40 and part["rows_source"] is None and part["rows_read"] == 3
    assert Path(manifest.path).read_text().count("\n") == 3
