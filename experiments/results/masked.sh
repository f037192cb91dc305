#!/usr/bin/env bash
# masked.sh: does a first stage that guesses hidden patches (recipe `digits_masked`) help classifiers of few images, at equal FLOPs, and what
# does a step of it cost beside one from labels? Writes masked.md beside itself. Runs are kept in runs/ and continued, so it may be killed.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
program=build/release/elastiform
runs=runs/masked-$("$program" --version | sed -E 's/.*\((.*)\)/\1/')
mkdir -p "$runs"
python3 experiments/results/masked.py "$program" "$runs" "$(git rev-parse --short HEAD)" "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)" >"$runs/page.part"
cat "$runs/page.part" >experiments/results/masked.md
