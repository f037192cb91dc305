#!/usr/bin/env python3
"""transformers loads every folder of consumer_exports: check_cases_transformers.py FOLDER."""
import os
import sys
import tempfile

os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp()  # the folders' Python files are copied there
import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForImageClassification
from transformers.modeling_outputs import CausalLMOutputWithPast

import cases
import checkpoints

CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"  # until 5.x
TOLERANCE = 1e-4  # of the largest logit: two float32 implementations that add in different orders
KINDS = {"hf-auto": True, "hf-llama": False, "hf-gpt2": False, "hf-llama-pad": False, "hf-gpt2-pad": False}
PADDING = 5


def check(report, case, kind, own_code):
    model, loaded = AutoModelForCausalLM.from_pretrained(case.path(kind), output_loading_info=True, trust_remote_code=own_code)
    model.eval()
    for what, names in loaded.items():
        report.expect(case, kind, not names, f"{what}: {names}")
    report.expect(case, kind, (type(model).__name__ == "ElastiformForCausalLM") == own_code, f"class {type(model).__name__}")
    ids = torch.tensor([case.tokens])
    with torch.no_grad():
        report.logits(case, kind, model(ids).logits[0].numpy(), TOLERANCE)
        cache, rows = None, []
        for i in range(ids.shape[1]):  # one token at a time through the cache
            out = model(ids[:, i:i + 1], use_cache=True, **{CACHE: cache}) if model.config.use_cache else model(ids[:, :i + 1])
            cache = getattr(out, CACHE)
            rows.append(out.logits[0, -1].numpy())
        report.logits(case, kind, np.stack(rows), TOLERANCE)
        # A batch of two, the second padded on the left.
        short = ids[:, :-PADDING]
        both = torch.cat([ids, torch.cat([torch.zeros(1, PADDING, dtype=torch.long), short], 1)])
        mask = torch.ones_like(both)
        mask[1, :PADDING] = 0
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        padded = model(both, attention_mask=mask, position_ids=positions).logits.numpy()
        report.logits(case, kind, padded[0], TOLERANCE)
        report.logits(case, kind, padded[1, PADDING:], TOLERANCE, case.logits[:-PADDING])
    prompt = torch.tensor([case.prompt])
    generated = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=len(case.greedy), do_sample=False)
    report.greedy(case, kind, generated[0, prompt.shape[1]:].tolist(), TOLERANCE)
    if own_code:
        with tempfile.TemporaryDirectory() as saved:  # what transformers saves takes the code along and means the same
            model.save_pretrained(saved)
            again = AutoModelForCausalLM.from_pretrained(saved, trust_remote_code=True).eval()
            with torch.no_grad():
                report.expect(case, kind, torch.equal(again(ids).logits, model(ids).logits), "a saved copy gives other logits")


def main():
    checkpoints.be_quiet()
    torch.set_num_threads(1)
    report = cases.Report(f"transformers {transformers.__version__}")
    for case in cases.cases(sys.argv[1]):
        for kind, own_code in KINDS.items():
            if kind in case.exports:
                check(report, case, kind, own_code)
    for case in cases.image_cases(sys.argv[1]):
        for kind in ("hf-vit", "hf-vit-pad"):
            if kind not in case.exports:
                continue
            model, loaded = AutoModelForImageClassification.from_pretrained(case.path(kind), output_loading_info=True)
            for what, names in loaded.items():
                report.expect(case, kind, not names, f"{what}: {names}")
            with torch.no_grad():
                report.classes(case, kind, model.eval()(torch.from_numpy(case.pixels)).logits.numpy(), TOLERANCE)
    report.close()


main()
