#!/usr/bin/env python3
"""onnxruntime-genai runs every ONNX folder of consumer_exports that has a cache: check_cases_genai.py FOLDER."""
import importlib.metadata
import pathlib
import sys

import numpy as np
import onnxruntime_genai as og

import cases

TOLERANCE = 1e-5  # of the largest logit


def check(report, case):
    model = og.Model(case.path("onnx"))
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=case.context, do_sample=False)
    generator = og.Generator(model, params)
    generator.append_tokens(np.array(case.prompt, np.int32))
    logits = np.array(generator.get_logits()).reshape(-1, case.logits.shape[1])[-1:]
    report.logits(case, "onnx", logits, TOLERANCE, case.logits[len(case.prompt) - 1:len(case.prompt)])
    found = []
    for _ in case.greedy:
        if generator.is_done():  # the NUL byte ends a text there
            break
        generator.generate_next_token()
        found.append(int(generator.get_sequence(0)[-1]))
    kept = case.greedy[:len(found)] if found and found[-1] == 0 else case.greedy
    report.greedy(case, "onnx", found, TOLERANCE, kept)
    text = "naïve — 日本語\n"
    ids = list(og.Tokenizer(model).encode(text))
    report.expect(case, "onnx", ids == list(text.encode()), f"{text!r} became {ids}")


def main():
    report = cases.Report(f"onnxruntime-genai {importlib.metadata.version('onnxruntime-genai')}")
    for case in cases.cases(sys.argv[1]):
        if "onnx" in case.exports and (pathlib.Path(case.path("onnx")) / "genai_config.json").exists():
            check(report, case)
    report.close()


main()
