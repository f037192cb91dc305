#!/usr/bin/env bash
# cuda_static.sh: what the compiled CUDA kernels take of a GPU, without one: registers, spills, shared memory, and from these how many warps a
# multiprocessor holds, for sm_80 and sm_90. Writes cuda_static.md beside itself. Needs nvcc; minutes.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
PATH=$PATH:/usr/local/cuda/bin
command -v nvcc >/dev/null || { echo "cuda_static: needs nvcc on the PATH or in /usr/local/cuda/bin" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# As kernels/cuda/device/module.cmake compiles them; ptxas says what it made of each kernel, and the PTX which bounds the code has.
compile() {
  local name
  name=$(basename "$2" .cu)
  mkdir "$1/$name"
  nvcc -std=c++20 -O3 -fmad=false -DELASTIFORM_GPU=cuda -I. -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90 -Xptxas -v \
    -keep -keep-dir "$1/$name" -fatbin "$2" -o "$1/$name/$name.fatbin" 2>"$1/$name.txt"
  echo "cuda_static: $name" >&2
}
export -f compile
printf '%s\n' kernels/cuda/*.cu | xargs -P "$(nproc)" -I SOURCE bash -c "compile '$folder' SOURCE"

python3 - "$folder" "$(git rev-parse --short HEAD)" "$(nvcc --version | sed -n 's/.*release \([^,]*\),.*/\1/p')" >experiments/results/cuda_static.md <<'PYTHON'
import pathlib
import re
import subprocess
import sys

folder, commit, nvcc = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
SHARED_KIB = {"sm_80": 164, "sm_90": 228}  # of a multiprocessor
# Dynamic shared memory of a block, KiB, and FLOPs for each byte that a block reads of global memory, from the tiles' sizes.
TILES = [
    (r"TensorGemm.*Lb1EEE", 64, "128x128x32, 4 stages of bf16", 64), (r"TensorGemm.*Lb0EEE", 32, "64x64x32, 4 stages of bf16", 32),  # the last flag
    (r"attention_forward_kernel.*Li32E", 24, "128 queries, 64 keys", 128), (r"attention_forward_kernel.*Li64E", 48, "128 queries, 64 keys", 128),
    (r"attention_forward_kernel.*Li128E", 64, "128 queries, 32 keys", 128),
    (r"attention_(key|query)_gradients_kernel.*Li32E", 24, "64 rows, 64 others", 80), (r"attention_(key|query)_gradients_kernel.*Li64E", 48, "64 rows, 64 others", 80),
    (r"attention_(key|query)_gradients_kernel.*Li128E", 64, "64 rows, 32 others", 80),
]


def demangled(name):
    text = subprocess.run(["c++filt", name], capture_output=True, text=True, check=True).stdout.strip()
    text = re.sub(r"elastiform::(cuda::)?", "", text).replace("(anonymous namespace)::", "")
    text = re.sub(r"_GLOBAL__N__\w+::|_INTERNAL_\w+::", "", text)
    depth = 0
    for i, c in enumerate(text):  # the parameters begin at the parenthesis that is inside no template
        depth += {"<": 1, ">": -1}.get(c, 0)
        if c == "(" and depth == 0:
            return text[:i].removeprefix("void ")
    return text


def kernels(name):
    threads = {}
    for path in sorted((folder / name).glob("*.ptx")):
        for entry, body in re.findall(r"\.entry (\w+)\((.*?)\n\{", path.read_text(), re.S):
            bound = re.search(r"\.maxntid (\d+)(?:, (\d+))?(?:, (\d+))?", body)
            threads[entry] = eval("*".join(filter(None, bound.groups()))) if bound else 256
    pattern = (r"Compiling entry function '(\w+)' for '(sm_\d+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
               r".*?Used (\d+) registers([^\n]*)")
    for entry, arch, _, stores, loads, registers, rest in re.findall(pattern, (folder / f"{name}.txt").read_text(), re.S):
        shared = re.search(r"(\d+) bytes smem", rest)
        yield entry, arch, threads[entry], int(registers), int(stores) + int(loads), int(shared.group(1)) if shared else 0


def warps(arch, threads, registers, shared_bytes):
    """Of the 64 that a multiprocessor can hold."""
    by_warp = -(-registers * 32 // 256) * 256
    blocks = min(65536 // (by_warp * -(-threads // 32)), 2048 // threads, 32)
    if shared_bytes:
        blocks = min(blocks, SHARED_KIB[arch] * 1024 // (shared_bytes + 1024))
    return blocks * -(-threads // 32)


rows, spills = [], 0
for path in sorted(folder.glob("*.txt")):
    for entry, arch, threads, registers, spilled, static in kernels(path.stem):
        tile = next((tile for tile in TILES if re.search(tile[0], entry)), None)
        shared = static + (1024 * tile[1] if tile else 0)
        spills += spilled
        rows.append((path.stem, demangled(entry), arch, threads, registers, spilled, f"{shared / 1024:.1f}", warps(arch, threads, registers, shared), tile))
rows.sort(key=lambda row: row[:3])
print("# The CUDA kernels as compiled\n")
print("Nothing here ran on a GPU: this is what `ptxas -v` says of the code, and how many warps a multiprocessor holds of it (64 at most). Speed")
print(f"is a matter of `./dev gpu-check`. nvcc {nvcc}, commit {commit}. Made by `./dev experiment cuda_static`.\n")
print(f"- Register spills: **{spills} bytes** in {len(rows) // 2} kernels and two architectures.")
print("- What is bound by memory (norms, activations, losses, optimizer) needs warps to hide its latency: see the column.")
print("- What is bound by arithmetic: FLOPs for each byte that a block reads of global memory, by the tiles' sizes; an H100 does 989 TFLOP/s of bf16")
print("  at 3.35 TB/s, 295 FLOP/B, and its L2 serves neighbouring tiles, so tiles of 64 FLOP/B need a hit rate of 4 in 5 there.\n")
print("| file | kernel | architecture | threads | registers | spilled bytes | shared KiB | warps of 64 |\n|---|---|---|---|---|---|---|---|")
for file, name, arch, threads, registers, spilled, shared, held, _ in rows:
    print(f"| {file} | `{name}` | {arch} | {threads} | {registers} | {spilled} | {shared} | {held} |")
print("\n| kernel | tile | FLOP/B |\n|---|---|---|")
seen = set()
for _, name, _, _, _, _, _, _, tile in rows:
    if tile and (tile[2], name.split("<")[0]) not in seen:
        seen.add((tile[2], name.split("<")[0]))
        print(f"| {name.split('<')[0]} | {tile[2]} | {tile[3]} |")
print("\nThreads without a bound in the code are taken as 256. The shared memory of float32 attention depends on head_dim and is not in the column.")
PYTHON
