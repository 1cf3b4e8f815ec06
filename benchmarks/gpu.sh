#!/usr/bin/env bash
# The head on this machine's GPU: first correctness, then time, memory and error beside its peers.
# Under ten minutes; installs nothing, and names the peers that are not installed. Arguments go to
# benchmarks/gpu.py (--out DIR, --minutes M).
set -uo pipefail
cd "$(dirname "$0")/.."
if [ -x .venv/bin/python ]; then python=.venv/bin/python; else python=${PYTHON:-python3}; fi
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} HF_HUB_OFFLINE=1

timeout 150 "$python" -m pytest -q -W default -p no:cacheprovider -m "gpu or not slow" \
    tests/test_kernels_triton.py
triton=$?
timeout 90 "$python" -m pytest -q -W default -p no:cacheprovider -m gpu tests/test_kernels.py
cuda=$?
"$python" benchmarks/gpu.py --tests "triton $triton, cuda $cuda" "$@" || exit 1
[ $triton -eq 0 ] && [ $cuda -eq 0 ] || { echo "the correctness tests failed, see above"; exit 1; }
