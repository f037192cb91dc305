"""Steps of Elastiform beside the same steps in PyTorch: experiments/results/speed.md and speed.json.

Rivals are {eager, compile} x {fused, foreach AdamW}; on AMD each stock and with a preloaded line of C that lets MKL take its AVX-512 path
(mkl_amd.c). Programs alternate, each run is one process and is written to the JSON as soon as it ends, and a second call goes on where the
first stopped, as long as the programs are the same. A ratio is formed within a round against the fastest rival of that round with the
shim; the table shows the median of the rounds with the smallest and the largest. Stock rivals run in the first round only."""
import argparse
import hashlib
import importlib.metadata
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = ROOT / "build" / "release"
PEER = ROOT / "experiments" / "bench" / "peer"
RESULTS = ROOT / "experiments" / "results"
OURS = "elastiform"
MODES = {
    "fixed": "one update of the largest subnet",
    "single": "one update of one subnet of the list",
    "sandwich": "one update from largest, smallest and two of the list",
    "eval": "the loss of one subnet of the list",
}
SHAPES = {
    "medium": "embed 384, 6 layers, 256 bytes of vocabulary, 8 sequences of 256 tokens",
    "small": "embed 192, 4 layers, 256 bytes of vocabulary, 8 sequences of 256 tokens",
    "large": "GPT-2 124M: embed 768, 12 layers, vocabulary 50,257, 2 sequences of 512 tokens",
}
# name → (options, whether MKL is told that it runs on Intel). `bf16 weights`: torch_supernet.py says what that is.
RIVALS = {
    "torch eager": (["--engine", "eager"], True),
    "torch compile": (["--engine", "compile"], True),
    "torch eager, bf16 weights": (["--engine", "eager", "--bf16", "weights"], True),
    "torch compile, bf16 weights": (["--engine", "compile", "--bf16", "weights"], True),
    "torch eager, stock": (["--engine", "eager"], False),
    "torch compile, stock": (["--engine", "compile"], False),
}
EAGER = "torch eager"


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


def shim():
    """Environment of the rivals that use it: empty where MKL needs no help."""
    if cpu_field("vendor_id") != "AuthenticAMD":
        return {}
    library = BUILD / "mkl_amd.so"
    output_of(["cc", "-O2", "-shared", "-fPIC", PEER / "mkl_amd.c", "-o", library])
    return {"LD_PRELOAD": str(library)}


def rivals_of(precision, wanted, preload):
    names = [name for name in RIVALS if name in wanted and (precision == "bf16" or "bf16" not in name)]
    return [name for name in names if preload or RIVALS[name][1]]  # without the shim, stock is the same


