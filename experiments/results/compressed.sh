#!/usr/bin/env bash
# compressed.sh: what compressed activations save and what they cost. Writes compressed.md beside itself. `compressed.sh STEPS ROUNDS
# [OPTIMIZER]` tries it shorter, or with another optimizer.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
python3 - experiments/results/compressed.md "${1:-3}" "${2:-3}" "${3:-adamw}" <<'PYTHON'
import json, os, pathlib, statistics, subprocess, sys

page, steps, rounds, optimizer = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
PROGRAM = "build/release/bench_step"
has_bf16 = "avx512_bf16" in pathlib.Path("/proc/cpuinfo").read_text()
precision = "bf16" if has_bf16 else "f32"


def run(shape, sequences, activations):
    """The row of one run: step_ms, peak_mib."""
    command = [PROGRAM, "--mode", "fixed", "--shape", shape, "--sequences", sequences, "--activations", activations]
    command += ["--precision", precision, "--optimizer", optimizer, "--steps", steps, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


cases = [("large", "4", "GPT-2 124M, 4 sequences of 512"), ("medium", "8", "embed 384, 6 layers, 8 sequences of 256")]
words = ["exact", "8bit", "4bit", "2bit", "auto"]
cpu = next(l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name"))
commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
lines = [
    "# Compressed activations",
    "",
    f"The largest subnet, {steps} steps of `bench_step --mode fixed`, {precision}, {optimizer}, on {os.cpu_count()} cores ({cpu}), commit {commit}.",
    "Made by `./dev experiment compressed`.",
    "",
    "| shape | activations | peak of the process | step time, beside exact | least to most |",
    "|---|---|---|---|---|",
]
for shape, sequences, name in cases:
    rows = {word: [] for word in words}
    for _ in range(rounds):
        for word in words:
            rows[word].append(run(shape, sequences, word))
    for word in words:
        ratios = [mine["step_ms"] / exact["step_ms"] for mine, exact in zip(rows[word], rows["exact"])]
        peak = max(row["peak_mib"] for row in rows[word])
        lines.append(
            f"| {name} | {word} | {peak:.0f} MiB | {statistics.median(ratios):.2f}x | {min(ratios):.2f}x to {max(ratios):.2f}x |"
        )
lines += ["", f"Median of {rounds} rounds, each of which runs all five one after the other."]
pathlib.Path(page).write_text("\n".join(lines) + "\n")
PYTHON
cat experiments/results/compressed.md
