#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/errors.hpp"
#include "supernet/cost_model.hpp"
#include "supernet/data/data_options.hpp"
#include "supernet/formats/sample.hpp"
#include "supernet/weights.hpp"

namespace elastiform {

/// An extracted network: dense weights over SearchSpace::of(model, subnet). What exports write and generate runs.
struct DenseModel {
  ModelConfig model;
  Subnet subnet;  // blocks renumbered, no @
  Weights weights;
  std::string tokenizer = {};         // its tokenizer.json or tokenizer.model, whole; empty: the byte tokenizer, or none that is known
  std::optional<int> end_token = {};  // the id that ends a text, where the file says it
  // Of a classifier: how pixels become what it reads (white, mean, deviation), and the names of its classes, where they have some.
  ImageOptions reading = {};
  std::vector<std::string> class_names = {};
  bool headless = false;                        // a classifier's body alone: its head is zeros
  std::optional<InputError> no_tokenizer = {};  // why the file's own vocabulary has no place here, which another can take
};

/// What the model card says beside the weights.
struct ModelCard {
  std::string subnet;  // canonical text in the supernet
  Costs costs;
  Deploy deploy;
  struct Quality {
    std::string split;
    double loss = 0, loss_se = 0, bits_per_byte = 0;
    std::int64_t tokens = 0;  // or images
    double accuracy = 0;      // of a classifier
  };
  std::vector<Quality> quality;  // search and report
  std::string data_sha256, weights_hash, version;
  std::int64_t training_steps = 0;
  bool fine_tuned = false;
  bool averaged = false;              // the weights are the running average of training
  std::string tokenizer = {};         // text of the run's tokenizer.json, which goes along; empty: bytes
  std::optional<int> end_token = {};  // the id that ends a text, where something else than the tokenizer.json says it
  ImageOptions reading = {};          // as DenseModel's
  std::vector<std::string> class_names = {};
};

/// Largest |Δlogit| / largest |logit| that an export of float32 may show against the in-supernet subnet on a real batch.
constexpr double kExportTolerance = 1e-5;

/// A network that computes what another one does, with more heads and wider FFNs (padding.hpp).
struct Padded {
  ModelConfig model;
  Subnet subnet;
};

/// What storing a matrix may change, element by element: `step` of its own size (of the largest of its block, where elements of one row of the
/// file share a scale), and `floor`, where numbers are too small to keep all their digits. Zeros: bit for bit, as gains and biases always are.
struct Rounding {
  double step = 0, floor = 0;
  int block = 1;
};

/// One export target. Registry order: ours first.
struct Format {
  std::string_view name, help;  // "elastiform", "hf-llama", "gguf-q8_0": docs/exports.md
  std::string_view suffix;      // of a file's name; empty: it writes a folder
  /// Empty, or the reason why this format cannot express the model.
  std::string (*why_not)(const ModelConfig& model, const Subnet& subnet);
  /// Where blocks need not be alike: the part of why_not that is about one block. It judges heads and FFN width apart, so what it accepts is a
  /// product of lists and a search can count it.
  std::string (*why_not_block)(const ModelConfig& model, int embed, int index, const BlockGenes& genes) = nullptr;
  /// Empty, or why it cannot hold this tokenizer.json beside an embedding of `rows` rows; absent where any will do.
  std::string (*why_not_tokenizer)(const std::string& tokenizer, int rows, std::optional<int> end_token) = nullptr;
  /// Empty, or in which texts a consumer finds other ids than this tokenizer.json, which the format can hold; absent where none does.
  std::string (*note_on_tokenizer)(const std::string& tokenizer) = nullptr;
  /// Writes to a path that does not exist yet (a temporary one: export_model renames it).
  void (*write)(const DenseModel& model, const ModelCard& card, const std::string& path);
  /// Whether `path` is of this kind, by its first bytes or its config.json: load_model asks one row after the other.
  bool (*recognizes)(const std::string& path) = nullptr;
  /// Reads what write() wrote, by a path that shares no code with it beyond the file format, and what others made of that kind, for at most
  /// `context` tokens (absent: the model's own). Formats that hold a program have `run` instead: logits [size(), V] of a sample, computed from
  /// the file alone; std::runtime_error unless it holds the weights and tables of `written`, bit for bit, where that is given.
  DenseModel (*read)(const std::string& path, std::optional<int> context) = nullptr;
  std::vector<float> (*run)(const std::string& path, const Sample& sample, const DenseModel* written) = nullptr;
  double tolerance = kExportTolerance;  // what rounding may change of logits, in parts of the largest
  Rounding rounding = {};
  /// For formats whose blocks are all alike: the smallest such network that holds `subnet` among zeros. InputError when there is none.
  Padded (*padded)(const ModelConfig& model, const Subnet& subnet) = nullptr;

  bool folder() const { return suffix.empty(); }
};
std::span<const Format> export_formats();
const Format& find_format(std::string_view name);  // throws InputError naming the nearest

/// Empty, or why blocks without residual rules and adapters of their own cannot hold the model.
std::string why_not_plain_blocks(const ModelConfig& model);
/// Empty, or that it is a classifier of images.
std::string why_not_language_model(const ModelConfig& model);

/// What export_model refuses before any work: a subnet that the format cannot express, a path that is taken or has no folder to stand in.
/// `pad`: the subnet is written as format.padded says. `tokenizer` and `end_token`: as ModelCard's.
void check_export(const Format& format, const SearchSpace& space, const Subnet& subnet, const std::string& path, bool pad = false,
                  const std::string& tokenizer = "", std::optional<int> end_token = std::nullopt);
/// The part of it that is about the tokenizer.
void check_export_tokenizer(const Format& format, const std::string& tokenizer, int rows, std::optional<int> end_token);

struct ExportOptions {
  bool pad = false;
  int threads = 1;
  std::function<void(const std::string& path)> check = {};  // of what was written, after our own proof; throws when it is wrong
};

/// Writes `subnet` of the supernet to `path` (must not exist): extract, write beside, read back, compare (proof.hpp), rename. Beyond the
/// format's tolerance nothing is left and std::runtime_error says both numbers. `sample`: its first kProofTokens or kProofImages count.
/// Returns the largest relative difference of logits. InputError when the format cannot express the subnet.
double export_model(const Format& format, const Weights& weights, const Subnet& subnet, const ModelCard& card, const Sample& sample,
                    const std::string& path, const ExportOptions& options = {});

/// Loads what a row of export_formats() recognizes, made by us or elsewhere: a Hugging Face folder (config.json), a GGUF file or our own HDF5 file.
/// `context`: tokens of the network, at most the model's own (the default).
DenseModel load_model(const std::string& path, std::optional<int> context = std::nullopt);

}  // namespace elastiform
