"""./dev bench: runs bench_kernels and bench_step and writes experiments/results/bench_cpu.md and bench_cpu.json. Every part is stored when
it ends; with --growth only the part that grows is measured anew, without it all the others."""
import argparse
import functools
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "release"
RESULTS = ROOT / "experiments" / "results"
STEP_MODES = {
    "fixed": "largest subnet",
    "single": "one subnet of a list",
    "sandwich": "largest, smallest, two of the list",
    "eval": "losses of one subnet",
}


def run_program(command, **environment):
    print("bench: " + " ".join(command), file=sys.stderr)
    run = subprocess.run([BUILD / command[0], *command[1:]], env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        sys.exit(f"bench: {command[0]} ended with status {run.returncode}: {run.stderr.strip()[-500:]}")
    return run


def rows_of(*command):
    return [json.loads(line) for line in run_program([*command, "--json"]).stdout.splitlines()]


def time_by_operation(precision):
    """Of the largest medium subnet's steps: core time of each operation, from the program's own summary."""
    run = run_program(["bench_step", "--mode", "fixed", "--precision", precision, "--json"], ELASTIFORM_VERBOSE="summary")
    step = json.loads(run.stdout)
    cores = step["threads"] * step["step_ms"] * (step["steps"] + 1)  # one step warms up
    rows = []
    for line in run.stderr.splitlines()[1:]:
        operation, calls, core_ms, _, *rates = line.split()
        rows.append({"precision": precision, "operation": operation, "calls": int(calls) / (step["steps"] + 1),
                     "percent": 100 * float(core_ms) / cores, "gflops": float(rates[0]) if len(rates) == 2 else None,
                     "gb_s": float(rates[-1])})
    return rows


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown CPU"


@functools.cache
def precisions():
    """bf16 where the program has it: the processor may have less, and ELASTIFORM_ISA may ask for less."""
    probe = [BUILD / "bench_step", "--shape", "small", "--mode", "eval", "--precision", "bf16", "--steps", "1"]
    return ["f32", "bf16"] if subprocess.run(probe, capture_output=True, check=False).returncode == 0 else ["f32"]


def start_up():
    """Milliseconds until `elastiform --help` has ended: least and median of 20."""
    times = []
    for _ in range(20):
        start = time.perf_counter()
        subprocess.run([BUILD / "elastiform", "--help"], stdout=subprocess.DEVNULL, check=True)
        times.append(1e3 * (time.perf_counter() - start))
    return {"least_ms": min(times), "median_ms": statistics.median(times)}


def measure_all(store):
    kernels = rows_of("bench_kernels")
    store("peaks", kernels.pop(0))
    store("kernels", kernels)
    store("start_up", start_up())
    steps = []
    for shape in ("medium", "small", "large"):
        for precision in precisions():
            steps += rows_of("bench_step", "--shape", shape, "--precision", precision)
            store("steps", steps)
    store("operations", [row for precision in precisions() for row in time_by_operation(precision)])
    store("updates", rows_of("bench_step", "--mode", "updates", "--shape", "medium"))
    elastic, population = [], []
    for precision in precisions():
        elastic += rows_of("bench_step", "--mode", "elastic", "--shape", "medium", "--precision", precision, "--steps", "3")
        store("elastic", elastic)
        population += rows_of("bench_step", "--mode", "population", "--shape", "medium", "--precision", precision, "--steps", "3")
        store("population", population)


def fitted_exponent(xs, ys):
    """Slope of log y over log x."""
    xs, ys = [math.log(x) for x in xs], [math.log(y) for y in ys]
    mx, my = statistics.mean(xs), statistics.mean(ys)
    return sum((x - mx) * (y - my) for x, y in zip(xs, ys)) / sum((x - mx) ** 2 for x in xs)


def kernel_section(data):
    lines = ["## Operations", "",
             "A row is a case line; `./dev bench --case 'LINE'` times it again, and so it does a line of `ELASTIFORM_VERBOSE=kernels`. Products: % of",
             "the peak of their precision. The rest: operands once, % of memory's bandwidth; above 100 % where operands lie in cache.", "",
             "| ms | rate | % | case |", "|---|---|---|---|"]
    for row in data["kernels"]:
        lines.append(f"| {row['ms']:.3f} | {row['rate']:.1f} {row['unit']} | {row['percent']:.0f} | `{row['case']}` |")
    return lines


def step_section(data):
    lines = ["## Whole steps", "",
             "; ".join(f"{mode}: {meaning}" for mode, meaning in STEP_MODES.items()) + ". MiB: peak of the process.", "",
             "| shape | precision | mode | ms a step | tokens/s | GFLOP/s | % of peak | MiB |", "|---|---|---|---|---|---|---|---|"]
    for row in data["steps"]:
        lines.append(f"| {row['shape']} | {row['precision']} | {row['mode']} | {row['step_ms']:.1f} | {row['tokens_s']:,.0f} | {row['gflops']:.0f} "
                     f"| {100 * row['gflops'] / row['peak_gflops']:.0f} | {row['peak_mib']:.0f} |")
    fixed = next((row for row in data["steps"] if row["shape"] == "large" and row["mode"] == "fixed" and row["precision"] == "f32"), None)
    if fixed:
        lines += ["", f"GPT-2 124M trains within {fixed['peak_mib'] / 1024:.2f} GiB (fixed, large, f32); a process has {fixed['start_mib']:.0f} MiB "
                      "after start-up."]
    return lines


def operation_section(data):
    lines = ["## Where the time of a step goes", "",
             "fixed, medium: share of both cores' time in each operation, and its speed a core while it runs (`ELASTIFORM_VERBOSE=summary`). What",
             "is missing to 100 %: clipping, zeroing, waiting, the warm-up's difference.", "",
             "| precision | operation | calls a step | % of the step | GFLOP/s a core | GB/s a core |", "|---|---|---|---|---|---|"]
    for row in data["operations"]:
        flops = f"{row['gflops']:.0f}" if row["gflops"] else ""
        lines.append(f"| {row['precision']} | {row['operation']} | {row['calls']:.0f} | {row['percent']:.1f} | {flops} | {row['gb_s']:.0f} |")
    for precision in dict.fromkeys(row["precision"] for row in data["operations"]):
        total = sum(row["percent"] for row in data["operations"] if row["precision"] == precision)
        lines.append(f"| {precision} | **all** | | **{total:.1f}** | | |")
    return lines


def update_section(data):
    lines = ["## Updates of optimizers", "",
             "The largest medium subnet's update with gradients ready, beside one of AdamW's: median of the ratios of neighbours in time. State:",
             "bytes a parameter of the supernet, paddings of rows included.", "",
             "| optimizer | ms | of AdamW's | state |", "|---|---|---|---|"]
    for row in data["updates"]:
        lines.append(f"| {row['optimizer']} | {row['ms']:.2f} | {row['ratio']:.2f} | {row['state_bytes']:.2f} |")
    return lines


def elastic_section(data):
    lines = ["## What elasticity costs", "",
             "The step of a subnet inside the supernet against that of a dense network of exactly its size (weights copied out), in turn in one",
             "process; ratio is the median over pairs of neighbours in time. First ÷ second: a new shape's first step over its second.", "",
             "| precision | subnet | in the supernet, ms | dense, ms | ratio | first ÷ second |", "|---|---|---|---|---|---|"]
    for row in data["elastic"]:
        lines.append(f"| {row['precision']} | `{row['subnet']}` | {row['supernet_ms']:.1f} | {row['dense_ms']:.1f} | {row['ratio']:.3f} "
                     f"| {row['first_over_second']:.3f} |")
    for precision in dict.fromkeys(row["precision"] for row in data["elastic"]):
        rows = [row for row in data["elastic"] if row["precision"] == precision]
        lines.append(f"| {precision} | **median of {len(rows)}** | | | **{statistics.median(row['ratio'] for row in rows):.3f}** "
                     f"| **{statistics.median(row['first_over_second'] for row in rows):.3f}** |")
    return lines


def population_section(data):
    lines = ["## Scores of a population", "",
             "4 KiB of bytes, medium: the prefix evaluator against the same one by one; equal to the bit.", "",
             "| precision | population | subnets | together, ms | one by one, ms | ratio | ratio of block forwards |", "|---|---|---|---|---|---|---|"]
    for row in data["population"]:
        lines.append(f"| {row['precision']} | {row['population']} | {row['subnets']} | {row['together_ms']:.0f} | {row['one_by_one_ms']:.0f} "
                     f"| {row['one_by_one_ms'] / row['together_ms']:.2f} | {row['blocks_one_by_one'] / row['blocks_together']:.2f} |")
    return lines


def growth_section(data):
    sizes = {"tokens": "context", "layers": "layers", "width": "embed"}
    lines = ["## Growth", "",
             "A dense training step of 2,048 tokens (embed 384, 6 layers, context 256 unless it grows), microseconds a token; attention: its two",
             "operations by themselves. Exponent p: the fit time ~ size^p over the rows of a line.", "",
             "| precision | grows | threads | size: µs a token (attention) | p | p of all but attention |", "|---|---|---|---|---|---|"]
    rows = data["growth"]
    for precision, grows, threads in dict.fromkeys((row["precision"], row["grows"], row["threads"]) for row in rows):
        line = [row for row in rows if (row["precision"], row["grows"], row["threads"]) == (precision, grows, threads)]
        size = [row[sizes[grows]] for row in line]
        whole, rest = [row["us_a_token"] for row in line], [row["us_a_token"] - row["attention_us_a_token"] for row in line]
        cells = ", ".join(f"{at}: {row['us_a_token']:.0f} ({row['attention_us_a_token']:.0f})" for at, row in zip(size, line))
        exponents = [f"{fitted_exponent(size, values):.2f}" if min(values) > 0 else "" for values in (whole, rest)]
        lines.append(f"| {precision} | {grows} | {threads} | {cells} | {exponents[0]} | {exponents[1]} |")
    for precision in dict.fromkeys(row["precision"] for row in rows):
        threads = sorted({row["threads"] for row in rows})
        if len(threads) == 2:
            speedups = [one["us_a_token"] / many["us_a_token"] for one in rows for many in rows
                        if one["precision"] == many["precision"] == precision and (one["threads"], many["threads"]) == tuple(threads)
                        and all(one[key] == many[key] for key in ("grows", "context", "layers", "embed"))]
            lines += ["", f"{precision}, {threads[1]} threads against one: {statistics.median(speedups):.2f}x ({min(speedups):.2f}-{max(speedups):.2f})."]
    return lines


def page(data):
    peaks = data.get("peaks")
    lines = ["# Speed and memory on the CPU", "",
             f"{cpu_name()}; commit {data['commit']}; load average before the measurements {data['load']:.1f}.",
             "Made by `./dev bench` and `./dev bench --growth`.", ""]
    if peaks:
        lines += ["## The machine", "",
                  "| threads | float32 multiply-adds | bf16 dot products | memory, a + b → c | one thread | `elastiform --help` |",
                  "|---|---|---|---|---|---|",
                  f"| {peaks['threads']} | {peaks['f32_gflops']:.0f} GFLOP/s | {peaks['bf16_gflops']:.0f} GFLOP/s | {peaks['gb_s']:.1f} GB/s "
                  f"| {peaks['gb_s_one_thread']:.1f} GB/s | {data.get('start_up', {}).get('least_ms', 0):.1f} ms |", ""]
    for key, section in (("steps", step_section), ("operations", operation_section), ("updates", update_section), ("elastic", elastic_section), ("population", population_section), ("growth", growth_section),
                         ("kernels", kernel_section)):
        if data.get(key):
            lines += [*section(data), ""]
    return "\n".join(lines).rstrip() + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--growth", action="store_true", help="time against tokens, layers, width and threads instead of all else")
    options = parser.parse_args()
    path = RESULTS / "bench_cpu.json"
    data = json.loads(path.read_text()) if path.exists() else {}
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    data.update(commit=commit or "unknown", load=os.getloadavg()[0])

    def store(key, value):
        data[key] = value
        part = path.with_suffix(".part")
        part.write_text(json.dumps(data, indent=1) + "\n")
        part.replace(path)
        (RESULTS / "bench_cpu.md").write_text(page(data))

    if options.growth:
        store("growth", [row for precision in precisions()
                         for row in rows_of("bench_step", "--mode", "growth", "--precision", precision)])
    else:
        measure_all(store)
    print(page(data))


main()
