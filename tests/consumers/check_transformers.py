#!/usr/bin/env python3
"""An exported folder does in transformers what it does here: check_transformers.py BUILD_DIR FOLDER TEXT CLASS."""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from checkpoints import be_quiet, check, logits_of

TOLERANCE = 1e-4  # of the largest logit: two float32 implementations that add in different orders
GREEDY_TOKENS = 50


def our_tokens(build, folder, prompt):
    command = [build / "elastiform", "generate", folder, "--prompt", prompt, "--tokens", str(GREEDY_TOKENS), "--json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)["ids"]


def check_tokenizer(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in ("In the beginning", "  two  spaces\n\ttab ", "naïve café — 日本語 🙂", "a\r\n\x00\x7f"):
        ids = tokenizer(text)["input_ids"]
        check(ids == list(text.encode()), f"ids of {text!r} are its bytes")
        check(tokenizer.decode(ids) == text, f"{text!r} is decoded")
    check(len(tokenizer) == 256, "256 ids")
    return tokenizer


def check_logits(build, folder, model, text):
    """Windows of a full context at three places of the text."""
    context = model.config.max_position_embeddings
    worst = 0.0
    for begin in (0, len(text) // 2, len(text) - context):
        window = text[begin:begin + context]
        with torch.no_grad():
            theirs = model(torch.tensor([list(window)])).logits[0].numpy()
        ours = logits_of(build, folder, window, len(window))
        check(np.isfinite(ours).all() and np.abs(ours).max() > 1, "our logits say something")
        worst = max(worst, np.abs(ours - theirs).max() / np.abs(ours).max())
    check(worst <= TOLERANCE, f"logits differ by {worst:.2e} of the largest, {TOLERANCE:.0e} is allowed")
    return worst


def main():
    build, folder, text_file, architecture = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
    be_quiet()
    text = pathlib.Path(text_file).read_bytes()
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    model.eval()
    check(type(model).__name__ == architecture, f"{type(model).__name__} instead of {architecture}")
    check(model.dtype == torch.float32, f"dtype {model.dtype}")
    for kind, names in report.items():
        check(not names, f"{kind}: {names}")
    with safe_open(f"{folder}/model.safetensors", "pt") as file:
        elements = sum(file.get_tensor(name).numel() for name in file.keys())
    check(elements == model.num_parameters(), f"{elements} elements in the file, {model.num_parameters()} in the model")

    tokenizer = check_tokenizer(folder)
    worst = check_logits(build, folder, model, text)
    prompt = "In the beg"
    inputs = tokenizer(prompt, return_tensors="pt")
    theirs = model.generate(**inputs, max_new_tokens=GREEDY_TOKENS, do_sample=False)[0, inputs["input_ids"].shape[1]:].tolist()
    ours = our_tokens(build, folder, prompt)
    check(len(theirs) == GREEDY_TOKENS, f"{len(theirs)} tokens generated")
    check(ours == theirs, f"greedy tokens differ: {bytes(ours)!r} here, {bytes(theirs)!r} there")

    with tempfile.TemporaryDirectory() as saved:  # what transformers writes is read here, and means the same
        model.save_pretrained(saved)
        again, before = (logits_of(build, where, text[:32], 32) for where in (saved, folder))
        check(np.array_equal(again, before), "the folder that transformers saved gives other logits")
    print(f"ok: {architecture} {folder}: logits within {worst:.1e} of the largest, {GREEDY_TOKENS} greedy tokens equal: {bytes(ours)!r}")


main()
