#!/usr/bin/env bash
# latency.sh [STEPS [ROUNDS [EVALUATIONS]]]: how well a table of measured parts predicts whole networks, beside the noise floor between two
# tables of one machine, and whether a search under a latency budget keeps it. Writes latency.md beside itself. `latency.sh 20 4 16` tries it
# shorter. Let nothing else run meanwhile.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/wide.toml" <<TOML
[data]
text = "$PWD/experiments/recipes/kjv.txt"
[model]
preset = "llama"
context = 256
head_dim = 64
[space]
embed = [192, 256, 384]
depth = [3, 4, 5, 6]
heads = [2, 3, 4, 6]
ffn_ratio = [1, 2, 3, 4]
[train]
steps = ${1:-300}
sequences = 4
rate = 2e-3
log_every = ${1:-300}
checkpoint_every = ${1:-300}
[deploy]
threads = 2
[search]
segments = 2
TOML

python3 - "$work" "${1:-300}" "${2:-20}" "${3:-48}" "$(git rev-parse --short HEAD)" >"$work/page" <<'PYTHON'
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

work, steps, rounds, evaluations, commit = pathlib.Path(sys.argv[1]), *sys.argv[2:]
PROGRAM = "build/release/elastiform"


def run(*arguments):
    result = subprocess.run([PROGRAM, *map(str, arguments), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, arguments))}: {result.stderr}")
    return json.loads(result.stdout)


def percent(error):
    return f"{100 * error['mean']:.1f} % / {100 * error['worst']:.1f} %"


def predictions(folder):
    """Sums of rows for the table's networks, in milliseconds."""
    table = json.loads((folder / "latency.json").read_text())
    frame = {row["embed"]: row["embedding_ms"] + row["head_ms"] for row in table["frame"]}
    attention = {(row["embed"], row["heads"]): row["ms"] for row in table["attention"]}
    ffn = {(row["embed"], row["ffn"]): row["ms"] for row in table["ffn"]}
    sums = []
    for network in table["networks"]:
        embed, blocks = re.fullmatch(r"e(\d+):(.*)", network["subnet"]).groups()
        total = frame[int(embed)]
        for block in blocks.split(","):
            count, heads, width = re.fullmatch(r"(?:(\d+)x)?h(\d+)(?:k\d+)?f(\d+)", block).groups()
            total += int(count or 1) * (attention.get((int(embed), int(heads)), 0) + ffn.get((int(embed), int(width)), 0))
        sums.append(total)
    return sums


def difference(a, b):
    off = [abs(x / y - 1) for x, y in zip(a, b)]
    return {"mean": sum(off) / len(off), "worst": max(off)}


processor = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unnamed processor")
load = os.getloadavg()[0]
print("# Latency: predicted and measured\n")
print(f"Tables of `elastiform profile` ({rounds} rounds of 5 inferences) against 40 random subnets of each space, measured whole; every error is the\n"
      f"mean over them / the worst. Noise floor: sums of two tables of this machine, made one after the other. {os.cpu_count()} cores, {processor},\n"
      f"load {load:.1f} at the start, commit {commit}. Made by `./dev experiment latency`.\n")
print("| space | phase | largest | predictions | sums of rows alone | of 10 % quantiles | noise floor of sums | lines of searches | guard band |\n|---|---|---|---|---|---|---|---|---|")
searches = []
for name, recipe in (("demo", "experiments/recipes/demo.toml"), ("wide", work / "wide.toml")):
    folder = work / name
    scale = ("--set", f"train.steps={steps}") if name == "demo" else ()
    run("train", recipe, "--run", folder, *scale)
    text = (folder / "recipe.toml").read_text()
    for phase in ("prefill", "decode"):
        (folder / "recipe.toml").write_text(text.replace('phase = "decode"', f'phase = "{phase}"'))
        run("profile", folder, "--rounds", rounds)
        first = predictions(folder)
        made = run("profile", folder, "--rounds", rounds)
        largest = run("latency", folder, "--subnet", "largest")[0]["median_ms"]
        print(f"| {name} | {phase} | {largest:.2f} ms | {percent(made['error'])} | {percent(made['sum_error'])} | {percent(made['low_error'])} | "
              f"{percent(difference(first, predictions(folder)))} | {percent(made['line_error'])} | {100 * made['guard']:.1f} % |", flush=True)
    outcome = run("search", folder, "--budget", "latency=..60%", "--evaluations", evaluations)[0]
    limit = float(re.search(r"latency=\.\.([\d.]+)ms", outcome["budget"])[1])
    arguments = [word for member in outcome["front"] for word in ("--subnet", member["subnet"])]
    again = run("latency", folder, *arguments) if arguments else []
    searches.append((name, limit, outcome, again))

print("\n## A search under `latency=..60%` (decode)\n")
print("Every answer was measured by the search; the last column is another measurement by `elastiform latency`, afterwards.\n")
for name, limit, outcome, again in searches:
    latency = outcome["latency"]
    inside = sum(time["median_ms"] <= limit for time in again)
    best = f"best {outcome['best']['subnet']}" if "best" in outcome else "no answer"
    print(f"{name}: limit {limit:.3f} ms, guard band {100 * latency['guard']:.1f} %; {latency['inside'] + latency['outside']} measured, "
          f"{latency['outside']} outside and left out; {best}; of its front {inside} of {len(again)} are inside when measured again.\n")
    print("| front | bits/byte | predicted | measured | again |\n|---|---|---|---|---|")
    for member, time in zip(outcome["front"], again):
        print(f"| {member['subnet']} | {member['bits_per_byte']:.3f} | {member['predicted_latency_ms']:.3f} ms | {member['latency_ms']:.3f} ms | "
              f"{time['median_ms']:.3f} ms |")
    print()
PYTHON
mv "$work/page" experiments/results/latency.md
