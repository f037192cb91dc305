#include "supernet/formats/safetensors_folder.hpp"

#include <filesystem>
#include <stdexcept>

#include "kernels/errors.hpp"
#include "supernet/formats/json.hpp"

namespace elastiform::safetensors {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxIndex = 64 << 20;  // 126 layers of 9 tensors take 100 KB
constexpr std::size_t kMaxShards = 4096;

bool exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

/// A shard's name out of an index that nobody vouches for: no path, so nothing outside the folder is opened.
void check_shard_name(const std::string& name, const std::string& where) {
  const std::string_view suffix = ".safetensors";
  const bool ends = name.size() > suffix.size() && name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0;
  if (!ends || name.front() == '.' || name.find_first_of(std::string("/\\\0", 3)) != std::string::npos)
    throw InputError({where + ": weight_map", "names of .safetensors files in the folder", "'" + name.substr(0, 96) + "'", ""});
}

}  // namespace

Folder::Folder(const std::string& folder) : where_(folder + "/model.safetensors") {
  if (exists(where_)) {
    shards_.push_back(std::make_unique<Reader>(where_));
    for (const auto& [name, entry] : shards_.front()->entries()) shards_of_.emplace(name, 0);
    return;
  }
  if (!exists(folder + "/model.safetensors.index.json")) {
    const bool pickled = exists(folder + "/pytorch_model.bin") || exists(folder + "/pytorch_model.bin.index.json");
    throw InputError({folder, "model.safetensors or model.safetensors.index.json",
                      pickled ? "pickled weights (pytorch_model.bin)" : "neither",
                      pickled ? "save the model with transformers' save_pretrained, which writes safetensors" : ""});
  }
  where_ = folder + "/model.safetensors.index.json";
  read_index(folder);
}

void Folder::read_index(const std::string& folder) {
  const nlohmann::json index = parse_untrusted_json(read_small_file(where_, kMaxIndex), where_, 4);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    throw InputError({where_, "an object with weight_map", index.is_object() ? "none" : index.type_name(), ""});
  std::map<std::string, std::size_t> opened;
  for (const auto& [name, file] : index["weight_map"].items()) {
    if (!file.is_string()) throw InputError({where_ + ": weight_map", "names of files", file.type_name(), ""});
    const std::string shard = file.get<std::string>();
    const auto known = opened.find(shard);
    if (known == opened.end()) {
      check_shard_name(shard, where_);
      if (opened.size() == kMaxShards) throw InputError({where_, "at most " + std::to_string(kMaxShards) + " shards", "more", ""});
      shards_.push_back(std::make_unique<Reader>(folder + "/" + shard));
    }
    const std::size_t at = opened.emplace(shard, shards_.size() - 1).first->second;
    if (!shards_[at]->has(name))
      throw InputError({folder + "/" + shard, "tensor '" + name.substr(0, 96) + "', which the index looks for here", "none", ""});
    shards_of_.emplace(name, at);
  }
  for (const auto& [shard, at] : opened)
    for (const auto& [name, entry] : shards_[at]->entries()) {
      const auto found = shards_of_.find(name);
      if (found == shards_of_.end() || found->second != at)
        throw InputError({folder + "/" + shard, "only tensors that the index looks for here", "'" + name.substr(0, 96) + "'",
                          found == shards_of_.end() ? "" : "it stands in another shard too"});
    }
  if (shards_of_.empty()) throw InputError({where_, "tensors", "an empty weight_map", ""});
}

std::vector<std::string> Folder::names() const {
  std::vector<std::string> list;
  for (const auto& [name, shard] : shards_of_) list.push_back(name);
  return list;
}

void Folder::require(std::string_view name, const std::vector<std::int64_t>& shape) const {
  const auto found = shards_of_.find(name);
  if (found == shards_of_.end()) throw InputError({where_, "tensor '" + std::string(name) + "'", "none", ""});
  shards_[found->second]->require(name, shape);
}

std::uint64_t Folder::bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& shard : shards_) bytes += shard->bytes();
  return bytes;
}

std::vector<float> Folder::floats(std::string_view name) const {
  const auto found = shards_of_.find(name);
  if (found == shards_of_.end()) throw std::logic_error("safetensors: no tensor " + std::string(name));
  return shards_[found->second]->floats(name);
}

}  // namespace elastiform::safetensors
