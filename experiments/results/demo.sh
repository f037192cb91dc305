#!/usr/bin/env bash
# demo.sh: what `./dev demo` prints, with its time and peak memory. Writes demo.md beside itself.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

begin=$SECONDS
# The peak of a child that has ended is its parent's to read.
python3 - "$work/log" <<'PYTHON'
import resource, subprocess, sys
with open(sys.argv[1], "w") as log:
    subprocess.run(["build/release/elastiform", "demo", "--text", "experiments/recipes/kjv.txt"], stdout=log, check=True)
    log.write(f"\npeak memory {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024} MiB\n")
PYTHON
{
  echo "# The demo"
  echo
  echo "Printed by \`./dev demo\` on $(nproc) cores ($(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)), commit $(git rev-parse --short HEAD), in $((SECONDS - begin)) s"
  echo "after the program was built. Made by \`./dev experiment demo\`."
  echo
  echo '```'
  cat "$work/log"
  echo '```'
} >experiments/results/demo.md
