#!/usr/bin/env bash
# make_environment.sh FOLDER: a Python environment with PyTorch on the CPU and transformers, from PyPI alone.
#
# PyPI's torch names 4 GB of CUDA libraries as dependencies and refuses to load without them, although nothing here uses a GPU. So torch is
# installed without dependencies, and its CUDA libraries are replaced by empty ones that answer every call with cudaErrorNoDevice (100).
# If a torch does not load that way, its real dependencies are installed instead.
set -euo pipefail

folder=${1:?usage: make_environment.sh FOLDER}
here=$(cd "$(dirname "$0")" && pwd)
stamp=$folder/requirements.sha256
wanted=$(cat "$here/requirements.txt" "$here/make_environment.sh" | sha256sum)
if [[ -f $stamp && $(<"$stamp") == "$wanted" ]]; then exit 0; fi

rm -rf "$folder"
python3 -m venv "$folder"
pip() { "$folder/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
torch=$(grep '^torch==' "$here/requirements.txt")
pip install --no-deps "$torch"
# What torch imports, then everything else; what pip says about torch's missing dependencies goes to pip.log.
pip install --upgrade setuptools 2> "$folder/pip.log"
pip install filelock typing_extensions sympy networkx jinja2 fsspec numpy 2>> "$folder/pip.log"
grep -v -e '^torch==' -e '^#' "$here/requirements.txt" | pip install -r /dev/stdin 2>> "$folder/pip.log"

without_cuda() {
  local library folder_of_libraries=$1 work
  work=$(mktemp -d)
  # Everything that torch's libraries want from CUDA's, by name and version: some are data relocations, which must resolve at load.
  nm -D --undefined-only "$folder_of_libraries"/lib{torch,c10}*.so "$folder_of_libraries"/libcaffe2_nvrtc.so |
    awk '$1 == "U" {print $2}' | grep -E '^_*(cu|nv|nccl)[A-Za-z0-9_]*(@|$)' | sort -u > "$work/symbols"
  sed 's/@.*//' "$work/symbols" | sort -u |
    awk '/Error(String|Name)$/ {print "const char *" $0 "(void) { return \"no CUDA here\"; }"; next} {print "int " $0 "(void) { return 100; }"}' > "$work/absent.c"
  awk -F@ 'NF > 1 {names[$NF] = names[$NF] " " $1 ";"} END {for (v in names) print v " {" names[v] " };"}' "$work/symbols" > "$work/versions"
  for library in $(readelf -d "$folder_of_libraries"/lib*.so | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | grep -E '^lib(cu|nv|nccl)' | sort -u); do
    [[ -e $folder_of_libraries/$library ]] ||
      gcc -w -fno-builtin -shared -fPIC -Wl,-soname,"$library" \
        -o "$folder_of_libraries/$library" "$work/absent.c" -Wl,--version-script="$work/versions"
  done
  rm -r "$work"
}
without_cuda "$("$folder/bin/python" -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])')/lib"
if ! "$folder/bin/python" -c 'import torch; assert torch.ones(2) @ torch.ones(2) == 2' 2> "$folder/without_cuda.log"; then
  echo "make_environment: $torch does not load without CUDA's libraries; installing them (4 GB)" >&2
  pip install --force-reinstall "$torch"
fi
"$folder/bin/python" -c 'import torch, transformers, tokenizers, sentencepiece, safetensors, h5py'
printf '%s\n' "$wanted" > "$stamp"
