#!/usr/bin/env python3
"""What transformers saves is imported here, and the imported run's largest subnet means the same: check_import.py BUILD_DIR TEXT.

Tiny random checkpoints of every architecture that `elastiform import` takes; logits of the largest within 1e-5 of the largest logit, in the
order of importance that the import gives heads, FFN columns and channels. Then import → export → import, bit for bit, and an import that has to
be refused for every part of an architecture that has no place.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

TOLERANCE = 1e-5  # of the largest logit: sums in another order
VOCABULARY = 320

BASE = dict(vocab_size=VOCABULARY, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2,
            max_position_embeddings=96, rms_norm_eps=1e-5, rope_theta=20000.0, bos_token_id=None, eos_token_id=None, pad_token_id=None)
GPT2 = dict(vocab_size=VOCABULARY, n_embd=48, n_layer=3, n_head=4, n_positions=96, bos_token_id=None, eos_token_id=None)


def check(condition, message):
    if not condition:
        sys.exit(f"check_import.py: {message}")


def randomised(model):
    """Values that no symmetry hides: gains and biases differ from 1 and 0."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(1 + 0.3 * noise if "norm" in name or "ln_" in name and "weight" in name else 0.15 * noise)
    return model.eval()


def models():
    from transformers import (GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config,
                              Qwen2ForCausalLM)
    llama = lambda **more: LlamaForCausalLM(LlamaConfig(**{**BASE, **more}))
    yield "llama", llama(), {}
    yield "llama-tied", llama(tie_word_embeddings=True), {}
    yield "llama-sharded", llama(), {"max_shard_size": "60KB"}
    yield "llama-bf16", llama(tie_word_embeddings=True).to(torch.bfloat16), {}
    yield "llama-f16", llama().to(torch.float16), {}
    yield "llama-biased", llama(attention_bias=True, mlp_bias=True), {}
    yield "llama-attention-biased", llama(attention_bias=True), {}
    yield "mistral", MistralForCausalLM(MistralConfig(**{**BASE, "head_dim": 10, "sliding_window": None})), {}
    yield "qwen2", Qwen2ForCausalLM(Qwen2Config(**BASE)), {}
    yield "gpt2", GPT2LMHeadModel(GPT2Config(**GPT2)), {}
    yield "gpt2-untied", GPT2LMHeadModel(GPT2Config(**GPT2, tie_word_embeddings=False, activation_function="gelu", n_inner=100)), {}
    yield "gpt2-sharded", GPT2LMHeadModel(GPT2Config(**GPT2)), {"max_shard_size": "60KB"}


