#!/usr/bin/env bash
# vision.sh [--set KEY=VALUE]…: two networks for two budgets, cut from one supernet or trained alone, and run as ONNX. Recipe `vit_small`
# (MNIST 5k), three seeds. Writes vision.md beside itself; with settings it prints the page instead. Runs are kept in runs/ and continued, so it may be killed.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
program=build/release/elastiform
runs=runs/vision-$("$program" --version | sed -E 's/.*\((.*)\)/\1/')
page=experiments/results/vision.md
if (($#)); then
  runs=$runs-$(printf '%s' "$*" | sha256sum | cut -c 1-8)
  page=/dev/stdout
fi
mkdir -p "$runs"
folder=${XDG_CACHE_HOME:-$HOME/.cache}/elastiform/python
tests/consumers/make_environment.sh "$folder" >&2
tests/consumers/add_consumers.sh "$folder" >&2
python3 experiments/results/vision.py "$program" "$runs" "$(git rev-parse --short HEAD)" "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)" "$folder/bin/python" "$@" >"$runs/page.part"
cat "$runs/page.part" >"$page"
