#!/usr/bin/env bash
# consumers.sh: which programs load our exports and agree with them, as `./dev test --consumers` finds it. Writes consumers.md beside itself.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
folder=${XDG_CACHE_HOME:-$HOME/.cache}/elastiform/python
tests/consumers/make_environment.sh "$folder" >&2
tests/consumers/add_consumers.sh "$folder" >&2
log=build/release/consumers.txt
tests/consumers/run.sh build/release "$folder/bin/python" | tee "$log" >&2 || [[ ${PIPESTATUS[0]} == 1 ]]  # what failed is part of the page

python3 - "$log" "$(git rev-parse --short HEAD)" "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)" >experiments/results/consumers.md <<'PYTHON'
import re, sys

log, commit, processor = sys.argv[1:]
lines = open(log).read().splitlines()
row = re.compile(r"(ok|--): (.*), (\S.*): (\d+) subnets, logits within (\S+) of the largest \((\S+) allowed\), (\d+) greedy tokens equal")
rows = [match.groups() for match in map(row.match, lines) if match]
print("# The programs that exports are made for, loading them\n")
print("Random weights in some fifty subnets whose blocks differ, thirty of them random and the others edge cases (one head, FFN of one column, odd widths,")
print("blocks without attention or FFN, tied and untied, biases, both styles), each in every format that can express it. A consumer's logits are compared")
print("with those of the subnet inside its supernet: of a whole sequence, token by token through the cache, in a batch of two padded on the left where the")
print("consumer takes one; greedy tokens up to the first whose margin two right implementations may lose. The largest difference is over all of these.")
print("Sixteen classifiers of images in blocks that differ, too (class token or mean, a distillation token, patches of gray and of color): of five images each,")
print("at once, and one by one where the consumer is ONNX Runtime; the last column counts top-1 classes.")
print(f"{processor}, commit {commit}. Made by `./dev experiment consumers`.\n")
print("| consumer | export | subnets | largest difference, of the largest logit | allowed | greedy tokens or classes equal |\n|---|---|---|---|---|---|")
for state, consumer, kind, subnets, worst, allowed, tokens in rows:
    print(f"| {consumer} | {kind} | {subnets} | {worst}{'' if state == 'ok' else ' (this consumer has failures, below)'} | {allowed} | {tokens if tokens != '0' else 'not compared'} |")
others = [re.sub(r"\S*tmp\.[^/]*/", "", line) for line in lines if line and not row.match(line)]
print("\nThe rest of what `./dev test --consumers` says:\n\n```\n" + "\n".join(others) + "\n```")
PYTHON
