"""What llama.cpp and transformers do with the exports of pretrained.py; each command prints one JSON document.

speed ROUNDS FILE…       decoding speed of GGUF files, one token at a time: rounds in turn, so that a busy minute meets all of them alike
agree GGUF FOLDER IDS    one network in two formats: logits of a text by llama.cpp and by transformers, and greedy tokens after it
tiny FOLDER TEXT         makes a random Llama with grouped queries and a BPE tokenizer of the text, for trying the experiment out
"""
import json
import sys
import time

DECODED, PROMPT = 48, 8
FLOAT32 = 0  # ggml's type, for the cache


def load(path, context, **more):
    import llama_cpp
    return llama_cpp.Llama(path, n_ctx=context, n_batch=context, verbose=False, **more)


def speed(rounds, *paths):
    """Tokens/s of every round and file. An evaluation of one token stands for a step of generation: sampling is no part of the network. Flash
    attention, as llama.cpp's own programs choose it: without it the cache of blocks with few KV groups is padded to the widest."""
    import os
    threads = os.cpu_count()
    models = {path: load(path, 64, n_threads=threads, flash_attn=True) for path in paths}
    found = {path: [] for path in paths}
    for each in range(int(rounds) + 1):  # the first warms up
        for path, model in models.items():
            model.reset()
            model.eval(list(range(1, 1 + PROMPT)))
            begin = time.perf_counter()
            for token in range(DECODED):
                model.eval([token + 1])
            if each > 0:
                found[path].append(DECODED / (time.perf_counter() - begin))
    return {"threads": threads, "tokens_per_second": found}


def agree(gguf, folder, ids):
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM
    with open(ids) as file:
        tokens = json.load(file)
    model = load(gguf, 2 * len(tokens), logits_all=True, flash_attn=False, type_k=FLOAT32, type_v=FLOAT32)
    model.eval(tokens)
    ours = np.array(model.scores[: len(tokens)])
    other = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32).eval()
    with torch.no_grad():
        theirs = other(torch.tensor([tokens])).logits[0].numpy()
    half = tokens[: len(tokens) // 2]
    greedy = min(16, len(half))
    model.reset()
    model.eval(half)
    by_llama = []
    for _ in range(greedy):
        by_llama.append(int(np.argmax(model.scores[model.n_tokens - 1])))
        model.eval(by_llama[-1:])
    with torch.no_grad():
        after = other.generate(torch.tensor([half]), max_new_tokens=greedy, do_sample=False, eos_token_id=None, pad_token_id=0)
    return {"tokens": len(tokens), "difference": float(np.abs(ours - theirs).max() / np.abs(theirs).max()),
            "same_top": float((ours.argmax(1) == theirs.argmax(1)).mean()),
            "same_greedy": sum(a == b for a, b in zip(by_llama, after[0, len(half):].tolist())), "greedy": greedy}


def tiny(folder, text):
    import tokenizers
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=400, special_tokens=["<|endoftext|>"],
                                             initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train([text], trainer)
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=400, hidden_size=96, intermediate_size=192, num_hidden_layers=6, num_attention_heads=6, head_dim=16,
                         num_key_value_heads=3, max_position_embeddings=64, bos_token_id=None, eos_token_id=0, pad_token_id=None,
                         tie_word_embeddings=True, initializer_range=0.1)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save(f"{folder}/tokenizer.json")
    return {"folder": folder}


if __name__ == "__main__":
    print(json.dumps({"speed": speed, "agree": agree, "tiny": tiny}[sys.argv[1]](*sys.argv[2:])))
