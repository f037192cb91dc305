#!/usr/bin/env bash
# compose.sh [RECIPES]: do the methods compose? Random recipes of three methods each (tests/experiments/compose.cpp), more than 1,000 of which can
# be, train three steps on one thread, and on two with a checkpoint and a new trainer after every step: the same bytes, or one line that says
# why not. Writes compose.md beside itself.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
recipes=${1:-1300}
found=$(mktemp)
trap 'rm -f "$found"' EXIT
cmake --build build/release --target test_experiments >&2
ELASTIFORM_COMPOSE=$recipes build/release/tests/test_experiments "[compose]" >"$found"

python3 - "$found" "$(git rev-parse --short HEAD)" >experiments/results/compose.md <<'PYTHON'
import json
import sys

found, commit = sys.argv[1:]
with open(found) as file:
    lines = file.read().splitlines()
first = next(i for i, line in enumerate(lines) if line.startswith("{"))
counts = json.loads(lines[first])
refused = [line.split(" x ", 1) for line in lines[first + 1 :] if " x " in line]
print("# Methods compose\n")
print(f"{counts['recipes']} random recipes of three methods each, out of {counts['methods']} (tests/experiments/compose.cpp), three steps: "
      f"{counts['valid']} trained, each to the same bytes of the checkpoint on one thread and on two with a checkpoint and a new trainer after "
      f"every step; {counts['recipes'] - counts['valid']} were refused, for these reasons. Commit {commit}. Made by `./dev experiment compose`.\n")
print("| recipes | refused with |\n|---|---|")
for count, line in sorted(refused, key=lambda one: -int(one[0])):
    print(f"| {count} | {line} |")
PYTHON
