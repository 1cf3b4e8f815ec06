"""`tune --dry-run` and `probe --emit`: what training takes, and the lines for other engines."""

import shlex
import subprocess
import sys
from pathlib import Path

import helpers
import pytest
import torch
import yaml
from test_pipeline import QUIET, settings

from probtune.cli import main
from probtune.errors import UsageError
from probtune.integrations.emitted import ENGINES, lines
from probtune.models.footprint import Shape, footprint, meta_model
from probtune.objectives import objective
from probtune.pipeline.dry_run import dry_run, read_devices
from probtune.terminal import Terminal

ROOT = Path(__file__).parents[1]
CLUSTERS = ROOT / "examples" / "clusters"

PUBLISHED = {
    "Qwen/Qwen2.5-1.5B": ("qwen2", 1536, 28, 12, 2, 8960, 151936, True, 1.54),
    "Qwen/Qwen2.5-7B": ("qwen2", 3584, 28, 28, 4, 18944, 152064, False, 7.62),
    "meta-llama/Llama-3.1-8B": ("llama", 4096, 32, 32, 8, 14336, 128256, False, 8.03),
    "Qwen/Qwen2.5-32B": ("qwen2", 5120, 64, 40, 8, 27648, 152064, False, 32.8),
}
"""Kind, hidden, layers, heads, key-value heads, intermediate, vocabulary, tied, billions of
parameters: of the models' configurations and cards on the hub."""


def save_shape(folder, name):
    """A folder with the configuration of a large model, and a tokenizer of words."""
    from transformers import AutoConfig

    kind, hidden, layers, heads, kv, intermediate, vocabulary, tied, _ = PUBLISHED[name]
    config = AutoConfig.for_model(
        kind, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv, intermediate_size=intermediate, vocab_size=vocabulary,
        tie_word_embeddings=tied, max_position_embeddings=32768, architectures=None,
    )  # fmt: skip
    config.save_pretrained(folder)
    helpers.word_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_of_the_models_card(name, tmp_path):
    model = meta_model(save_shape(tmp_path, name))
    assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(
        PUBLISHED[name][-1], rel=0.01
    )


@pytest.mark.parametrize(
    "file, devices",
    [
        ("qlora-7b-24gb.yaml", "RTX4090"),
        ("full-1.5b-80gb.yaml", "H100"),
        ("lora-8b-80gb.yaml", "H100"),
        ("full-8b-8x80gb.yaml", "8xH100"),
        ("full-32b-4x8.yaml", "32xH100"),
    ],
)
def test_the_example_configurations_fit_their_devices(file, devices, tmp_path, capsys):
    text = (CLUSTERS / file).read_text()
    assert f"{file} --dry-run {devices}" in text  # the command that the file names
    content = yaml.safe_load(text)
    model = save_shape(tmp_path / "model", content["model"])
    long = {"prompt": "ask 1 " * 700, "completion": "2 " * 400}
    data = helpers.write_jsonl(tmp_path / "rows.jsonl", [*helpers.sums(40), long])
    status = main(
        ["tune", model, str(data), "--config", str(CLUSTERS / file), "--dry-run", devices]
    )
    out = capsys.readouterr()
    assert status == 0, out.err
    assert "It fits." in out.out and read_devices(devices)[1].name in out.out
    assert not (tmp_path / "runs").exists()


