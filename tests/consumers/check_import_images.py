#!/usr/bin/env python3
"""transformers makes classifiers, elastiform imports them: check_import_images.py BUILD_DIR.

Tiny random ViT, DeiT and DINOv2 checkpoints; logits of the largest within 1e-5 of the largest logit; import → export → import, bit for bit; what
has no place is refused by name, an encoder of text with the reason.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

TOLERANCE = 1e-5  # of the largest logit: sums in another order
IMAGES, CLASSES = 6, 7
BASE = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=80, image_size=16, patch_size=4, num_channels=3,
            num_labels=CLASSES)


def check(condition, message):
    if not condition:
        sys.exit(f"check_import_images.py: {message}")


def randomised(model):
    """Values that no symmetry hides: gains and biases differ from 1 and 0."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(1 + 0.3 * noise if "norm" in name or "lambda1" in name else 0.15 * noise)
    return model.eval()


class Programs:
    def __init__(self, build, work):
        self.build, self.work = pathlib.Path(build).resolve(), pathlib.Path(work)
        rows = np.random.default_rng(3).integers(0, 256, (90, 16 * 16 * 3))
        with open(self.work / "images.csv", "w") as file:
            for i, row in enumerate(rows):
                file.write(",".join(map(str, row)) + f",{i % CLASSES}\n")

    def run(self, *arguments, refused=False):
        run = subprocess.run([self.build / "elastiform", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        check(run.returncode == (2 if refused else 0), f"{' '.join(map(str, arguments))}: status {run.returncode}: {run.stderr}")
        return run.stderr if refused else run.stdout

    def logits(self, model, pixels):
        run = subprocess.run([self.build / "consumer_logits", model], input=pixels.tobytes(), stdout=subprocess.PIPE, check=True)
        return np.frombuffer(run.stdout, np.float32).reshape(len(pixels), -1)

    def import_run(self, folder, run, *more, refused=False):
        return self.run("import", folder, "--run", run, "--images", self.work / "images.csv", *more, refused=refused)


def models():
    from transformers import DeiTConfig, DeiTForImageClassification, ViTConfig, ViTForImageClassification
    vit = lambda **more: ViTForImageClassification(ViTConfig(**{**BASE, **more}))
    yield "vit", vit(), {}
    yield "vit-gray", vit(num_channels=1, image_size=28), {}
    yield "vit-without-biases", vit(qkv_bias=False, hidden_act="gelu_new", layer_norm_eps=1e-5), {}
    yield "vit-bf16", vit().to(torch.bfloat16), {}
    yield "vit-sharded", vit(), {"max_shard_size": "60KB"}
    yield "deit", DeiTForImageClassification(DeiTConfig(**BASE)), {}


def compare(programs, name, run, pixels, theirs):
    programs.run("export", run, "--subnet", "largest", "--to", programs.work / f"{name}.h5")
    ours = programs.logits(programs.work / f"{name}.h5", pixels)
    worst = np.abs(ours - theirs).max() / np.abs(theirs).max()
    check(np.abs(theirs).max() > 0.5 and worst <= TOLERANCE, f"{name}: logits differ by {worst:.2e}, {TOLERANCE:.0e} is allowed")
    print(f"ok: import of {name}: logits within {worst:.1e} of the largest")


def pixels_of(channels, side):
    return np.random.default_rng(7).standard_normal((IMAGES, channels, side, side)).astype(np.float32)


def check_model(programs, name, model, options):
    folder, run = programs.work / name, programs.work / f"{name}-run"
    randomised(model).save_pretrained(folder, **options)
    config = model.config
    if (config.num_channels, config.image_size) != (3, 16):  # the images of the run are others: only the file is read
        loaded = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
        pixels = pixels_of(config.num_channels, config.image_size)
        with torch.no_grad():
            theirs = loaded(torch.from_numpy(pixels)).logits.numpy()
        worst = np.abs(programs.logits(folder, pixels) - theirs).max() / np.abs(theirs).max()
        check(worst <= TOLERANCE, f"{name}: logits differ by {worst:.2e}")
        print(f"ok: {name}: logits within {worst:.1e} of the largest")
        return
    programs.import_run(folder, run)
    pixels = pixels_of(3, 16)
    loaded = transformers.AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        theirs = loaded(torch.from_numpy(pixels)).logits.numpy()
    compare(programs, name, run, pixels, theirs)
    check(not np.array_equal(programs.logits(programs.work / f"{name}.h5", pixels), programs.logits(folder, pixels)),
          f"{name}: nothing was put in another order")


def check_round_trip(programs, name):
    first, second, again = (programs.work / f"{name}-{part}" for part in ("first", "second", "again"))
    programs.run("export", programs.work / f"{name}-run", "--subnet", "largest", "--format", "hf-vit", "--to", first)
    programs.import_run(first, again)
    programs.run("export", again, "--subnet", "largest", "--format", "hf-vit", "--to", second)
    a, b = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    check(a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a), f"{name}: import, export, import changed a bit")
    print(f"ok: {name}: import, export, import is bit-equal")


def check_dinov2(programs):
    """A body with LayerScale; its head is a linear map of the class token, which the file holds or --classes makes of zeros."""
    from transformers import Dinov2Config, Dinov2Model
    config = {key: value for key, value in BASE.items() if key != "intermediate_size"}
    folder, run = programs.work / "dinov2", programs.work / "dinov2-run"
    model = randomised(Dinov2Model(Dinov2Config(**config, mlp_ratio=2)))
    model.save_pretrained(folder)
    line = programs.import_run(folder, programs.work / "refused", refused=True)
    check("--classes" in line, f"a body without a head asks for --classes: {line}")
    programs.import_run(folder, programs.work / "zero-run", "--classes", CLASSES)
    generator = torch.Generator().manual_seed(6)
    weight, bias = 0.3 * torch.randn(CLASSES, 48, generator=generator), 0.3 * torch.randn(CLASSES, generator=generator)
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "classifier.weight": weight, "classifier.bias": bias}, folder / "model.safetensors", {"format": "pt"})
    programs.import_run(folder, run)
    pixels = pixels_of(3, 16)
    with torch.no_grad():
        theirs = (model(torch.from_numpy(pixels)).last_hidden_state[:, 0] @ weight.T + bias).numpy()
    compare(programs, "dinov2", run, pixels, theirs)
    return folder


