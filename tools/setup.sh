#!/usr/bin/env bash
# Fills .venv with what setup.py asks for. Starts at once when nothing changed since the last run.
# PYTHON: the interpreter to use (default: the first suitable one on the PATH). GPU=1: TensorFlow with CUDA.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "setup: $*" >&2; exit 1; }

suitable() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

find_python() {
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if suitable "$candidate"; then command -v "$candidate"; return; fi
  done
  fail "Python 3.11, 3.12 or 3.13 is needed; '${PYTHON:-python3}' is" \
    "$("${PYTHON:-python3}" --version 2>/dev/null || echo missing). Install one, or name it: make PYTHON=/path/to/python3.11"
}

python=$(find_python)
export TF_TERNGRAD_GPU=${GPU:-0}
stamp=.venv/.stamp
wanted="$("$python" --version) GPU=$TF_TERNGRAD_GPU $(cat setup.py pyproject.toml | cksum)"
[ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null && exit 0

"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  fail "$python has no venv module; install it (Debian, Ubuntu: apt-get install python3-venv)."
echo "Setting up .venv with $("$python" --version); the first time takes a few minutes ..."
# From scratch: the CPU and the GPU build of TensorFlow share their files and must not be installed over each other.
"$python" -m venv --clear .venv
.venv/bin/python -m pip install -qq --disable-pip-version-check --editable '.[demo,test]' ||
  fail "installing the requirements of setup.py failed (the message above says why); try again once it is mended."
echo "$wanted" >"$stamp"
