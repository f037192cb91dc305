#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace elastiform {

/// What `elastiform inspect` knows.
enum class InspectedKind : std::uint8_t { run, hdf5, journal, training_log, safetensors, hugging_face };

/// By content first, then by name. InputError for anything else.
InspectedKind kind_of_path(const std::string& path);

/// A few lines for a person. InputError for damaged files.
std::vector<std::string> summary_of_path(const std::string& path);

/// 64 hex digits over what a file or run holds, without timings, the identity of the build and the place of the data: two runs with equal
/// results have equal digests (docs/runs.md).
std::string digest_of_path(const std::string& path);

/// Visits the rows of a training log as JSON text with sorted keys, timings removed unless `with_timings`. A torn last line is left out.
void for_training_rows(const std::string& path, bool with_timings, const std::function<void(std::string_view row)>& each);

}  // namespace elastiform
