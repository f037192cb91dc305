"""The page of tuning.sh, from bench_step's lines on stdin."""
import json
import sys

processor, cores, commit = sys.argv[1:]
print("# Tunings beside full training\n")
print("The largest subnet of GPT-2's 124M shape, one sequence of its context a step, float32: a step of each tuning with its usual sizes, "
      f"and in turns with it a step that trains every weight; the ratio is of their tokens a second. {processor}, {cores} cores, commit {commit}. Made by `./dev experiment tuning`.\n")
print("| method | weights that learn | full training, ms | tuning, ms | tokens/s beside full |\n|---|---|---|---|---|")
for one in map(json.loads, sys.stdin):
    print(f"| {one['method']} | {one['learning']:,} | {one['full_ms']:,.0f} | {one['tuned_ms']:,.0f} | {one['ratio']:.2f}x |")
