#!/usr/bin/env python3
"""h5py and numpy alone read what docs/results.md promises: read_results.py RUN, a run folder with at least two evaluations of one split."""
import math
import pathlib
import subprocess
import sys

import h5py
import numpy as np

COLUMNS = ("id subnet weights_hash split blocks precision loss loss_se accuracy parameters block_parameters macs inference_bytes "
           "training_bytes latency_ms search round seconds block_count").split()


def check(condition, message):
    if not condition:
        sys.exit(f"read_results.py: {message}")


def check_file(path):
    with h5py.File(path, "r") as file:
        check(file.userblock_size == 512, "the user block is 512 bytes")
        for name in ("format", "version", "space_hash", "recipe", "code_version"):
            check(name in file.attrs, f"attribute {name}")
        check("[train]" in file.attrs["recipe"], "the recipe is TOML text")
        rows = file["evaluations"][:]
        check(list(rows.dtype.names) == COLUMNS, f"columns {rows.dtype.names}")
        check(len(rows) >= 2, "at least two evaluations")
        check(list(rows["id"]) == list(range(1, len(rows) + 1)), "ids 1, 2, 3, …")
        losses = file["block_losses"]
        check(losses.shape[0] == len(rows) and losses.shape[1] == rows["block_count"].max(), f"shape {losses.shape}")
        for row, blocks in zip(rows, losses[:]):
            own, rest = blocks[:row["block_count"]], blocks[row["block_count"]:]
            check(np.isfinite(own).all() and np.isnan(rest).all(), f"blocks of evaluation {row['id']}")
            check(own.min() - 1e-4 <= row["loss"] <= own.max() + 1e-4, f"loss of evaluation {row['id']} among its blocks'")
            check(row["subnet"].decode().startswith("e"), "subnet text")
            check(row["parameters"] > row["block_parameters"] > 0 and row["macs"] > 0, "costs")
            check(math.isnan(row["latency_ms"]) or row["latency_ms"] > 0, "latency")
        names = set(file["searches"][:]["name"])
        members = file["round_members"][:]
        rounds = file["rounds"][:]
        for r in rounds:
            ids = members[r["first_member"]:r["first_member"] + r["members"]]
            check(len(ids) == r["members"] and ids.min() >= 1 and ids.max() <= len(rows), "members of rounds")
            check(r["search"] in names, "rounds name a search")
            check(set(range(r["first_id"], r["first_id"] + r["count"])) <= set(ids), "a round has what it brought")
        check(rounds["count"].sum() == len(rows), "every evaluation was brought by one round")
        return rows


def main():
    run = pathlib.Path(sys.argv[1])
    rows = check_file(run / "results.h5")
    example = pathlib.Path(__file__).resolve().parents[2] / "examples" / "read_results.py"
    first = rows[0]
    partners = [r["id"] for r in rows[1:] if all(r[c] == first[c] for c in ("split", "blocks", "weights_hash"))]
    ids = [str(first["id"]), str(partners[0])] if partners else []
    out = subprocess.run([sys.executable, str(example), str(run), *ids], capture_output=True, text=True)
    check(out.returncode == 0, f"the example failed: {out.stderr}")
    check(f"{len(rows)} evaluations" in out.stdout and (not ids or "minus" in out.stdout), f"the example printed {out.stdout!r}")
    print(f"read_results.py: {len(rows)} evaluations, all as docs/results.md says")


if __name__ == "__main__":
    main()
