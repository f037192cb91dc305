#!/usr/bin/env python3
"""ONNX Runtime runs every ONNX folder of consumer_exports: check_cases_onnxruntime.py FOLDER."""
import sys

import numpy as np
import onnx
import onnxruntime as ort

import cases

TOLERANCE = 1e-5  # of the largest logit
PADDING = 5
LEVELS = {"unoptimized": ort.GraphOptimizationLevel.ORT_DISABLE_ALL, "optimized": ort.GraphOptimizationLevel.ORT_ENABLE_ALL}


class Session:
    def __init__(self, path, level):
        options = ort.SessionOptions()
        options.graph_optimization_level, options.intra_op_num_threads, options.log_severity_level = level, 1, 3
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.caches = [i for i in self.session.get_inputs() if i.name.startswith("past_key_values.")]
        self.outputs = [o.name for o in self.session.get_outputs()]

    def run(self, ids, mask, positions, cache):
        """Logits, and the cache for the next call."""
        feed = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        for i in self.caches:
            feed[i.name] = cache[i.name] if cache else np.zeros((ids.shape[0], i.shape[1], 0, i.shape[3]), np.float32)
        known = {i.name for i in self.session.get_inputs()}
        results = dict(zip(self.outputs, self.session.run(None, {k: v for k, v in feed.items() if k in known})))
        logits = results.pop("logits")
        return logits, {name.replace("present.", "past_key_values."): value for name, value in results.items()}


def check(report, case, level):
    kind = f"onnx, {level}"
    session = Session(case.path("onnx") + "/model.onnx", LEVELS[level])
    ids = np.array([case.tokens], np.int64)
    count = ids.shape[1]
    all_positions = np.arange(count)[None]
    report.logits(case, kind, session.run(ids, np.ones_like(ids), all_positions, None)[0][0], TOLERANCE)

    cache, rows = None, []
    for i in range(count):
        logits, cache = session.run(ids[:, i:i + 1], np.ones((1, i + 1), np.int64), all_positions[:, i:i + 1], cache)
        rows.append(logits[0, -1])
    if session.caches:
        report.logits(case, kind, np.stack(rows), TOLERANCE)

    both = np.concatenate([ids, np.concatenate([np.zeros((1, PADDING), np.int64), ids[:, :-PADDING]], 1)])
    mask = np.ones_like(both)
    mask[1, :PADDING] = 0
    logits = session.run(both, mask, np.maximum(mask.cumsum(1) - 1, 0), None)[0]
    report.logits(case, kind, logits[0], TOLERANCE)
    report.logits(case, kind, logits[1, PADDING:], TOLERANCE, case.logits[:-PADDING])

    found, fed = [], np.array([case.prompt], np.int64)
    cache, seen = None, 0
    for _ in case.greedy:
        if not session.caches:  # without attention a token sees itself alone
            cache = None
        seen += fed.shape[1]
        logits, cache = session.run(fed, np.ones((1, seen), np.int64), np.arange(seen - fed.shape[1], seen)[None], cache)
        found.append(int(logits[0, -1].argmax()))
        fed = np.array([found[-1:]], np.int64)
    report.greedy(case, kind, found, TOLERANCE)


def main():
    report = cases.Report(f"onnxruntime {ort.__version__}")
    for case in cases.cases(sys.argv[1]):
        if "onnx" not in case.exports:
            continue
        onnx.checker.check_model(case.path("onnx") + "/model.onnx", full_check=True)
        for level in LEVELS:
            check(report, case, level)
    for case in cases.image_cases(sys.argv[1]):
        onnx.checker.check_model(case.path("onnx") + "/model.onnx", full_check=True)
        for level in LEVELS:
            session = Session(case.path("onnx") + "/model.onnx", LEVELS[level]).session
            report.classes(case, f"onnx classifier, {level}", session.run(["logits"], {"pixel_values": case.pixels})[0], TOLERANCE)
            one = np.concatenate([session.run(["logits"], {"pixel_values": case.pixels[i:i + 1]})[0] for i in range(len(case.pixels))])
            report.logits(case, f"onnx classifier, {level}", one, TOLERANCE)
    report.close()


main()
