"""./dev gpu-check: everything that only a GPU can show, in parts with a time limit each, ten minutes together.

Programs come from --programs (build/gpu or build/release). Every part is written to gpu_check.json as it ends, so a stop loses one part; the
page gpu_check.md is made of it. Ends with status 1 when a check failed, 3 when there is no GPU."""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What the aims of the page are shares of: NVIDIA's data sheets, dense, without sparsity.
PEAK_TFLOPS = {"H100": {"bf16": 989.0, "f32": 67.0}, "H200": {"bf16": 989.0, "f32": 67.0}, "A100": {"bf16": 312.0, "f32": 19.5}}
SANITIZER_TOOLS = ("memcheck", "racecheck", "synccheck")
STEPS = (("large", "bf16", "fixed"), ("large", "bf16", "sandwich"), ("medium", "bf16", "fixed"), ("medium", "bf16", "single"),
         ("medium", "bf16", "sandwich"), ("medium", "f32", "fixed"), ("medium", "bf16", "eval"))


class Check:
    def __init__(self, options):
        self.programs, self.results = options.programs.resolve(), options.results.resolve()
        self.environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(filter(None, [
            str(self.programs / "lib"), "/usr/local/cuda/lib64", os.environ.get("LD_LIBRARY_PATH", "")]))}
        self.parts = {}

    def run(self, command, seconds):
        begin = time.monotonic()
        try:
            done = subprocess.run([str(word) for word in command], env=self.environment, capture_output=True, text=True, timeout=seconds,
                                  check=False, cwd=ROOT)
            status, output = done.returncode, done.stdout + done.stderr
        except subprocess.TimeoutExpired as error:
            status, output = "out of time", "".join(part.decode() if isinstance(part, bytes) else part or "" for part in (error.stdout, error.stderr))
        return status, output, time.monotonic() - begin

    def part(self, name, command, seconds):
        status, output, took = self.run(command, seconds)
        self.parts[name] = {"ok": status == 0, "status": status, "seconds": round(took, 1), "tail": output[-2000:]}
        print(f"gpu-check: {name}: {'ok' if status == 0 else f'FAILED ({status})'} in {took:.0f} s", flush=True)
        self.store()
        return output if status == 0 else None

    def store(self):
        self.results.mkdir(parents=True, exist_ok=True)
        path = self.results / "gpu_check.json"
        beside = path.with_suffix(".part")
        beside.write_text(json.dumps(self.parts, indent=1) + "\n")
        beside.replace(path)

    def steps(self):
        rows = []
        for shape, precision, mode in STEPS:
            output = self.part(f"step {shape} {precision} {mode}", [self.programs / "bench_step", "--device", "cuda", "--shape", shape,
                                                                  "--precision", precision, "--mode", mode, "--json"], 60)
            if output:
                rows += [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        self.parts["steps"] = {"ok": bool(rows), "rows": rows}
        self.store()

    def demo(self):
        with tempfile.TemporaryDirectory() as folder:
            text = ROOT / "experiments" / "recipes" / "kjv.txt"
            if not text.exists():  # a machine without the demo's text: sources are text too
                text = pathlib.Path(folder) / "text"
                text.mkdir()
                for source in sorted((ROOT / "supernet").rglob("*.cpp")):
                    shutil.copy(source, text / (source.stem + ".txt"))
            losses = {}
            for device in ("cpu", "cuda"):
                run = pathlib.Path(folder) / device
                self.part(f"train on {device}", [self.programs / "elastiform", "train", "experiments/recipes/demo.toml", "--run", run, "--device", device,
                                                 "--set", f"data.text={text}", "--set", "train.steps=40", "--set", "train.log_every=40"], 120)
                log = run / "training.jsonl"
                if log.exists():
                    losses[device] = json.loads(log.read_text().splitlines()[-1])["loss"]
            if len(losses) == 2:
                far = max(abs(losses["cpu"][k] - losses["cuda"][k]) / losses["cpu"][k] for k in losses["cpu"])
                self.parts["same losses after 40 steps"] = {"ok": far < 0.01, "relative difference": far}
                self.store()

    def page(self, device):
        kind = next((name for name in PEAK_TFLOPS if name in device), None)
        lines = [f"# On a GPU: {device}", "", "| part | result | seconds |", "|---|---|---|"]
        lines += [f"| {name} | {'ok' if part['ok'] else 'FAILED'} | {part.get('seconds', '')} |" for name, part in self.parts.items()]
        lines += ["", "| step | ms | tokens/s | TFLOP/s |" + (" % of the dense peak |" if kind else ""), "|---|---|---|---|" + ("---|" if kind else "")]
        for row in self.parts.get("steps", {}).get("rows", []):
            share = f" {100 * row['gflops'] / 1e3 / PEAK_TFLOPS[kind][row['precision']]:.1f} |" if kind else ""
            lines.append(f"| {row['shape']} {row['precision']} {row['mode']} | {row['step_ms']:.2f} | {row['tokens_s']:.0f} | {row['gflops'] / 1e3:.1f} |{share}")
        lines += ["", "FLOPs are the model's: 6 a parameter and token, attention counted as half. Made by `./dev gpu-check`."]
        (self.results / "gpu_check.md").write_text("\n".join(lines) + "\n")


def device_name():
    if not shutil.which("nvidia-smi"):
        return None
    done = subprocess.run(["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"], capture_output=True, text=True, check=False)
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "experiments" / "results")
    parser.add_argument("--parts", default="conformance,sanitizers,train,steps", help="of conformance,sanitizers,train,steps")
    options = parser.parse_args()
    device = device_name()
    if device is None:
        print("gpu-check: this machine has no NVIDIA GPU (nvidia-smi finds none); the kernels are tested on the host by ./dev test", file=sys.stderr)
        return 3
    check, wanted = Check(options), options.parts.split(",")
    tests = check.programs / "test_gpu"
    if "conformance" in wanted:
        check.part("conformance", [tests], 180)
    if "sanitizers" in wanted:
        sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
        for tool in SANITIZER_TOOLS if pathlib.Path(sanitizer).exists() else ():
            check.part(tool, [sanitizer, "--tool", tool, "--error-exitcode", "1", tests, "norm_forward*,rope*,softmax*"], 90)
    if "train" in wanted:
        check.demo()
    if "steps" in wanted:
        check.steps()
    check.page(re.sub(r"\s+", " ", device))
    failed = [name for name, part in check.parts.items() if not part["ok"]]
    print(f"gpu-check: {'failed: ' + ', '.join(failed) if failed else 'all parts passed'}; {check.results / 'gpu_check.md'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
