#include <stdexcept>

#include "supernet/formats/onnx.hpp"

namespace elastiform::onnx_folder {

std::string why_not(const ModelConfig& model, const Subnet& subnet) {
#ifndef ELASTIFORM_ONNX
  return "this program was built without ONNX (apt-get install libonnx-dev libprotobuf-dev, then build again)";
#endif
  if (std::string reason = why_not_plain_blocks(model); !reason.empty()) return reason;
  return subnet.blocks.empty() ? "it has no blocks" : "";
}

std::string why_not_block(const ModelConfig&, int, int, const BlockGenes&) { return ""; }

#ifndef ELASTIFORM_ONNX
void write(const DenseModel&, const ModelCard&, const std::string&, std::int64_t) { throw std::logic_error("onnx: not in this build"); }
void write(const DenseModel&, const ModelCard&, const std::string&) { throw std::logic_error("onnx: not in this build"); }
std::vector<float> run(const std::string&, const Sample&, const DenseModel*) { throw std::logic_error("onnx: not in this build"); }
#endif

}  // namespace elastiform::onnx_folder
