#!/usr/bin/env python3
"""Reads a run's results.h5 with h5py and numpy alone: python3 examples/read_results.py runs/demo [ID ID]

Prints what the file holds, its best evaluations, and, given two ids, their paired difference over the same blocks of data.
docs/results.md describes every column.
"""
import sys

import h5py
import numpy as np


def text(value):
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def paired(file, first, second):
    """Mean and standard error of loss(first) - loss(second) in nats per token; ids begin at 1, rows at 0."""
    rows = file["evaluations"][:]
    a, b = rows[first - 1], rows[second - 1]
    for column in ("split", "blocks", "weights_hash"):
        if a[column] != b[column]:
            sys.exit(f"{column} differs: {text(a[column])} and {text(b[column])} cannot be paired")
    blocks = int(a["block_count"])
    difference = file["block_losses"][first - 1, :blocks].astype(np.float64) - file["block_losses"][second - 1, :blocks]
    return difference.mean(), difference.std(ddof=1) / np.sqrt(blocks), blocks


def main():
    if len(sys.argv) not in (2, 4):
        sys.exit(__doc__.splitlines()[0])
    path = sys.argv[1] if sys.argv[1].endswith(".h5") else sys.argv[1] + "/results.h5"
    with h5py.File(path, "r") as file:
        evaluations = file["evaluations"][:]  # a structured array: a column is evaluations["loss"]
        print(f"{len(evaluations)} evaluations of {text(file.attrs['format'])} version {file.attrs['version']}")
        rounds = file["rounds"][:]
        for search in file["searches"][:]:
            mine = rounds[rounds["search"] == search["name"]]
            print(f"search {text(search['name'])}: {text(search['algorithm'])} {text(search['budget'])}, {len(mine)} rounds, "
                  f"{mine['members'].sum()} evaluations")
        for row in evaluations[np.argsort(evaluations["loss"])][:5]:
            print(f"{row['id']:>6}  loss {row['loss']:.4f} ± {row['loss_se']:.4f} nats/token  {row['parameters']:>10} parameters  "
                  f"{text(row['split'])}  {text(row['subnet'])}")
        if len(sys.argv) == 4:
            mean, error, blocks = paired(file, int(sys.argv[2]), int(sys.argv[3]))
            print(f"loss of {sys.argv[2]} minus loss of {sys.argv[3]}: {mean:+.5f} ± {error:.5f} nats/token over {blocks} blocks")


if __name__ == "__main__":
    main()
