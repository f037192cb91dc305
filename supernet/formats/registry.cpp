#include <array>

#include "supernet/formats/elastiform_file.hpp"
#include "supernet/formats/format.hpp"
#include "supernet/formats/gguf.hpp"
#include "supernet/formats/hugging_face.hpp"
#include "supernet/formats/onnx.hpp"
#include "supernet/formats/padding.hpp"
#include "supernet/nearest_name.hpp"

namespace elastiform {
namespace {

/// Weights as `E`; what rounding them may cost was measured on random networks (docs/exports.md).
template <gguf::Element E>
constexpr Format gguf_format(std::string_view name, std::string_view help, double tolerance, Rounding rounding) {
  return {.name = name,
          .help = help,
          .suffix = ".gguf",
          .why_not = [](const ModelConfig& model, const Subnet& subnet) { return gguf::why_not_deci(model, subnet, E); },
          .why_not_block = [](const ModelConfig& model, int embed, int index,
                              const BlockGenes& genes) { return gguf::why_not_block(model, embed, index, genes, E); },
          .why_not_tokenizer = gguf::why_not_tokenizer,
          .note_on_tokenizer = gguf::note_on_tokenizer,
          .write = [](const DenseModel& model, const ModelCard& card, const std::string& path) { gguf::write_deci(model, card, path, E); },
          .recognizes = gguf::is_gguf,
          .read = gguf::read,
          .tolerance = tolerance,
          .rounding = rounding};
}

constexpr std::array kFormats{
    Format{.name = "elastiform",
           .help = "one HDF5 file; every subnet",
           .suffix = ".h5",
           .why_not = elastiform_file::why_not,
           .why_not_block = elastiform_file::why_not_block,
           .write = elastiform_file::write,
           .recognizes = elastiform_file::is_elastiform,
           .read = elastiform_file::read},
    Format{.name = "hf-llama",
           .help = "a folder for Hugging Face transformers (llama or mistral)",
           .suffix = "",
           .why_not = hugging_face::why_not_llama,
           .write = hugging_face::write_llama,
           .recognizes = hugging_face::is_llama,
           .read = hugging_face::read_llama,
           .padded = padded_llama},
    Format{.name = "hf-gpt2",
           .help = "a folder for Hugging Face transformers (gpt2)",
           .suffix = "",
           .why_not = hugging_face::why_not_gpt2,
           .write = hugging_face::write_gpt2,
           .recognizes = hugging_face::is_gpt2,
           .read = hugging_face::read_gpt2,
           .padded = padded_gpt2},
    Format{.name = "hf-vit",
           .help = "a folder for Hugging Face transformers (vit or deit): classifiers of images",
           .suffix = "",
           .why_not = hugging_face::why_not_vit,
           .write = hugging_face::write_vit,
           .recognizes = hugging_face::is_vit,
           .read = hugging_face::read_vit,
           .padded = padded_vit},
    Format{.name = "hf-auto",
           .help = "a folder for Hugging Face transformers with Python files of its own: blocks may differ",
           .suffix = "",
           .why_not = hugging_face::why_not_auto,
           .why_not_block = hugging_face::why_not_auto_block,
           .write = hugging_face::write_auto,
           .recognizes = hugging_face::is_auto,
           .read = hugging_face::read_auto},
    gguf_format<gguf::Element::f32>("gguf", "one file for llama.cpp (deci), float32", kExportTolerance, {}),
    gguf_format<gguf::Element::f16>("gguf-f16", "the same with matrices in float16", 3e-3, {0x1p-11, 0x1p-25}),
    gguf_format<gguf::Element::bf16>("gguf-bf16", "the same with matrices in bfloat16", 3e-2, {0x1p-8, 0x1p-134}),
    gguf_format<gguf::Element::q8_0>("gguf-q8_0", "the same with matrices in blocks of 8-bit numbers", 5e-2, {1 / 250.0, 0x1p-18, 32}),
    Format{.name = "onnx",
           .help = "a folder for ONNX Runtime and what reads ONNX: opset 17, language models with a KV cache",
           .suffix = "",
           .why_not = onnx_folder::why_not,
           .why_not_block = onnx_folder::why_not_block,
           .write = onnx_folder::write,
           .run = onnx_folder::run},
};

}  // namespace

std::span<const Format> export_formats() { return kFormats; }

const Format& find_format(std::string_view name) {
  std::vector<std::string_view> known;
  for (const Format& format : kFormats) {
    if (format.name == name) return format;
    known.push_back(format.name);
  }
  throw unknown_name("format", name, known);
}

}  // namespace elastiform
