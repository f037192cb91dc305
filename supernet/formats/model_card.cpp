#include "supernet/formats/model_card.hpp"

#include <fmt/format.h>

#include "supernet/formats/padding.hpp"

namespace elastiform {
namespace {

constexpr double kMiB = 1024.0 * 1024.0;
constexpr double kNormal95 = 1.96;  // half width of a 95 % interval in standard errors

std::string image_quality_lines(const ModelCard& card) {
  std::string text = "| split | top-1 accuracy | loss, nats per image | images |\n|---|---|---|---|\n";
  for (const auto& quality : card.quality)
    text += fmt::format("| {} | {:.2f} % | {:.4f} ± {:.4f} | {} |\n", quality.split, 100 * quality.accuracy, quality.loss,
                        kNormal95 * quality.loss_se, quality.tokens);
  return text +
         "\n± is a 95 % interval over these images; it says nothing about other images or other training seeds. "
         "The search split may have chosen this subnet; the report split has not.\n";
}

std::string quality_lines(const ModelCard& card, bool classifies) {
  if (card.quality.empty()) return "Not scored for this card.\n";
  if (classifies) return image_quality_lines(card);
  std::string text = "| split | loss, nats per token | bits per byte | tokens |\n|---|---|---|---|\n";
  for (const auto& quality : card.quality)
    text += fmt::format("| {} | {:.4f} ± {:.4f} | {:.4f} | {} |\n", quality.split, quality.loss, kNormal95 * quality.loss_se,
                        quality.bits_per_byte, quality.tokens);
  return text +
         "\n± is a 95 % interval over blocks of this text; it says nothing about other texts or other training seeds. "
         "The search split may have chosen this subnet; the report split has not.\n";
}

std::string cost_lines(const ModelCard& card, bool classifies) {
  const Deploy& deploy = card.deploy;
  return fmt::format(
      "| cost | value |\n|---|---|\n| parameters | {} ({} in blocks) |\n| multiply-adds per {} | {} |\n"
      "| inference memory | {:.2f} MiB |\n| training memory, this subnet alone | {:.2f} MiB |\n\n"
      "Under: dtype {}, batch {}, {}threads {}.\n",
      card.costs.parameters, card.costs.block_parameters, classifies ? "image" : "token", card.costs.macs,
      static_cast<double>(card.costs.inference_bytes) / kMiB, static_cast<double>(card.costs.training_bytes) / kMiB, deploy.dtype,
      deploy.batch, classifies ? "" : fmt::format("context {} tokens, {}, ", deploy.context, deploy.phase), deploy.threads);
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

/// Arrays of one number a channel, as Python writes them.
std::string numbers_of(const std::vector<double>& list) {
  std::string text;
  for (const double value : list) text += (text.empty() ? "" : ", ") + fmt::format("{}", value);
  return "[" + text + "]";
}

std::string classify_an_image(Loader loader, const ImageShape& image, const ImageOptions& reading) {
  const bool onnx = loader == Loader::onnxruntime;
  std::string text = "```python\nimport numpy as np\n";
  text += onnx ? "import onnxruntime\n" : "import torch\nfrom transformers import AutoModelForImageClassification\n";
  text += fmt::format(R"(from PIL import Image, ImageOps

image = Image.open("image.png").convert("{}")  # a full channel is {} where the files were numbers
image = ImageOps.fit(image, ({}, {}), Image.Resampling.BILINEAR)  # the shorter side scaled, the middle kept
pixels = np.asarray(image, np.float32).reshape({}, {}, {}) / 255
pixels = ((pixels - np.array({})) / np.array({})).transpose(2, 0, 1)[None].astype(np.float32)
)",
                      image.channels == 1 ? "L" : "RGB", reading.white, image.width, image.height, image.height, image.width,
                      image.channels, numbers_of(reading.mean), numbers_of(reading.deviation));
  if (onnx)
    text +=
        "session = onnxruntime.InferenceSession(\"model.onnx\")  # of this folder\n"
        "print(session.run([\"logits\"], {\"pixel_values\": pixels})[0].argmax(1))\n";
  else
    text +=
        "model = AutoModelForImageClassification.from_pretrained(\".\")  # this folder\n"
        "print(model(torch.from_numpy(pixels)).logits.argmax(1))\n";
  return text + "```\n";
}

std::string_view library_of(Loader loader) {
  if (loader == Loader::onnxruntime) return "onnxruntime";
  return loader == Loader::llama_cpp ? "llama.cpp" : "transformers";
}

}  // namespace

std::string model_card_text(const DenseModel& model, const ModelCard& card, Loader loader) {
  const ModelConfig& m = model.model;
  const bool classifies = m.classifies(), bytes = card.tokenizer.empty() && !classifies;
  std::string text = "---\nlibrary_name: " + std::string(library_of(loader));
  text += classifies ? "\npipeline_tag: image-classification" : "\npipeline_tag: text-generation";
  text += "\ntags:\n- elastiform\n" + std::string(bytes ? "- byte-level\n" : "") + "---\n\n";
  text += "# " + card.subnet + "\n\n";
  text += fmt::format("A subnetwork of an elastic supernet ({} style), cut out by Elastiform {} after {} {}\n", m.preset, card.version,
                      card.training_steps,
                      card.fine_tuned ? "steps of fine-tuning, which followed the supernet's training."
                                      : "training steps of the supernet. It was not fine-tuned: these are the supernet's shared weights.");
  text += "\n- subnet in the supernet: `" + card.subnet + "`\n";
  text += classifies ? fmt::format("- images: {} x {} pixels of {} channel(s), patches of {}; classes: {}\n", m.image.height, m.image.width,
                                   m.image.channels, m.image.patch, m.vocabulary)
                     : fmt::format("- context: {} tokens; vocabulary: {} ({})\n", m.context, m.vocabulary,
                                   bytes ? "one token a byte, no special token" : "tokenizer.json");
  text += fmt::format("- data SHA-256: `{}`\n- supernet weights SHA-256: `{}`\n", card.data_sha256, card.weights_hash);
  if (card.averaged) text += "- weights: the running average of the supernet's training, not those of its last step\n";
  text += "\n## Quality\n\n" + quality_lines(card, classifies);
  text += "\n## Costs\n\n" + cost_lines(card, classifies);
  if (const std::int64_t stored = size_of(m, model.subnet).parameters; stored > card.costs.parameters)
    text += fmt::format("\nThese are the subnet's own. It was padded with zeros to `{}`, so {} parameters are stored.\n",
                        format(model.subnet), stored);
  text += "\n## Load it\n\n";
  if (classifies) return text + classify_an_image(loader, m.image, card.reading);
  text += how_to_load(loader, bytes, m.vocabulary);
  if (bytes) text += "\nThere is no end token: say how many tokens you want.";
  text += "\nTexts longer than the context need a sliding window of your own.\n";
  return text;
}

}  // namespace elastiform
