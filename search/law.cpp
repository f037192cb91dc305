#include "search/law.hpp"

#include "supernet/nearest_name.hpp"

namespace elastiform {

std::string_view name_of(Law law) { return law == Law::balanced ? "balanced" : "uniform"; }

Law parse_law(std::string_view text) {
  for (const Law law : {Law::balanced, Law::uniform})
    if (text == name_of(law)) return law;
  throw unknown_name("law", text, {"balanced", "uniform"});
}

}  // namespace elastiform
