#include "supernet/formats/proof.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <fstream>
#include <stdexcept>

#include <fmt/format.h>

#include "kernels/parallel.hpp"
#include "supernet/formats/hugging_face_images.hpp"
#include "supernet/tokenizers/oniguruma.hpp"
#include "supernet/tokenizers/tokenizer.hpp"

namespace elastiform {
namespace {

[[noreturn]] void fail(const Format& format, const std::string& what, double found, double allowed) {
  throw std::runtime_error(
      fmt::format("export: the {} read back differs from the subnet inside the supernet by {:.3g} of the largest {}, "
                  "and {:.3g} is allowed; nothing was written",
                  format.name, found, what, allowed));
}

[[noreturn]] void fail(const Format& format, const std::string& what) {
  throw std::runtime_error(fmt::format("export: the {} read back has {}; nothing was written", format.name, what));
}

/// Whether a row has neither an infinity nor something that is no number, whose exponents have all bits.
bool all_finite(const float* row, std::int64_t columns) {
  constexpr std::uint32_t kExponent = 0x7F800000u;
  std::uint32_t found = 0;
  for (std::int64_t column = 0; column < columns; ++column)
    found |= (std::bit_cast<std::uint32_t>(row[column]) & kExponent) == kExponent ? 1u : 0u;
  return found == 0;
}

/// Largest sizes of weights and largest distances to what was read, of blocks that share a scale or of single weights.
class Worst {
 public:
  explicit Worst(std::size_t blocks) : largest_(blocks), difference_(blocks) {}
  void clear() {
    std::fill(largest_.begin(), largest_.end(), 0.0f);
    std::fill(difference_.begin(), difference_.end(), 0.0f);
  }
  /// A row of which `columns_a_block` columns belong to one block after the other.
  void add(const float* wanted, const float* read, std::int64_t columns, std::int64_t columns_a_block) {
    if (columns_a_block == 1) {
      for (std::size_t i = 0; i < largest_.size(); ++i) add(i, wanted[i], read[i]);
      return;
    }
    std::int64_t column = 0;
    for (std::size_t i = 0; i < largest_.size(); ++i)
      for (const std::int64_t end = std::min(column + columns_a_block, columns); column < end; ++column)
        add(i, wanted[column], read[column]);
  }
  void check(const Format& format, const TensorSpec& tensor, const Rounding& rounding) const {
    for (std::size_t i = 0; i < largest_.size(); ++i) {
      const double largest = largest_[i], difference = difference_[i];
      if (difference > rounding.step * largest + rounding.floor)
        fail(format, "weight of its block in " + tensor.name, largest > 0 ? difference / largest : difference, rounding.step);
    }
  }

