#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "supernet/formats/hugging_face_config.hpp"
#include "supernet/weights.hpp"

namespace elastiform::hugging_face {

/// Where one of our tensors stands in a checkpoint: all of a tensor or, of GPT-2's fused query, key and value, some of its columns.
struct Source {
  std::string name;
  std::vector<std::int64_t> shape;
  bool transposed = false;  // torch.nn.Linear keeps [out,in], GPT-2's Conv1D [in,out] as we do
  std::int64_t first_column = 0;
  bool absent = false;  // a bias that the architecture lacks: 0 here
};

/// `prefix`: what stands before the names of everything but the head: "model." (Llama), "transformer." (GPT-2), "vit." or "deit.", or nothing in
/// a checkpoint that was saved without its head's class.
Source source_of(const TensorSpec& tensor, const Architecture& architecture, const std::string& prefix);

/// The prefix of an architecture's checkpoints, and the name that tells whether one has it.
std::string usual_prefix(const Architecture& architecture);
std::string first_tensor(Architecture::Family family);  // without prefix
std::string head_name(Architecture::Family family);     // without ".weight"

/// Tensors that say nothing beyond the config: masks and frequencies that earlier versions of transformers saved.
bool is_buffer(const std::string& name);

}  // namespace elastiform::hugging_face