def edited(programs, folder, name, edit=None, tensors=None):
    copy = programs.work / name
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


def check_refusals(programs, dinov2):
    from transformers import (BertConfig, BertModel, DeiTConfig, DeiTForImageClassificationWithTeacher, Dinov2Config,
                              Dinov2ForImageClassification)
    vit, work = programs.work / "vit", programs.work
    randomised(DeiTForImageClassificationWithTeacher(DeiTConfig(**BASE))).save_pretrained(work / "teacher")
    randomised(Dinov2ForImageClassification(Dinov2Config(**BASE))).save_pretrained(work / "dinov2-head")
    BertModel(BertConfig(vocab_size=300, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=80)).save_pretrained(work / "bert")
    rows = [(work / "teacher", "distillation_classifier"), (work / "dinov2-head", "classifier.weight"), (work / "bert", "encoder of text"),
            (edited(programs, vit, "no-act", {"hidden_act": "relu"}), "hidden_act"),
            (edited(programs, vit, "no-patch", {"patch_size": [4, 8]}), "patch_size"),
            (edited(programs, vit, "no-side", {"image_size": 18}), "patch"),
            (edited(programs, vit, "no-heads", {"num_attention_heads": 5}), "num_attention_heads"),
            (edited(programs, vit, "positions", {"image_size": 32}), "position_embeddings"),
            (edited(programs, vit, "labels", {"id2label": {"0": "a", "2": "b"}}), "id2label"),
            (edited(programs, vit, "quantized", {"quantization_config": {"bits": 4}}), "quantization_config"),
            (edited(programs, dinov2, "swiglu", {"use_swiglu_ffn": True}), "use_swiglu_ffn"),
            (edited(programs, vit, "pooler", tensors=lambda t: t.update({"vit.pooler.dense.weight": torch.ones(48, 48)})), "vit.pooler.dense.weight"),
            (edited(programs, vit, "no-key", tensors=lambda t: t.pop("vit.encoder.layer.1.attention.attention.key.weight")), "attention.key.weight"),
            (edited(programs, vit, "shape", tensors=lambda t: t.update({"vit.layernorm.weight": torch.ones(47)})), "vit.layernorm.weight")]
    for folder, name in rows:
        line = programs.import_run(folder, work / "refused", refused=True)
        check(name in line and line.count("\n") == 1, f"the refusal of {folder.name} names {name}: {line}")
        check(not (work / "refused").exists(), "a refused import leaves nothing")
    print(f"ok: {len(rows)} imports of classifiers refused by name")


def main():
    transformers.logging.set_verbosity_error()
    if hasattr(transformers.logging, "disable_progress_bar"):
        transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as work:
        programs = Programs(sys.argv[1], work)
        for name, model, options in models():
            check_model(programs, name, model, options)
        for name in ("vit", "deit"):
            check_round_trip(programs, name)
        check_refusals(programs, check_dinov2(programs))


main()
