#!/usr/bin/env python3
"""Makes sentencepiece/*.model and sentencepiece_cases.json: make_sentencepiece_cases.py TEXT.

Made with sentencepiece 0.2.3 and tokenizers 0.23.3 from the King James Bible (`./dev text`). Models are small: their rules are tested, not
their words.
"""
import json
import pathlib
import random
import sys

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
ODD = ["日本語のテキスト", "Zażółć gęślą jaźń", "emoji 🙂👩‍👩‍👧 🇩🇪", "e\u0301 a\u030a \u0915\u094d\u0937", "code:  def f(x):\n    return x", "\ttabs\r\n",
       "math ∑√≠ x²", "  leading and trailing   ", "▁ literal ▁▁ mark▁", "\u00a0nbsp\u2003em\u3000space", "ﬁ Ｆｕｌｌ", "a  b   c    d"]
TEXTS = ["", " ", "  ", "\n", "a", " a", "a ", "▁a", "In the beginning God created the heaven and the earth.", "And the earth was without form, and void;\nand",
         "the the  the the", "LORD said unto Moses, 1:12 13", "aaaaaaaaaaaaaaaa", "abababababab", "<0x0A>", "<tool>", "x<tool>y", " <tool>  <tool>the\n\nend",
         "they went\n\n\nout", "\U0010ffff\x01\x7f", "the🙂the"] + ODD


def train(text, name, **options):
    file = HERE / "sentencepiece" / f"{name}.model"
    with open(file, "wb") as out:
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(text + ODD * 20), model_writer=out, minloglevel=2, num_threads=1,
                                                 normalization_rule_name="identity", **options)
    return file


def random_texts(pieces, seed):
    generator = random.Random(seed)
    parts = pieces + ["\n", "  ", "▁", "🙂", "日", "é", "1"]
    return ["".join(generator.choice(parts) for _ in range(generator.randint(1, 9))) for _ in range(25)]


def sentencepiece_rows(text):
    bytes_too, spaces = {"byte_fallback": True}, {"remove_extra_whitespaces": False}
    kinds = {
        "bpe": {"model_type": "bpe", "vocab_size": 480, "character_coverage": 0.99, **bytes_too, **spaces},
        "bpe_unknown": {"model_type": "bpe", "vocab_size": 220, "character_coverage": 0.99, **spaces},
        "bpe_collapsing": {"model_type": "bpe", "vocab_size": 400, "character_coverage": 0.99, **bytes_too},
        "bpe_across_words": {"model_type": "bpe", "vocab_size": 420, "character_coverage": 0.99, "split_by_whitespace": False, **bytes_too, **spaces},
        "bpe_tools": {"model_type": "bpe", "vocab_size": 420, "character_coverage": 0.99, "add_dummy_prefix": False,
                      "user_defined_symbols": ["<tool>", "▁▁", "\n\n"], "control_symbols": ["<ctl>"], **bytes_too, **spaces},
        "unigram": {"model_type": "unigram", "vocab_size": 480, "character_coverage": 0.999, **bytes_too, **spaces},
        "unigram_unknown": {"model_type": "unigram", "vocab_size": 220, "character_coverage": 0.99, **spaces},
    }
    for name, options in kinds.items():
        model = sentencepiece.SentencePieceProcessor(model_file=str(train(text, name, **options)))
        pieces = [model.id_to_piece(i).replace("▁", " ") for i in range(model.get_piece_size())
                  if not (model.is_control(i) or model.is_unknown(i) or model.is_byte(i))]
        texts = TEXTS + random_texts(pieces, 1)
        yield {"model": name, "begin": model.bos_id(), "cases": [[one, model.encode(one)] for one in texts]}


def tokenizers_rows(text):
    special = ["<unk>", "<s>"]
    every_byte = [f"<0x{byte:02X}>" for byte in range(256)]
    bpe = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    unigram = Tokenizer(models.Unigram())
    for one in (bpe, unigram):
        one.pre_tokenizer = pre_tokenizers.Metaspace()
    bpe.train_from_iterator(text, trainers.BpeTrainer(vocab_size=420, limit_alphabet=60, special_tokens=special + every_byte, show_progress=False))
    unigram.train_from_iterator(text, trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False))
    mark = "▁"
    legacy = normalizers.Sequence([normalizers.Prepend(mark), normalizers.Replace(" ", mark)])
    hf_unigram = normalizers.Sequence([normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), mark)])
    llama = decoders.Sequence([decoders.Replace(mark, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])

    def metaspace(scheme, split):
        return pre_tokenizers.Metaspace(replacement=mark, prepend_scheme=scheme, split=split)

    forms = [("llama-2", bpe, legacy, None, llama, True), ("mistral-0.3", bpe, None, metaspace("first", False), llama, False),
             ("always", bpe, None, metaspace("always", True), decoders.Metaspace(replacement=mark, prepend_scheme="always"), False),
             ("never", bpe, None, metaspace("never", False), llama, True), ("t5", unigram, hf_unigram, metaspace("always", True), llama, False),
             ("unigram first", unigram, None, metaspace("first", True), decoders.Metaspace(replacement=mark, prepend_scheme="first"), True)]
    shared = {"bpe": json.loads(bpe.to_str())["model"], "unigram": json.loads(unigram.to_str())["model"]}
    rows = []
    for name, model, normalizer, pieces, decoder, normalized in forms:
        file = json.loads(model.to_str())
        file["added_tokens"] = [{**token, "normalized": normalized} for token in file["added_tokens"] if token["content"] in special]
        file["normalizer"] = file["pre_tokenizer"] = None
        one = Tokenizer.from_str(json.dumps(file))
        if normalizer:
            one.normalizer = normalizer
        if pieces:
            one.pre_tokenizer = pieces
        one.decoder = decoder
        one.add_tokens([AddedToken("<tool>", normalized=not normalized, special=False)])
        saved = json.loads(one.to_str())
        del saved["model"]
        texts = TEXTS + random_texts(["the", " the", "LORD", "<s>", "<tool>", " ", "ing"], 2) + ["<s>the<s> the", "a <s> b"]
        cases = []
        for each in texts:
            ids = one.encode(each, add_special_tokens=False).ids
            text_back = one.decode(ids, skip_special_tokens=False)
            cases.append([each, ids, None if "\ufffd" in text_back else text_back])
        rows.append({"name": name, "model": "bpe" if model is bpe else "unigram", "file": saved, "cases": cases})
    return shared, rows


def main():
    text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")[:150000].split("\n")
    made = list(sentencepiece_rows(text))
    shared, rows = tokenizers_rows(text)
    about = f"Made by make_sentencepiece_cases.py with sentencepiece {sentencepiece.__version__} and tokenizers {tokenizers.__version__}."
    out = {"about": about, "sentencepiece": made, "models": shared, "tokenizers": rows}
    (HERE / "sentencepiece_cases.json").write_text(json.dumps(out, ensure_ascii=False, separators=(",", ":")).replace('{"model"', '\n{"model"').replace('{"name"', '\n{"name"') + "\n")


main()
