#pragma once

#include <string>
#include <string_view>

#include "supernet/search_space.hpp"

namespace elastiform {

struct Format;  // supernet/formats/format.hpp

/// What an export format can express, as a constraint (docs/exports.md): a row of the registry of formats, or any subnet.
class Deployable {
 public:
  constexpr Deployable() = default;
  explicit constexpr Deployable(const Format& format) : format_(&format) {}
  static const Deployable any;
  const Format* format() const { return format_; }  // nullptr: any
  bool operator==(const Deployable&) const = default;

 private:
  const Format* format_ = nullptr;
};
inline constexpr Deployable Deployable::any{};
std::string_view name_of(Deployable target);
Deployable parse_deployable(std::string_view text);  // "any" or a format's name; throws InputError
/// The same names in one line, for a command's help.
std::string deployable_names();
/// Empty when `target` can express `subnet` of `space`, else the reason, in words a user understands.
std::string why_not_deployable(const SearchSpace& space, const Subnet& subnet, Deployable target);

}  // namespace elastiform
