#!/usr/bin/env python3
"""h5py reads an exported file, and its weights are the folder's: check_h5py.py FILE FOLDER (hf-llama, of the same subnet)."""
import json
import sys

import h5py
import numpy as np
from safetensors.numpy import load_file


def check(condition, message):
    if not condition:
        sys.exit(f"check_h5py.py: {message}")


def main():
    theirs = load_file(f"{sys.argv[2]}/model.safetensors")
    with h5py.File(sys.argv[1], "r") as file:
        check(file.userblock_size == 512, "the user block is 512 bytes")
        space = json.loads(file.attrs["space"])
        check(space["model"]["branch_scale"] == 1, "the branch scale is folded")
        weights = file["weights"]
        check(np.array_equal(weights["embedding.token"][:], theirs["model.embed_tokens.weight"]), "token embedding")
        check(np.array_equal(weights["block.0.ffn.down"][:].T, theirs["model.layers.0.mlp.down_proj.weight"]), "down, transposed")
        check(np.array_equal(weights["block.0.attention.query"][:].T, theirs["model.layers.0.self_attn.q_proj.weight"]), "query, transposed")
        stored = sum(values.size for values in weights.values())
        check(stored == file["card/costs"].attrs["parameters"], f"{stored} stored scalars are the parameters of the card")
        check(set(file["card/quality"]) == {"search", "report"}, "quality on both splits")
        check(0 < file["card/quality/report"].attrs["loss"] < 8, "a loss below that of chance plus room")
    print(f"ok: {sys.argv[1]} in h5py")


main()
