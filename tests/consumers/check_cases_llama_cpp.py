#!/usr/bin/env python3
"""llama.cpp loads every GGUF of consumer_exports: check_cases_llama_cpp.py FOLDER."""
import sys

import llama_cpp
import numpy as np

import cases

# Of the largest logit. F32: sums in another order. The others: what rounding the weights and, in llama.cpp, the activations that they meet
# costs on random networks, which depend on every weight.
TOLERANCES = {"gguf": 1e-5, "gguf-f16": 3e-3, "gguf-bf16": 3e-2, "gguf-q8_0": 5e-2}
FLOAT32 = 0  # ggml's type, for the cache


def check(report, case, kind, tolerance):
    model = llama_cpp.Llama(case.path(kind), n_ctx=case.context, n_batch=case.context, logits_all=True, verbose=False, n_threads=1,
                            type_k=FLOAT32, type_v=FLOAT32, flash_attn=False)
    model.eval(case.tokens)
    report.logits(case, kind, np.array(model.scores[:len(case.tokens)]), tolerance)
    # llama.cpp's splitter takes UTF-8: every ASCII byte but the NUL, and characters of two to four bytes.
    for text in (b"In the beginning", "  naïve — 日本語 🙂\r\n\t".encode(), bytes(range(1, 128)), "".join(map(chr, range(0xA0, 0x250))).encode()):
        ids = model.tokenize(text, add_bos=False, special=False)
        report.expect(case, kind, ids == list(text), f"{text!r} became {ids}")
        report.expect(case, kind, model.detokenize(ids) == text, f"{text!r} came back as {model.detokenize(ids)!r}")
    if kind == "gguf":
        model.reset()
        model.eval(case.prompt)
        found = []
        for _ in case.greedy:
            found.append(int(np.argmax(model.scores[model.n_tokens - 1])))
            model.eval(found[-1:])
        report.greedy(case, kind, found, tolerance)
    model.close()


def main():
    report = cases.Report(f"llama-cpp-python {llama_cpp.__version__}")
    for case in cases.cases(sys.argv[1]):
        for kind, tolerance in TOLERANCES.items():
            if kind in case.exports:
                check(report, case, kind, tolerance)
    report.close()


main()
