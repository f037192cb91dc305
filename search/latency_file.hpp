#pragma once

#include <string>
#include <string_view>

#include "search/latency_table.hpp"

namespace elastiform {

/// JSON of docs/latency.md. parse(text(t)) == t.
std::string latency_text(const LatencyTable& table);
/// Nobody vouches for it: InputError (where: `where`) for what is no table, unknown and missing keys, shapes twice, times that are not
/// positive and finite.
LatencyTable parse_latency(std::string_view text, const std::string& where);

/// A file of at most 16 MiB.
LatencyTable load_latency(const std::string& path);
void save_latency(const LatencyTable& table, const std::string& path);

}  // namespace elastiform
