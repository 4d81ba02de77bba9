#!/usr/bin/env bash
# Tests, speed and memory on the GPU of this machine, in at most eight minutes -> gpu-check.json
# `make test` sets up .venv; PYTHON names another interpreter, for example one with the torch of the machine.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD:$PWD/tools"
exec "${PYTHON:-.venv/bin/python}" -m gpu.check "$@"
