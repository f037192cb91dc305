#include "search/deployable.hpp"

#include <vector>

#include "supernet/formats/format.hpp"
#include "supernet/nearest_name.hpp"

namespace elastiform {

std::string_view name_of(Deployable target) { return target.format() == nullptr ? "any" : target.format()->name; }

Deployable parse_deployable(std::string_view text) {
  std::vector<std::string_view> known{"any"};
  for (const Format& format : export_formats()) {
    if (format.name == text) return Deployable(format);
    known.push_back(format.name);
  }
  if (text == known.front()) return Deployable::any;
  throw unknown_name("deployable", text, known);
}

std::string deployable_names() {
  std::string names;
  for (const Format& format : export_formats()) names += (names.empty() ? "" : ", ") + std::string(format.name);
  return names;
}

std::string why_not_deployable(const SearchSpace& space, const Subnet& subnet, Deployable target) {
  // The exporter itself answers, so what a search may propose and what an export writes cannot differ.
  return target.format() == nullptr ? "" : target.format()->why_not(space.model(), subnet);
}

}  // namespace elastiform
