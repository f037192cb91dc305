"""The page of import_export.sh."""
import array
import json
import math
import mmap
import os
import random
import re
import shutil
import statistics
import struct
import subprocess
import sys
import time

PROGRAM, WORK, COMMIT, PROCESSOR = sys.argv[1:]
TEXT_BYTES = 8192  # of the recipes' text: what is scored is not what is measured
LAYERS, EMBED, FFN, VOCABULARY, CONTEXT = 12, 768, 2048, 50257, 1024
FORMATS = {"elastiform": "llama.h5", "hf-llama": "llama-hf", "gguf": "llama.gguf", "gguf-f16": "llama-f16.gguf",
           "gguf-q8_0": "llama-q8_0.gguf", "onnx": "llama-onnx"}
ROUNDS, TOGETHER = 5, 8
RUN = WORK + "/run"
MIB = 1 << 20


def shapes():
    found = {"model.embed_tokens.weight": [VOCABULARY, EMBED]}
    for layer in range(LAYERS):
        for name, shape in (("input_layernorm", [EMBED]), ("self_attn.q_proj", [EMBED, EMBED]), ("self_attn.k_proj", [EMBED, EMBED]),
                            ("self_attn.v_proj", [EMBED, EMBED]), ("self_attn.o_proj", [EMBED, EMBED]),
                            ("post_attention_layernorm", [EMBED]), ("mlp.gate_proj", [FFN, EMBED]), ("mlp.up_proj", [FFN, EMBED]),
                            ("mlp.down_proj", [EMBED, FFN])):
            found[f"model.layers.{layer}.{name}.weight"] = shape
    return {**found, "model.norm.weight": [EMBED]}


