#!/usr/bin/env bash
# The integrations against the engines' own packages, in environments beside .venv.
#
#   benchmarks/integrations.sh             all of them; arguments go to pytest
#   benchmarks/integrations.sh --record    and write what has passed to tests/engine_hooks.json and docs/
#
# 1. For each Python at hand (.venv's, 3.12, 3.13): our torch, transformers and TRL, and each engine
#    without its dependencies, whose pins exclude one another. One step of each integration.
#    An engine that cannot be imported so is named with the reason, and its recorded hooks are tested.
# 2. For each engine that can train on a CPU: the releases that it pins itself, and its own training,
#    from a configuration to the saved model.
set -euo pipefail
cd "$(dirname "$0")/.."
root=${PROBTUNE_ENGINES_VENV:-.venv-engines}
record=
if [ "${1:-}" = --record ]; then
    record=yes
    shift
fi
# Engines ask hubs and report usage; nothing of that is tested.
export OMP_NUM_THREADS=1 PYTHONPATH=$PWD HF_HUB_OFFLINE=1 DO_NOT_TRACK=1 AXOLOTL_DO_NOT_TRACK=1
export PIP_CONSTRAINT=$PWD/constraints/cpu.txt PIP_DISABLE_PIP_VERSION_CHECK=1
failed=()

# make_environment NAME BASE: an environment over the packages of another one.
make_environment() {
    "$2/bin/python" -m venv "$root/$1"
    (cd "$2"/lib/python3*/site-packages && pwd) > "$(packages_of "$1")/zz_probtune.pth"
}

packages_of() { echo "$root/$1"/lib/python3*/site-packages; }

install() {
    local name=$1
    shift
    "$root/$name/bin/pip" install --quiet "$@" 2> "$root/$name/pip.log"
}

# check NAME HOW ENGINES PYTEST-ARGUMENTS...: compare hooks, test, and record; HOW is `step` or `run`.
check() {
    local python=$root/$1/bin/python how=$2 engines=$3 own=
    shift 3
    [ "$how" = step ] || own=--own-run
    "$python" -m benchmarks.engine_hooks $engines || { failed+=("hooks of $engines"); return; }
    if "$python" -m pytest -q -W ignore "$@"; then
        [ -z "$record" ] || "$python" -m benchmarks.engine_hooks --write $own $engines
    else
        failed+=("$engines with $("$python" -V)")
    fi
}

# The engines, then what they import on the way to their losses.
packages=(verl==0.9.1 torchtitan==0.3.0 ms-swift==4.6.0 tinker==0.38.0 nemo-automodel==0.7.0
    unsloth==2026.10.9 unsloth_zoo llamafactory==0.9.5 pytorch-lightning==2.6.6
    lightning-utilities torchmetrics spmd_types tyro httpx httpcore h11 distro orjson addict tensordict pyvers
    modelscope modelscope_hub json_repair msgpack ray hydra-core antlr4-python3-runtime==4.9.3
    omegaconf codetiming jsonschema jsonschema-specifications referencing rpds-py)
modules=(lightning:pytorch_lightning torchtitan:torchtitan.components.loss
    automodel:nemo_automodel.components.loss.masked_ce axolotl:axolotl.integrations.base
    swift:swift.loss verl:verl.workers.utils.losses tinker:tinker unsloth:unsloth)

one_step() {
    local name=python-$1 base=$2 axolotl=axolotl==0.21.0 package pair said real=(transformers trl)
    shift 2
    [ "$name" != python-3.11 ] || axolotl=axolotl==0.19.0 # the last one for it
    if [ ! -e "$root/$name/.complete" ]; then
        make_environment "$name" "$base"
        # At once, or one by one if one of them is not for this Python.
        install "$name" --no-deps "${packages[@]}" "$axolotl" \
            || for package in "${packages[@]}" "$axolotl"; do
                install "$name" --no-deps "$package" \
                    || echo "not installed: $package ($(tail -n 1 "$root/$name/pip.log"))"
            done
        touch "$root/$name/.complete"
    fi
    for pair in "${modules[@]}"; do
        if said=$("$root/$name/bin/python" -W ignore -c "import ${pair#*:}" 2>&1); then
            real+=("${pair%%:*}")
        else
            echo "${pair%%:*} cannot be imported here, its recorded hooks are tested alone:" \
                "$(echo "$said" | tail -n 1 | cut -c 1-160)"
        fi
    done
    export PROBTUNE_ENGINES=$(IFS=,; echo "${real[*]}")
    echo "$("$root/$name/bin/python" -V), the packages themselves: $PROBTUNE_ENGINES"
    check "$name" step "${real[*]}" tests/test_integrations.py tests/test_lightning.py "$@"
}

# own_training ENGINE BASE PIP-ARGUMENTS...; what the constraint brings besides torch is for CUDA.
own_training() {
    local engine=$1 base=$2
    shift 2
    if [ ! -e "$root/$engine/.complete" ]; then
        make_environment "$engine" "$base"
        install "$engine" "$@" || { cat "$root/$engine/pip.log" >&2; failed+=("$engine"); return; }
        "$root/$engine/bin/pip" uninstall --quiet -y torchvision torchaudio 2> "$root/$engine/pip.log"
        touch "$(packages_of "$engine")/torchaudio.py" # LLaMA-Factory imports it, for sounds
        touch "$root/$engine/.complete"
    fi
    echo "$engine, with the releases that it pins:"
    PROBTUNE_ENGINE_RUNS=$engine check "$engine" run "$engine" \
        tests/test_engine_runs.py -k "$engine"
}

version=$(.venv/bin/python -c "import sys; print('%d.%d' % sys.version_info[:2])")
one_step "$version" .venv "$@"
for other in 3.12 3.13; do
    if [ "$other" != "$version" ] && base=$(benchmarks/pythons.sh --setup "$other"); then
        one_step "$other" "$base" "$@"
    fi
done
own_training llamafactory .venv llamafactory==0.9.5
own_training swift .venv ms-swift==4.6.0
# What its FSDP engine imports besides what it names.
own_training verl .venv verl==0.9.1 trl==0.24.0 uvicorn fastapi
own_training torchtitan .venv torchtitan==0.3.0
own_training automodel .venv --no-deps nemo-automodel==0.7.0 transformers==5.18.0 torchdata torchao
if base=$(benchmarks/pythons.sh --setup 3.12); then
    # Its pins of what training imports; all of its dependencies are 60 packages and several GB.
    own_training axolotl "$base" --no-deps axolotl==0.21.0 transformers==5.20.1 trl==1.14.1 \
        datasets==5.0.1 pydantic==2.13.5 pydantic_core==2.46.5 addict art numba llvmlite colorama \
        fire termcolor python-dotenv==1.0.1 posthog==6.7.11 backoff distro hf_transfer einops \
        nvidia-ml-py axolotl-contribs-lgpl==0.0.7 axolotl-contribs-mit==0.0.6 schedulefree==1.4.1 \
        httpx httpcore h11 bitsandbytes==0.50.2 fastcore kernels==0.17.2 wandb platformdirs
fi
if [ ${#failed[@]} != 0 ]; then
    printf 'failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
