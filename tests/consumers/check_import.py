#!/usr/bin/env python3
"""What transformers saves is imported here, and the imported run's largest subnet means the same: check_import.py BUILD_DIR TEXT.

Tiny random checkpoints of every architecture that `elastiform import` takes; logits of the largest within 1e-5 of the largest logit, in the
order of importance that the import gives heads, FFN columns and channels. Then import → export → import, bit for bit, and an import that has to
be refused for every part of an architecture that has no place.
"""
import pathlib
import sys
import tempfile

import numpy as np
import torch
import transformers

from checkpoints import Programs, be_quiet, check, check_largest, check_refusals, check_round_trip, randomised

VOCABULARY = 320

BASE = dict(vocab_size=VOCABULARY, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2,
            max_position_embeddings=96, rms_norm_eps=1e-5, rope_theta=20000.0, bos_token_id=None, eos_token_id=None, pad_token_id=None)
GPT2 = dict(vocab_size=VOCABULARY, n_embd=48, n_layer=3, n_head=4, n_positions=96, bos_token_id=None, eos_token_id=None)


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
    scaled = lambda rule: {"rope_parameters": {"rope_theta": 20000.0, **rule}, "rope_scaling": rule}
    yield "llama-linear", llama(**scaled({"rope_type": "linear", "factor": 4.0})), {}
    yield "llama-3", llama(**scaled({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                     "original_max_position_embeddings": 64})), {}
    yield "mistral-scaled", MistralForCausalLM(MistralConfig(**{**BASE, "head_dim": 10, "sliding_window": None},
                                                             **scaled({"rope_type": "linear", "factor": 2.0}))), {}
    yield "gpt2", GPT2LMHeadModel(GPT2Config(**GPT2)), {}
    yield "gpt2-untied", GPT2LMHeadModel(GPT2Config(**GPT2, tie_word_embeddings=False, activation_function="gelu", n_inner=100)), {}
    yield "gpt2-sharded", GPT2LMHeadModel(GPT2Config(**GPT2)), {"max_shard_size": "60KB"}


def check_model(programs, text, name, model, options):
    folder, run = programs.work / name, programs.work / f"{name}-run"
    randomised(model).save_pretrained(folder, **options)
    check((folder / "model.safetensors.index.json").exists() == bool(options), f"{name} is sharded")
    programs.import_run(folder, run)
    window = text[:96]
    with torch.no_grad():
        # Loaded again: a model that was cast to half precision has cast its rotary frequencies too, which its file does not hold.
        loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        theirs = loaded(torch.tensor([list(window)])).logits[0].numpy()
    ours = check_largest(programs, name, run, window, theirs)
    check(not np.array_equal(ours, programs.logits(folder, window, len(window))), f"{name}: nothing was put in another order")


def check_what_has_no_place(programs, llama, gpt2):
    from transformers import Qwen3Config, Qwen3ForCausalLM
    randomised(Qwen3ForCausalLM(Qwen3Config(**BASE, head_dim=8))).save_pretrained(programs.work / "qwen3")
    rows = [(programs.work / "qwen3", "self_attn.q_norm.weight")]
    for key, value in (("rope_scaling", {"rope_type": "dynamic", "factor": 8.0}), ("rope_parameters", {"rope_type": "yarn", "rope_theta": 1e4}),
                       ("hidden_act", "gelu"), ("quantization_config", {"bits": 4}), ("partial_rotary_factor", 0.5),
                       ("sliding_window", 32), ("model_type", "mixtral"), ("auto_map", {"AutoConfig": "x.Y"})):
        rows.append((programs.edited(llama, f"no-{key}-{len(rows)}", {key: value}), key))
    for key, value in (("scale_attn_by_inverse_layer_idx", True), ("add_cross_attention", True), ("activation_function", "relu")):
        rows.append((programs.edited(gpt2, f"no-{key}", {key: value}), key))
    rows.append((programs.edited(llama, "no-head", tensors=lambda t: t.pop("lm_head.weight")), "lm_head.weight"))
    rows.append((programs.edited(llama, "no-up", tensors=lambda t: t.pop("model.layers.1.mlp.up_proj.weight")), "mlp.up_proj.weight"))
    extra = lambda t: t.update({"model.layers.0.self_attn.k_norm.weight": torch.ones(8)})
    rows.append((programs.edited(llama, "q-norm", tensors=extra), "k_norm"))
    wrong = lambda t: t.update({"model.norm.weight": torch.ones(47)})
    rows.append((programs.edited(llama, "shape", tensors=wrong), "model.norm.weight"))
    check_refusals(programs, rows)


def main():
    be_quiet()
    text = pathlib.Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as work:
        programs = Programs(sys.argv[1], work, "--text", text, "--tokenizer", "bytes")
        for name, model, options in models():
            check_model(programs, text.read_bytes(), name, model, options)
        for name in ("llama", "gpt2", "llama-3"):
            transformers.AutoModelForCausalLM.from_pretrained(check_round_trip(programs, name, f"hf-{name.removesuffix('-3')}"))
        gpt2 = programs.work / "gpt2"
        check_what_has_no_place(programs, programs.work / "llama", gpt2)
        # The base models' own classes save without the head and without a prefix.
        bare = programs.edited(gpt2, "gpt2-bare",
                               tensors=lambda t: [t.update({key.removeprefix("transformer."): t.pop(key)}) for key in list(t)])
        programs.import_run(bare, programs.work / "bare-run")


main()
