#!/usr/bin/env bash
# reference.sh: docs/methods.md, from what the program can (`elastiform methods`) and what was measured of it (experiments/results/survey). Trains
# nothing.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
build/release/elastiform methods --json | python3 experiments/results/reference.py >docs/methods.md.new
mv docs/methods.md.new docs/methods.md
