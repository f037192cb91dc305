#include "kernels/errors.hpp"

namespace elastiform {
namespace {

std::string one_line(const InputError::Parts& parts) {
  std::string text = parts.where;
  if (!parts.expected.empty()) text += ": expected " + parts.expected;
  // Without an expectation `found` is a statement of its own: "block 0 has 7 heads", "not an HDF5 file".
  if (!parts.found.empty()) text += (parts.expected.empty() ? ": " : ", found ") + parts.found;
  if (!parts.remedy.empty()) text += "; " + parts.remedy;
  // Parts quote what a user or a file said: control bytes would break the line or the terminal.
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return text;
}

}  // namespace

InputError::InputError(Parts parts) : std::runtime_error(one_line(parts)), parts_(std::move(parts)) {}

}  // namespace elastiform
