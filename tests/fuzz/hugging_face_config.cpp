#include <array>

#include "supernet/formats/hugging_face_config.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace elastiform;

namespace {

void read(std::string_view json) {
  fuzz::refuses_or_reads([&] {
    const hugging_face::Architecture found = hugging_face::parse_config(json, "config.json");
    fuzz::require(found.model.context <= found.positions);
    fuzz::require(!found.subnet.blocks.empty() && found.subnet.depth() <= kMaxSubnetBlocks);
    SearchSpace::of(found.model, found.subnet);  // or its InputError
  });
}

}  // namespace

// The bytes as a file, and as more keys of one that is right without them: the first byte says of which architecture.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes = fuzz::text_of(data, size);
  read(bytes);
  fuzz::refuses_or_reads([&] { hugging_face::telling_keys(bytes, "config.json"); });
  if (size == 0) return 0;
  struct Frame {
    const char *before, *after = "}";
  };
  constexpr std::array<Frame, 5> files{{
      {R"({"model_type":"llama","hidden_act":"silu","hidden_size":8,"num_attention_heads":2,"vocab_size":9,"max_position_embeddings":4,)"
       R"("rms_norm_eps":1e-5,"num_hidden_layers":1,"intermediate_size":8,)"},
      {R"({"model_type":"gpt2","n_embd":8,"n_head":2,"activation_function":"gelu_new","vocab_size":9,"n_positions":4,)"
       R"("layer_norm_epsilon":1e-5,"n_layer":1,)"},
      {R"({"model_type":"elastiform","hidden_size":8,"head_dim":4,"block_heads":[2,0],"block_key_value_heads":[1,0],"block_ffn":[8,9],)"
       R"("norm":"rmsnorm","norm_eps":1e-5,"ffn_kind":"swiglu","positions":"rope","rope_theta":1e4,"vocab_size":9,"max_position_embeddings":4,)"},
      {R"({"model_type":"llama","hidden_act":"silu","hidden_size":8,"num_attention_heads":2,"vocab_size":9,"max_position_embeddings":4,)"
       R"("rms_norm_eps":1e-5,"num_hidden_layers":1,"intermediate_size":8,"rope_scaling":{"rope_type":"llama3",)",
       "}}"},
      {R"({"model_type":"vit","hidden_size":8,"num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":8,"hidden_act":"gelu",)"
       R"("image_size":4,"patch_size":2,"num_channels":1,"layer_norm_eps":1e-12,"id2label":{"0":"a","1":"b"},)"},
  }};
  const Frame& frame = files[data[0] % files.size()];
  read(frame.before + std::string(bytes.substr(1)) + frame.after);
  return 0;
}