 private:
  // Both of a difference are float32, and so is what rounding could make of it: 0 only where they are equal.
  void add(std::size_t block, float wanted, float read) {
    largest_[block] = std::max(largest_[block], std::abs(wanted));
    difference_[block] = std::max(difference_[block], std::abs(read - wanted));
  }
  std::vector<float> largest_, difference_;
};

/// Files keep linear maps as [out,in], and blocks lie along the inputs: down our columns; those of embeddings lie along their rows.
void prove_tensor(const Format& format, const TensorSpec& tensor, const Rounding& rounding, ConstView expected, ConstView found) {
  const bool along_rows = tensor.role == Role::embedding;
  const std::int64_t rows_a_block = along_rows ? 1 : rounding.block, columns_a_block = along_rows ? rounding.block : 1;
  Worst worst(static_cast<std::size_t>((expected.columns + columns_a_block - 1) / columns_a_block));
  for (std::int64_t first = 0; first < expected.rows; first += rows_a_block) {
    worst.clear();
    for (std::int64_t row = first; row < std::min(first + rows_a_block, expected.rows); ++row) {
      const float *const wanted = expected.row<float>(row), *const read = found.row<float>(row);
      if (!all_finite(wanted, expected.columns))
        throw std::runtime_error("export: " + tensor.name + " holds a weight that is not finite; the supernet's weights may have diverged");
      if (!all_finite(read, expected.columns)) fail(format, "a weight in " + tensor.name + " that is not finite");
      worst.add(wanted, read, expected.columns, columns_a_block);
    }
    worst.check(format, tensor, rounding);
  }
}

/// Every weight of the file beside the one that was to be written: what logits of one context may hide.
void prove_weights(const Format& format, const Weights& written, const Weights& read, int threads) {
  const auto& tensors = written.table().tensors();
  const ThreadPool pool(threads);
  pool.for_each(static_cast<std::int64_t>(tensors.size()), [&](std::int64_t i) {
    const TensorSpec& tensor = tensors[static_cast<std::size_t>(i)];
    const ConstView expected = written.view(tensor), found = read.view(tensor.name);
    if (expected.rows != found.rows || expected.columns != found.columns) fail(format, tensor.name + " in another shape");
    const bool exact = tensor.role == Role::gain || tensor.role == Role::bias;
    prove_tensor(format, tensor, exact ? Rounding{} : format.rounding, expected, found);
  });
}

/// What of a model no weight shows. Numbers as float32, which formats keep at least.
void prove_config(const Format& format, const ModelConfig& written, const ModelConfig& read) {
  const auto same = [](double a, double b) { return static_cast<float>(a) == static_cast<float>(b); };
  const auto need = [&](bool holds, const char* what) {
    if (!holds) fail(format, std::string("another ") + what);
  };
  need(read.vocabulary == written.vocabulary, "vocabulary");
  need(read.context == written.context, "context");
  need(read.head_dim == written.head_dim, "head_dim");
  need(read.norm == written.norm && same(read.norm_eps, written.norm_eps), "norm");
  need(read.ffn == written.ffn, "FFN");
  need(read.positions == written.positions, "kind of positions");
  need(read.positions != Positions::rope || same(read.rope_theta, written.rope_theta), "rope_theta");
  const RopeScaling &a = read.rope_scaling, &b = written.rope_scaling;
  need(a.kind == b.kind && same(a.factor, b.factor) && same(a.low_factor, b.low_factor) && same(a.high_factor, b.high_factor) &&
           same(a.original_context, b.original_context),
       "rope_scaling");
  need(read.tied == written.tied && read.head_bias == written.head_bias, "head");
  need(read.image == written.image, "shape of images");
  need(read.readout == written.readout && read.causal == written.causal, "family");
}

/// What turns pixels into what a classifier reads; as float32, like the weights.
void prove_reading(const Format& format, const ModelCard& card, int channels, const ImageOptions& found,
                   const std::vector<std::string>& names) {
  const auto same = [](double a, double b) { return static_cast<float>(a) == static_cast<float>(b); };
  const auto same_lists = [&](const std::vector<double>& a, const std::vector<double>& b) {
    const auto of = [](const std::vector<double>& list, std::size_t channel) { return list.size() == 1 ? list.front() : list.at(channel); };
    for (std::size_t channel = 0; channel < static_cast<std::size_t>(channels); ++channel)
      if (!same(of(a, channel), of(b, channel))) return false;
    return true;
  };
  const ImageOptions& written = card.reading;
  // A format of pictures says nothing of white, which is about files of numbers.
  const double white = format.name == "elastiform" ? written.white : ImageOptions{}.white;
  if (!same(white, found.white) || !same_lists(written.mean, found.mean) || !same_lists(written.deviation, found.deviation))
    fail(format, "another normalisation of images");
  if (card.class_names != names) fail(format, "other names of classes");
}

/// The names of classes that stand beside a graph, a line a name.
std::vector<std::string> names_in(const std::string& path) {
  std::vector<std::string> names;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) names.push_back(line);
  return names;
}

/// A text that has every kind of piece, and the texts of some 4,000 ids. Added tokens of characters are not in it: formats differ in whether
/// a space is put behind one, and it is compared alone.
std::string sample_of(const Tokenizer& tokenizer) {
  std::string text = "In the beginning, 1234567 words\n\n  they've: x_1 = 3.14;\té€🙂日本 ";
  const int step = std::max(1, tokenizer.vocabulary() / 4096);
  for (int id = 0; id < tokenizer.vocabulary(); id += step)
    if (!tokenizer.is_of_characters() || !tokenizer.is_added(id)) text += tokenizer.text_of(id);
  return text;
}

/// A token that a text must begin with, or have a space before, is named with that space; llama.cpp knows no such tokens.
bool same_text(const Tokenizer& expected, const Tokenizer& found, std::int32_t id) {
  const std::string_view text = expected.text_of(id), other = found.text_of(id);
  return text == other || (expected.is_added(id) && !text.empty() && text.front() == ' ' && text.substr(1) == other);
}

/// The vocabulary read back says what the run's does; a format may write it in words of its own.
void prove_tokenizer(const Format& format, const std::string& written, const std::string& read) {
  if (written == read) return;
  if (written.empty() || read.empty()) fail(format, read.empty() ? "no tokenizer" : "a tokenizer where one id is a byte");
  const Tokenizer expected = Tokenizer::parse(written, "tokenizer.json"), found = Tokenizer::parse(read, "export: the tokenizer read back");
  for (int id = 0; id < std::max(expected.vocabulary(), found.vocabulary()); ++id)
    if (!same_text(expected, found, id)) fail(format, "another text for id " + std::to_string(id));
  if (found.prefix() != expected.prefix()) fail(format, "other ids before a text");
  if (!Pattern::available() && !expected.is_of_characters()) return;
  for (int id = 0; expected.is_of_characters() && id < expected.vocabulary(); ++id)
    if (expected.is_added(id) && found.encode(found.text_of(id)) != expected.encode(found.text_of(id)))
      fail(format, "another place for the token of id " + std::to_string(id));
  const std::string sample = sample_of(expected);
  if (found.encode(sample) != expected.encode(sample)) fail(format, "a tokenizer that cuts text otherwise");
}

/// The logits of `path` read back, or run: then of the first images only, because an interpreter takes its time.
std::vector<float> logits_of(const Format& format, const DenseModel& written, const ModelCard& card, const Sample& sample,
                             const std::string& path, int threads) {
  constexpr std::int64_t kInterpretedImages = 4;
  if (format.run != nullptr) {
    const ImageShape& image = written.model.image;
    if (written.model.classifies())  // a graph knows neither: they stand beside it
      prove_reading(format, card, image.channels, hugging_face::reading_of_folder(path, image), names_in(path + "/labels.txt"));
    return format.run(path, written.model.classifies() ? sample.first(kInterpretedImages) : sample, &written);
  }
  const DenseModel read = format.read(path, std::nullopt);
  if (read.subnet != written.subnet)
    throw std::runtime_error("export: the file read back holds " + elastiform::format(read.subnet) + " instead of " +
                             elastiform::format(written.subnet));
  prove_config(format, written.model, read.model);
  prove_weights(format, written.weights, read.weights, threads);
  if (written.model.classifies()) prove_reading(format, card, read.model.image.channels, read.reading, read.class_names);
  else prove_tokenizer(format, card.tokenizer, read.tokenizer);
  return sample_logits(read.weights, read.subnet, sample, threads);
}

}  // namespace

double prove(const Format& format, const DenseModel& written, const ModelCard& card, const std::vector<float>& expected,
             const Sample& sample, const std::string& path, int threads) {
  const std::vector<float> found = logits_of(format, written, card, sample, path, threads);
  if (found.empty() || found.size() > expected.size() || found.size() % static_cast<std::size_t>(written.model.vocabulary) != 0)
    throw std::runtime_error("export: the file read back has another vocabulary");
  double largest = 0, difference = 0;
  bool finite = true;
  for (std::size_t i = 0; i < found.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    difference = std::max(difference, std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i])));
    finite = finite && std::isfinite(found[i]) && std::isfinite(expected[i]);
  }
  const double relative = largest > 0 ? difference / largest : difference;
  if (!finite) throw std::runtime_error("export: logits are not finite; the supernet's weights may have diverged");
  if (relative > format.tolerance) fail(format, "logit", relative, format.tolerance);
  return relative;
}

}  // namespace elastiform
