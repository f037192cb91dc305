#!/usr/bin/env python3
"""llama.cpp finds the ids of a run by the GGUF that it exports: check_tokenizers_llama_cpp.py BUILD_DIR TEXT.

A tokenizer.model that sentencepiece trains on TEXT, and the same vocabulary as a tokenizer.json with each Metaspace. Of those, texts of which
the export says that ids differ are left out, and some that it names must differ.
"""
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile

import llama_cpp

from check_tokenizers import first_difference, tokenize, train_sentencepiece

RECIPE = pathlib.Path(__file__).resolve().parents[2] / "experiments/recipes/micro.toml"
TOKENS = ["<s>", "</s>", "<unk>", "<tool>", " ", "  ", "\n", " the", "the", "日本", "🙂", "a\u0301", "\t", "=", "return", "0x1F"]
FOUND = "<s>|</s>|<unk>|<tool>"
# Texts that the note of an export is about, by the Metaspace.
NOTED = {"model": "(?!)", "never": "(?!)", "first": rf"^ |({FOUND})(?!\Z)(?!{FOUND})", "always": rf"(^|{FOUND}) "}


def texts_of(text):
    generator = random.Random(7)
    lines = [line for line in text.split("\n") if line]
    mixed = ["".join(generator.choices(TOKENS, k=generator.randint(1, 10))) for _ in range(600)]
    return generator.sample(lines, min(len(lines), 200)) + mixed + [re.sub(FOUND, "", text[:100000])]


def with_metaspace(file, scheme):
    tokenizer = json.loads(file.read_text())
    tokenizer["normalizer"] = None
    tokenizer["pre_tokenizer"] = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": False}
    tool = dict(tokenizer["added_tokens"][0], id=max(tokenizer["model"]["vocab"].values()) + 1, content="<tool>", special=False)
    tokenizer["added_tokens"].append(tool)
    return json.dumps(tokenizer)


def run(build, *words):
    made = subprocess.run([build / "elastiform", *words], capture_output=True, text=True)
    if made.returncode:
        sys.exit(f"check_tokenizers_llama_cpp.py: elastiform {words[0]}: {made.stderr}")
    return made.stdout


def export(build, work, name, tokenizer):
    """A run with this tokenizer, as a GGUF and as a folder; what the export of the first says."""
    sets = {"data.text": work / "train.txt", "data.tokenizer": tokenizer, "data.split_block": 256, "model.vocabulary": 1300, "train.steps": 1}
    sets = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    run(build, "train", RECIPE, "--run", work / name, *sets)
    run(build, "export", work / name, "--subnet", "smallest", "--format", "hf-llama", "--to", work / f"{name}-hf")
    return json.loads(run(build, "export", work / name, "--subnet", "smallest", "--format", "gguf", "--to", work / f"{name}.gguf", "--json"))


def check(build, work, name, tokenizer, texts):
    said = export(build, work, name, tokenizer)
    if ("note" in said) != (name in ("first", "always")):
        sys.exit(f"check_tokenizers_llama_cpp.py: the export of {name} says {said.get('note')!r}")
    source = work / f"{name}-texts"
    source.mkdir()
    for i, text in enumerate(texts):
        (source / f"{i:06}.txt").write_bytes(text.encode())
    model = llama_cpp.Llama(str(work / f"{name}.gguf"), vocab_only=True, verbose=False)
    compared = others = 0
    for text, (ours, _) in zip(texts, tokenize(build, source, tokenizer, work / f"{name}.tokens")):
        theirs = model.tokenize(text.encode(), add_bos=False, special=True)
        same = ours.tolist() == theirs
        if re.search(NOTED[name], text):
            others += not same
            continue
        compared += 1
        if not same:
            at = first_difference(ours, theirs)
            sys.exit(f"check_tokenizers_llama_cpp.py: {name}, {text[:80]!r}: id {at} is {ours[at:at + 6]} here and {theirs[at:at + 6]} there")
    model.close()
    if "note" in said and others == 0:
        sys.exit(f"check_tokenizers_llama_cpp.py: {name}: equal ids on every text that the note names")
    print(f"ok: llama-cpp-python {llama_cpp.__version__}, tokenizer {name}: equal ids on {compared} texts, others on {others} that are named")


def main():
    build, text = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).read_text(errors="ignore")
    texts = texts_of(text)
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        (work / "train.txt").write_text(text[:40000])
        train_sentencepiece(work / "bpe.model", "bpe", text)
        check(build, work, "model", work / "bpe.model", texts)
        for scheme in ("first", "always", "never"):
            file = work / f"{scheme}.json"
            file.write_text(with_metaspace(work / "model-hf/tokenizer.json", scheme))
            check(build, work, scheme, file, texts)


main()
