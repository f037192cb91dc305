#!/usr/bin/env python3
"""transformers makes classifiers, elastiform imports them: check_import_images.py BUILD_DIR.

Tiny random ViT, DeiT and DINOv2 checkpoints; logits of the largest within 1e-5 of the largest logit; import → export → import, bit for bit; what
has no place is refused by name, an encoder of text with the reason.
"""
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

from checkpoints import TOLERANCE, Programs, be_quiet, check, check_largest, check_refusals, check_round_trip, randomised

IMAGES, CLASSES = 6, 7
BASE = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=80, image_size=16, patch_size=4, num_channels=3,
            num_labels=CLASSES)


def write_images(path):
    rows = np.random.default_rng(3).integers(0, 256, (90, 16 * 16 * 3))
    with open(path, "w") as file:
        for i, row in enumerate(rows):
            file.write(",".join(map(str, row)) + f",{i % CLASSES}\n")


def models():
    from transformers import DeiTConfig, DeiTForImageClassification, ViTConfig, ViTForImageClassification
    vit = lambda **more: ViTForImageClassification(ViTConfig(**{**BASE, **more}))
    yield "vit", vit(), {}
    yield "vit-gray", vit(num_channels=1, image_size=28), {}
    yield "vit-without-biases", vit(qkv_bias=False, hidden_act="gelu_new", layer_norm_eps=1e-5), {}
    yield "vit-bf16", vit().to(torch.bfloat16), {}
    yield "vit-sharded", vit(), {"max_shard_size": "60KB"}
    yield "deit", DeiTForImageClassification(DeiTConfig(**BASE)), {}


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
        worst = np.abs(programs.logits(folder, pixels.tobytes(), IMAGES) - theirs).max() / np.abs(theirs).max()
        check(worst <= TOLERANCE, f"{name}: logits differ by {worst:.2e}")
        print(f"ok: {name}: logits within {worst:.1e} of the largest")
        return
    programs.import_run(folder, run)
    pixels = pixels_of(3, 16)
    loaded = transformers.AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        theirs = loaded(torch.from_numpy(pixels)).logits.numpy()
    ours = check_largest(programs, name, run, pixels.tobytes(), theirs)
    check(not np.array_equal(ours, programs.logits(folder, pixels.tobytes(), IMAGES)),
          f"{name}: nothing was put in another order")


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
    check_largest(programs, "dinov2", run, pixels.tobytes(), theirs)
    return folder


def check_what_has_no_place(programs, dinov2):
    from transformers import (BertConfig, BertModel, DeiTConfig, DeiTForImageClassificationWithTeacher, Dinov2Config,
                              Dinov2ForImageClassification)
    vit, work = programs.work / "vit", programs.work
    randomised(DeiTForImageClassificationWithTeacher(DeiTConfig(**BASE))).save_pretrained(work / "teacher")
    randomised(Dinov2ForImageClassification(Dinov2Config(**BASE))).save_pretrained(work / "dinov2-head")
    BertModel(BertConfig(vocab_size=300, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=80)).save_pretrained(work / "bert")
    rows = [(work / "teacher", "distillation_classifier"), (work / "dinov2-head", "classifier.weight"), (work / "bert", "encoder of text"),
            (programs.edited(vit, "no-act", {"hidden_act": "relu"}), "hidden_act"),
            (programs.edited(vit, "no-patch", {"patch_size": [4, 8]}), "patch_size"),
            (programs.edited(vit, "no-side", {"image_size": 18}), "patch"),
            (programs.edited(vit, "no-heads", {"num_attention_heads": 5}), "num_attention_heads"),
            (programs.edited(vit, "positions", {"image_size": 32}), "position_embeddings"),
            (programs.edited(vit, "labels", {"id2label": {"0": "a", "2": "b"}}), "id2label"),
            (programs.edited(vit, "quantized", {"quantization_config": {"bits": 4}}), "quantization_config"),
            (programs.edited(dinov2, "swiglu", {"use_swiglu_ffn": True}), "use_swiglu_ffn"),
            (programs.edited(vit, "pooler", tensors=lambda t: t.update({"vit.pooler.dense.weight": torch.ones(48, 48)})), "vit.pooler.dense.weight"),
            (programs.edited(vit, "no-key", tensors=lambda t: t.pop("vit.encoder.layer.1.attention.attention.key.weight")), "attention.key.weight"),
            (programs.edited(vit, "shape", tensors=lambda t: t.update({"vit.layernorm.weight": torch.ones(47)})), "vit.layernorm.weight")]
    check_refusals(programs, rows)


def main():
    be_quiet()
    with tempfile.TemporaryDirectory() as work:
        write_images(f"{work}/images.csv")
        programs = Programs(sys.argv[1], work, "--images", f"{work}/images.csv")
        for name, model, options in models():
            check_model(programs, name, model, options)
        for name in ("vit", "deit"):
            check_round_trip(programs, name, "hf-vit")
        check_what_has_no_place(programs, check_dinov2(programs))


main()
