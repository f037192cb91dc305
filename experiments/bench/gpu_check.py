"""./dev gpu-check: everything that only a GPU can show, in parts, ten minutes together (--minutes).

Programs come from --programs (build/gpu or build/release); they must be of this checkout's kernels. Every part is written to gpu_check.json
as it ends, so a stop loses one part, and parts that are run again replace their earlier selves as long as kernels and GPU are the same; the
page gpu_check.md is made of all of them. Ends with status 1 when a check failed, 3 when there is no GPU."""
import argparse
import hashlib
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import gpu_shapes

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What shares are of: NVIDIA's data sheets, dense, without sparsity.
PEAK_TFLOPS = {"H100": {"bf16": 989.0, "f32": 67.0}, "H200": {"bf16": 989.0, "f32": 67.0}, "A100": {"bf16": 312.0, "f32": 19.5}}
SANITIZER_TOOLS = ("memcheck", "racecheck", "synccheck")
STEPS = (("gpt2", "bf16", "fixed"), ("gpt2", "bf16", "sandwich"), ("gpt2", "bf16", "members"), ("medium", "bf16", "fixed"),
         ("medium", "bf16", "single"), ("medium", "bf16", "sandwich"), ("medium", "bf16", "members"), ("medium", "f32", "fixed"))
PARTS = ("twins", "conformance", "train", "steps", "kernels", "torch", "sanitizers")


def kernels_stamp():
    """The digest of kernels/ that experiments/elastiform/version.cmake writes and the module with the CUDA backend carries."""
    sources = sorted(str(path) for kind in ("hpp", "cpp", "cu") for path in (ROOT / "kernels").rglob(f"*.{kind}"))
    digests = "".join(hashlib.sha256(pathlib.Path(source).read_bytes()).hexdigest() for source in sources)
    return hashlib.sha256(digests.encode()).hexdigest()[:16]


def stamp_of(programs):
    for path in (programs / "kernels_stamp.hpp", programs / "generated" / "kernels_stamp.hpp"):
        if path.exists():
            return re.search(r'"(\w+)"', path.read_text()).group(1)
    return "unknown"


def tolerance(row):
    """A row of the tests' table, whose reason stands there."""
    table = (ROOT / "tests" / "support" / "tolerances.hpp").read_text()
    return float(re.search(rf'{{"{row}", DType::float32, {{([0-9.e-]+),', table).group(1))


