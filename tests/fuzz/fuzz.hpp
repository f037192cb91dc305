#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "kernels/errors.hpp"

namespace elastiform::fuzz {

/// Runs `read`; an InputError is a right answer, anything else that escapes ends the fuzzer with this input.
template <class Read>
void refuses_or_reads(const Read& read) {
  try {
    read();
  } catch (const InputError& error) {
    const std::string_view line = error.what();
    if (line.empty() || line.find('\n') != std::string_view::npos) std::abort();  // the promise is one line
  }
}

/// What must hold for every input that was read.
inline void require(bool holds) {
  if (!holds) std::abort();
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) { return {reinterpret_cast<const char*>(data), size}; }

/// The bytes as a file, for readers that take a path; one a process, in memory where the system has such a folder.
inline std::string file_with(std::string_view content) {
  static const std::string path = [] {
    const std::filesystem::path memory = "/dev/shm";
    const auto folder = std::filesystem::exists(memory) ? memory : std::filesystem::temp_directory_path();
    return (folder / ("elastiform-fuzz-" + std::to_string(::getpid()))).string();
  }();
  std::ofstream(path, std::ios::binary | std::ios::trunc).write(content.data(), static_cast<std::streamsize>(content.size()));
  return path;
}

}  // namespace elastiform::fuzz
