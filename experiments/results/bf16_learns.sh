#!/usr/bin/env bash
# bf16_learns.sh [--set KEY=VALUE]…: does training in bf16 reach the loss of training in float32? Recipe `small`, ten seeds, each trained in
# both. Writes bf16_learns.md beside itself; with settings it prints the page instead. Runs are kept in runs/ and continued, so it may be killed.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
program=build/release/elastiform
# By the program's commit: runs of another build are not continued, and a page has one author.
runs=runs/bf16_learns-$("$program" --version | sed -E 's/.*\((.*)\)/\1/')
page=experiments/results/bf16_learns.md
if (($#)); then
  runs=$runs-$(printf '%s' "$*" | sha256sum | cut -c 1-8)
  page=/dev/stdout
fi
mkdir -p "$runs"

for seed in {0..9}; do
  for precision in f32 bf16; do
    run=$runs/$precision-$seed
    if [[ -s $run/report.json ]]; then continue; fi
    if [[ -f $run/supernet.h5 ]]; then
      "$program" train --resume "$run" >&2
    else
      rm -rf "$run"  # killed before its first checkpoint
      "$program" train experiments/recipes/small.toml --run "$run" --set train.seed="$seed" --set train.precision="$precision" "$@" >&2
    fi
    # Both are scored in float32 (deploy.dtype), so the difference is what was learned.
    "$program" evaluate "$run" --split report --subnet middle --against largest --json >"$run/report.part"
    mv "$run/report.part" "$run/report.json"
  done
done

python3 - "$runs" "$(git rev-parse --short HEAD)" "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)" >"$page" <<'PYTHON'
import json, statistics, sys

runs, commit, processor = sys.argv[1:]
SEEDS, T90, MARGIN = range(10), 1.8331, 0.01  # T90: Student's t, 9 degrees of freedom, two-sided 90 %


def loss(precision, seed, subnet):
    with open(f"{runs}/{precision}-{seed}/report.json") as file:
        found = json.load(file)
    return (found if subnet == "middle" else found["against"])["bits_per_byte"]


def last_row(precision, seed):
    with open(f"{runs}/{precision}-{seed}/training.jsonl") as file:
        return json.loads(file.readlines()[-1])


steps = last_row("f32", 0)["step"]
print("# Training in bf16 against training in float32\n")
print(f"Recipe `small`, {steps} steps with its rate decayed to zero, ten seeds; a seed fixes first weights, data and subnets, and is trained")
print("with `train.precision` f32 and bf16. Losses in bits/byte on the report split, scored in float32. The interval is Student's t over the")
print(f"ten paired differences; the margin of ±{MARGIN} was fixed before, the number of seeds when five had not decided it")
print(f"(they did not at commit 5156539). {processor}, commit {commit}. Made by `./dev experiment bf16_learns`.\n")
print("| subnet | seed | f32 | bf16 | bf16 - f32 |\n|---|---|---|---|---|")
verdicts = []
for subnet in ("middle", "largest"):
    differences = []
    for seed in SEEDS:
        exact, rounded = loss("f32", seed, subnet), loss("bf16", seed, subnet)
        differences.append(rounded - exact)
        print(f"| {subnet} | {seed} | {exact:.4f} | {rounded:.4f} | {rounded - exact:+.4f} |")
    mean, half = statistics.mean(differences), T90 * statistics.stdev(differences) / len(differences) ** 0.5
    low, high = mean - half, mean + half
    inside = -MARGIN < low and high < MARGIN
    verdicts.append(f"{subnet}: {mean:+.4f}, 90 % interval {low:+.4f} to {high:+.4f}: {'inside' if inside else 'not inside'} ±{MARGIN}")
print("\n" + "\n".join(f"- **{verdict}**" for verdict in verdicts))
seconds = {p: statistics.mean(last_row(p, seed)["seconds"] for seed in SEEDS) for p in ("f32", "bf16")}
print(f"\nA training took {seconds['f32']:.0f} s in f32 and {seconds['bf16']:.0f} s in bf16 (mean of ten, whatever else the machine did).")
PYTHON