def test_what_does_not_fit_is_refused_with_a_way_out(tmp_path, capsys):
    model = save_shape(tmp_path / "model", "meta-llama/Llama-3.1-8B")
    data = str(helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(40)))
    for options, hint in (
        (["--dry-run", "H100"], "--lora-rank 32"),
        (["--dry-run", "8xH100"], "--training fsdp=full_shard"),
        (["--dry-run", "RTX4090", "--lora-rank", "8"], "--weights bfloat16"),
    ):
        assert main(["tune", model, data, *options]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "GB on each device" in said and hint in said, said


@pytest.mark.parametrize("text", ["8xH900", "0xH100", "x", "eight"])
def test_devices_that_cannot_be_read(text):
    with pytest.raises(UsageError, match="number and a kind of device"):
        read_devices(text)


@pytest.mark.parametrize(
    ("sizes", "options", "said"),
    [
        ({"DP_SHARD": 4, "CP": 2}, {"training": {}}, "cuts rows into 4 equal parts; pad them"),
        ({"CP": 2}, {}, r"for 2 processes \(.*cp 2.*\), and there are 8"),
        ({"DP_SHARD": 4, "CP": 2}, {"objective": "step_top(0.5, nll())"}, "splits sequences"),
        ({"DP_SHARD": 4, "CP": 2}, {"compare": "on_reference(p())"}, "splits sequences"),
        ({"DP_SHARD": 4, "CP": 2}, {"compare": "weighted(p(), 'quality')"}, "splits sequences"),
        ({"DP_SHARD": 4, "CP": 2}, {"objective": "select:p,inliers(nll())"}, "splits sequences"),
        ({"DP_SHARD": 4, "CP": 2}, {"packing": True}, "joined rows apart; leave out packing"),
        ({"DP_SHARD": 4, "CP": 2}, {"group_by": "kind"}, r"leave out groups \(--group-by\)"),
        ({"DP_SHARD": 4, "SP": 2}, {}, "would drop the objective"),
        ({"TP": 8}, {"lora_rank": 8}, "splits the layers under the adapters"),
    ],
)
def test_what_a_launcher_asks_for_is_refused_as_in_a_run(
    sizes, options, said, word_model, tmp_path, monkeypatch
):
    """Before the data is read; the devices are those that are named, not this CPU."""
    monkeypatch.setenv("ACCELERATE_USE_PARALLELISM_CONFIG", "true")
    for name, size in sizes.items():
        monkeypatch.setenv(f"PARALLELISM_CONFIG_{name}_SIZE", str(size))
    options = {"objective": "p", "training": {"pad_to_multiple_of": 4}} | options
    chosen = settings(word_model, tmp_path / "none.jsonl", None, **options)
    with pytest.raises(UsageError, match=said):
        dry_run(chosen, "8xH100", QUIET)


def test_context_parallelism_that_can_be_had_is_planned(word_model, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_PARALLELISM_CONFIG", "true")
    monkeypatch.setenv("PARALLELISM_CONFIG_CP_SIZE", "2")
    rows = helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(40))
    training = {"pad_to_multiple_of": 4, "fsdp": "full_shard"}
    chosen = settings(word_model, rows, tmp_path / "out", objective="p", training=training)
    assert dry_run(chosen, "2xH100", QUIET).fits
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="context parallelism needs accelerators"):
        dry_run(chosen, "here", QUIET)


def test_a_field_that_nobody_reads_is_refused_before_the_data_is_read(word_model, tmp_path):
    chosen = settings(word_model, tmp_path / "none.jsonl", None, training={"fspd": "full_shard"})
    with pytest.raises(UsageError, match="Did you mean 'fsdp'"):
        dry_run(chosen, "8xH100", QUIET)


def test_devices():
    assert read_devices("8xH100")[0] == 8 and read_devices("A100")[1].memory == 80e9
    assert read_devices("4 x RTX 4090")[1].name == "RTX 4090"
    assert read_devices("here")[0] == 1


def test_the_plan_counts_steps_and_tokens(word_model, tmp_path):
    rows = helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(40))
    chosen = settings(word_model, rows, tmp_path / "out", max_steps=-1, epochs=2.0, batch_size=4)
    plan = dry_run(chosen, "here", QUIET)
    assert plan.steps == 15 and plan.fits is None  # 30 rows twice, 4 a step
    assert plan.tokens_per_step == pytest.approx(4 * 6, rel=0.3)
    assert not (tmp_path / "out").exists()
    packed = settings(word_model, rows, tmp_path / "out", packing=True, max_length=32)
    assert dry_run(packed, "2xH100", QUIET).tokens_per_step == 2 * 8 * 32


def test_adapters_and_recomputation_need_less():
    def of(**changes):
        with torch.device("meta"):
            model = helpers.word_causal_model(num_hidden_layers=4)
        return footprint(model, Shape(8, 32, **changes))

    whole, lora, recomputed = of(), of(lora_rank=2), of(checkpointing=True)
    assert lora.trained < whole.trained == whole.parameters == lora.parameters
    assert lora.optimizer < whole.optimizer and lora.head < whole.head
    assert recomputed.activations < 0.5 * whole.activations
    assert of(shards=4).weights == whole.weights / 4
    assert of(weight_bytes=2, activation_bytes=2).activations < 0.8 * whole.activations
    beside, adapted = of(compares=True), of(lora_rank=2, compares=True)
    assert beside.weights == 2 * whole.weights and adapted.weights == lora.weights
    for more, one in ((beside, whole), (adapted, lora)):  # another forward pass
        assert more.operations_per_token == one.operations_per_token + 2 * one.parameters


