#include "supernet/formats/model_card.hpp"

#include <fmt/format.h>

#include "supernet/formats/padding.hpp"

namespace elastiform {
namespace {

constexpr double kMiB = 1024.0 * 1024.0;
constexpr double kNormal95 = 1.96;  // half width of a 95 % interval in standard errors

std::string quality_lines(const ModelCard& card) {
  if (card.quality.empty()) return "Not evaluated.\n";
  std::string text = "| split | loss, nats per token | bits per byte | tokens |\n|---|---|---|---|\n";
  for (const auto& quality : card.quality)
    text += fmt::format("| {} | {:.4f} ± {:.4f} | {:.4f} | {} |\n", quality.split, quality.loss, kNormal95 * quality.loss_se,
                        quality.bits_per_byte, quality.tokens);
  return text +
         "\n± is a 95 % interval over blocks of this text; it says nothing about other texts or other training seeds. "
         "The search split may have chosen this subnet; the report split has not.\n";
}

std::string cost_lines(const ModelCard& card) {
  const Deploy& deploy = card.deploy;
  return fmt::format(
      "| cost | value |\n|---|---|\n| parameters | {} ({} in blocks) |\n| multiply-adds per token | {} |\n"
      "| inference memory | {:.2f} MiB |\n| training memory, this subnet alone | {:.2f} MiB |\n\n"
      "Under: dtype {}, batch {}, context {} tokens, {}, threads {}.\n",
      card.costs.parameters, card.costs.block_parameters, card.costs.macs, static_cast<double>(card.costs.inference_bytes) / kMiB,
      static_cast<double>(card.costs.training_bytes) / kMiB, deploy.dtype, deploy.batch, deploy.context, deploy.phase, deploy.threads);
}

std::string with_onnxruntime(bool bytes) {
  return fmt::format(
      R"(```python
import onnxruntime_genai as og  # or onnxruntime, with keys and values passed by hand

model = og.Model(".")  # this folder
{}generator = og.Generator(model, og.GeneratorParams(model))
generator.append_tokens({})
for _ in range(64):
    generator.generate_next_token()
print({})
```
)",
      bytes ? "" : "tokenizer = og.Tokenizer(model)\n", bytes ? "list(b\"In the beginning\")" : "tokenizer.encode(\"In the beginning\")",
      bytes ? "bytes(generator.get_sequence(0)).decode(errors=\"replace\")" : "tokenizer.decode(generator.get_sequence(0))");
}

constexpr const char* kWithLlamaCpp = R"(```python
from llama_cpp import Llama

print(Llama("model.gguf")("In the beginning", max_tokens=64, temperature=0)["choices"][0]["text"])
```
)";

/// `no_tokenizer`: the folder has none, because one id is a byte and others are nothing.
std::string with_transformers(bool own_code, bool no_tokenizer) {
  return fmt::format(R"(```python
{}
folder = "."  # this folder
{}model = AutoModelForCausalLM.from_pretrained(folder{})
{}
output = model.generate(**inputs, max_new_tokens=64, do_sample=False)
print({})
```
)",
                     no_tokenizer ? "import torch\nfrom transformers import AutoModelForCausalLM\n"
                                  : "from transformers import AutoModelForCausalLM, AutoTokenizer\n",
                     no_tokenizer ? "" : "tokenizer = AutoTokenizer.from_pretrained(folder)\n", own_code ? ", trust_remote_code=True" : "",
                     no_tokenizer ? "inputs = {\"input_ids\": torch.tensor([list(b\"In the beginning\")])}"
                                  : "inputs = tokenizer(\"In the beginning\", return_tensors=\"pt\")",
                     no_tokenizer ? "bytes(output[0].clamp(max=255).tolist()).decode(errors=\"replace\")" : "tokenizer.decode(output[0])");
}

std::string how_to_load(Loader loader, bool bytes, int rows) {
  constexpr int kBytes = 256;
  if (loader == Loader::onnxruntime) return with_onnxruntime(bytes);
  if (loader == Loader::llama_cpp) return kWithLlamaCpp;
  return with_transformers(loader == Loader::transformers_with_code, bytes && rows != kBytes);
}

std::string_view library_of(Loader loader) {
  if (loader == Loader::onnxruntime) return "onnxruntime";
  return loader == Loader::llama_cpp ? "llama.cpp" : "transformers";
}

}  // namespace

std::string model_card_text(const DenseModel& model, const ModelCard& card, Loader loader) {
  std::string text = "---\nlibrary_name: " + std::string(library_of(loader));
  text +=
      "\npipeline_tag: text-generation\ntags:\n- elastiform\n" + std::string(card.tokenizer.empty() ? "- byte-level\n" : "") + "---\n\n";
  text += "# " + card.subnet + "\n\n";
  text += fmt::format("A subnetwork of an elastic supernet ({} style), cut out by Elastiform {} after {} {}\n", model.model.preset,
                      card.version, card.training_steps,
                      card.fine_tuned ? "steps of fine-tuning, which followed the supernet's training."
                                      : "training steps of the supernet. It was not fine-tuned: these are the supernet's shared weights.");
  text += fmt::format(
      "\n- subnet in the supernet: `{}`\n- context: {} tokens; vocabulary: {} ({})\n"
      "- data SHA-256: `{}`\n- supernet weights SHA-256: `{}`\n",
      card.subnet, model.model.context, model.model.vocabulary,
      card.tokenizer.empty() ? "one token a byte, no special token" : "tokenizer.json", card.data_sha256, card.weights_hash);
  if (card.averaged) text += "- weights: the running average of the supernet's training, not those of its last step\n";
  text += "\n## Quality\n\n" + quality_lines(card);
  text += "\n## Costs\n\n" + cost_lines(card);
  if (const std::int64_t stored = size_of(model.model, model.subnet).parameters; stored > card.costs.parameters)
    text += fmt::format("\nThese are the subnet's own. It was padded with zeros to `{}`, so {} parameters are stored.\n",
                        format(model.subnet), stored);
  text += "\n## Load it\n\n" + how_to_load(loader, card.tokenizer.empty(), model.model.vocabulary);
  if (card.tokenizer.empty()) text += "\nThere is no end token: say how many tokens you want.";
  text += "\nTexts longer than the context need a sliding window of your own.\n";
  return text;
}

}  // namespace elastiform
