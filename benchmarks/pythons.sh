#!/usr/bin/env bash
# The fast tests of the core under other Pythons than .venv's, for each that is at hand.
#
#   benchmarks/pythons.sh                   test with Python 3.12 and 3.13
#   benchmarks/pythons.sh 3.13 -k training  one of them; the rest goes to pytest
#   benchmarks/pythons.sh --setup 3.12      set up the environment alone, and print its folder
#
# Away from a CPU build of torch for that Python, an environment takes 6 GB.
set -euo pipefail
cd "$(dirname "$0")/.."
root=${PROBTUNE_PYTHONS:-.venv-pythons}
tests=(objectives objectives_own kernels kernels_loss kernels_head kernels_options kernels_triton
    settings records encoding models training training_signals pipeline integrations cli public_api)

interpreter() {
    local candidate
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2> /dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "Python $1 is not at hand; it is skipped" >&2
    return 1
}

setup() {
    local folder=$root/$1 python
    if [ ! -e "$folder/.complete" ]; then
        python=$(interpreter "$1") || return 1
        echo "installing probtune and its dependencies into $folder" >&2
        "$python" -m venv "$folder"
        PIP_CONSTRAINT=constraints/cpu.txt "$folder/bin/pip" install --quiet \
            --disable-pip-version-check -e '.[dev]' 2> "$folder/pip.log" \
            || { cat "$folder/pip.log" >&2; return 1; }
        touch "$folder/.complete"
    fi
    echo "$folder"
}

if [ "${1:-}" = --setup ]; then
    setup "$2"
    exit
fi
versions=(3.12 3.13)
if [[ "${1:-}" =~ ^3\.[0-9]+$ ]]; then
    versions=("$1")
    shift
fi
files=("${tests[@]/#/tests/test_}")
export OMP_NUM_THREADS=1 PYTHONPATH=$PWD
failed=0
for version in "${versions[@]}"; do
    if folder=$(setup "$version"); then
        echo "Python $version:"
        "$folder/bin/python" -m pytest -q "${files[@]/%/.py}" "$@" || failed=1
    fi
done
exit $failed
