#!/bin/sh
# Makes .venv: a Python >= 3.12, uv, and every package of requirements.lock by its hash.
set -eu

if [ ! -x .venv/bin/python ]; then
  found=
  for python in python3 "python$(cat .python-version)" python3.12 python; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
      found=$python
      break
    fi
  done
  if [ -z "$found" ]; then
    echo "No Python >= 3.12 found (tried python3, python$(cat .python-version), python3.12)." >&2
    echo "Install one, for example with pyenv: pyenv install $(cat .python-version)" >&2
    exit 1
  fi
  echo "Making .venv with $("$found" --version) ..."
  if command -v uv >/dev/null; then
    uv venv --quiet --python "$found" .venv
  elif ! "$found" -m venv .venv; then
    rm -rf .venv
    echo "Python's venv module does not work (Debian: apt-get install python3-venv)." >&2
    exit 1
  fi
fi

if ! uv=$(command -v uv); then
  uv=.venv/bin/uv
  [ -x "$uv" ] || .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    "$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements.lock)"
fi

echo "Installing $(grep -c '==' requirements.lock) packages from requirements.lock ..."
# Bytecode for all: every test that starts a Python would compile jax and flax otherwise
# where PYTHONDONTWRITEBYTECODE is set.
"$uv" pip install --quiet --compile-bytecode --python .venv/bin/python --require-hashes \
  -r requirements.lock
# The command `nbe`, from this checkout: a change to it or to a lesson needs no new install.
"$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
