#!/usr/bin/env bash
# tuning.sh: steps of parameter-efficient tunings of GPT-2's 124M shape beside steps that train everything, in turns (bench_step --mode
# tuning). Writes tuning.md beside itself. One sequence a step: four take 21 GB.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
cmake --build build/release --target bench_step >&2
found=$(mktemp)
trap 'rm -f "$found"' EXIT
build/release/bench_step --shape gpt2 --mode tuning --precision f32 --sequences 1 --steps 2 --json >"$found"
python3 experiments/results/tuning.py "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" "$(git rev-parse --short HEAD)" <"$found" >experiments/results/tuning.md
