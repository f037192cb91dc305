#include "experiments/elastiform/byte_models.hpp"

#include <fmt/core.h>

#include <filesystem>

#include "experiments/elastiform/child_program.hpp"
#include "supernet/formats/json.hpp"

namespace elastiform {
ByteModels measure_byte_models(const Recipe& recipe) {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / "kneser_ney";
  if (!std::filesystem::exists(program, error)) return {{}, "the program kneser_ney was not built beside this one"};
  const auto& splits = recipe.data.splits;
  const auto [status, out] =
      run_child({program.string(), "--text", recipe.data.text, "--context", std::to_string(recipe.space.model().context), "--splits",
                 fmt::format("{},{},{}", splits[0], splits[1], splits[2]), "--split-block", std::to_string(recipe.data.split_block),
                 "--split", "report", "--json"});
  const auto document = nlohmann::json::parse(out, nullptr, false);
  if (status != 0 || !document.is_object() || !document.contains("models"))
    return {{}, fmt::format("kneser_ney ended with status {}", status)};
  ByteModels measured;
  for (const auto& model : document["models"]) measured.models.push_back({model.value("order", 0), model.value("bits_per_byte", 0.0)});
  return measured;
}

}  // namespace elastiform