class Programs:
    def __init__(self, build, work, text):
        self.build, self.work, self.text = build, work, text

    def run(self, *arguments, refused=False):
        run = subprocess.run([self.build / "elastiform", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        check(run.returncode == (2 if refused else 0), f"{' '.join(map(str, arguments))}: status {run.returncode}: {run.stderr}")
        return run.stderr if refused else run.stdout

    def logits(self, model, window):
        run = subprocess.run([self.build / "consumer_logits", model], input=bytes(window), stdout=subprocess.PIPE, check=True)
        return np.frombuffer(run.stdout, np.float32).reshape(len(window), -1)

    def import_run(self, folder, run, *more, refused=False):
        return self.run("import", folder, "--run", run, "--text", self.text, "--tokenizer", "bytes", *more, refused=refused)


def check_model(programs, name, model, options):
    folder, run = programs.work / name, programs.work / f"{name}-run"
    randomised(model).save_pretrained(folder, **options)
    check((folder / "model.safetensors.index.json").exists() == bool(options), f"{name} is sharded")
    programs.import_run(folder, run)
    window = list(programs.text.read_bytes()[:96])
    with torch.no_grad():
        # Loaded again: a model that was cast to half precision has cast its rotary frequencies too, which its file does not hold.
        loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        theirs = loaded(torch.tensor([window])).logits[0].numpy()
    programs.run("export", run, "--subnet", "largest", "--to", programs.work / f"{name}.h5")
    ours = programs.logits(programs.work / f"{name}.h5", window)
    worst = np.abs(ours - theirs).max() / np.abs(theirs).max()
    check(np.abs(theirs).max() > 0.5 and worst <= TOLERANCE, f"{name}: logits differ by {worst:.2e}, {TOLERANCE:.0e} is allowed")
    check(not np.array_equal(ours, programs.logits(folder, window)), f"{name}: nothing was put in another order")
    print(f"ok: import of {name}: logits within {worst:.1e} of the largest")
    return folder, run


def check_round_trip(programs, name, run, format):
    """Weights in the order of an import stay where they are: sorted once, they are sorted."""
    first, second = programs.work / f"{name}-first", programs.work / f"{name}-second"
    again = programs.work / f"{name}-again"
    programs.run("export", run, "--subnet", "largest", "--format", format, "--to", first)
    programs.import_run(first, again)
    programs.run("export", again, "--subnet", "largest", "--format", format, "--to", second)
    a, b = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    check(a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a), f"{name}: import, export, import changed a bit")
    transformers.AutoModelForCausalLM.from_pretrained(second)
    print(f"ok: {name}: import, export, import is bit-equal")


def edited(programs, folder, name, edit=None, tensors=None):
    copy = programs.work / name
    shutil.copytree(folder, copy)
    if edit:
        config = json.loads((copy / "config.json").read_text())
        config.update(edit)
        (copy / "config.json").write_text(json.dumps(config))
    if tensors:
        values = load_file(copy / "model.safetensors")
        tensors(values)
        save_file(values, copy / "model.safetensors", {"format": "pt"})
    return copy


def check_refusals(programs, llama, gpt2):
    from transformers import Qwen3Config, Qwen3ForCausalLM
    randomised(Qwen3ForCausalLM(Qwen3Config(**BASE, head_dim=8))).save_pretrained(programs.work / "qwen3")
    rows = [(programs.work / "qwen3", "self_attn.q_norm.weight")]
    for key, value in (("rope_scaling", {"rope_type": "llama3", "factor": 8.0}), ("rope_parameters", {"rope_type": "yarn", "rope_theta": 1e4}),
                       ("hidden_act", "gelu"), ("quantization_config", {"bits": 4}), ("partial_rotary_factor", 0.5),
                       ("sliding_window", 32), ("model_type", "mixtral"), ("auto_map", {"AutoConfig": "x.Y"})):
        rows.append((edited(programs, llama, f"no-{key}-{len(rows)}", {key: value}), key))
    for key, value in (("scale_attn_by_inverse_layer_idx", True), ("add_cross_attention", True), ("activation_function", "relu")):
        rows.append((edited(programs, gpt2, f"no-{key}", {key: value}), key))
    rows.append((edited(programs, llama, "no-head", tensors=lambda t: t.pop("lm_head.weight")), "lm_head.weight"))
    rows.append((edited(programs, llama, "no-up", tensors=lambda t: t.pop("model.layers.1.mlp.up_proj.weight")), "mlp.up_proj.weight"))
    extra = lambda t: t.update({"model.layers.0.self_attn.k_norm.weight": torch.ones(8)})
    rows.append((edited(programs, llama, "q-norm", tensors=extra), "k_norm"))
    wrong = lambda t: t.update({"model.norm.weight": torch.ones(47)})
    rows.append((edited(programs, llama, "shape", tensors=wrong), "model.norm.weight"))
    for folder, name in rows:
        line = programs.import_run(folder, programs.work / "refused", refused=True)
        check(name in line and line.count("\n") == 1, f"the refusal of {folder.name} names {name}: {line}")
        check(not (programs.work / "refused").exists(), "a refused import leaves nothing")
    print(f"ok: {len(rows)} imports refused by name")


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as work:
        programs = Programs(pathlib.Path(sys.argv[1]), pathlib.Path(work), pathlib.Path(sys.argv[2]))
        made = {name: check_model(programs, name, model, options) for name, model, options in models()}
        check_round_trip(programs, "llama", made["llama"][1], "hf-llama")
        check_round_trip(programs, "gpt2", made["gpt2"][1], "hf-gpt2")
        check_refusals(programs, made["llama"][0], made["gpt2"][0])
        # The base models' own classes save without the head and without a prefix.
        bare = edited(programs, made["gpt2"][0], "gpt2-bare",
                      tensors=lambda t: [t.update({key.removeprefix("transformer."): t.pop(key)}) for key in list(t)])
        programs.import_run(bare, programs.work / "bare-run")


main()
