#!/usr/bin/env bash
# add_consumers.sh FOLDER: installs into the environment of make_environment.sh the consumers that are not Python alone or that compile for
# long, one after the other, each only once. What cannot be installed is named and left out; the tests say so again.
set -uo pipefail

folder=${1:?usage: add_consumers.sh FOLDER}
python=$folder/bin/python
pip() { "$python" -m pip --quiet --disable-pip-version-check "$@" >> "$folder/consumers.log" 2>&1; }
has() { "$python" -c 'import importlib.metadata as m, sys; sys.exit(m.version(sys.argv[1]) != sys.argv[2])' "$1" "$2" 2> /dev/null; }
# add NAME VERSION [PIP OPTIONS]
add() {
  has "$1" "$2" && return
  echo "-- installing $1 $2" >&2
  pip install "$1==$2" "${@:3}" || echo "add_consumers: $1 $2 could not be installed: $folder/consumers.log" >&2
}

add onnx 1.23.2
add onnxruntime 1.32.0
add onnxruntime-genai 0.18.0
add openvino 2026.4.1
# From source, because PyPI has no wheel: without vision, curl, OpenMP and the instructions of this machine alone, which no test needs.
CMAKE_ARGS="-DMTMD_BUILD=OFF -DLLAVA_BUILD=OFF -DLLAMA_CURL=OFF -DGGML_OPENMP=OFF -DGGML_NATIVE=OFF -DCMAKE_CXX_FLAGS_RELEASE=-O1" \
  add llama-cpp-python 0.3.36
# A second transformers beside the first: it shares torch, and stands in front of it in PYTHONPATH.
second=$folder/transformers-4.53.3
if [[ ! -d $second/transformers ]]; then
  echo "-- installing transformers 4.53.3" >&2
  if pip install --target "$second" --no-deps transformers==4.53.3 'tokenizers==0.21.4' 'huggingface-hub==0.34.4' requests urllib3 idna certifi charset-normalizer; then :; else
    rm -rf "$second"
    echo "add_consumers: transformers 4.53.3 could not be installed: $folder/consumers.log" >&2
  fi
fi
exit 0