def programs_id():
    digest = hashlib.sha256(f"{cpu_field('model name')}, torch {importlib.metadata.version('torch')}".encode())
    for path in (BUILD / "bench_step", PEER / "torch_supernet.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def plan(options, preload):
    """(round, shape, precision, program) in the order in which they run: no program is always the first."""
    for turn in range(options.rounds):
        for shape in options.shapes:
            for precision in options.precision:
                names = [OURS] + rivals_of(precision, options.rivals, preload)
                names = [name for name in names if turn == 0 or name == OURS or RIVALS[name][1]]
                for name in names[turn % len(names):] + names[:turn % len(names)]:
                    yield turn, shape, precision, name


def run_program(name, shape, precision, modes, options, preload, folder):
    """The rows of one program, a mode each."""
    if name == OURS:
        command = [BUILD / "bench_step", "--json", "--shape", shape, "--precision", precision, "--threads", str(options.threads)]
        text = "".join(output_of(command + ["--mode", mode]) for mode in modes)
    else:
        work = pathlib.Path(folder) / f"{shape}.json"
        if not work.exists():
            output_of([BUILD / "bench_step", "--shape", shape, "--write-work", work])
        arguments, with_shim = RIVALS[name]
        command = [sys.executable, PEER / "torch_supernet.py", "--work", work, "--precision", precision, "--threads", str(options.threads)]
        # A process a mode where its memory is compared with ours; compiled programs share one, as every mode would compile anew.
        each = modes if name == EAGER else [",".join(modes)]
        text = "".join(output_of(command + ["--modes", part] + arguments, **(preload if with_shim else {})) for part in each)
    return [json.loads(line) for line in text.splitlines()]


def stored_runs(path, identity, threads, fresh):
    if fresh or not path.exists():
        return []
    runs = json.loads(path.read_text())
    return [run for run in runs if run.get("programs") == identity and run["threads"] == threads]


def store(path, runs):
    part = path.with_suffix(".part")
    part.write_text("[\n" + ",\n".join(json.dumps(run) for run in runs) + "\n]\n")
    part.replace(path)


def measure(options, path):
    identity, preload, begin = programs_id(), shim(), time.monotonic()
    runs = stored_runs(path, identity, options.threads, options.fresh)
    with tempfile.TemporaryDirectory() as folder:
        for turn, shape, precision, name in plan(options, preload):
            key = {"programs": identity, "round": turn, "shape": shape, "precision": precision, "name": name, "threads": options.threads}
            there = {run["mode"] for run in runs if all(run[field] == value for field, value in key.items())}
            modes = [mode for mode in options.modes if mode not in there]
            if not modes:
                continue
            if time.monotonic() - begin > 60 * options.minutes:
                print(f"compare.py: {options.minutes} minutes are over; the same command goes on", file=sys.stderr)
                break
            load = os.getloadavg()[0]
            new = [{**run, **key, "load": load} for run in run_program(name, shape, precision, modes, options, preload, folder)]
            runs += new
            store(path, runs)
            said = ", ".join(f"{run['mode']} {fastest(run):.1f} ms" for run in new)
            print(f"round {turn + 1}  {shape:6} {precision:4} {name:28} {said}", file=sys.stderr)
    return runs, bool(preload)


def fastest(run):
    return min(run["step_ms"].values()) if isinstance(run["step_ms"], dict) else run["step_ms"]


class Table:
    """The runs of one shape and precision, as rows of programs and columns of modes."""

    def __init__(self, runs, shape, precision):
        self.precision = precision
        self.runs = [run for run in runs if run["shape"] == shape and run["precision"] == precision]
        self.names = [name for name in [OURS, *RIVALS] if any(run["name"] == name for run in self.runs)]

    def of(self, name, mode):
        return {run["round"]: run for run in self.runs if run["name"] == name and run["mode"] == mode}

    def ratios(self, mode):
        ours = self.of(OURS, mode)
        # Every rival with the shim, whether it has run or not: a ratio against some of them would flatter us.
        fair = [self.of(name, mode) for name, (_, with_shim) in RIVALS.items() if with_shim and (self.precision == "bf16" or "bf16" not in name)]
        rounds = [turn for turn in ours if all(turn in rival for rival in fair)]
        return [min(fastest(rival[turn]) for rival in fair) / ours[turn]["step_ms"] for turn in rounds]

    def cells(self, mode_cell):
        return " | ".join(mode_cell(mode) for mode in MODES)

    def times(self):
        lines = ["| ms a step | " + " | ".join(MODES) + " |", "|---|" + "---|" * len(MODES)]

        def row(title, name, kind=None):
            def cell(mode):
                values = [run["step_ms"][kind] if kind else run["step_ms"] for run in self.of(name, mode).values()]
                return f"{statistics.median(values):.1f}" if values else ""
            lines.append(f"| {title} | {self.cells(cell)} |")

        row(OURS, OURS)
        for name in self.names:
            for kind in ("fused", "foreach") if name != OURS else ():
                row(f"{name}, {kind}", name, kind)

        def ratio(mode):
            each = self.ratios(mode)
            return f"**{statistics.median(each):.2f}** ({min(each):.2f}-{max(each):.2f}, {len(each)})" if each else ""

        def peak(mode):
            rows = list(self.of(OURS, mode).values())
            if not rows:
                return ""
            share = statistics.median(100 * run["gflops"] / run["peak_gflops"] for run in rows)
            return f"{statistics.median(run['gflops'] for run in rows):.0f}, {share:.0f} %"

        lines.append(f"| fastest rival ÷ ours (least-most, rounds) | {self.cells(ratio)} |")
        lines.append(f"| GFLOP/s of ours, of the measured peak | {self.cells(peak)} |")
        return "\n".join(lines)

    def memory(self):
        lines = ["| MiB | after start-up | " + " | ".join(MODES) + " |", "|---|---|" + "---|" * len(MODES)]
        for name in (OURS, EAGER):
            rows = [run for run in self.runs if run["name"] == name]
            if not rows:
                continue
            start = statistics.median(run["start_mib"] for run in rows)

            def cell(mode, name=name):
                values = [run["peak_mib"] for run in self.of(name, mode).values()]
                return f"{statistics.median(values):.0f} (+{statistics.median(values) - start:.0f})" if values else ""
            lines.append(f"| {name} | {start:.0f} | {self.cells(cell)} |")
        return "\n".join(lines) if len(lines) > 2 else ""


def page(runs, with_shim):
    commit = output_of(["git", "-C", ROOT, "rev-parse", "--short=12", "HEAD"]).strip()
    torch = next((run["program"] for run in runs if run["name"] != OURS), "torch: no run")
    loads, threads = [run["load"] for run in runs], sorted({run["threads"] for run in runs})
    graphs = max((run.get("graphs", 0) for run in runs), default=0)
    lines = ["# Speed of steps beside PyTorch",
             "",
             "A GPT-2-like supernet: learned positions, GELU (tanh), AdamW and clipping on both sides; products in float32, or in bf16 with float32",
             f"weights (torch: autocast). {', '.join(map(str, threads))} threads. Both programs read the same list of subnets.",
             "",
             *[f"- {mode}: {meaning}" for mode, meaning in MODES.items()],
             ""]
    for shape, meaning in SHAPES.items():
        for precision in ("f32", "bf16"):
            table = Table(runs, shape, precision)
            if OURS not in table.names:
                continue
            lines += [f"## {shape}, {precision}", "", f"{meaning}.", "", table.times(), ""]
            memory = table.memory()
            lines += [memory, ""] if memory else []
    lines += [f"Medians of the rounds; ratios are formed within a round. {torch}" + (
                  "; rows without `stock` preload `bench/peer/mkl_amd.c`, one" if with_shim else "."),
              *(["line of C without which MKL takes a slow float32 path on AMD; the rival is the fastest of those rows."] if with_shim else []),
              "torch compile: `fixed` as one graph of the whole network; the other modes compile one block for all blocks, sizes dynamic after the",
              f"first change, every subnet run before the clock starts ({graphs} graphs a process at most). MiB is the peak of the process, fused AdamW, (+ above",
              "start-up: interpreter and libraries).",
              f"{cpu_field('model name')}; commit {commit}; load average before the runs {min(loads):.1f} to {max(loads):.1f}.",
              "Made by `./dev bench --peer`."]
    return "\n".join(lines) + "\n"


def check(options):
    """Same weights, same tokens: the same losses and gradients in both programs?"""
    with tempfile.TemporaryDirectory() as folder:
        for shape in options.shapes:
            path = pathlib.Path(folder) / "check.json"
            output_of([BUILD / "bench_step", "--shape", shape, "--write-check", path, "--threads", str(options.threads)])
            worst = json.loads(output_of([sys.executable, PEER / "torch_supernet.py", "--check", path, "--threads", str(options.threads)]))
            print(f"{shape}: {worst['subnets']} subnets, largest relative difference of losses {worst['loss']:.1e}, "
                  f"of gradient norms {worst['gradient_norm']:.1e}")


def names_in(known, separator=","):
    def parse(text):
        names = [name.strip() for name in text.split(separator)]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"'{name}' is none of {separator.join(known)}")
        return names
    return parse


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=14, help="no run starts later; the same command goes on (default: 14)")
    parser.add_argument("--shapes", type=names_in(SHAPES), default=list(SHAPES), help=",".join(SHAPES))
    parser.add_argument("--precision", type=names_in(["f32", "bf16"]), default=["f32", "bf16"], help="f32,bf16")
    parser.add_argument("--modes", type=names_in(MODES), default=list(MODES), help=",".join(MODES))
    parser.add_argument("--rivals", type=names_in(RIVALS, ";"), default=list(RIVALS), help="separated by semicolons: " + "; ".join(RIVALS))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--fresh", action="store_true", help="forget the runs in speed.json")
    parser.add_argument("--check", action="store_true", help="only compare losses and gradients of both programs on the same weights")
    options = parser.parse_args()
    if options.check:
        return check(options)
    runs, with_shim = measure(options, RESULTS / "speed.json")
    if not runs:
        sys.exit("compare.py: no run")
    text = page(runs, with_shim)
    print(text)
    (RESULTS / "speed.md").write_text(text)


main()
