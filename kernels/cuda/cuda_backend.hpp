#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/cuda/cuda_backend_memory.hpp"
#include "kernels/cuda/graph_cache.hpp"
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/library_gemm.hpp"
#include "kernels/precision.hpp"

namespace elastiform::ELASTIFORM_GPU {

/// float32 on one GPU, in a stream of its own: operations return when their work is in it, all but those that return numbers. Each is
/// parallel inside, so a loop over panels gets all rows at once, and there is one slot. In bf16 products multiply on tensor cores, from
/// bfloat16 shadows of the weights. Inside for_each, optimizer steps and zero are collected and run as one launch of a kind at its end: as Backend says,
/// bodies are in no order, while what one body asks for stays in its order. One caller at a time. Throws DeviceError when the device fails, for
/// work in the stream at a later call.
class CudaBackend final : public Backend {
 public:
  /// links: how it reaches the devices of other ranks; nullptr: through the host.
  explicit CudaBackend(Precision precision = Precision::f32, std::unique_ptr<LibraryGemm> library = make_library_gemm(),
                       LinkMaker links = nullptr);
  ~CudaBackend() override;

  std::string_view name() const override;
  DType dtype() const override { return DType::float32; }
  Precision precision() const override { return precision_; }
  std::string arithmetic() const override;
  void wait() override;
  MemorySpace& memory() const override { return space_; }
  std::unique_ptr<Link> make_link(Communicator& ranks) override;
  std::int64_t panel_rows() const override { return kAllRows; }
  void for_each(std::int64_t count, FunctionRef<void(std::int64_t)> body) override;
  void repeated(const RepeatKey& key, FunctionRef<void()> body) override;
  int slots() const override { return 1; }
  int slot() const override { return 0; }

  /// Device memory that it keeps for itself by now: scratch, uploads, shadows of weights. The library's comes on top.
  std::int64_t shadow_bytes() const { return space_.shadow_bytes(); }  // a part of kept_bytes()
  std::int64_t kept_bytes() const { return scratch_.bytes() + uploads_.bytes() + shadow_bytes(); }
  /// How many pieces of work are recorded.
  std::int64_t recorded() const { return graphs_.size(); }
  /// How often uploads had to wait for the stream: a steady step never.
  std::int64_t upload_waits() const { return uploads_.waits(); }

 private:
  void do_matmul(const Matmul& op) override;
  void do_matmul_dx(const MatmulDx& op) override;
  void do_matmul_dw(const MatmulDw& op) override;
  void do_norm_forward(const NormForward& op) override;
  void do_norm_backward(const NormBackward& op) override;
  void do_affine_forward(const AffineForward& op) override;
  void do_affine_backward(const AffineBackward& op) override;
  void do_sum_panels(const SumPanels& op) override;
  void do_swiglu_forward(const SwigluForward& op) override;
  void do_swiglu_backward(const SwigluBackward& op) override;
  void do_gelu_forward(const GeluForward& op) override;
  void do_gelu_backward(const GeluBackward& op) override;
  void do_hadamard(const Hadamard& op) override;
  void do_rope(const Rope& op) override;
  void do_dropout(const Dropout& op) override;
  void do_embedding_forward(const EmbeddingForward& op) override;
  void do_embedding_backward(const EmbeddingBackward& op) override;
  void do_scatter_rows(const ScatterRows& op) override;
  void do_attention_forward(const AttentionForward& op) override;
  void do_attention_backward(const AttentionBackward& op) override;
  void do_softmax_loss(const SoftmaxLoss& op) override;
  void do_compress(const Compress& op) override;
  void do_decompress(const Decompress& op) override;
  void do_round(const Round& op) override;
  void do_adamw(const Adamw& op) override;
  void do_adamw_8bit(const Adamw8bit& op) override;
  void do_momentum_step(const MomentumStep& op) override;
  void do_factored_moments(const FactoredMoments& op) override;
  void do_factored_step(const FactoredStep& op) override;
  StepSquares do_adamw_direction(const AdamwDirection& op) override;
  StepSquares do_factored_squares(const FactoredStep& step) override;
  void do_adamw_directions(std::span<const AdamwDirection> steps, std::span<StepSquares> squares) override;
  void do_factored_squares(std::span<const FactoredStep> steps, std::span<StepSquares> squares) override;
  double do_sum_squares(ConstView x) override;
  void do_sum_squares(std::span<const ConstView> views, std::span<double> sums) override;
  double do_sum(ConstView row) override;
  void do_copy(View to, ConstView from) override;
  void do_zero(View x) override;
  void do_scale(View x, double factor) override;
  void do_add(View to, ConstView from, double factor) override;
  void do_multiply(View to, ConstView from) override;

