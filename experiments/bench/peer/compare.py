"""Runs bench_step and torch_supernet.py alternately on the same work and writes experiments/results/speed.{md,json}.

    compare.py [--rounds 5] [--modes fixed,single,sandwich,eval] [--threads 2]      run by ./dev bench --peer, in its Python environment

Rounds alternate the programs, so that a busy minute meets all of them; a ratio is formed within a round, and the table shows the median
ratio with the smallest and the largest."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = ROOT / "build" / "release"
RESULTS = ROOT / "experiments" / "results"
MEANING = {
    "fixed": "one update of the largest subnet",
    "single": "one update of one subnet of the list",
    "sandwich": "one update from largest, smallest and two of the list",
    "eval": "the loss of one subnet of the list",
}


def output_of(command, **environment):
    run = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        sys.exit(f"compare.py: {' '.join(map(str, command))} ended with status {run.returncode}: {run.stderr.strip()[-500:]}")
    return run.stdout


def cpu_field(name):
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(name):
            return line.split(":", 1)[1].strip()
    return "unknown"


def programs(work, threads):
    """name → (command without --mode, environment)"""
    torch = [sys.executable, ROOT / "experiments/bench/peer/torch_supernet.py", "--subnets", work, "--threads", str(threads)]
    named = {"elastiform": ([BUILD / "bench_step", "--json", "--threads", str(threads)], {}), "torch": (torch, {})}
    if cpu_field("vendor_id") == "AuthenticAMD":
        shim = BUILD / "mkl_amd.so"
        output_of(["cc", "-O2", "-shared", "-fPIC", ROOT / "experiments/bench/peer/mkl_amd.c", "-o", shim])
        named["torch, MKL told it is on Intel"] = (torch, {"LD_PRELOAD": str(shim)})
    return named


def measure(options, work):
    named, runs = programs(work, options.threads), []
    for turn in range(options.rounds):
        for mode in options.modes.split(","):
            for name in list(named)[turn % len(named):] + list(named)[:turn % len(named)]:  # no program is always the first
                command, environment = named[name]
                run = json.loads(output_of(command + ["--mode", mode], **environment))
                runs.append({**run, "round": turn, "name": name, "load": os.getloadavg()[0]})
                print(f"round {turn + 1}  {mode:9} {name:30} {run['step_ms']:9.1f} ms", file=sys.stderr)
    return list(named), runs


def table(names, runs, modes):
    def of(mode, name, key="step_ms"):
        return [run[key] for run in runs if run["mode"] == mode and run["name"] == name]

    lines = ["| work | " + " | ".join(f"{name}, ms" for name in names) + " | GFLOP/s of ours (% of peak) | "
             + " | ".join(f"{name} ÷ ours" for name in names[1:]) + " | MiB ours, torch |",
             "|" + "---|" * (2 * len(names) + 2)]
    for mode in modes:
        rate, peak = statistics.median(of(mode, "elastiform", "gflops")), statistics.median(of(mode, "elastiform", "peak_gflops"))
        ratios = []
        for name in names[1:]:
            each = [theirs / ours for theirs, ours in zip(of(mode, name), of(mode, "elastiform"))]
            ratios.append(f"{statistics.median(each):.2f} ({min(each):.2f}-{max(each):.2f})")
        memory = [f"{statistics.median(of(mode, name, 'peak_mib')):.0f}" for name in names[:2]]
        lines.append(f"| {mode}: {MEANING[mode]} | " + " | ".join(f"{statistics.median(of(mode, name)):.1f}" for name in names)
                     + f" | {rate:.0f} ({100 * rate / peak:.0f} %) | " + " | ".join(ratios) + " | " + ", ".join(memory) + " |")
    return "\n".join(lines)


def page(options, names, runs):
    commit = output_of(["git", "-C", ROOT, "rev-parse", "--short=12", "HEAD"]).strip()
    torch = next(run["program"] for run in runs if run["name"] == "torch")
    peak = statistics.median(run["peak_gflops"] for run in runs if run["name"] == "elastiform")
    loads = [run["load"] for run in runs]
    lines = [f"# Speed of steps beside PyTorch",
             "",
             "A GPT-2-like supernet (embed 384, 6 layers, 6 heads, GELU, learned positions, 256 bytes), 8 sequences of 256 tokens, float32, AdamW and",
             f"clipping included, {options.threads} threads. Both programs read the same 16 subnets. Median of {options.rounds} rounds; ratios are formed within a",
             "round and shown with their smallest and largest. MiB is the peak of the process, which for torch includes the library.",
             "",
             table(names, runs, options.modes.split(",")),
             "",
             f"{cpu_field('model name')}, measured fused multiply-add peak {peak:.0f} GFLOP/s; {torch}, eager, the faster of fused and foreach AdamW;",
             f"commit {commit}; load average during the rounds {min(loads):.1f} to {max(loads):.1f} (the programs themselves make about {options.threads}).",
             "MKL takes a slow float32 path on AMD; one preloaded line of C (`bench/peer/mkl_amd.c`) removes it, and the last ratio is the fair one.",
             "Made by `./dev bench --peer`."]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--modes", default=",".join(MEANING))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder) / "work.json"
        output_of([BUILD / "bench_step", "--write-work", work])
        names, runs = measure(options, work)
    text = page(options, names, runs)
    print(text)
    (RESULTS / "speed.md").write_text(text)
    (RESULTS / "speed.json").write_text(json.dumps(runs, indent=1) + "\n")


main()
