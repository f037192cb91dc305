#include "supernet/data/class_names.hpp"

#include "kernels/errors.hpp"
#include "supernet/formats/json.hpp"

namespace elastiform {
namespace {

bool is_utf8(std::string_view text) {
  try {
    static_cast<void>(nlohmann::json(text).dump());
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

/// Of ASCII and, where the text is UTF-8, of U+0080 to U+009F, which terminals obey too.
bool has_control_character(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x20 || byte == 0x7f) return true;
    if (byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0) return true;
  }
  return false;
}

}  // namespace

std::string why_no_class_name(std::string_view name) {
  if (name.empty()) return "an empty one";
  if (!is_utf8(name)) return "bytes that are no UTF-8";
  return has_control_character(name) ? "control characters" : "";
}

void check_class_names(const std::vector<std::string>& names, const std::string& where) {
  for (std::size_t i = 0; i < names.size(); ++i)
    if (const std::string why = why_no_class_name(names[i]); !why.empty())
      throw InputError({where, "a printable name on one line for class " + std::to_string(i), why, ""});
}

bool are_default_labels(const std::vector<std::string>& names) {
  for (std::size_t i = 0; i < names.size(); ++i)
    if (names[i] != "LABEL_" + std::to_string(i)) return false;
  return true;
}

}  // namespace elastiform
