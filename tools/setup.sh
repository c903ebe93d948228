#!/usr/bin/env bash
# Fills .venv with what setup.py asks for, at the releases of tools/constraints.txt, and with Horovod, and builds the
# native codec. Starts at once when nothing changed since the last run.
# PYTHON: the interpreter to use (default: the first suitable one on the PATH). GPU=1: with NVIDIA's libraries.
# HOROVOD=0: without Horovod, for a machine without a C++ compiler; all but distributed training works.
# Further extras of setup.py are arguments: `tools/setup.sh tutorial` adds that one to what is there.
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

pip_install() {
  .venv/bin/python -m pip install -qq --disable-pip-version-check --constraint tools/constraints.txt "$@" ||
    fail "installing the requirements of setup.py failed (the message above says why); try again once it is mended."
}

unchanged() { [ "$(cat ".venv/.$1" 2>/dev/null)" = "$2" ]; }

remember() { echo "$2" >".venv/.$1"; }

python=$(find_python)
extras=demo,test
[ "${GPU:-0}" = 0 ] || extras=$extras,gpu
wanted="$("$python" --version) $extras $(cat setup.py pyproject.toml tools/constraints.txt tools/setup.sh | cksum)"
if ! unchanged stamp "$wanted" || ! .venv/bin/python -c '' 2>/dev/null; then
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python has no venv module; install it (Debian, Ubuntu: apt-get install python3-venv)."
  echo "Setting up .venv with $("$python" --version); the first time takes a few minutes ..."
  # From scratch: what setup.py no longer asks for must not stay, such as another build of TensorFlow.
  "$python" -m venv --clear .venv
  pip_install --editable ".[$extras]"
  # Without what it asks for: an older absl-py.
  pip_install --no-deps tensorflow-model-optimization
  remember stamp "$wanted"
fi

# A new .venv, made above, remembers none of them.
for extra in "$@"; do
  unchanged "extra-$extra" installed && continue
  pip_install --no-warn-conflicts --editable ".[$extra]"
  remember "extra-$extra" installed
done

# After TensorFlow, whose headers it needs; without a compiler it says so, and the TensorFlow codec serves.
wanted=$(cat setup.py tf_terngrad/ternary/cc/* | cksum)
if ! unchanged codec "$wanted"; then
  .venv/bin/python setup.py -q build_ext --inplace || fail "building the native codec failed (see above)."
  remember codec "$wanted"
fi

[ "${HOROVOD:-1}" = 0 ] && exit 0
wanted="$(cat tools/build_horovod.py tools/horovod_source.py | cksum) $(env | grep '^HOROVOD_' | sort || true)"
unchanged horovod "$wanted" && exit 0
.venv/bin/python tools/build_horovod.py >/dev/null ||
  fail "Horovod, which trains on several machines, is not installed (the message above says why)." \
    "Mend that and try again, or do without it: make HOROVOD=0"
remember horovod "$wanted"