  /// Before an operation that writes these views: what its body has collected runs first, and shadows of their memory become stale.
  /// False where there is nothing to launch: the first view has no elements, or all is only prepared.
  template <class... Views>
  bool begin(ConstView output, const Views&... others);
  /// Runs body() without its launches: shadows of the weights that it multiplies become fresh, scratch becomes large enough.
  void prepare(FunctionRef<void()> body);
  /// Changes with every address that recorded work holds and its key does not tell: of scratch, of shadows, of what was released.
  std::int64_t generation() const { return scratch_.generation() + space_.generation(); }
  /// Rectangles of one kind that wait for their launch, or that one launch is given.
  template <class AnyRectangle>
  struct Collected {
    std::vector<AnyRectangle> list;
    std::int64_t tiles = 0;
    void clear() { list.clear(), tiles = 0; }
  };
  template <class Op, class AnyRectangle>
  void collect(const Op& op, Collected<AnyRectangle>& collected);
  template <class Op, class AnyRectangle>
  void squares_of(std::span<const Op> steps, Collected<AnyRectangle>& collected, std::span<StepSquares> squares);
  template <class AnyRectangle>
  void run_list(Collected<AnyRectangle>& collected);
  /// In a loop over bodies: if this one has collected something, it runs.
  void settle();
  std::size_t collected() const;
  void run_collected();
  void forget_collected();

  /// c = scale · (A · B + bias) + add by the device's library, where it has that; along_k: stored with the summed axis in its rows.
  struct Factors {
    ConstView a, b;
    bool a_along_k = false, b_along_k = false;
  };
  bool multiply_with_library(View c, const Factors& factors, ConstView bias, ConstView add, double scale);
  ConstView weight(ConstView w) { return precision_ == Precision::bf16 ? space_.shadow_of(w) : w; }
  TokenOrder order_of(std::span<const std::int32_t> tokens, std::int64_t vocabulary);
  /// `count` doubles of device memory, in host memory, when they have been computed.
  std::span<const double> read(const double* on_device, std::int64_t count);

  const Precision precision_;
  const std::unique_ptr<LibraryGemm> library_;
  const LinkMaker links_;
  OwnStream stream_;
  mutable DeviceSpace space_;
  UploadRing uploads_;
  DeviceScratch scratch_;
  GraphCache graphs_;
  bool prepares_ = false, records_ = false;
  double* results_ = nullptr;  // pinned
  std::int64_t results_count_ = 0;

  Collected<AdamwRectangle> adamw_;
  Collected<CodedRectangle> coded_;
  Collected<MomentumRectangle> momentum_;
  Collected<FactoredRectangle> factored_;
  Collected<Rectangle> zeroed_;
  std::size_t collected_before_body_ = 0;
  int loops_ = 0;                 // that the caller is inside of
  Collected<Rectangle> squared_;  // of the latest sums of squares
  Collected<AdamwRectangle> directions_;
  Collected<FactoredRectangle> factored_squared_;

  std::vector<std::int32_t> occurrences_;  // of each token; all 0 between calls
  std::vector<std::int32_t> distinct_;
};

template <class... Views>
bool CudaBackend::begin(ConstView output, const Views&... others) {
  settle();
  space_.wrote(output);
  (space_.wrote(others), ...);
  return output.size() > 0 && !prepares_;
}

}  // namespace elastiform::ELASTIFORM_GPU
