#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "supernet/formats/format.hpp"

namespace elastiform {

/// A program that loads exports, run by Python to check one: export --check.
struct Consumer {
  std::string_view name;    // "transformers", "llama-cpp", "onnxruntime"
  std::string_view prefix;  // of the formats that it loads
  std::string_view module;  // what Python imports
  // Both print a line with the version, then float32 logits. Arguments: path, ids with commas; or path, "images,channels,height,width", float32
  // pixels on stdin (empty: no classifiers).
  std::string_view script, image_script;
  double tolerance;  // in parts of the largest logit, where the format's own is not larger
};
std::span<const Consumer> consumers();
const Consumer& find_consumer(std::string_view name);  // throws InputError naming the nearest

/// The environment that tests/consumers/make_environment.sh makes; "" when no variable says where caches stand.
std::string cached_python();

/// Throws InputError unless `consumer` loads this format and `python` imports it.
void require_consumer(const Consumer& consumer, const Format& format, const std::string& python);

struct ConsumerReport {
  std::string version;  // "transformers 5.24.0"
  double difference = 0, allowed = 0;
};
/// Has the consumer run what stands at `path` on `sample` and compares with `expected`, the subnet's logits. Throws std::runtime_error when it
/// fails or gives other logits.
ConsumerReport check_with(const Consumer& consumer, const std::string& python, const Format& format, const std::string& path,
                          const Sample& sample, std::span<const float> expected);

}  // namespace elastiform
