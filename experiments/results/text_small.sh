#!/usr/bin/env bash
# text_small.sh: trains the recipe text_small, or goes on where a stop left it, and scores its networks on the report split beside the byte
# models' marks on the same bytes. Writes text_small.md beside itself.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
run=runs/text_small
if [[ -f $run/supernet.h5 ]]; then
  ./elastiform train --resume "$run"
else
  rm -rf "$run"  # a stop before its first checkpoint
  ./elastiform train experiments/recipes/text_small.toml --run "$run"
fi

field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

network() {
  local subnet=$1 scored parameters
  scored=$(./elastiform evaluate "$run" --subnet "$subnet" --split report --json 2>/dev/null)
  parameters=$(./elastiform cost "$run" --subnet "$subnet" --json 2>/dev/null | field parameters)
  printf "| %s, \`%s\` | %s | %.4f |\n" "$subnet" "$(field subnet <<<"$scored")" "$parameters" "$(field bits_per_byte <<<"$scored")"
}

{
  echo "# text_small"
  echo
  echo "The recipe \`experiments/recipes/text_small.toml\` after its training, on the whole report split: 212,979 bytes that no training saw,"
  echo "every 16 KiB block by itself, the same bytes for every row. Made by \`./dev experiment text_small\`."
  echo
  echo "| network | parameters | bits/byte |"
  echo "|---|---|---|"
  for subnet in smallest middle largest; do network "$subnet"; done
  sed -nE 's/^\| (interpolated[^|]*|PPMd[^|]*) \| ([0-9]+) \| ([0-9.]+) \|$/| \1 (\2 bytes of context) | | \3 |/p' experiments/results/byte_models.md
  echo
  echo "The run (its minutes include whatever else the machine did), from \`$run/training.jsonl\`:"
  echo
  echo '```'
  python3 - "$run/training.jsonl" <<'PYTHON'
import json, math, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
print("   step   tokens  smallest  middle  largest   GFLOP/s  minutes   (bits/byte on the search split)")
for row in rows[1::2] if len(rows) > 12 else rows:
    loss = [row["loss"][name] / math.log(2) for name in ("smallest", "middle", "largest")]
    print(f"{row['step']:7,} {row['tokens'] / 1e6:7.1f}M {loss[0]:9.3f} {loss[1]:7.3f} {loss[2]:8.3f} {row['flops_per_second'] / 1e9:9.0f} {row['seconds'] / 60:8.1f}")
PYTHON
  echo '```'
} >experiments/results/text_small.new
mv experiments/results/text_small.new experiments/results/text_small.md
cat experiments/results/text_small.md
