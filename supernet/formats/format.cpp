#include "supernet/formats/format.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <functional>
#include <set>
#include <stdexcept>

#include <fmt/format.h>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/errors.hpp"
#include "supernet/formats/elastiform_file.hpp"
#include "supernet/formats/hugging_face.hpp"
#include "supernet/nearest_name.hpp"
#include "supernet/network.hpp"
#include "supernet/storage/durable_file.hpp"

namespace elastiform {
namespace {

constexpr std::array<Format, 3> kFormats{{
    {"elastiform", "one HDF5 file; every subnet", false, elastiform_file::why_not, elastiform_file::write, elastiform_file::read},
    {"hf-llama", "a folder for Hugging Face transformers (llama or mistral)", true, hugging_face::why_not_llama, hugging_face::write_llama,
     hugging_face::read_llama},
    {"hf-gpt2", "a folder for Hugging Face transformers (gpt2)", true, hugging_face::why_not_gpt2, hugging_face::write_gpt2,
     hugging_face::read_gpt2},
}};

/// x + s·(h·W + b) = x + (h·(s·W) + s·b): targets know no branch scale.
void fold_branch_scale(ModelConfig& model, Weights& weights) {
  const float scale = static_cast<float>(model.branch_scale);
  std::set<std::string, std::less<>> folded;  // what writes to the residual stream, with its biases
  for (const TensorSpec& tensor : weights.table().tensors())
    if (tensor.role == Role::residual_out) folded.insert({tensor.name, tensor.name + ".bias"});
  for (const TensorSpec& tensor : weights.table().tensors()) {
    if (folded.count(tensor.name) == 0) continue;
    const View view = weights.view(tensor);
    for (std::int64_t row = 0; row < view.rows; ++row)
      for (std::int64_t column = 0; column < view.columns; ++column) view.row<float>(row)[column] *= scale;
  }
  model.branch_scale = 1;
}

DenseModel cut_out(const Weights& weights, const Subnet& subnet) {
  ModelConfig model = weights.table().space().model();
  Subnet renumbered = subnet;
  renumbered.kept.clear();
  Weights values = extract(weights, subnet);
  fold_branch_scale(model, values);
  // The table of the extracted weights still knows the old branch scale; the shapes are the same.
  Weights folded(std::make_shared<const WeightTable>(SearchSpace::of(model, renumbered)), DType::float32);
  if (folded.bytes() != values.bytes()) throw std::logic_error("export: folding changed the weight table");
  std::copy_n(values.data(), values.bytes(), folded.data());
  return {std::move(model), std::move(renumbered), std::move(folded)};
}

/// Logits [tokens, V] of one sequence, by the code that generates.
std::vector<float> logits_of(const SearchSpace& space, const Weights& weights, const Subnet& subnet, std::span<const std::int32_t> tokens) {
  const ThreadPool serial(1);
  CpuBackend backend(serial);
  const Network network(space, DType::float32);
  const auto count = static_cast<std::int64_t>(tokens.size()), vocabulary = static_cast<std::int64_t>(space.model().vocabulary);
  Arena arena(network.plan_cache(subnet, count) + network.plan_decode(backend.traits(), subnet, count, count) +
              Arena::bytes_for(count, vocabulary, DType::float32));
  KeyValueCache cache = network.make_cache(subnet, count, arena);
  const View logits = arena.matrix(count, vocabulary, DType::float32);
  network.decode(backend, weights, subnet, tokens, cache, logits, arena);
  std::vector<float> values;
  for (std::int64_t row = 0; row < count; ++row) values.insert(values.end(), logits.row<float>(row), logits.row<float>(row) + vocabulary);
  return values;
}

/// Reads `path` back and returns the largest |Δlogit| / largest |logit|; throws when it is beyond the tolerance.
double prove(const Format& format, const DenseModel& written, const std::vector<float>& expected, std::span<const std::int32_t> tokens,
             const std::string& path) {
  const DenseModel read = format.read(path);
  if (read.subnet != written.subnet)
    throw std::runtime_error("export: the file read back holds " + elastiform::format(read.subnet) + " instead of " +
                             elastiform::format(written.subnet));
  const std::vector<float> found = logits_of(SearchSpace::of(read.model, read.subnet), read.weights, read.subnet, tokens);
  if (found.size() != expected.size()) throw std::runtime_error("export: the file read back has another vocabulary");
  double largest = 0, difference = 0;
  bool finite = true;
  for (std::size_t i = 0; i < found.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    difference = std::max(difference, std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i])));
    finite = finite && std::isfinite(found[i]) && std::isfinite(expected[i]);
  }
  const double relative = largest > 0 ? difference / largest : difference;
  if (!finite) throw std::runtime_error("export: logits are not finite; the supernet's weights may have diverged");
  if (relative > kExportTolerance)
    throw std::runtime_error(fmt::format(
        "export: the {} read back differs from the subnet inside the supernet by {:.3g} of the largest logit, and {:.3g} is allowed; "
        "nothing was written",
        format.name, relative, kExportTolerance));
  return relative;
}

}  // namespace

