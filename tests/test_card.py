"""Model cards: in every model folder, read back by huggingface_hub, without a guess."""

import json
import re
from types import SimpleNamespace

import helpers
import pytest
from huggingface_hub import ModelCard, metadata_load

import probtune.files as files
from probtune.cli import _parser, main
from probtune.models.card import Card, Measured, hub_name, licence_of, model_card
from probtune.objectives import objective
from probtune.options import arguments_of
from probtune.settings import TuneSettings


def check(text):
    """Compare a card with what huggingface_hub makes of it, and return its metadata."""
    assert not re.search(r"\bNone\b|\bnull\b|\bnan\b", text), text
    card = ModelCard(text)
    assert card.data.tags and card.text.strip().startswith("# ")
    return card.data


@pytest.fixture(scope="module")
def run(word_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    model = folder / "words"
    model.mkdir()
    for path in word_model.iterdir():
        (model / path.name).symlink_to(path)
    (model / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n\n# words\n")
    data = helpers.write_jsonl(folder / "sums.jsonl", helpers.sums(48))
    arguments = [
        *("tune", str(model), str(data), "--compare", "power(0.5)", "--max-steps", "4"),
        *("--batch-size", "4", "--gradient-accumulation", "1", "--probe-examples", "16"),
        *("--scout-steps", "1", "--heldout", "8", "--out", str(folder / "out")),
    ]
    assert main(arguments) == 0
    return folder / "out", arguments


def test_every_model_of_a_run_has_a_card_with_its_results(run):
    out, arguments = run
    record = json.loads((out / "record.json").read_text())
    models = sorted(out.glob("*/model"))
    assert len(models) == 2
    for model in models:
        assert files.damage(model) is None
        data = check((model / "README.md").read_text())
        assert data.license == "cc-by-4.0" and data.library_name == "transformers"
        name = json.loads((model.parent / "train.json").read_text())["objective"]
        (measured,) = [r for r in record["runs"] if r["name"] == name]
        results = {r.metric_type: r.metric_value for r in data.eval_results}
        assert results == {k: v["value"] for k, v in measured["heldout"]["metrics"].items()}
        text = (model / "README.md").read_text()
        for part in (name, record["data"]["sha256"], "base model | after a scout", "held-out"):
            assert part in text
        command = re.search(r"```bash\nprobtune (.*)\n```", text)[1].split()
        assert set(arguments) <= {word.strip("'") for word in command}


def test_a_trainers_card_names_its_objective(word_model, tmp_path):
    from datasets import Dataset

    from probtune import ProbTuneConfig, ProbTuneTrainer

    config = ProbTuneConfig(
        str(tmp_path / "out"), objective="power(0.5)", max_steps=1, report_to="none",
        save_strategy="no", disable_tqdm=True, per_device_train_batch_size=2,
    )  # fmt: skip
    rows = Dataset.from_list(helpers.sums(4))
    trainer = ProbTuneTrainer(str(word_model), config, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    loss = trainer.evaluate()
    trainer.create_model_card(dataset_name="me/sums", tags="sums")
    text = (tmp_path / "out" / "README.md").read_text()
    data = check(text)
    assert "`power(0.5)`" in text and "(1-p^alpha)/alpha" in text.replace(" ", "")
    assert data.datasets == "me/sums" and {"probtune", "sums"} <= set(data.tags)
    results = {r.metric_type: r.metric_value for r in data.eval_results}
    assert results["nll"] == loss["eval_nll"]


def test_a_card_says_nothing_that_is_not_known(tmp_path):
    text = model_card(Card(objective=objective("p"), base=str(tmp_path), title="mine"))
    data = check(text)
    assert data.base_model is None and data.license is None and data.eval_results is None
    assert "## Training" not in text and "held-out" not in text and str(tmp_path.parent) not in text


def test_secrets_do_not_travel():
    text = model_card(
        Card(objective("p"), "org/base", "mine", command="probtune tune https://a:b@host/x y")
    )
    assert "a:b@" not in text


def test_names_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "here").mkdir(parents=True)
    assert hub_name("org/base") == "org/base"
    for local in ("org/here", "./x/y", "/a/b", "rows.jsonl", "data/rows.jsonl", "a/b/c"):
        assert hub_name(local) is None
    assert licence_of("smollm2-135m") == {"license": "apache-2.0"}
    (tmp_path / "org" / "here" / "README.md").write_text("---\nlicense: [1\n---\n")
    assert licence_of("org/here") == {} == licence_of("org/nowhere")


def test_metrics_without_an_interval_or_a_value():
    metrics = {
        "nll": {"value": 1.5, "low": None, "high": None},
        "exact_match": {"value": None, "low": None, "high": None},
    }
    data = check(
        model_card(Card(objective("p"), "a/b", "m", heldout=[Measured("p()", metrics, 3)]))
    )
    assert [r.metric_type for r in data.eval_results] == ["nll"]


# --- a text that is replaced in a folder with a manifest ---------------------------------------


@pytest.mark.parametrize("old", [None, "first"])
def test_an_interrupted_replacement_leaves_a_whole_folder(old, tmp_path, monkeypatch):
    target = tmp_path / "model"
    with files.whole_folder(target) as beside:
        (beside / "weights").write_text("w")
        if old is not None:
            (beside / "README.md").write_text(old)
    write = files.write_text

    def killed(at):
        calls = []

        def failing(path, text):
            calls.append(path)
            if len(calls) == at:
                raise KeyboardInterrupt
            write(path, text)

        return failing

    for at in (1, 2, 3):
        monkeypatch.setattr(files, "write_text", killed(at))
        with pytest.raises(KeyboardInterrupt):
            files.replace_in_folder(target, "README.md", f"second {at}")
        assert files.damage(target) is None, at
    monkeypatch.setattr(files, "write_text", write)
    files.replace_in_folder(target, "README.md", "third")
    assert files.damage(target) is None and metadata_load(target / "README.md") is None
    (target / "README.md").write_text("THIRD")
    assert "other bytes" in files.damage(target)
    (target / "README.md").unlink()
    assert "missing" in files.damage(target)


# --- the hub ------------------------------------------------------------------------------------


class Hub:
    """Stands for `HfApi`, and remembers what was uploaded."""

    def __init__(self):
        self.repositories, self.uploads = [], []

    def __call__(self):
        return self

    def create_repo(self, name, **options):
        self.repositories.append((name, options))
        return SimpleNamespace(repo_id=f"me/{name.split('/')[-1]}")

    def upload_folder(self, *, repo_id, folder_path, ignore_patterns, commit_message):
        names = {p.name for p in folder_path.iterdir()} - set(ignore_patterns)
        self.uploads.append((repo_id, names))


def test_push_to_hub(run, monkeypatch, capsys):
    out, arguments = run
    hub = Hub()
    monkeypatch.setattr("huggingface_hub.HfApi", hub)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "token")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert main([*arguments, "--push-to-hub", "--hub-private-repo"]) == 0
    record = json.loads((out / "record.json").read_text())
    ((name, options),) = hub.repositories
    assert options == {"private": True, "exist_ok": True} and name.startswith("out-")
    ((repository, names),) = hub.uploads
    assert repository == f"me/{name}"
    assert {"README.md", "model.safetensors", "config.json"} <= names
    assert "manifest.json" not in names
    assert record["choice"]["objective"] in (out / name[4:] / "model" / "README.md").read_text()
    assert f"https://huggingface.co/me/{name}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "token, offline, options, said",
    [
        (None, False, ["--push-to-hub"], "hf auth login"),
        ("token", True, ["--push-to-hub"], "HF_HUB_OFFLINE"),
        ("token", False, ["--hub-model-id", "a/b"], "belong to --push-to-hub"),
    ],
)
def test_an_upload_that_cannot_work_is_refused_first(
    token, offline, options, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: token)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    out = tmp_path / "out"
    assert main(["tune", "no/model", "rows.jsonl", "--out", str(out), *options]) == 2
    assert said in capsys.readouterr().err and not out.exists()


# --- settings as a command ----------------------------------------------------------------------


def test_settings_become_the_command_that_gives_them():
    settings = TuneSettings(
        "m", "rows.jsonl", objective="select:nll,power(0.5)", all=True, bf16=False, epochs=2.5,
        training={"adam_beta2": 0.99, "project": "x"}, separator="\n", lora_rank=8, seed=3,
    )  # fmt: skip
    arguments = arguments_of(settings)
    from probtune.commands.tuning import settings_of

    assert settings_of(_parser().parse_args(["tune", *arguments])) == settings
    assert arguments_of(TuneSettings("m", "d")) == ["m", "d"]
    assert arguments_of(settings, {"model", "seed"}) == ["m", "--seed", "3"]
