#!/usr/bin/env bash
# memory.sh: what --memory-limit costs in time, and what it saves. Writes memory.md beside itself. `memory.sh STEPS ROUNDS` tries it shorter.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
steps=${1:-20} rounds=${2:-3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/gpt.toml" <<TOML
[data]
text = "$PWD/experiments/recipes/kjv.txt"
[model]
preset = "gpt2"
context = 256
head_dim = 64
[space]
embed = [192, 384]
depth = [3, 6]
heads = [3, 6]
ffn_ratio = [2, 4]
[train]
steps = $steps
sequences = 8
log_every = $steps
checkpoint_every = $steps
[[stage]]
share = 1
sampler = "largest"
TOML

python3 - "$work" "$rounds" experiments/results/memory.md "$steps" <<'PYTHON'
import json, os, pathlib, re, statistics, subprocess, sys

work, rounds, page, steps = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
PROGRAM = "build/release/elastiform"


def run(*arguments):
    """Standard output, and the peak memory of the process in MiB."""
    child = subprocess.Popen([PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    output, errors = child.stdout.read(), child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(f"elastiform {' '.join(arguments)}: {errors.strip()}")
    return output, usage.ru_maxrss / 1024


recipe = str(work / "gpt.toml")
plan = json.loads(run("train", recipe, "--dry-run", "--json")[0])
everything, fixed = plan["activation_bytes_keeping_all"], plan["memory_bytes"] - plan["activation_bytes"]
start_up = run("space", recipe)[1]
rows = []
for percent in (100, 50, 25):
    limit = str(fixed + everything * percent // 100)
    rows.append({"percent": percent, "limit": limit, "seconds": [], "peak": 0, "digests": set()})
for turn in range(rounds):
    for row in rows:
        folder = work / f"run{row['percent']}-{turn}"
        output, peak = run("train", recipe, "--run", str(folder), "--memory-limit", row["limit"])
        row["total"], row["activations"] = re.search(r"memory: ([^=]*) = .* activations ([^+]*) \+", output).groups()
        recomputed = re.search(r"recomputes (\d+) %", output)
        row["recomputed"] = recomputed.group(1) if recomputed else "0"
        last = json.loads((folder / "training.jsonl").read_text().splitlines()[-1])
        row["seconds"].append(last["seconds"])
        row["peak"] = max(row["peak"], peak)
        row["digests"].add(run("inspect", str(folder / "supernet.h5"), "--digest")[0].split()[0])

digests = set().union(*(row["digests"] for row in rows))
cpu = next(l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name"))
commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
lines = [
    "# Memory limits",
    "",
    f"GPT-2 preset, embed 384, 6 layers, context 256, 8 sequences, 256 bytes, the largest subnet in {steps} steps, on {os.cpu_count()} cores",
    f"({cpu}), commit {commit}. Made by `./dev experiment memory`.",
    "",
    "| activations | planned | all that is planned | peak of the process after start-up | recomputed of forward FLOPs | step time, beside 100 % | least to most |",
    "|---|---|---|---|---|---|---|",
]
for row in rows:
    ratios = [mine / whole for mine, whole in zip(row["seconds"], rows[0]["seconds"])]
    lines.append(
        f"| {row['percent']} % | {row['activations']} | {row['total']} | {row['peak'] - start_up:.0f} MiB | {row['recomputed']} % "
        f"| {statistics.median(ratios):.2f}x | {min(ratios):.2f}x to {max(ratios):.2f}x |"
    )
lines += [
    "",
    f"Median of {rounds} rounds, each of which runs the limits one after the other. Start-up is what `elastiform space` takes: {start_up:.0f} MiB.",
    f"Weights, optimizer state and counters after the last step: {'one digest' if len(digests) == 1 else f'{len(digests)} DIFFERENT digests'} "
    f"in all {rounds * len(rows)} runs" + (f", {digests.pop()[:16]}." if len(digests) == 1 else "."),
]
pathlib.Path(page).write_text("\n".join(lines) + "\n")
if not lines[-1].startswith("Weights, optimizer state and counters after the last step: one digest"):
    sys.exit("memory: a limit changed the result")
PYTHON
cat experiments/results/memory.md
