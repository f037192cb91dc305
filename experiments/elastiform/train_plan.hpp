#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/output.hpp"
#include "experiments/elastiform/recipe.hpp"
#include "kernels/parallel.hpp"
#include "trainers/trainer.hpp"

namespace elastiform {

/// Mean over the steps of each stage of what a step costs, from up to 200 of its steps: samplers are pure functions, so nothing is trained.
double expected_flops(const Recipe& recipe);

/// What a training takes: the trainer, and what scores the three live losses beside it.
struct PlannedMemory {
  Trainer::Memory trainer;
  std::int64_t evaluation = 0;
  int ranks = 1;               // each takes that
  bool on_device = false;      // and not of the host's
  std::string_view away = {};  // name of what activations may wait in
  std::int64_t total() const { return trainer.total() + evaluation; }
  /// The total under the lowest --memory-limit.
  std::int64_t least() const { return total() - trainer.arena + trainer.least_arena; }
  /// HDF5's cache and buffers take up to 8 MiB while a checkpoint is written.
  static constexpr std::int64_t kCheckpoint = 8 << 20;
};

/// Bytes that the workers who score the live losses take: arenas, and what they pack.
std::int64_t evaluation_bytes(const Recipe& recipe, const DataSource& data, const ThreadPool& pool, const Compute& compute);

/// What a machine has for a training (docs/memory.md).
struct MemoryOptions {
  std::optional<std::int64_t> limit;   // of everything that is planned, in bytes
  std::optional<std::string> offload;  // activations may wait: in a file of this folder, or kPinned
};
constexpr std::string_view kPinned = "pinned";  // memory of a GPU's host

/// Where activations wait; null: nowhere. After make_backend(); InputError for a folder that cannot be written, and for kPinned on the CPU.
std::unique_ptr<MemorySpace> make_away(const MemoryOptions& options, Device device);

/// What is left for activations when everything else that print_memory adds up is taken from the limit, of each rank; nullopt when there
/// is none. InputError names the least limit that would do.
std::optional<std::int64_t> activation_limit(const Recipe& recipe, const Backend& backend, std::int64_t evaluation,
                                             const MemoryOptions& memory_options, const Communicator& ranks);

/// The lines that stand before a training: memory, tokens, size of the space, costs of its ends, tokens per parameter.
void print_plan(std::FILE* stream, const Recipe& recipe, const PlannedMemory& memory);
/// Those of memory alone.
void print_memory(std::FILE* stream, const PlannedMemory& memory);

/// `train --dry-run`: the plan and minutes from five trained steps. Writes nothing.
int dry_run(const Recipe& recipe, const CommonOptions& common, const MemoryOptions& memory_options);

}  // namespace elastiform
