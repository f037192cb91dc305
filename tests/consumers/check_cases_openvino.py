#!/usr/bin/env python3
"""OpenVINO runs every ONNX folder of consumer_exports, at once and token by token: check_cases_openvino.py FOLDER."""
import sys

import numpy as np
import openvino

import cases

TOLERANCE = 1e-5  # of the largest logit


def run(model, ids, begin, cache):
    """Logits of ids[begin:], and the cache for the next call."""
    new = ids[:, begin:]
    feed = {"input_ids": new, "attention_mask": np.ones((1, ids.shape[1]), np.int64), "position_ids": np.arange(begin, ids.shape[1])[None]}
    known = set()
    for one in model.inputs:
        name = one.any_name
        known.add(name)
        if name.startswith("past_key_values."):
            shape = one.partial_shape
            feed[name] = cache[name] if cache else np.zeros((1, shape[1].get_length(), 0, shape[3].get_length()), np.float32)
    results = {key.any_name: value for key, value in model({name: value for name, value in feed.items() if name in known}).items()}
    logits = results.pop("logits")
    return logits, {name.replace("present.", "past_key_values."): value for name, value in results.items()}


def check(report, core, case):
    model = core.compile_model(case.path("onnx") + "/model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    ids = np.array([case.tokens], np.int64)
    report.logits(case, "onnx", run(model, ids, 0, None)[0][0], TOLERANCE)
    cache, rows = None, []
    for i in range(ids.shape[1]):
        logits, cache = run(model, ids[:, :i + 1], i, cache)
        rows.append(logits[0, -1].copy())
    if cache:
        report.logits(case, "onnx", np.stack(rows), TOLERANCE)
    ids, cache, found = np.array([case.prompt], np.int64), None, []
    for _ in case.greedy:
        logits, cache = run(model, ids, ids.shape[1] - 1 if cache else 0, cache)
        found.append(int(logits[0, -1].argmax()))
        ids = np.concatenate([ids, [found[-1:]]], 1)
    report.greedy(case, "onnx", found, TOLERANCE)


def main():
    report, core = cases.Report(f"openvino {openvino.__version__.split('-')[0]}"), openvino.Core()
    for case in cases.cases(sys.argv[1]):
        if "onnx" in case.exports:
            check(report, core, case)
    for case in cases.image_cases(sys.argv[1]):
        model = core.compile_model(case.path("onnx") + "/model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
        report.classes(case, "onnx classifier", next(iter(model({"pixel_values": case.pixels}).values())), TOLERANCE)
    report.close()


main()
