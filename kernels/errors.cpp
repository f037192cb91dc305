#include "kernels/errors.hpp"

namespace elastiform {
namespace {

std::string one_line(const InputError::Parts& parts) {
  std::string text = parts.where;
  if (!parts.expected.empty()) text += ": expected " + parts.expected;
  if (!parts.found.empty()) text += (parts.expected.empty() ? ": found " : ", found ") + parts.found;
  if (!parts.remedy.empty()) text += "; " + parts.remedy;
  for (char& c : text)
    if (c == '\n' || c == '\r') c = ' ';
  return text;
}

}  // namespace

InputError::InputError(Parts parts) : std::runtime_error(one_line(parts)), parts_(std::move(parts)) {}

}  // namespace elastiform