def write_checkpoint(folder):
    """A folder of transformers with random weights, the same 2^18 numbers again and again."""
    os.makedirs(folder)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT,
              "hidden_size": EMBED, "intermediate_size": FFN, "num_hidden_layers": LAYERS, "num_attention_heads": EMBED // 64,
              "num_key_value_heads": EMBED // 64, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
              "tie_word_embeddings": True}
    with open(folder + "/config.json", "w") as file:
        json.dump(config, file)
    header, end = {}, 0
    for name, shape in shapes().items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    draw = random.Random(0)
    numbers = array.array("f", (draw.gauss(0, 0.02) for _ in range(1 << 18))).tobytes()
    with open(folder + "/model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape in shapes().values():
            left = 4 * math.prod(shape)
            while left > 0:
                left -= file.write(numbers[:left])


def size_of(path):
    """Of a file or a folder; a file with two names counts once."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    files = [os.stat(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names]
    return sum({file.st_ino: file.st_size for file in files}.values())


def remove(path):
    subprocess.run(["rm", "-rf", path], check=True)


def disk_seconds(size):
    """Of writing so many bytes to a new file and syncing it, as every file of the program is."""
    path, block = WORK + "/disk", bytes(MIB)
    begin = time.monotonic()
    with open(path, "wb") as file:
        while size > 0:
            size -= file.write(block[:size])
        file.flush()
        os.fsync(file.fileno())
    seconds = time.monotonic() - begin
    remove(path)
    return seconds


def forget_evaluations():
    """Of the run: what it remembers is not computed again."""
    for name in os.listdir(RUN):
        if name.startswith("results."):
            os.remove(f"{RUN}/{name}")


def memory_seconds(size):
    """Of touching so many bytes that the process never had: a virtual machine's host may have to find them first."""
    begin = time.monotonic()
    with mmap.mmap(-1, size) as fresh:
        block = b"\1" * MIB
        while fresh.tell() < size:
            fresh.write(block[:size - fresh.tell()])
        return time.monotonic() - begin


def run_alone(*arguments):
    """Seconds, seconds of the processor, and the most bytes that the program had in memory."""
    begin = time.monotonic()
    process = subprocess.Popen([PROGRAM, *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begin
    if status != 0:
        sys.exit(f"import_export: elastiform {' '.join(arguments)}: status {status}")
    return seconds, used.ru_utime + used.ru_stime, 1024 * used.ru_maxrss


def timed(makes, *arguments):
    """Medians of rounds of a command that makes a file or folder: its seconds, those of the disk for as many bytes, those beyond the disk,
    those of touching as much memory, those of the processor; and the bytes."""
    rows = []
    for _ in range(ROUNDS):
        remove(makes)
        seconds, processor, memory = run_alone(*arguments)
        size = size_of(makes)
        disk = disk_seconds(size)
        rows.append((seconds, disk, seconds - disk, memory_seconds(memory), processor))
    return [*(statistics.median(column) for column in zip(*rows)), size]


def row_of(name, found):
    *seconds, size = found
    return f"| {name} | {size / MIB:,.0f} | " + " | ".join(f"{one:.2f}" for one in seconds) + " |"


def memory_of(process):
    """MiB: what the process has in memory, and that with every page divided by the processes that have it."""
    try:
        with open(f"/proc/{process.pid}/smaps_rollup") as file:
            found = dict(re.findall(r"^(\w+): +(\d+) kB", file.read(), re.M))
    except (FileNotFoundError, ProcessLookupError):
        return None
    return [int(found[key]) / 1024 for key in ("Rss", "Pss")] if "Pss" in found else None


def together(count, *more):
    """So many evaluations at once: the largest sums of Rss and of Pss that were seen while all of them ran."""
    forget_evaluations()
    command = [PROGRAM, "evaluate", RUN, "--subnet", "largest", "--threads", "1", *more]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(count)]
    most = [0, 0]
    while any(process.poll() is None for process in processes):
        found = [memory_of(process) for process in processes]
        if all(found):
            most = [max(most[i], sum(one[i] for one in found)) for i in range(2)]
        time.sleep(0.1)
    for process in processes:
        if process.returncode != 0:
            sys.exit("import_export: an evaluation failed")
    if most[1] == 0:
        sys.exit("import_export: no moment was seen in which all evaluations ran")
    return most


source = WORK + "/checkpoint"
write_checkpoint(source)
text = WORK + "/text"
with open("experiments/recipes/kjv.txt", "rb") as whole, open(text, "wb") as part:
    part.write(whole.read(TEXT_BYTES))
data = ["--text", text, "--tokenizer", "bytes", "--context", "128", "--set", "data.split_block=256", "--set", "data.splits=80,10,10"]
imports = {"folder of transformers (float32)": timed(RUN, "import", source, "--run", RUN, *data)}
for split in ("search", "report"):  # model cards say what they are, and the run remembers them
    subprocess.run([PROGRAM, "evaluate", RUN, "--split", split], check=True, stdout=subprocess.DEVNULL)
exports = {}
for kind, name in FORMATS.items():
    to = f"{WORK}/{name}"
    exports[kind] = timed(to, "export", RUN, "--subnet", "largest", "--format", kind, "--to", to)
    if kind != "onnx":
        imports[kind] = timed(WORK + "/again", "import", to, "--run", WORK + "/again", *data)
    remove(to)
print("# In and out of a network of 124 M parameters\n")
parameters = sum(math.prod(shape) for shape in shapes().values())
print(f"A Llama of {LAYERS} blocks of {EMBED} channels, random weights, {parameters:,} parameters, as many as GPT-2 has; medians of")
print(f"{ROUNDS} rounds. The disk's seconds are those of writing as many bytes to a new file and syncing it; what a command takes beyond them")
print("is the median of differences within rounds; it may be less than the processor's, as the disk writes while the program computes. The memory's")
print("seconds, which are among those beyond the disk, are those of touching as many fresh bytes as the command had in memory at most: on a virtual")
print("machine the host may take its time to find them. An")
print("export reads back what it wrote and compares weights and logits; how good the subnet is, which its model card says, was known before.")
print(f"{PROCESSOR}, {os.cpu_count()} cores, commit {COMMIT}. Made by `./dev experiment import_export`.\n")
for title, rows in (("Import", imports), ("Export", exports)):
    print(f"## {title}\n\n| of | MiB written | seconds | disk, s | beyond the disk, s | memory, s | processor, s |\n|---|---|---|---|---|---|---|")
    print("\n".join(row_of(name, found) for name, found in rows.items()) + "\n")
print("## Evaluations at once\n")
weights = math.fsum(math.prod(shape) for shape in shapes().values()) * 4 / MIB
print(f"`evaluate --subnet largest` of the imported run, of {weights:,.0f} MiB of weights, one thread each. Rss counts pages of a file")
print("in every process that has them, Pss once.\n")
print("| processes | | sum of Rss, MiB | sum of Pss, MiB | Pss a process |\n|---|---|---|---|---|")
for count in (1, TOGETHER):
    for more in ([], ["--share-weights"]):
        rss, pss = together(count, *more)
        print(f"| {count} | {' '.join(more)} | {rss:,.0f} | {pss:,.0f} | {pss / count:,.0f} |")
shutil.rmtree(WORK + "/again", ignore_errors=True)
