#include "supernet/formats/json.hpp"

#include <filesystem>
#include <fstream>
#include <set>
#include <vector>

#include "kernels/errors.hpp"

namespace elastiform {

nlohmann::json parse_untrusted_json(std::string_view text, const std::string& where, int depth) {
  using Event = nlohmann::json::parse_event_t;
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int level, Event event, nlohmann::json& value) {
    if (level > depth) throw InputError({where, "JSON at most " + std::to_string(depth) + " levels deep", "deeper nesting", ""});
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key && !keys.back().insert(value.get<std::string>()).second)
      throw InputError({where, "every JSON key once", "'" + value.get<std::string>().substr(0, 64) + "' twice", ""});
    return true;
  };
  try {
    return nlohmann::json::parse(text, watch);
  } catch (const nlohmann::json::exception& error) {
    // Only the place: the library's own text quotes the input, which may hold anything.
    const auto* parse_error = dynamic_cast<const nlohmann::json::parse_error*>(&error);
    const std::string place = parse_error != nullptr ? " at byte " + std::to_string(parse_error->byte) : "";
    throw InputError({where, "JSON in UTF-8", "a mistake" + place, ""});
  }
}

std::string read_small_file(const std::string& path, std::size_t limit) {
  std::error_code failed;
  const auto size = std::filesystem::file_size(path, failed);
  if (failed) throw InputError({path, "a readable file", failed.message(), ""});
  if (size > limit) throw InputError({path, "at most " + std::to_string(limit) + " bytes", std::to_string(size) + " bytes", ""});
  std::ifstream file(path, std::ios::binary);
  std::string text(static_cast<std::size_t>(size), '\0');
  if (!file.read(text.data(), static_cast<std::streamsize>(size))) throw InputError({path, "a readable file", "a read error", ""});
  return text;
}

}  // namespace elastiform
