#!/usr/bin/env bash
# byte_models.sh [TEXT]: what classical byte models reach on the report split, the marks a text network is held to. Writes byte_models.md
# and byte_models.json beside itself when TEXT is the recipes' own. Needs ./dev build (kneser_ney) and 7z (p7zip-full).
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
own_text=experiments/recipes/kjv.txt
text=${1:-$own_text}
program=build/release/kneser_ney
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$program" --text "$text" --json >"$work/models.json"
"$program" --text "$text" --write-splits "$work"
report_bytes=$(($(stat -c %s "$work/train+report.bin") - $(stat -c %s "$work/train.bin")))
scored=$(sed -E 's/.*"scored_bytes": ([0-9]+).*/\1/' "$work/models.json")

# Compressed size of train+report minus that of train, in bits a byte of report.
ppmd() {
  local name
  for name in train train+report; do
    7z a -bso0 -bsp0 -mx=9 -m0="PPMd:o=$1:mem=512m" "$work/$name.$1.7z" "$work/$name.bin"
  done
  awk -v a="$(stat -c %s "$work/train.$1.7z")" -v b="$(stat -c %s "$work/train+report.$1.7z")" -v n="$report_bytes" \
    'BEGIN { printf "%.4f", 8 * (b - a) / n }'
}

{
  echo "# Byte models"
  echo
  echo "Trained on the train split of \`$(basename "$text")\` and scored on its report split, $scored bytes: every 16 KiB block by itself, its"
  echo "first byte not counted, exactly the bytes that \`elastiform evaluate --split report\` scores. PPMd reads train and report as one stream,"
  echo "so it also learns from the report bytes it has passed. Made by \`./dev experiment byte_models\`."
  echo
  echo "| model | bytes of context | bits/byte |"
  echo "|---|---|---|"
  sed 's/{"model"/\n&/g' "$work/models.json" | sed -nE 's/.*"order": ([0-9]+), "context_bytes": ([0-9]+), "bits_per_byte": ([0-9.]+).*/\1 \2 \3/p' |
    awk '{ printf "| interpolated Kneser-Ney, order %d | %d | %.4f |\n", $1, $2, $3 }'
  for order in 4 6 8 12; do
    echo "| PPMd (7z), order $order | $order | $(ppmd "$order") |"
  done
} >"$work/table.md"
cat "$work/table.md"
if [[ $text == "$own_text" ]]; then
  cp "$work/table.md" experiments/results/byte_models.md
  cp "$work/models.json" experiments/results/byte_models.json
fi
