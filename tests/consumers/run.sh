#!/usr/bin/env bash
# run.sh [BUILD_DIR [PYTHON]]: trains micro runs on this repository's own sources, exports them, and has the programs that the exports are
# made for read them; then random and extreme subnets in every format. One line a model or a kind of export, "N passed, N failed, N skipped"
# at the end.
set -euo pipefail
export HF_HUB_OFFLINE=1  # everything is here: nothing may be looked up

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=$(cd "${1:-$root/build/release}" && pwd)
python=${2:-}
if [[ ! $python ]]; then
  folder=${XDG_CACHE_HOME:-$HOME/.cache}/elastiform/python
  "$here/make_environment.sh" "$folder"
  python=$folder/bin/python
fi
cmake --build "$build" --target elastiform consumer_logits consumer_exports > "$build/consumers.log" || { cat "$build/consumers.log" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat "$root"/{kernels,supernet,search,trainers}/*.{hpp,cpp} > "$work/sources"
head -c 400000 "$work/sources" > "$work/text.txt"
program=$build/elastiform passed=0 failed=0 skipped=0

# Weights that have learnt something: untrained ones have near ties, which no two implementations break alike.
train() {
  local name=$1
  shift
  "$program" train "$root/experiments/recipes/micro.toml" --run "$work/$name" --set data.text="$work/text.txt" --set train.steps=800 --set space.embed=32,48,64 "$@" > "$work/$name.log" 2>&1 ||
    { cat "$work/$name.log" >&2; exit 1; }
}
try() {
  if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}
# model RUN SUBNET FORMAT CLASS
model() {
  local folder=$work/$1-$4-$((passed + failed))
  "$program" export "$work/$1" --subnet "$2" --format "$3" --to "$folder" > "$folder.log" 2>&1 || { cat "$folder.log" >&2; failed=$((failed + 1)); return; }
  try "$python" "$here/check_transformers.py" "$build" "$folder" "$work/text.txt" "$4"
}

train llama
train grouped --set model.queries_per_group=2 --set space.heads=2,4,6 --set model.tied=false
train gpt2 --set model.preset=gpt2
model llama e64:3xh4f256 hf-llama LlamaForCausalLM
model llama e48:2xh2f144 hf-llama LlamaForCausalLM
model grouped e32:2xh4k2f96 hf-llama LlamaForCausalLM
model grouped e64:3xh6k3f192 hf-llama MistralForCausalLM
model gpt2 e64:3xh4f256 hf-gpt2 GPT2LMHeadModel
model gpt2 e32:h2f64 hf-gpt2 GPT2LMHeadModel
"$program" export "$work/llama" --subnet e48:2xh2f144 --to "$work/llama.h5" > "$work/h5.log" 2>&1 || { cat "$work/h5.log" >&2; exit 1; }
try "$python" "$here/check_h5py.py" "$work/llama.h5" "$work/llama-LlamaForCausalLM-1"
try "$python" "$here/check_import.py" "$build" "$work/text.txt"
try "$python" "$here/check_import_images.py" "$build"
try "$python" "$here/check_tokenizers.py" "$build" "$work/text.txt"
if [[ -f $here/read_results.py ]]; then try "$python" "$here/read_results.py" "$work/llama"; fi

# Subnets whose blocks differ, with random weights: consumer_exports gives the logits and tokens that each consumer must find.
"$build/consumer_exports" "$work/cases"
has() { "$python" -c 'import importlib.util as u, sys; sys.exit(any(u.find_spec(name) is None for name in sys.argv[1].split()))' "$1"; }
# cases MODULES SCRIPT
cases() {
  if has "$1"; then try "$python" "$here/$2" "$work/cases"
  else skipped=$((skipped + 1)); echo "skipped: $1 is not in $python (tests/consumers/add_consumers.sh)"; fi
}
cases transformers check_cases_transformers.py
second=$(dirname "$(dirname "$python")")/transformers-4.53.3
if [[ -d $second ]]; then PYTHONPATH=$second try "$python" "$here/check_cases_transformers.py" "$work/cases"
else skipped=$((skipped + 1)); echo "skipped: transformers 4.53.3 is not in $second (tests/consumers/add_consumers.sh)"; fi
cases llama_cpp check_cases_llama_cpp.py
if has llama_cpp; then try "$python" "$here/check_tokenizers_llama_cpp.py" "$build" "$work/text.txt"; fi
cases "onnxruntime onnx" check_cases_onnxruntime.py
cases onnxruntime_genai check_cases_genai.py
cases openvino check_cases_openvino.py
echo "consumers: $passed passed, $failed failed, $skipped skipped"
(( failed == 0 && passed > 0 ))
