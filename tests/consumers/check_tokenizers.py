#!/usr/bin/env python3
"""`elastiform tokenize` gives the ids that the tokenizers and sentencepiece packages give: check_tokenizers.py BUILD_DIR TEXT.

Tokenizers trained on TEXT with the pre-tokenizers of GPT-2, Llama 3 and SmolLM, on TEXT and on every code point of Unicode in several contexts:
about 12 MB in all. Models that sentencepiece trains on TEXT, on the same texts; of the unigram model, whose sums sentencepiece forms in float32, on
lines.
"""
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import unicodedata

import numpy as np
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
HEADER_BYTES = 56


def pre_tokenizers_of():
    byte_level = pre_tokenizers.ByteLevel
    yield "gpt2", byte_level(add_prefix_space=False, use_regex=True), 1200
    split = pre_tokenizers.Split(Regex(LLAMA3), "isolated", False)
    yield "llama3", pre_tokenizers.Sequence([split, byte_level(add_prefix_space=False, use_regex=False)]), 70000
    yield "smollm", pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level(add_prefix_space=False, use_regex=True)]), 1200


def every_code_point():
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    text = " ".join(points)
    text += "".join(c + "1" for c in points if ord(c) < 0x20000)
    generator = random.Random(7)
    # Characters of Unicode 14, which this Python knows: of later letters the package's tables know more than Oniguruma 6.9.8.
    old = [c for c in points[:0x3000] if unicodedata.category(c) != "Cn"]
    text += "".join(generator.choice(old) + generator.choice(["", " ", "'s", "\n", "12", "  "]) for _ in range(200000))
    return text


def tokenize(build, source, file, to):
    """The ids in every file that was written, in the order of their names, and the bytes of each."""
    subprocess.run([build / "elastiform", "tokenize", source, "--tokenizer", file, "--to", to], check=True, stdout=subprocess.DEVNULL)
    for shard in sorted(to.iterdir()) if to.is_dir() else [to]:
        content = shard.read_bytes()
        width = int(np.frombuffer(content[12:16], np.uint32)[0])
        yield np.frombuffer(content[HEADER_BYTES:], np.uint16 if width == 2 else np.uint32).astype(np.int64), width


def first_difference(ours, theirs):
    if len(ours) == len(theirs) and (ours == theirs).all():
        return None
    return next((k for k, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))


def train_sentencepiece(file, kind, text):
    with open(file, "wb") as out:
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(text.split("\n")), model_writer=out, model_type=kind, vocab_size=1200,
                                                 hard_vocab_limit=False, byte_fallback=True, normalization_rule_name="identity",
                                                 remove_extra_whitespaces=False, minloglevel=2)


def check_sentencepiece(build, work, kind, text, texts):
    file = work / f"{kind}.model"
    train_sentencepiece(file, kind, text)
    model = sentencepiece.SentencePieceProcessor(model_file=str(file))
    source, compared = work / kind, 0
    if kind == "unigram":
        lines = [line for line in random.Random(7).sample(text.split("\n"), 2000) + texts[-1][-40000:].split("\n") if line]
        texts = [line for line in lines if "<0x" not in line]
    source.mkdir()
    for i, one in enumerate(texts):
        (source / f"{i:06}.txt").write_bytes(one.encode())
        compared += len(one.encode())
    for i, (ours, _) in enumerate(tokenize(build, source, file, work / f"{kind}.tokens")):
        theirs = np.array(model.encode(texts[i]), np.int64)
        at = first_difference(ours, theirs)
        if at is not None:
            sys.exit(f"check_tokenizers.py: sentencepiece {kind}, text {i}: id {at} is {ours[at:at + 6]} here and {theirs[at:at + 6]} there")
    return compared


def check_one(build, work, name, tokenizer, texts):
    file = work / f"{name}.json"
    tokenizer.save(str(file))
    compared = 0
    for i, text in enumerate(texts):
        source, shard = work / f"{name}-{i}.txt", work / f"{name}-{i}.tokens"
        source.write_bytes(text.encode())
        ours, width = next(tokenize(build, source, file, shard))
        theirs = np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.int64)
        at = first_difference(ours, theirs)
        if at is not None:
            near = tokenizer.decode(theirs[max(0, at - 5):at + 5].tolist(), skip_special_tokens=False)
            sys.exit(f"check_tokenizers.py: {name}, text {i}: id {at} is {ours[at:at + 6]} here and {theirs[at:at + 6]} there, near {near!r}")
        compared += len(source.read_bytes())
    return compared, width


def main():
    build, text = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).read_text(errors="ignore")
    texts = [text + " <|end|> x<|end|>y <|end|", every_code_point()]
    with tempfile.TemporaryDirectory() as work:
        for name, pieces, vocabulary in pre_tokenizers_of():
            tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
            tokenizer.pre_tokenizer, tokenizer.decoder = pieces, decoders.ByteLevel()
            alphabet = pre_tokenizers.ByteLevel.alphabet()
            tokenizer.train_from_iterator([text], trainers.BpeTrainer(vocab_size=1200, initial_alphabet=alphabet, show_progress=False))
            tokenizer.add_special_tokens(["<|end|>"])
            if vocabulary > 65536:  # ids that take 32 bits
                tokenizer.add_tokens([AddedToken(f"<|reserved {i}|>", normalized=False) for i in range(vocabulary - tokenizer.get_vocab_size())])
            compared, width = check_one(build, pathlib.Path(work), name, tokenizer, texts)
            print(f"ok: tokenizer {name}: equal ids on {compared / 1e6:.1f} MB, {8 * width} bits each")
        # Control pieces are found in a text here, and not there.
        plain = re.sub("</?s>|<unk>", "", text)
        for kind in ("bpe", "unigram"):
            compared = check_sentencepiece(build, pathlib.Path(work), kind, plain, [plain, every_code_point()])
            print(f"ok: tokenizer.model {kind}: equal ids on {compared / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
