#include "experiments/elastiform/consumers.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "experiments/elastiform/child_program.hpp"
#include "kernels/errors.hpp"
#include "supernet/data/image_data.hpp"
#include "supernet/nearest_name.hpp"

namespace elastiform {
namespace {

constexpr std::string_view kTransformers = R"(
import os, sys
os.environ["HF_HUB_OFFLINE"] = "1"
import torch, transformers
transformers.logging.set_verbosity_error()
ids = [int(i) for i in sys.argv[2].split(",")]
own_code = os.path.exists(os.path.join(sys.argv[1], "modeling_elastiform.py"))
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=own_code).eval()
with torch.no_grad():
    logits = model(torch.tensor([ids])).logits[0].float().numpy()
sys.stdout.buffer.write(f"transformers {transformers.__version__}\n".encode() + logits.tobytes())
)";

constexpr std::string_view kLlamaCpp = R"(
import sys
import llama_cpp, numpy
ids = [int(i) for i in sys.argv[2].split(",")]
model = llama_cpp.Llama(sys.argv[1], n_ctx=len(ids), n_batch=len(ids), logits_all=True, verbose=False, type_k=0, type_v=0, flash_attn=False)
model.eval(ids)
logits = numpy.array(model.scores[:len(ids)], numpy.float32)
sys.stdout.buffer.write(f"llama-cpp-python {llama_cpp.__version__}\n".encode() + logits.tobytes())
)";

constexpr std::string_view kOnnxRuntime = R"(
import os, sys
import numpy, onnxruntime
ids = numpy.array([[int(i) for i in sys.argv[2].split(",")]], numpy.int64)
session = onnxruntime.InferenceSession(os.path.join(sys.argv[1], "model.onnx"), providers=["CPUExecutionProvider"])
feed = {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "position_ids": numpy.arange(ids.shape[1])[None]}
for i in session.get_inputs():
    if i.name.startswith("past_key_values."):
        feed[i.name] = numpy.zeros((1, i.shape[1], 0, i.shape[3]), numpy.float32)
known = {i.name for i in session.get_inputs()}
logits = session.run(["logits"], {name: value for name, value in feed.items() if name in known})[0][0]
sys.stdout.buffer.write(f"onnxruntime {onnxruntime.__version__}\n".encode() + logits.tobytes())
)";

constexpr std::string_view kTransformersImages = R"(
import os, sys
os.environ["HF_HUB_OFFLINE"] = "1"
import numpy, torch, transformers
transformers.logging.set_verbosity_error()
pixels = numpy.frombuffer(sys.stdin.buffer.read(), numpy.float32).reshape([int(i) for i in sys.argv[2].split(",")])
model = transformers.AutoModelForImageClassification.from_pretrained(sys.argv[1]).eval()
with torch.no_grad():
    logits = model(torch.from_numpy(pixels.copy())).logits.float().numpy()
sys.stdout.buffer.write(f"transformers {transformers.__version__}\n".encode() + logits.tobytes())
)";

constexpr std::string_view kOnnxRuntimeImages = R"(
import os, sys
import numpy, onnxruntime
pixels = numpy.frombuffer(sys.stdin.buffer.read(), numpy.float32).reshape([int(i) for i in sys.argv[2].split(",")])
session = onnxruntime.InferenceSession(os.path.join(sys.argv[1], "model.onnx"), providers=["CPUExecutionProvider"])
logits = session.run(["logits"], {"pixel_values": pixels})[0]
sys.stdout.buffer.write(f"onnxruntime {onnxruntime.__version__}\n".encode() + logits.tobytes())
)";

constexpr std::array<Consumer, 3> kConsumers{{{"transformers", "hf-", "transformers", kTransformers, kTransformersImages, 1e-4},
                                              {"llama-cpp", "gguf", "llama_cpp", kLlamaCpp, {}, 1e-5},
                                              {"onnxruntime", "onnx", "onnxruntime", kOnnxRuntime, kOnnxRuntimeImages, 1e-5}}};

ChildResult run_with(const Consumer& consumer, const std::string& python, const std::string& path, const Sample& sample) {
  if (sample.images.sequences > 0) {
    const ImageShape& shape = sample.shape;
    const std::vector<float> pixels = pixels_of(sample.images, shape);
    return run_child({python, "-c", std::string(consumer.image_script), path,
                      fmt::format("{},{},{},{}", sample.images.sequences, shape.channels, shape.height, shape.width)},
                     {reinterpret_cast<const char*>(pixels.data()), pixels.size() * sizeof(float)});
  }
  std::string ids;
  for (const std::int32_t token : sample.tokens) ids += (ids.empty() ? "" : ",") + std::to_string(token);
  return run_child({python, "-c", std::string(consumer.script), path, ids});
}

}  // namespace

std::span<const Consumer> consumers() { return kConsumers; }

const Consumer& find_consumer(std::string_view name) {
  std::vector<std::string_view> known;
  for (const Consumer& consumer : kConsumers) {
    if (consumer.name == name) return consumer;
    known.push_back(consumer.name);
  }
  throw unknown_name("check", name, known);
}

std::string cached_python() {
  const char *cache = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  const std::string folder = cache != nullptr && *cache == '/' ? cache
                             : home != nullptr && *home == '/' ? std::string(home) + "/.cache"
                                                               : "";
  return folder.empty() ? "" : folder + "/elastiform/python/bin/python";
}

void require_consumer(const Consumer& consumer, const Format& format, const std::string& python) {
  if (format.name.rfind(consumer.prefix, 0) != 0)
    throw InputError({"--check " + std::string(consumer.name), "a format that it loads", std::string(format.name), ""});
  const std::string remedy =
      "make the environment with tests/consumers/make_environment.sh and add_consumers.sh, or name one with --python";
  if (python.empty() || !std::filesystem::exists(python))
    throw InputError({"--check " + std::string(consumer.name), "a Python with it", python.empty() ? "none" : "no " + python, remedy});
  const std::string program = fmt::format("import importlib.util, sys; sys.exit(importlib.util.find_spec('{}') is None)", consumer.module);
  if (run_child({python, "-c", program}).status != 0)
    throw InputError(
        {"--check " + std::string(consumer.name), "a Python that imports " + std::string(consumer.module), "not in " + python, remedy});
}

ConsumerReport check_with(const Consumer& consumer, const std::string& python, const Format& format, const std::string& path,
                          const Sample& sample, std::span<const float> expected) {
  const ChildResult child = run_with(consumer, python, path, sample);
  const std::size_t line = child.out.find('\n');
  if (child.status != 0 || line == std::string::npos || child.out.size() - line - 1 != expected.size_bytes())
    throw std::runtime_error(fmt::format("export --check: {} could not run the export; it ended with status {}; nothing was written",
                                         consumer.name, child.status));
  std::vector<float> found(expected.size());
  std::memcpy(found.data(), child.out.data() + line + 1, expected.size_bytes());
  double largest = 0, difference = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    difference = std::max(difference, std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i])));
    if (!std::isfinite(found[i])) difference = INFINITY;
  }
  ConsumerReport report{.version = child.out.substr(0, line),
                        .difference = largest > 0 ? difference / largest : difference,
                        .allowed = std::max(consumer.tolerance, format.tolerance)};
  if (!(report.difference <= report.allowed))
    throw std::runtime_error(
        fmt::format("export --check: {} gives logits that differ by {:.3g} of the largest, and {:.3g} is allowed; nothing was written",
                    report.version, report.difference, report.allowed));
  return report;
}

}  // namespace elastiform
