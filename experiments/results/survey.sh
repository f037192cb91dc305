#!/usr/bin/env bash
# survey.sh [EXPERIMENT…]: the survey's methods under one protocol: `elastiform compare` over every file of experiments/recipes/survey, or over
# those named (their names without .toml). Writes survey.md beside itself from what each experiment printed. Trainings are kept in runs/ and
# continued, so it may be killed.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
program=build/release/elastiform
# By the program's commit: trainings of another build are not continued.
runs=runs/survey-$("$program" --version | sed -E 's/.*\((.*)\)/\1/')
parts=experiments/results/survey
mkdir -p "$runs" "$parts"
names=("$@")
if (($# == 0)); then mapfile -t names < <(cd experiments/recipes/survey && printf '%s\n' *.toml | sed 's/\.toml$//'); fi
for name in "${names[@]}"; do
  "$program" compare "experiments/recipes/survey/$name.toml" --run "$runs/$name" --page "$parts/$name.md" --json >"$runs/$name.json"
  mv "$runs/$name.json" "$parts/$name.json"
done

{
  echo "# The survey's methods under one protocol"
  echo
  echo "Each section is one experiment of \`experiments/recipes/survey\`; the sections were made by the commits and on the machine that they name."
  echo "Read [compare](../../docs/compare.md) for what columns and verdicts mean. Made by \`./dev experiment survey\`."
  for part in "$parts"/*.md; do
    echo
    sed "s/^# /## /" "$part"
  done
} >experiments/results/survey.md
