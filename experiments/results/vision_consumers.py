"""vision_consumers.py IMAGES.csv.gz MEAN DEVIATION FOLDER…: the classes that ONNX Runtime and OpenVINO name of every image, for each exported
ONNX folder. Prints one JSON document; run by the Python of tests/consumers/make_environment.sh."""
import gzip
import json
import sys

import numpy as np
import onnxruntime
import openvino

images, mean, deviation = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
with gzip.open(images, "rt") as file:
    rows = np.array([[float(value) for value in line.split(",")] for line in file if line.strip()])
side = int(round((rows.shape[1] - 1) ** 0.5))
pixels = ((rows[:, :-1] / 255 - mean) / deviation).reshape(-1, 1, side, side).astype(np.float32)
found = {"versions": {"onnxruntime": onnxruntime.__version__, "openvino": openvino.__version__.split("-")[0]}, "labels": rows[:, -1].astype(int).tolist()}
core = openvino.Core()
for folder in sys.argv[4:]:
    path = folder + "/model.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    classes = {"onnxruntime": [], "openvino": []}
    for first in range(0, len(pixels), 250):
        batch = pixels[first:first + 250]
        classes["onnxruntime"] += session.run(["logits"], {"pixel_values": batch})[0].argmax(1).tolist()
        classes["openvino"] += next(iter(compiled({"pixel_values": batch}).values())).argmax(1).tolist()
    found[folder] = classes
print(json.dumps(found))