std::span<const Format> export_formats() { return kFormats; }

const Format& find_format(std::string_view name) {
  std::vector<std::string_view> known;
  for (const Format& format : kFormats) {
    if (format.name == name) return format;
    known.push_back(format.name);
  }
  throw unknown_name("format", name, known);
}

void check_export(const Format& format, const SearchSpace& space, const Subnet& subnet, const std::string& path) {
  namespace fs = std::filesystem;
  const std::string reason = format.why_not(space.model(), subnet);
  if (!reason.empty()) {
    const bool other_subnets_help = format.why_not(space.model(), Subnet{}) != reason;  // the reason is not the model's
    throw InputError({"subnet " + elastiform::format(subnet), "one that " + std::string(format.name) + " can express", reason,
                      "use --format elastiform" +
                          (other_subnets_help ? ", or a subnet that sample --deployable " + std::string(format.name) + " draws" : "")});
  }
  if (path.empty()) throw InputError({"--to", "a path", "an empty one", ""});
  if (fs::exists(fs::symlink_status(path))) throw InputError({path, "nothing there yet", "something", "choose another path or remove it"});
  const fs::path parent = fs::path(path).lexically_normal().parent_path();
  if (!parent.empty() && !fs::is_directory(parent)) throw InputError({path, "a folder " + parent.string(), "none", "make it first"});
}

double export_model(const Format& format, const Weights& weights, const Subnet& subnet, const ModelCard& card,
                    std::span<const std::int32_t> tokens, const std::string& path) {
  const SearchSpace& space = weights.table().space();
  space.check(subnet, "the supernet");
  check_export(format, space, subnet, path);
  if (weights.dtype() != DType::float32) throw std::logic_error("export: weights must be float32");
  tokens = tokens.first(std::min(tokens.size(), static_cast<std::size_t>(space.model().context)));
  if (tokens.empty()) throw std::logic_error("export: no tokens to compare on");

  const DenseModel dense = cut_out(weights, subnet);
  const std::vector<float> expected = logits_of(space, weights, subnet, tokens);
  double difference = 0;
  const auto write = [&](const std::string& beside) {
    format.write(dense, card, beside);
    difference = prove(format, dense, expected, tokens, beside);
  };
  if (format.folder) create_folder_durably(path, write);
  else write_durably(path, write);
  return difference;
}

void check_unstored_sizes(const ModelConfig& model, const std::string& where) {
  constexpr std::int64_t kMaxContext = 1 << 20, kMaxHeadDim = 1 << 10, kMaxTables = std::int64_t{256} << 20;
  if (model.context > kMaxContext) throw InputError({where, "a context of at most 1048576", std::to_string(model.context), ""});
  if (model.head_dim > kMaxHeadDim) throw InputError({where, "a head_dim of at most 1024", std::to_string(model.head_dim), ""});
  if (model.positions != Positions::rope) return;
  const std::int64_t bytes = std::int64_t{sizeof(float)} * model.context * model.head_dim;  // cosine and sine of half a head each
  if (bytes > kMaxTables)
    throw InputError({where, "rotary tables of at most 256 MiB",
                      fmt::format("{} MiB for context {} and head_dim {}", bytes >> 20, model.context, model.head_dim), ""});
}

DenseModel load_model(const std::string& path, std::optional<int> context) {
  namespace fs = std::filesystem;
  if (!fs::exists(path)) throw InputError({path, "an exported model: a folder with config.json or a file", "nothing", ""});
  if (!fs::is_directory(path)) return elastiform_file::read(path, context);
  if (!fs::exists(path + "/config.json"))
    throw InputError({path, "an exported model: a folder with config.json or a file", "a folder without config.json", ""});
  return hugging_face::read_folder(path, context);
}

}  // namespace elastiform
