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
    ended = case.greedy.index(0) if 0 in case.greedy else len(case.greedy)  # the NUL byte ends a text there
    for _ in range(ended):
        generator.generate_next_token()
    report.greedy(case, "onnx", generator.get_sequence(0)[len(case.prompt):].tolist(), TOLERANCE, case.greedy[:ended])
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
