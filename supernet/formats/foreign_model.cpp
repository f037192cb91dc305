#include "supernet/formats/foreign_model.hpp"

#include <fmt/format.h>

#include <map>

#include "kernels/errors.hpp"

namespace elastiform {
namespace {

constexpr std::size_t kKindsShown = 3, kNameShown = 96;

}  // namespace

SearchSpace space_of_file(const ModelConfig& model, const Subnet& subnet, const std::string& where) {
  try {
    return SearchSpace::of(model, subnet);
  } catch (const InputError& error) {
    InputError::Parts parts = error.parts();
    parts.where = where + ": " + parts.where;
    throw InputError(std::move(parts));
  }
}

int context_within(int most, std::optional<int> asked, const std::string& where) {
  if (!asked) return most;
  if (*asked < 1 || *asked > most) throw InputError({where, "a context of 1 to " + std::to_string(most), std::to_string(*asked), ""});
  return *asked;
}

void check_stored_sizes(const WeightTable& table, std::uint64_t file_bytes, const std::string& where) {
  // A q4_0 element grows 7 times, a column of one element 32 times; small files may.
  constexpr std::uint64_t kGrowth = 16, kAlways = std::uint64_t{64} << 20;
  const auto bytes = static_cast<std::uint64_t>(table.elements()) * sizeof(float);
  if (bytes > kAlways && bytes / kGrowth > file_bytes)
    throw InputError({where, "weights of at most 16 times the file's size once rows are padded",
                      fmt::format("{} MiB from a file of {} MiB", bytes >> 20, file_bytes >> 20), ""});
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

std::string in_quotes(std::string_view name) { return "'" + std::string(name.substr(0, kNameShown)) + "'"; }

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ",") + std::to_string(shape[i]);
  return text + "]";
}

std::string grouped_names(const std::vector<std::string>& names) {
  std::map<std::string, std::size_t> kinds;
  for (const std::string& name : names) {
    std::string kind;
    for (std::size_t i = 0; i < name.size();) {
      const bool digit = name[i] >= '0' && name[i] <= '9', number = digit && (i == 0 || name[i - 1] == '.');
      if (!number) {
        kind += name[i++];
        continue;
      }
      while (i < name.size() && name[i] >= '0' && name[i] <= '9') ++i;
      kind += 'N';
    }
    ++kinds[kind.substr(0, kNameShown)];
  }
  std::string text;
  std::size_t shown = 0;
  for (const auto& [kind, count] : kinds) {
    if (shown++ == kKindsShown) return text + ", and " + std::to_string(kinds.size() - kKindsShown) + " more kinds";
    text += (text.empty() ? "'" : ", '") + kind + "'" + (count > 1 ? " (" + std::to_string(count) + ")" : "");
  }
  return text;
}

}  // namespace elastiform
