#include "kernels/verbose.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/errors.hpp"

namespace elastiform {
namespace {

constexpr std::array<std::string_view, 2> kTopics = {"kernels", "summary"};

std::vector<std::string> read_topics() {
  const char* variable = std::getenv("ELASTIFORM_VERBOSE");
  std::vector<std::string> topics;
  if (!variable || !*variable) return topics;
  const std::string text = variable;
  for (std::size_t first = 0; first <= text.size();) {
    const std::size_t comma = std::min(text.find(',', first), text.size());
    const std::string topic = text.substr(first, comma - first);
    if (std::find(kTopics.begin(), kTopics.end(), topic) == kTopics.end())
      throw InputError({.where = "ELASTIFORM_VERBOSE", .expected = "kernels or summary", .found = "'" + topic + "'", .remedy = ""});
    topics.push_back(topic);
    first = comma + 1;
  }
  return topics;
}

}  // namespace

bool verbose(std::string_view topic) {
  static const std::vector<std::string> topics = read_topics();
  return std::find(topics.begin(), topics.end(), topic) != topics.end();
}

}  // namespace elastiform
