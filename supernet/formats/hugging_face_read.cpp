#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "kernels/errors.hpp"
#include "supernet/formats/foreign_model.hpp"
#include "supernet/formats/hugging_face.hpp"
#include "supernet/formats/hugging_face_config.hpp"
#include "supernet/formats/hugging_face_images.hpp"
#include "supernet/formats/hugging_face_names.hpp"
#include "supernet/formats/hugging_face_tokenizer.hpp"
#include "supernet/formats/json.hpp"
#include "supernet/formats/safetensors_folder.hpp"
#include "supernet/formats/weight_rows.hpp"

namespace elastiform::hugging_face {
namespace {

constexpr std::size_t kMaxTokenizer = 64 << 20;  // Llama 3's, of 128,256 ids, takes 17 MB

void fill(View into, const Source& source, const std::vector<float>& values) {
  if (!source.transposed) {
    const std::int64_t width = source.shape.back();
    for (std::int64_t row = 0; row < into.rows; ++row)
      std::copy_n(values.data() + row * width + source.first_column, into.columns, into.row<float>(row));
    return;
  }
  const auto width = static_cast<std::int64_t>(values.size()) / source.shape.front();
  fill_transposed(into, values.data(), width, [](std::int64_t column) { return column; });
}

std::string prefix_of(const safetensors::Folder& file, const Architecture& found) {
  const std::string prefix = usual_prefix(found), first = first_tensor(found.family);
  return !file.has(prefix + first) && file.has(first) ? "" : prefix;
}

/// Every tensor of the table in its shape, and none beside them: before memory is taken.
void check_tensors(const safetensors::Folder& file, const WeightTable& table, const Architecture& found, const std::string& prefix) {
  std::set<std::string> wanted;
  std::vector<std::string> missing, homeless;
  for (const TensorSpec& tensor : table.tensors()) {
    const Source source = source_of(tensor, found, prefix);
    if (source.absent) continue;
    wanted.insert(source.name);
    if (!file.has(source.name)) missing.push_back(source.name);
    else file.require(source.name, source.shape);
  }
  // A head that is stored although it is the embedding must be the embedding.
  const std::string head = "lm_head.weight", embedding = prefix + first_tensor(found.family);
  if (found.model.tied && file.has(head) && missing.empty()) {
    file.require(head, {found.model.vocabulary, found.subnet.embed});
    if (file.floats(head) != file.floats(embedding))
      throw InputError({file.where(), "lm_head.weight equal to " + embedding + ", as tie_word_embeddings says", "other values",
                        "set tie_word_embeddings to false in config.json if the head is meant"});
    wanted.insert(head);
  }
  for (const std::string& name : file.names())
    if (wanted.count(name) == 0 && !is_buffer(name)) homeless.push_back(name);
  if (!homeless.empty())
    throw InputError(
        {file.where(), "only tensors of the model that config.json describes", grouped_names(homeless) + ", without a place here", ""});
  if (!missing.empty()) throw InputError({file.where(), "tensors " + grouped_names(missing), "none", ""});
}

/// Of an architecture that is not ours: what of it has no place, in the tensors' own names.
[[noreturn]] void refuse_architecture(const std::string& folder, const std::string& text, const std::string& type) {
  const std::string where = folder + "/config.json", keys = telling_keys(text, where);
  std::string found = "'" + type.substr(0, 64) + "'";
  if (!keys.empty()) found += " with " + keys;
  if (type == "bert" || type == "roberta" || type == "distilbert" || type == "electra" || type == "mpnet")
    found += ", an encoder of text: its norms stand behind the branches and behind the embedding, and it predicts no next token";
  std::vector<std::string> homeless;
  try {
    const Architecture llama{.type = "llama", .family = Architecture::Family::llama, .model = preset_model("llama"), .subnet = {}};
    std::set<std::string> known{"lm_head.weight"};
    ModelConfig model = llama.model;
    model.biases = true;
    const WeightTable table(SearchSpace::of(model, {.embed = 32, .blocks = {{1, 1, 8}}, .kept = {}}));
    for (const TensorSpec& tensor : table.tensors()) known.insert(source_of(tensor, llama, "model.").name);
    for (const std::string& name : safetensors::Folder(folder).names()) {
      const auto first = std::find_if(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
      std::string in_block_0(name.begin(), first);
      in_block_0 += first == name.end() ? "" : "0" + std::string(std::find(first, name.end(), '.'), name.end());
      if (known.count(in_block_0) == 0) homeless.push_back(name);
    }
  } catch (const InputError&) {
    // Without readable tensors the type is all there is to say.
  }
  if (!homeless.empty()) found += ", whose tensors " + grouped_names(homeless) + " have no place here";
  throw InputError({where + ": model_type", kModelTypes, found, ""});
}

/// tokenizer.json of the folder, else tokenizer.model; empty when there is neither, or when it is the byte tokenizer.
std::string tokenizer_of(const std::string& folder) {
  std::error_code error;
  for (const char* name : {"/tokenizer.json", "/tokenizer.model"}) {
    if (!std::filesystem::exists(folder + name, error)) continue;
    std::string file = read_small_file(folder + name, kMaxTokenizer);
    return file == byte_tokenizer() ? "" : file;
  }
  return "";
}

DenseModel read_network(const std::string& folder, Architecture found) {
  const std::string where = folder + "/config.json";
  check_unstored_sizes(found.model, where);
  const safetensors::Folder file(folder);
  const std::string prefix = prefix_of(file, found);
  found.headless = found.model.classifies() && !file.has(head_name(found.family) + ".weight");
  const auto table = std::make_shared<const WeightTable>(space_of_file(found.model, found.subnet, where));
  check_tensors(file, *table, found, prefix);
  check_stored_sizes(*table, file.bytes(), folder);
  Weights weights(table, DType::float32);
  std::map<std::string, std::vector<float>> fused;  // of one block: query, key and value side by side
  for (const TensorSpec& tensor : table->tensors()) {
    const Source source = source_of(tensor, found, prefix);
    if (source.absent) continue;
    if (source.transposed || source.shape.back() == tensor.columns) {
      fill(weights.view(tensor), source, file.floats(source.name));
      continue;
    }
    const bool known = fused.count(source.name) != 0;
    if (!known && source.first_column == 0 && tensor.role != Role::bias) fused.clear();  // the next block
    if (!known) fused.emplace(source.name, file.floats(source.name));
    fill(weights.view(tensor), source, fused.at(source.name));
  }
  DenseModel model{.model = found.model, .subnet = found.subnet, .weights = std::move(weights)};
  if (found.model.classifies()) {
    model.reading = reading_of_folder(folder, found.model.image);
    model.class_names = found.class_names;
    model.headless = found.headless;
  } else {
    model.tokenizer = tokenizer_of(folder);
    model.end_token = end_token_of_folder(folder, found.model.vocabulary);
  }
  return model;
}

DenseModel read_family(const std::string& folder, bool (*is_family)(std::string_view), std::optional<int> context) {
  const std::string text = read_config(folder), where = folder + "/config.json";
  if (!is_family(model_type_of(text, where))) refuse_architecture(folder, text, model_type_of(text, where));
  return read_network(folder, parse_config(text, where, context));
}

bool names_llama(std::string_view type) { return type == "llama" || type == "mistral" || type == "qwen2"; }
bool names_gpt2(std::string_view type) { return type == "gpt2"; }
bool names_auto(std::string_view type) { return type == "elastiform"; }
bool names_vit(std::string_view type) { return type == "vit" || type == "deit" || type == "dinov2"; }

bool is_family(const std::string& path, bool (*named)(std::string_view)) {
  std::error_code error;
  return std::filesystem::exists(path + "/config.json", error) && named(model_type_of(read_config(path), path + "/config.json"));
}

}  // namespace

bool is_llama(const std::string& path) { return is_family(path, names_llama); }
bool is_gpt2(const std::string& path) { return is_family(path, names_gpt2); }
bool is_auto(const std::string& path) { return is_family(path, names_auto); }
bool is_vit(const std::string& path) { return is_family(path, names_vit); }

DenseModel read_llama(const std::string& path, std::optional<int> context) { return read_family(path, names_llama, context); }
DenseModel read_gpt2(const std::string& path, std::optional<int> context) { return read_family(path, names_gpt2, context); }
DenseModel read_auto(const std::string& path, std::optional<int> context) { return read_family(path, names_auto, context); }
DenseModel read_vit(const std::string& path, std::optional<int> context) {
  if (context) throw InputError({path, "no context: an image has as many tokens as its model says", std::to_string(*context), ""});
  return read_family(path, names_vit, context);
}

void refuse_folder(const std::string& path) {
  const std::string text = read_config(path);
  refuse_architecture(path, text, model_type_of(text, path + "/config.json"));
}

}  // namespace elastiform::hugging_face
