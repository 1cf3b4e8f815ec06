#!/usr/bin/env bash
# The integrations against the engines' own packages, in an environment beside .venv: .venv's torch,
# transformers and TRL, and each engine without its dependencies, whose pins exclude one another.
# An engine that cannot be imported so is named with the reason, and tested against its recorded
# hooks alone (tests/engine_hooks.json).
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${PROBTUNE_ENGINES_VENV:-.venv-engines}
if [ ! -e "$folder/.complete" ]; then
    .venv/bin/python -m venv "$folder"
    packages=$(echo "$folder"/lib/python3*/site-packages)
    (cd .venv/lib/python3*/site-packages && pwd) > "$packages/zz_probtune.pth"
    # The engines, then what they import on the way to their losses.
    for package in verl==0.9.1 torchtitan==0.3.0 axolotl==0.19.0 ms-swift==4.6.0 tinker==0.38.0 \
        nemo-automodel==0.7.0 unsloth==2026.10.9 unsloth_zoo llamafactory==0.9.5 \
        pytorch-lightning==2.6.6 lightning-utilities torchmetrics spmd_types tyro httpx distro \
        orjson addict tensordict modelscope modelscope_hub json_repair msgpack ray hydra-core omegaconf codetiming; do
        "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps "$package" \
            2> "$folder/pip.log" || echo "not installed: $package ($(tail -n 1 "$folder/pip.log"))"
    done
    touch "$folder/.complete"
fi
export OMP_NUM_THREADS=1 PYTHONPATH=$PWD
echo "hooks, as recorded in tests/engine_hooks.json:"
"$folder/bin/python" -m benchmarks.engine_hooks
real=()
for pair in lightning:pytorch_lightning torchtitan:torchtitan.components.loss \
    automodel:nemo_automodel.components.loss.masked_ce axolotl:axolotl.integrations.base \
    swift:swift.loss verl:verl.workers.utils.losses llamafactory:llamafactory.train.sft.trainer \
    tinker:tinker unsloth:unsloth; do
    if said=$("$folder/bin/python" -W ignore -c "import ${pair#*:}" 2>&1); then
        real+=("${pair%%:*}")
    else
        echo "${pair%%:*} cannot be imported here, its recorded hooks are tested alone:" \
            "$(echo "$said" | tail -n 1 | cut -c 1-160)"
    fi
done
PROBTUNE_ENGINES=$(IFS=,; echo "${real[*]}")
export PROBTUNE_ENGINES
echo "the packages themselves: $PROBTUNE_ENGINES"
"$folder/bin/python" -m pytest -q -W ignore tests/test_integrations.py "$@"