@pytest.mark.parametrize(
    ("changes", "copies"),
    [
        ({"objective": "kl_anchor(0.05, dft())"}, True),
        ({"objective": "kl_anchor(0.05, dft())", "lora_rank": 2}, False),
        ({"objective": "select:nll,kl_anchor(0.05, dft())"}, True),
        ({"compare": "p, reverse_kl_anchor(0.1, nll())"}, True),
        ({"compare": "p"}, False),
    ],
)
def test_a_frozen_copy_is_counted(changes, copies, word_model, tmp_path, capsys):
    rows = helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(40))
    dry_run(settings(word_model, rows, tmp_path / "out", **changes), "here", Terminal())
    assert ("weights, with a frozen copy" in capsys.readouterr().out) is copies


def test_an_objective_of_ones_own_is_read(word_model, tmp_path, capsys):
    rows = helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(40))
    mine = tmp_path / "mine.py"
    mine.write_text("from probtune.objectives import kl_anchor, p\n\nnear = kl_anchor(0.05, p())\n")
    arguments = ["tune", str(word_model), str(rows), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--objective", f"{mine}:near", "--dry-run"]) == 0
    assert "weights, with a frozen copy" in capsys.readouterr().out


def test_an_adapter_has_the_parameters_that_peft_gives_it():
    from peft import LoraConfig, get_peft_model

    for targets in ("all-linear", "q_proj,v_proj"):
        wrapped = get_peft_model(
            helpers.word_causal_model(),
            LoraConfig(r=3, task_type="CAUSAL_LM",
                       target_modules=targets if targets == "all-linear" else targets.split(",")),
        )  # fmt: skip
        expected = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
        with torch.device("meta"):
            model = helpers.word_causal_model()
        assert footprint(model, Shape(1, 8, lora_rank=3, lora_targets=targets)).trained == expected


@pytest.mark.slow
def test_peaks_are_within_15_percent_of_measured_ones():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.dry_run"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "4 of 4 within 15%" in done.stdout


# --- the lines for other engines -----------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "chosen", ["above(0.2, nll())", "anneal(nll(), nll_on_special(power(0.5)), 0.2, 0.2)"]
)
def test_emitted_lines_are_what_the_engine_reads(engine, chosen):
    text = lines(engine, chosen, "my model", "rows.jsonl")
    if engine == "axolotl":
        content = yaml.safe_load(text)
        assert content["plugins"] == ["probtune.integrations.axolotl.Plugin"]
        assert str(objective(content["probtune_objective"])) == chosen
        return
    if engine in ("trl", "swift"):
        code = text.partition("\n# in a shell")[0]
        compile(code, engine, "exec")
        assert chosen in code
    if engine == "trl":
        return
    words = shlex.split(text.rsplit("\n", 1)[1])
    if engine == "swift":
        assert words[:2] == ["swift", "sft"] and words[words.index("--model") + 1] == "my model"
        assert words[words.index("--loss_type") + 1] == "probtune"
        return
    module = words[words.index("-m") + 1]
    assert module == f"probtune.integrations.{engine}"
    assert words[words.index("-m") + 2] == chosen


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_without_scouts_gets_nll_and_is_told(engine):
    text = lines(engine, "inliers(nll())", "my-model", "rows.jsonl")
    first, _, rest = text.partition("\n")
    assert first.startswith("# inliers(nll()) has two scouts weigh every row")
    assert "nll()" in rest and "inliers" not in rest


def test_emit_follows_the_probe(word_model, tmp_path, capsys):
    rows = str(helpers.write_jsonl(tmp_path / "rows.jsonl", helpers.sums(20)))
    assert main(["probe", str(word_model), rows, "--emit", "axolotl"]) == 0
    out = capsys.readouterr().out
    start = out.index("# add to the configuration")
    assert yaml.safe_load(out[start:])["probtune_objective"] == "nll()"
    assert main(["probe", str(word_model), rows, "--emit", "excel"]) == 2
    with pytest.raises(UsageError, match="known engines"):
        lines("excel", "p()", "m", "d")


def test_launch_files():
    sky = yaml.safe_load((CLUSTERS / "skypilot.yaml").read_text())
    assert sky["num_nodes"] == 4 and "probtune tune --config $CONFIG" in sky["run"]
    assert (ROOT / sky["envs"]["CONFIG"]).is_file()
    script = CLUSTERS / "slurm.sh"
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    assert "-m probtune tune --config" in script.read_text()
