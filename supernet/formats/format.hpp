#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "supernet/cost_model.hpp"
#include "supernet/weights.hpp"

namespace elastiform {

/// An extracted network: dense weights over SearchSpace::of(model, subnet). What exports write and generate runs.
struct DenseModel {
  ModelConfig model;
  Subnet subnet;  // blocks renumbered, no @
  Weights weights;
  std::string tokenizer = {};  // text of its tokenizer.json; empty: the byte tokenizer, or none that is known
};

/// What the model card says beside the weights.
struct ModelCard {
  std::string subnet;  // canonical text in the supernet
  Costs costs;
  Deploy deploy;
  struct Quality {
    std::string split;
    double loss = 0, loss_se = 0, bits_per_byte = 0;
    std::int64_t tokens = 0;
  };
  std::vector<Quality> quality;  // search and report
  std::string data_sha256, weights_hash, version;
  std::int64_t training_steps = 0;
  bool fine_tuned = false;
  std::string tokenizer = {};  // text of the run's tokenizer.json, which goes along; empty: bytes
};

/// One export target. Registry order: ours first.
struct Format {
  std::string_view name, help;  // "elastiform", "hf-llama", "hf-gpt2"
  bool folder = false;          // writes a folder, else one file
  /// Empty, or the reason why this format cannot express the model.
  std::string (*why_not)(const ModelConfig& model, const Subnet& subnet);
  /// Writes to a path that does not exist yet (a temporary one: export_model renames it).
  void (*write)(const DenseModel& model, const ModelCard& card, const std::string& path);
  /// Reads what write() wrote, by a path that shares no code with it beyond the file format.
  DenseModel (*read)(const std::string& path);
};
std::span<const Format> export_formats();
const Format& find_format(std::string_view name);  // throws InputError naming the nearest

/// Largest |Δlogit| / largest |logit| that an export may show against the in-supernet subnet on a real batch.
constexpr double kExportTolerance = 1e-5;

/// What export_model refuses before any work: a subnet that the format cannot express, a path that is taken or has no folder to stand in.
void check_export(const Format& format, const SearchSpace& space, const Subnet& subnet, const std::string& path);

/// Writes `subnet` of the supernet to `path` (must not exist): extract, write beside, read back, compare logits with the in-supernet subnet on
/// `tokens` (one sequence), rename. Beyond the tolerance nothing is left and std::runtime_error says both numbers. Returns the largest
/// relative difference found. InputError when the format cannot express the subnet.
double export_model(const Format& format, const Weights& weights, const Subnet& subnet, const ModelCard& card,
                    std::span<const std::int32_t> tokens, const std::string& path);

/// Throws InputError when a file's model asks for more memory than its tensors account for: context above 1,048,576, head_dim above 1,024, or
/// rotary tables above 256 MiB.
void check_unstored_sizes(const ModelConfig& model, const std::string& where);

/// Loads any export, or a checkpoint of the same architectures made elsewhere: a Hugging Face folder (config.json) or our own HDF5 file. `context`:
/// tokens of the network, at most the model's own (the default).
DenseModel load_model(const std::string& path, std::optional<int> context = std::nullopt);

}  // namespace elastiform
