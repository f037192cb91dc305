#include "supernet/formats/gguf_rotary.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernels/errors.hpp"
#include "supernet/rotary.hpp"

namespace elastiform::gguf {
namespace {

/// Numbers of Llama 3's rule, under the keys of our own files.
struct Number {
  const char* key;
  double RopeScaling::*field;
  double most;
};
constexpr std::array kNumbers{Number{"elastiform.rope.factor", &RopeScaling::factor, 1e6},
                              Number{"elastiform.rope.low_freq_factor", &RopeScaling::low_factor, 1e3},
                              Number{"elastiform.rope.high_freq_factor", &RopeScaling::high_factor, 1e3},
                              Number{"elastiform.rope.original_context_length", &RopeScaling::original_context, 1 << 24}};

/// A file keeps float32.
double kept(double value) { return static_cast<float>(value); }

/// From the first of llama.cpp's two keys that is there; 0 is 1.
double linear_factor(const Reader& file, const std::string& architecture) {
  const std::string type = architecture + ".rope.scaling.type";
  if (file.has_key(type)) {
    const std::string said = file.text(type);
    if (said == "none") return 1;
    if (said != "linear")
      throw InputError({file.path() + ": " + type, "none or linear", "'" + said.substr(0, 64) + "'", "its arithmetic has no place here"});
  }
  for (const char* name : {".rope.scaling.factor", ".rope.scale_linear"}) {
    const std::string key = architecture + name;
    if (!file.has_key(key)) continue;
    const double factor = file.real(key);
    if (factor != 0 && !(factor >= 1 && factor <= 1e6))
      throw InputError({file.path() + ": " + key, "0, or a number from 1 to 1000000", std::to_string(kept(factor)), ""});
    return factor == 0 ? 1 : factor;
  }
  return 1;
}

RopeScaling llama3_scaling(const Reader& file, ModelConfig model) {
  const std::string where = file.path() + ": " + kRopeDivisors;
  file.require(kRopeDivisors, {model.head_dim / 2});
  const std::vector<float> divisors = file.floats(kRopeDivisors);
  RopeScaling& rule = model.rope_scaling = {.kind = RopeStretch::llama3};
  for (const float divisor : divisors) {
    if (!(divisor >= 1 && divisor <= 1e6f)) throw InputError({where, "numbers from 1 to 1000000", std::to_string(divisor), ""});
    rule.factor = std::max(rule.factor, static_cast<double>(divisor));
  }
  for (const Number& number : kNumbers)
    if (file.has_key(number.key)) {
      rule.*number.field = file.real(number.key);
      if (!(rule.*number.field > 0 && rule.*number.field <= number.most))
        throw InputError({file.path() + ": " + number.key, "a number above 0 and at most " + std::to_string(std::llround(number.most)),
                          std::to_string(rule.*number.field), "export the file again, or import the Hugging Face folder"});
    }
  const std::vector<double> expected = rotary_divisors(model);
  constexpr double kRounding = 1e-5;  // of converters that compute in float32
  for (std::size_t i = 0; i < divisors.size(); ++i)
    if (!(std::abs(divisors[i] / expected[i] - 1) <= kRounding))
      throw InputError({where, std::to_string(expected[i]) + " for pair " + std::to_string(i) + ", by the rule of Llama 3",
                        std::to_string(divisors[i]), "import the Hugging Face folder, which names its rule"});
  return rule.factor == 1 ? RopeScaling{} : rule;
}

}  // namespace

void add_scaling(Metadata& metadata, std::vector<Tensor>& tensors, const ModelConfig& model) {
  ModelConfig read = model;  // as whoever reads the file will have it
  read.rope_theta = kept(model.rope_theta);
  RopeScaling& rule = read.rope_scaling;
  for (const Number& number : kNumbers) rule.*number.field = kept(rule.*number.field);
  if (rule.kind == RopeStretch::linear) {
    metadata.emplace_back("deci.rope.scaling.type", std::string("linear"));
    metadata.emplace_back("deci.rope.scaling.factor", static_cast<float>(rule.factor));
  }
  if (rule.kind != RopeStretch::llama3) return;
  for (const Number& number : kNumbers) metadata.emplace_back(number.key, static_cast<float>(rule.*number.field));
  const std::vector<double> divisors = rotary_divisors(read);
  tensors.push_back({kRopeDivisors, Element::f32, {static_cast<std::int64_t>(divisors.size())}, [divisors] {
                       return std::vector<float>(divisors.begin(), divisors.end());
                     }});
}

RopeScaling read_scaling(const Reader& file, const std::string& architecture, const ModelConfig& model) {
  const double factor = linear_factor(file, architecture);
  if (!file.has(kRopeDivisors)) return factor == 1 ? RopeScaling{} : RopeScaling{.kind = RopeStretch::linear, .factor = factor};
  if (factor != 1)  // llama.cpp applies both
    throw InputError({file.path() + ": " + kRopeDivisors, "none, beside a linear scaling", "one", "its arithmetic has no place here"});
  return llama3_scaling(file, model);
}

}  // namespace elastiform::gguf
