#!/usr/bin/env bash
# import_export.sh: what importing and exporting a network of 124 M parameters takes beyond reading and writing its bytes, and how much of
# its weights eight evaluations at once have in common. Writes import_export.md beside itself; 4 GB of runs/ meanwhile.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
page=experiments/results/import_export.md
./dev text >&2
mkdir -p runs
work=$(mktemp -d runs/import_export.XXXXXX)
trap 'rm -rf "$work"' EXIT
python3 experiments/results/import_export.py build/release/elastiform "$work" "$(git rev-parse --short HEAD)" \
  "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)" >"$work/page"
cat "$work/page" >"$page"
