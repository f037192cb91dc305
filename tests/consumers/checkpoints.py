"""Tiny checkpoints that transformers saves, and what an import of one is held to."""
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

TOLERANCE = 1e-5  # of the largest logit: sums in another order


def check(condition, message):
    if not condition:
        sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {message}")


def be_quiet():
    transformers.logging.set_verbosity_error()
    if hasattr(transformers.logging, "disable_progress_bar"):
        transformers.logging.disable_progress_bar()


def randomised(model):
    """Values that no symmetry hides: gains and biases differ from 1 and 0."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            gain = "norm" in name or "lambda1" in name or "ln_" in name and "weight" in name
            value.copy_(1 + 0.3 * noise if gain else 0.15 * noise)
    return model.eval()


def logits_of(build, model, data, rows):
    """Ours, of so many tokens or images whose bytes are `data`."""
    run = subprocess.run([build / "consumer_logits", model], input=data, stdout=subprocess.PIPE, check=True)
    return np.frombuffer(run.stdout, np.float32).reshape(rows, -1)


class Programs:
    """Our programs. data: the arguments of every import that say what the run learns from."""

    def __init__(self, build, work, *data):
        self.build, self.work, self.data = pathlib.Path(build).resolve(), pathlib.Path(work), data

    def run(self, *arguments, refused=False):
        run = subprocess.run([self.build / "elastiform", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        check(run.returncode == (2 if refused else 0), f"{' '.join(map(str, arguments))}: status {run.returncode}: {run.stderr}")
        return run.stderr if refused else run.stdout

    def logits(self, model, data, rows):
        return logits_of(self.build, model, data, rows)

    def import_run(self, folder, run, *more, refused=False):
        return self.run("import", folder, "--run", run, *self.data, *more, refused=refused)

    def edited(self, folder, name, edit=None, tensors=None):
        """A copy of a checkpoint with other keys in its config.json, or with its tensors as the function leaves them."""
        copy = self.work / name
        shutil.copytree(folder, copy)
        if edit:
            config = json.loads((copy / "config.json").read_text())
            config.update(edit)
            (copy / "config.json").write_text(json.dumps(config))
        if tensors:
            values = load_file(copy / "model.safetensors")
            tensors(values)
            save_file(values, copy / "model.safetensors", {"format": "pt"})
        return copy


def check_largest(programs, name, run, data, theirs):
    """The run's largest subnet has these logits; returns ours."""
    programs.run("export", run, "--subnet", "largest", "--to", programs.work / f"{name}.h5")
    ours = programs.logits(programs.work / f"{name}.h5", data, len(theirs))
    worst = np.abs(ours - theirs).max() / np.abs(theirs).max()
    check(np.abs(theirs).max() > 0.5 and worst <= TOLERANCE, f"{name}: logits differ by {worst:.2e}, {TOLERANCE:.0e} is allowed")
    print(f"ok: import of {name}: logits within {worst:.1e} of the largest")
    return ours


def check_round_trip(programs, name, format):
    """Weights in the order of an import stay where they are: sorted once, they are sorted. Returns the second export."""
    first, second, again = (programs.work / f"{name}-{part}" for part in ("first", "second", "again"))
    programs.run("export", programs.work / f"{name}-run", "--subnet", "largest", "--format", format, "--to", first)
    programs.import_run(first, again)
    programs.run("export", again, "--subnet", "largest", "--format", format, "--to", second)
    a, b = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    check(a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a), f"{name}: import, export, import changed a bit")
    print(f"ok: {name}: import, export, import is bit-equal")
    return second


def check_refusals(programs, rows):
    """Each row: a folder, and what the one line that refuses it names."""
    for folder, name in rows:
        line = programs.import_run(folder, programs.work / "refused", refused=True)
        check(name in line and line.count("\n") == 1, f"the refusal of {folder.name} names {name}: {line}")
        check(not (programs.work / "refused").exists(), "a refused import leaves nothing")
    print(f"ok: {len(rows)} imports refused by name")
