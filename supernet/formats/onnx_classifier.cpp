#ifdef ELASTIFORM_ONNX

#include "supernet/formats/onnx_blocks.hpp"

namespace elastiform::onnx_folder {
namespace {

class Classifier final : public BlockGraph {
 public:
  explicit Classifier(const DenseModel& model) : BlockGraph(model, "classifier") {}

  Graph build() {
    const ImageShape& image = model_.image;
    g_.input("pixel_values", false, {"batch", std::to_string(image.channels), std::to_string(image.height), std::to_string(image.width)});
    std::string x = linear(patches(), "embedding.patch");
    if (model_.distillation_token) x = g_.concat(of_every_image("embedding.distillation"), x, 1);
    if (model_.readout == Readout::class_token) x = g_.concat(of_every_image("embedding.class"), x, 1);
    x = blocks(g_.op("Add", {x, weight("embedding.position")}));
    const std::string logits = g_.op("MatMul", {norm(read(x), "final.norm"), weight_transposed("head")}, model_.head_bias ? "" : "logits");
    if (model_.head_bias) g_.op("Add", {logits, vector("head.bias")}, "logits");
    g_.output("logits", {"batch", std::to_string(model_.vocabulary)});
    return std::move(g_);
  }

 private:
  /// [B, patches, values of a patch], of a patch [channel][row][column]: a convolution whose stride is its width, as one product.
  std::string patches() {
    const ImageShape& image = model_.image;
    const std::int64_t c = image.channels, p = image.patch, rows = image.height / p, columns = image.width / p;
    const std::string cut = g_.op("Reshape", {"pixel_values", g_.indices({0, c, rows, p, columns, p})});
    return g_.op("Reshape", {g_.transpose(cut, {0, 2, 4, 1, 3, 5}), g_.indices({0, rows * columns, c * p * p})});
  }

  /// [B, 1, C]: the same row for every image.
  std::string of_every_image(const std::string& token) {
    const std::string batch = g_.op("Gather", {g_.op("Shape", {"pixel_values"}), g_.indices({0})}, "axis", 0);
    return g_.op("Expand", {weight(token), g_.concat(batch, g_.indices({1, subnet_.embed}), 0)});
  }

  /// What the head reads: [B, C].
  std::string read(const std::string& x) {
    if (model_.readout == Readout::class_token) return g_.op("Gather", {x, g_.index(0)}, "axis", 1);
    return g_.op("Reshape", {g_.mean_of(x, 1), g_.indices({0, subnet_.embed})});
  }
};

}  // namespace

Graph classifier_graph(const DenseModel& model) { return Classifier(model).build(); }

}  // namespace elastiform::onnx_folder

#endif  // ELASTIFORM_ONNX
