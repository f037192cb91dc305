#pragma once

#include <cstdint>

#include "kernels/memory_block.hpp"

namespace elastiform {

/// Bytes [from, to) of an open file as host memory. Processes that map the same file share its pages until they write to them: what a
/// process writes is its own, and the file stays as it is. Whoever replaces the file by another one disturbs nobody, but nobody may write
/// to it or shorten it: reading what is gone ends the process. Empty where that is not in our hands, on file systems of other machines, or
/// where there are no mappings: then read.
MemoryBlock map_file(int file, std::int64_t from, std::int64_t to);

}  // namespace elastiform