def first_line(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else ""


class Check:
    def __init__(self, options, identity):
        self.programs, self.results = options.programs.resolve(), options.results.resolve()
        self.environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(filter(None, [
            str(self.programs / "lib"), "/usr/local/cuda/lib64", os.environ.get("LD_LIBRARY_PATH", "")]))}
        self.identity, self.parts = identity, {}
        self.end = time.monotonic() + 60 * options.minutes
        path = self.results / "gpu_check.json"
        if path.exists():
            before = json.loads(path.read_text())
            if {k: before.get("identity", {}).get(k) for k in ("kernels", "gpu")} == {k: identity[k] for k in ("kernels", "gpu")}:
                self.parts = before["parts"]

    def run(self, command, seconds):
        begin = time.monotonic()
        seconds = min(seconds, self.end - begin)
        if seconds < 1:
            return "no time left", "", 0.0
        try:
            done = subprocess.run([str(word) for word in command], env=self.environment, capture_output=True, text=True, timeout=seconds,
                                  check=False, cwd=ROOT)
            status, output = done.returncode, done.stdout + done.stderr
        except subprocess.TimeoutExpired as error:
            status, output = "out of time", "".join(part.decode() if isinstance(part, bytes) else part or "" for part in (error.stdout, error.stderr))
        except OSError as error:
            status, output = "cannot be started", str(error)
        return status, output, time.monotonic() - begin

    def record(self, name, ok, **what):
        self.parts[name] = {"ok": ok, **what}
        print(f"gpu-check: {name}: {'ok' if ok else 'FAILED'}{''.join(f', {key} {value}' for key, value in what.items() if key in ('status', 'seconds', 'why') and value)}",
              flush=True)
        self.results.mkdir(parents=True, exist_ok=True)
        path = self.results / "gpu_check.json"
        beside = path.with_suffix(".part")
        beside.write_text(json.dumps({"identity": self.identity, "parts": self.parts}, indent=1) + "\n")
        beside.replace(path)

    def part(self, name, command, seconds, keep=lambda output: {}):
        status, output, took = self.run(command, seconds)
        ok = status == 0
        self.record(name, ok, status=status, seconds=round(took, 1), **(keep(output) if ok else {"tail": output[-2000:]}))
        return output if ok else None

    def rows(self, name, command, seconds):
        """A program that prints a JSON document a row; a part without one has failed."""
        output = self.part(name, command, seconds, lambda text: {"rows": [json.loads(line) for line in text.splitlines() if line.startswith("{")]})
        rows = self.parts[name].get("rows", [])
        if output is not None and not rows:
            self.record(name, False, why="it printed no row", tail=output[-2000:])
        return rows

    def twins(self):
        self.part("instructions have the bits of their twins on the host", [self.programs / "test_ptx"], 60)

    def conformance(self):
        self.part("conformance", [self.programs / "test_gpu"], 150)

    def sanitizers(self):
        sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
        for tool in SANITIZER_TOOLS:
            if not pathlib.Path(sanitizer).exists():
                self.record(tool, False, why="no compute-sanitizer on this machine: the CUDA Toolkit has it")
                continue
            self.part(tool, [sanitizer, "--tool", tool, "--error-exitcode", "1", self.programs / "test_gpu", "every kernel*"], 100)

    def train(self):
        with tempfile.TemporaryDirectory() as folder:
            text = ROOT / "experiments" / "recipes" / "kjv.txt"
            if not text.exists():  # a machine without the demo's text: sources are text too
                text = pathlib.Path(folder) / "text"
                text.mkdir()
                for source in sorted((ROOT / "supernet").rglob("*.cpp")):
                    shutil.copy(source, text / (source.stem + ".txt"))
            losses, digests = {}, []
            for name, device in (("cpu", "cpu"), ("cuda", "cuda"), ("cuda again", "cuda")):
                run = pathlib.Path(folder) / name.replace(" ", "-")
                if self.part(f"train on {name}", [self.programs / "elastiform", "train", "experiments/recipes/demo.toml", "--run", run, "--device", device,
                                                  "--set", f"data.text={text}", "--set", "train.steps=20", "--set", "train.log_every=20"], 90) is None:
                    continue
                losses[name] = json.loads((run / "training.jsonl").read_text().splitlines()[-1])["loss"]
                if device == "cuda":
                    digests.append(self.run([self.programs / "elastiform", "inspect", run, "--digest"], 30)[1])
            if {"cpu", "cuda"} <= losses.keys():
                far, most = max(abs(losses["cpu"][k] - losses["cuda"][k]) / losses["cpu"][k] for k in losses["cpu"]), tolerance("training")
                self.record("the CPU's losses after 20 steps", far <= most, difference=far, tolerance=most)
            if len(digests) == 2:
                self.record("a training repeats itself bit for bit", digests[0] == digests[1] and digests[0] != "")

    def steps(self):
        for shape, precision, mode in STEPS:
            self.rows(f"step {shape} {precision} {mode}", [self.programs / "bench_step", "--device", "cuda", "--shape", shape, "--precision", precision,
                                                           "--mode", mode, "--json"], 60)

    def kernels(self):
        """Products and attention of GPT-2 124M and, for the share of products in a step, of every subnet that `step medium bf16 single` trains."""
        def run(name, cases, seconds):
            return self.rows(name, [self.programs / "bench_kernels", "--device", "cuda", "--json", *(word for case in cases for word in ("--case", case))], seconds)

        run("kernels of gpt2", gpu_shapes.gpt2_cases(), 60)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "work.json"
            if self.part("subnets of medium", [self.programs / "bench_step", "--shape", "medium", "--write-work", path], 30) is None:
                return
            work = json.loads(path.read_text())
        counts = gpu_shapes.products_of_list(work)
        rows = run("products of medium", sorted(counts), 60)
        if rows:
            milliseconds = {row["case"]: row["ms"] for row in rows if row["row"] == "kernel"}
            total = sum(count * milliseconds[case] for case, count in counts.items()) / len(work["subnets"])
            self.record("products of a step of medium", True, ms=total)

    def torch(self):
        if importlib.util.find_spec("torch") is None:
            self.parts.pop("torch gpt2 bf16 fixed", None)  # no rival here, which is no failure; the page says so
            return
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "work.json"
            if self.part("work for PyTorch", [self.programs / "bench_step", "--shape", "gpt2", "--write-work", path], 30) is not None:
                self.rows("torch gpt2 bf16 fixed", [sys.executable, ROOT / "experiments" / "bench" / "peer" / "torch_supernet.py", "--work", path, "--modes", "fixed",
                                                    "--engine", "compile", "--precision", "bf16", "--device", "cuda"], 150)

    def row(self, part):
        rows = self.parts.get(part, {}).get("rows", [])
        return rows[0] if rows else None

    def aims(self, peak):
        """What the project aims at on a GPU, measured: (what, found, aim)."""
        ratio = lambda a, b, f=lambda row: row["step_ms"]: f"{f(a) / f(b):.2f}" if a and b else "not measured"
        step = lambda shape, mode: self.row(f"step {shape} bf16 {mode}")
        ours, torch, single, gemm = step("gpt2", "fixed"), self.row("torch gpt2 bf16 fixed"), step("medium", "single"), self.parts.get("products of a step of medium")
        share = f"{100 * ours['gflops'] / 1e3 / peak:.1f} %" if ours and peak else "not measured"
        rival = min(torch["step_ms"].values()) if torch else None
        lines = [("GPT-2 124M, 64 x 1024 tokens, bf16: share of the dense peak", share, ""),
                 ("the same step, PyTorch's (compiled, SDPA, the faster AdamW) over ours", f"{rival / ours['step_ms']:.2f}" if rival and ours else "not measured", "at least 1"),
                 ("a random subnet of embed 384, 6 layers: step over its products", f"{single['step_ms'] / gemm['ms']:.2f}" if single and gemm else "not measured", ""),
                 ("a sandwich over its four subnets one after the other, gpt2", ratio(step("gpt2", "sandwich"), step("gpt2", "members")), "at most 1"),
                 ("the same, embed 384, 6 layers", ratio(step("medium", "sandwich"), step("medium", "members")), "at most 1")]
        for row in self.parts.get("kernels of gpt2", {}).get("rows", []):
            if row["row"] == "kernel" and row["case"].startswith("attention") and peak:
                lines.append((f"{row['case'].split()[0]} of gpt2, causal pairs only: share of the dense peak", f"{100 * row['rate'] / 1e3 / peak:.1f} %", ""))
        return lines

    def page(self):
        gpu = self.identity["gpu"]
        kind = next((name for name in PEAK_TFLOPS if name in gpu), None)
        peak = PEAK_TFLOPS[kind]["bf16"] if kind else None
        lines = [f"# On a GPU: {gpu}", "", ", ".join(f"{name} {value}" for name, value in self.identity.items() if name != "gpu") + ".", "",
                 "| measured | found | aim |", "|---|---|---|"]
        lines += [f"| {what} | {found} | {aim} |" for what, found, aim in self.aims(peak)]
        lines += ["", "| part | result | seconds |", "|---|---|---|"]
        lines += [f"| {name} | {'ok' if part['ok'] else 'FAILED' + (': ' + part['why'] if 'why' in part else '')} | {part.get('seconds', '')} |" for name, part in self.parts.items()]
        lines += ["", "| step | ms | tokens/s | TFLOP/s |" + (" % of the dense peak |" if kind else ""), "|---|---|---|---|" + ("---|" if kind else "")]
        for name, part in self.parts.items():
            for row in part.get("rows", []) if name.startswith("step ") else []:
                share = f" {100 * row['gflops'] / 1e3 / PEAK_TFLOPS[kind][row['precision']]:.1f} |" if kind else ""
                lines.append(f"| {row['shape']} {row['precision']} {row['mode']} | {row['step_ms']:.2f} | {row['tokens_s']:.0f} | {row['gflops'] / 1e3:.1f} |{share}")
        lines += ["", "| kernel of gpt2 | ms | rate |", "|---|---|---|"]
        for row in self.parts.get("kernels of gpt2", {}).get("rows", []):
            if row["row"] == "kernel":
                lines.append(f"| `{row['case']}` | {row['ms']:.3f} | {row['rate']:.0f} {row['unit']} |")
        lines += ["", "FLOPs are the model's: a training step does 6 for each element of a matrix and token, and 12 · (T + 1) / 2 · columns of its queries "
                  "for attention in each block, so that causal pairs alone count; recomputation counts for nothing. Peaks are NVIDIA's for dense products. "
                  "Made by `./dev gpu-check`."]
        (self.results / "gpu_check.md").write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "experiments" / "results")
    parser.add_argument("--parts", default=",".join(PARTS), help="of " + ",".join(PARTS))
    parser.add_argument("--minutes", type=float, default=10, help="for all parts together; what is not begun by then has failed")
    options = parser.parse_args()
    wanted = options.parts.split(",")
    if unknown := [part for part in wanted if part not in PARTS]:
        parser.error(f"--parts: {', '.join(unknown)} is none of {', '.join(PARTS)}")
    gpu = first_line(["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"])
    if not gpu:
        print("gpu-check: this machine has no NVIDIA GPU (nvidia-smi finds none); the kernels are tested on the host by ./dev test", file=sys.stderr)
        return 3
    stamp = stamp_of(options.programs)
    if stamp != kernels_stamp():
        print(f"gpu-check: {options.programs} was built from other kernels ({stamp}) than this checkout's ({kernels_stamp()}): build again, or ./dev gpu-check --bundle",
              file=sys.stderr)
        return 1
    cuda = re.search(r"release ([\d.]+)", subprocess.run("nvcc --version || /usr/local/cuda/bin/nvcc --version", shell=True, capture_output=True, text=True, check=False).stdout)
    check = Check(options, {"gpu": re.sub(r"\s+", " ", gpu), "commit": first_line(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]) or "unknown", "kernels": stamp,
                            "CUDA": cuda.group(1) if cuda else "unknown"})
    for part in PARTS:
        if part in wanted:
            getattr(check, part)()
    check.page()
    failed = [name for name, part in check.parts.items() if not part["ok"]]
    print(f"gpu-check: {'failed: ' + ', '.join(failed) if failed else 'all parts passed'}; {check.results / 'gpu_check.md'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
