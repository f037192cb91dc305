#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "supernet/data/batch.hpp"
#include "supernet/search_space.hpp"

namespace elastiform {

/// What whole steps are timed on: a GPT-2-like supernet, a batch and a list of its subnets, drawn by the law `balanced` with seed 0.
struct Shape {
  std::string name;
  int sequences = 0;  // B
  SearchSpace space;
  std::vector<Subnet> list;
  std::int64_t fixed_steps = 0, sandwich_steps = 0;  // timed steps of these modes; single and eval take each subnet of the list once

  int context() const { return space.model().context; }
  std::int64_t tokens() const { return std::int64_t{sequences} * context(); }
};

/// small: embed 192, 4 layers; medium: embed 384, 6 layers, both 8 sequences of 256 bytes; large: GPT-2 124M (embed 768, 12 layers,
/// vocabulary 50,257), 2 sequences of 512 tokens; gpt2: the same with 64 sequences of 1024, for GPUs. Throws InputError for other names.
Shape find_shape(std::string_view name);

/// The space that holds one network with equal blocks, heads of 64.
SearchSpace uniform_space(int embed, int layers, int context, int vocabulary);

Batch random_batch(int vocabulary, std::int64_t sequences, std::int64_t tokens);

/// JSON of the shape for the same steps in another program.
std::string work_text(const Shape& shape);

/// Model FLOPs of some forward (2 a multiply-add) or training (6) passes over `tokens` tokens; causal attention counts as half.
double model_flops(const SearchSpace& space, const std::vector<Subnet>& subnets, double per_mac, std::int64_t tokens);

}  // namespace elastiform
