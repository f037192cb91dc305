#include "supernet/formats/elastiform_file.hpp"

#include <algorithm>
#include <fstream>
#include <span>

#include "kernels/errors.hpp"
#include "supernet/data/class_names.hpp"
#include "supernet/data/image_data.hpp"
#include "supernet/formats/foreign_model.hpp"
#include "supernet/storage/hdf5_file.hpp"
#include "supernet/weights_file.hpp"

namespace elastiform::elastiform_file {
namespace {

const std::string kWeights = "/weights", kTokenizer = "/tokenizer", kReading = "/reading";

void write_card(Hdf5Writer& file, const ModelCard& card) {
  const std::string at = "/card";
  file.attribute(at, "subnet", card.subnet);
  file.attribute(at, "data_sha256", card.data_sha256);
  file.attribute(at, "supernet_weights_hash", card.weights_hash);
  file.attribute(at, "version", card.version);
  file.attribute(at, "training_steps", card.training_steps);
  file.attribute(at, "fine_tuned", static_cast<std::int64_t>(card.fine_tuned));
  file.attribute(at, "averaged", static_cast<std::int64_t>(card.averaged));
  file.attribute(at + "/costs", "parameters", card.costs.parameters);
  file.attribute(at + "/costs", "block_parameters", card.costs.block_parameters);
  file.attribute(at + "/costs", "macs", card.costs.macs);
  file.attribute(at + "/costs", "inference_bytes", card.costs.inference_bytes);
  file.attribute(at + "/costs", "training_bytes", card.costs.training_bytes);
  file.attribute(at + "/deploy", "dtype", card.deploy.dtype);
  file.attribute(at + "/deploy", "batch", static_cast<std::int64_t>(card.deploy.batch));
  file.attribute(at + "/deploy", "context", static_cast<std::int64_t>(card.deploy.context));
  file.attribute(at + "/deploy", "phase", card.deploy.phase);
  file.attribute(at + "/deploy", "threads", static_cast<std::int64_t>(card.deploy.threads));
  for (const auto& quality : card.quality) {
    const std::string group = at + "/quality/" + quality.split;
    file.attribute(group, "loss", quality.loss);
    file.attribute(group, "loss_se", quality.loss_se);
    file.attribute(group, "bits_per_byte", quality.bits_per_byte);
    file.attribute(group, "tokens", quality.tokens);
    file.attribute(group, "accuracy", quality.accuracy);
  }
}

/// How pixels become what a classifier reads, and what its classes are called.
void write_reading(Hdf5Writer& file, const ModelCard& card) {
  file.attribute(kReading, "white", card.reading.white);
  file.dataset(kReading + "/mean", std::span<const double>(card.reading.mean));
  file.dataset(kReading + "/deviation", std::span<const double>(card.reading.deviation));
  if (!card.class_names.empty()) file.dataset(kReading + "/class_names", card.class_names);
}

void read_reading(const Hdf5Reader& file, const std::string& path, DenseModel& model) {
  const std::string names = kReading + "/class_names";
  model.reading.white = file.real_attribute(kReading, "white");
  model.reading.mean = file.doubles(kReading + "/mean");
  model.reading.deviation = file.doubles(kReading + "/deviation");
  check_normalisation(model.reading, model.model.image.channels, path + ": " + kReading + "/");
  if (!file.has(names)) return;
  model.class_names = file.strings(names);
  if (model.class_names.size() != static_cast<std::size_t>(model.model.vocabulary))
    throw InputError(
        {path + ": " + names, std::to_string(model.model.vocabulary) + " names", std::to_string(model.class_names.size()), ""});
  check_class_names(model.class_names, path + ": " + names);
}

std::string tokenizer_of(const Hdf5Reader& file) {
  if (!file.has(kTokenizer)) return "";
  const std::vector<std::uint8_t> bytes = file.bytes(kTokenizer);
  return {bytes.begin(), bytes.end()};
}

std::optional<int> end_token_of(const Hdf5Reader& file, int rows) {
  if (!file.has_attribute("/", "end_token")) return std::nullopt;
  const std::int64_t id = file.integer_attribute("/", "end_token");
  return id >= 0 && id < rows ? std::optional(static_cast<int>(id)) : std::nullopt;
}

/// The same network for fewer tokens: a learned position table keeps its first rows.
DenseModel shortened(const DenseModel& model, int context) {
  ModelConfig config = model.model;
  config.context = context;
  Weights weights(std::make_shared<const WeightTable>(SearchSpace::of(config, model.subnet)), DType::float32);
  for (const TensorSpec& tensor : weights.table().tensors()) {
    const ConstView from = model.weights.view(tensor.name);
    const View to = weights.view(tensor);
    for (std::int64_t row = 0; row < to.rows; ++row) std::copy_n(from.row<float>(row), to.columns, to.row<float>(row));
  }
  return {config, model.subnet, std::move(weights), model.tokenizer, model.end_token};
}

DenseModel read_whole(const std::string& path) {
  const Hdf5Reader file(path, "model");
  const SearchSpace space = SearchSpace::parse(file.text_attribute("/", "space"), path);
  check_unstored_sizes(space.model(), path);
  const Subnet subnet = space.largest();
  if (space != SearchSpace::of(space.model(), subnet)) throw InputError({path, "the space of exactly one network", "one with choices", ""});
  if (format(subnet) != file.text_attribute("/", "subnet"))
    throw InputError({path, "subnet " + format(subnet), "another in attribute subnet", ""});
  const auto table = std::make_shared<const WeightTable>(space);
  check_weights(file, kWeights, *table);
  Weights weights(table, DType::float32);
  read_weights(file, kWeights, weights);
  DenseModel model{.model = space.model(), .subnet = subnet, .weights = std::move(weights)};
  if (space.model().classifies()) {
    read_reading(file, path, model);
  } else {
    model.tokenizer = tokenizer_of(file);
    model.end_token = end_token_of(file, space.model().vocabulary);
  }
  return model;
}

}  // namespace

std::string why_not(const ModelConfig&, const Subnet&) { return ""; }
std::string why_not_block(const ModelConfig&, int, int, const BlockGenes&) { return ""; }

void write(const DenseModel& model, const ModelCard& card, const std::string& path) {
  Hdf5Writer file(path, "model");
  file.attribute("/", "space", model.weights.table().space().text());
  file.attribute("/", "subnet", format(model.subnet));
  if (card.end_token) file.attribute("/", "end_token", static_cast<std::int64_t>(*card.end_token));
  write_card(file, card);
  write_weights(file, kWeights, model.weights);
  if (model.model.classifies()) write_reading(file, card);
  if (!card.tokenizer.empty()) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(card.tokenizer.data());
    file.dataset(kTokenizer, std::span(bytes, card.tokenizer.size()));
  }
  file.close();
}

bool is_elastiform(const std::string& path) {
  constexpr std::string_view kBeginning = "elastiform-hdf5 ";  // of the user block
  std::string beginning(kBeginning.size(), '\0');
  std::ifstream(path, std::ios::binary).read(beginning.data(), static_cast<std::streamsize>(beginning.size()));
  return beginning == kBeginning;
}

DenseModel read(const std::string& path, std::optional<int> context) {
  DenseModel model = read_whole(path);
  if (!context || *context == model.model.context) return model;
  if (model.model.classifies())
    throw InputError({path, "no context: an image has as many tokens as its model says", std::to_string(*context), ""});
  if (*context < 1 || *context > model.model.context)
    throw InputError({path, "a context of 1 to " + std::to_string(model.model.context), std::to_string(*context), ""});
  return shortened(model, *context);
}

}  // namespace elastiform::elastiform_file
