#include "kernels/cuda/cuda_backend.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/collectives/communicator.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

#define ELASTIFORM_WORD(x) #x
#define ELASTIFORM_WORD_OF(x) ELASTIFORM_WORD(x)
constexpr bool kOnHost = std::string_view(ELASTIFORM_WORD_OF(ELASTIFORM_GPU)) == "cuda_on_host";
#undef ELASTIFORM_WORD_OF
#undef ELASTIFORM_WORD

}  // namespace

static_assert(std::max({sizeof(AdamwRectangle), sizeof(MomentumRectangle), sizeof(FactoredRectangle), sizeof(CodedRectangle)}) <=
              kRectangleBytes);

CudaBackend::CudaBackend(Precision precision, std::unique_ptr<LibraryGemm> library, LinkMaker links)
    : precision_(precision), library_(std::move(library)), links_(links), space_(stream_), uploads_(stream_), scratch_(stream_) {}

CudaBackend::~CudaBackend() {
  try {
    synchronize(stream_);
  } catch (const DeviceError&) {  // whoever waited for results has been told
  }
  free_pinned(results_);
}

std::string_view CudaBackend::name() const { return kOnHost ? "cuda-on-host" : "cuda"; }

std::string CudaBackend::arithmetic() const {
  return std::string(name()) + ", " + device_name() + (library_ ? ", " + library_->name() : "") +
         (precision_ == Precision::bf16 ? ", bf16" : "");
}

std::unique_ptr<Link> CudaBackend::make_link(Communicator& ranks) {
  return links_ != nullptr ? links_(ranks, static_cast<Stream>(stream_)) : nullptr;
}

void CudaBackend::wait() { synchronize(stream_); }

void CudaBackend::for_each(std::int64_t count, FunctionRef<void(std::int64_t)> body) {
  ++loops_;
  try {
    for (std::int64_t i = 0; i < count; ++i) {
      if (loops_ == 1) collected_before_body_ = collected();
      body(i);
    }
    if (loops_ == 1) run_collected();
  } catch (...) {
    --loops_;
    forget_collected();
    throw;
  }
  --loops_;
}

// A subnet's blocks are met again and again at the same places: the largest and the smallest in each step, the others when a sampler draws
// their genes. The first meeting runs as it is, the second is recorded, later ones are one launch.
void CudaBackend::repeated(const RepeatKey& key, FunctionRef<void()> body) {
  if (records_ || loops_ > 0) return body();
  graphs_.keep_only(generation());
  if (const Graph graph = graphs_.find(key)) {
    prepare(body);
    if (graphs_.generation() == generation()) return play(graph, stream_);
    graphs_.keep_only(generation());  // scratch grew, so the graph's is gone
  }
  if (!graphs_.met_before(key)) return body();
  prepare(body);
  graphs_.keep_only(generation());
  begin_recording(stream_);
  records_ = true;
  try {
    body();
  } catch (...) {
    records_ = false;
    try {
      destroy(end_recording(stream_));
    } catch (const DeviceError&) {  // of the same cause
    }
    throw;
  }
  records_ = false;
  const Graph graph = end_recording(stream_);
  graphs_.add(key, graph);
  play(graph, stream_);
}

void CudaBackend::prepare(FunctionRef<void()> body) {
  struct Ends {
    bool& prepares;
    ~Ends() { prepares = false; }
  } ends{prepares_};
  prepares_ = true;
  body();
}

void CudaBackend::do_norm_forward(const NormForward& op) {
  if (begin(op.y, op.rstd, op.mean)) ELASTIFORM_GPU::norm_forward(stream_, op);
}

void CudaBackend::do_norm_backward(const NormBackward& op) {
  std::byte* const scratch = scratch_.at_least(norm_backward_scratch_bytes(op));
  if (begin(op.dx, op.dgain, op.dbias)) ELASTIFORM_GPU::norm_backward(stream_, op, scratch);
}

void CudaBackend::do_affine_forward(const AffineForward& op) {
  if (begin(op.y)) ELASTIFORM_GPU::affine_forward(stream_, op);
}

void CudaBackend::do_affine_backward(const AffineBackward& op) {
  const View written = !op.dx.empty() ? op.dx : !op.dgain.empty() ? op.dgain : op.dshift;
  if (begin(written, op.dx, op.dgain, op.dshift)) ELASTIFORM_GPU::affine_backward(stream_, op);
}

void CudaBackend::do_sum_panels(const SumPanels& op) {
  if (begin(op.sum)) ELASTIFORM_GPU::sum_panels(stream_, op);
}

void CudaBackend::do_swiglu_forward(const SwigluForward& op) {
  if (begin(op.y)) ELASTIFORM_GPU::swiglu_forward(stream_, op);
}

void CudaBackend::do_swiglu_backward(const SwigluBackward& op) {
  if (begin(op.dgate, op.dup)) ELASTIFORM_GPU::swiglu_backward(stream_, op);
}

void CudaBackend::do_gelu_forward(const GeluForward& op) {
  if (begin(op.y)) ELASTIFORM_GPU::gelu_forward(stream_, op);
}

void CudaBackend::do_gelu_backward(const GeluBackward& op) {
  if (begin(op.dx)) ELASTIFORM_GPU::gelu_backward(stream_, op);
}

void CudaBackend::do_hadamard(const Hadamard& op) {
  if (begin(op.y)) ELASTIFORM_GPU::hadamard(stream_, op);
}

void CudaBackend::do_rope(const Rope& op) {
  if (begin(op.x)) ELASTIFORM_GPU::rope(stream_, op);
}

void CudaBackend::do_dropout(const Dropout& op) {
  if (begin(op.y)) ELASTIFORM_GPU::dropout(stream_, op);
}

void CudaBackend::do_embedding_forward(const EmbeddingForward& op) {
  if (begin(op.y)) ELASTIFORM_GPU::embedding_forward(stream_, op, uploads_.upload(op.tokens));
}

void CudaBackend::do_scatter_rows(const ScatterRows& op) {
  if (begin(op.y) && op.x.size() > 0) ELASTIFORM_GPU::scatter_rows(stream_, op, uploads_.upload(op.rows));
}

void CudaBackend::do_embedding_backward(const EmbeddingBackward& op) {
  if (begin(op.dtable, op.dpositions) && op.dy.size() > 0)
    ELASTIFORM_GPU::embedding_backward(stream_, op, order_of(op.tokens, op.dtable.rows));
}

/// A counting sort: distinct tokens as they first occur, and the rows of each, ascending.
TokenOrder CudaBackend::order_of(std::span<const std::int32_t> tokens, std::int64_t vocabulary) {
  if (static_cast<std::int64_t>(occurrences_.size()) < vocabulary) occurrences_.resize(static_cast<std::size_t>(vocabulary), 0);
  distinct_.clear();
  for (const std::int32_t token : tokens)
    if (occurrences_[static_cast<std::size_t>(token)]++ == 0) distinct_.push_back(token);
  const std::size_t count = distinct_.size(), words = 2 * count + 1 + tokens.size();
  auto* const staged = reinterpret_cast<std::int32_t*>(uploads_.stage(static_cast<std::int64_t>(words * sizeof(std::int32_t))));
  std::int32_t *const begins = staged + count, *const order = begins + count + 1;
  std::int32_t begin = 0;
  for (std::size_t i = 0; i < count; ++i) {
    std::int32_t& occurrences = occurrences_[static_cast<std::size_t>(distinct_[i])];
    staged[i] = distinct_[i];
    begins[i] = begin;
    begin += occurrences;
    occurrences = begins[i];  // from here on: where its next row goes
  }
  begins[count] = begin;
  for (std::size_t n = 0; n < tokens.size(); ++n) order[occurrences_[static_cast<std::size_t>(tokens[n])]++] = static_cast<std::int32_t>(n);
  for (const std::int32_t token : distinct_) occurrences_[static_cast<std::size_t>(token)] = 0;
  const auto* const sent = reinterpret_cast<const std::int32_t*>(uploads_.send());
  return {sent, sent + count, sent + 2 * count + 1, static_cast<std::int64_t>(count)};
}

void CudaBackend::do_attention_forward(const AttentionForward& op) {
  if (begin(op.out, op.lse)) ELASTIFORM_GPU::attention_forward(stream_, op, precision_);
}

void CudaBackend::do_attention_backward(const AttentionBackward& op) {
  std::byte* const scratch = scratch_.at_least(attention_backward_scratch_bytes(op));
  if (begin(op.dq, op.dk, op.dv)) ELASTIFORM_GPU::attention_backward(stream_, op, precision_, scratch);
}

void CudaBackend::do_compress(const Compress& op) {
  if (begin(op.codes)) ELASTIFORM_GPU::compress(stream_, op);
}

void CudaBackend::do_decompress(const Decompress& op) {
  if (begin(op.x)) ELASTIFORM_GPU::decompress(stream_, op);
}

void CudaBackend::do_round(const Round& op) {
  if (begin(op.y)) ELASTIFORM_GPU::round(stream_, op);
}

void CudaBackend::do_softmax_loss(const SoftmaxLoss& op) {
  settle();
  for (const View& view : {op.losses, op.teacher_losses, op.correct, op.dlogits}) space_.wrote(view);
  if (op.logits.rows > 0) ELASTIFORM_GPU::softmax_loss(stream_, op, upload_targets(op));
}

/// In one piece, as a further one may move the ring.
LossTargets CudaBackend::upload_targets(const SoftmaxLoss& op) {
  if (op.second_targets.empty()) return {.targets = uploads_.upload(op.targets)};
  const std::size_t count = op.targets.size();
  auto* const staged = reinterpret_cast<std::int32_t*>(uploads_.stage(static_cast<std::int64_t>(3 * count * sizeof(std::int32_t))));
  std::copy(op.targets.begin(), op.targets.end(), staged);
  std::copy(op.second_targets.begin(), op.second_targets.end(), staged + count);
  std::memcpy(staged + 2 * count, op.second_shares.data(), count * sizeof(float));
  const auto* const sent = reinterpret_cast<const std::int32_t*>(uploads_.send());
  return {sent, sent + count, reinterpret_cast<const float*>(sent + 2 * count)};
}

void CudaBackend::do_zero(View x) {
  if (!begin(x)) return;
  // Alone it needs no list, whose upload could not be recorded.
  if (loops_ == 0 || x.dtype != DType::float32) return ELASTIFORM_GPU::zero(stream_, x);
  zeroed_.list.push_back(rectangle_of(x, zeroed_.tiles));
  zeroed_.tiles += tiles_of(ConstView(x));
}

void CudaBackend::do_scale(View x, double factor) {
  if (begin(x)) ELASTIFORM_GPU::scale(stream_, x, factor);
}

void CudaBackend::do_add(View to, ConstView from, double factor) {
  if (begin(to)) ELASTIFORM_GPU::add(stream_, to, from, factor);
}

void CudaBackend::do_multiply(View to, ConstView from) {
  if (begin(to)) ELASTIFORM_GPU::multiply(stream_, to, from);
}

void CudaBackend::do_copy(View to, ConstView from) {
  if (!begin(to)) return;
  const std::int64_t element = bytes_of(to.dtype);
  copy_async(stream_, to.data, to.ld * element, from.data, from.ld * element, from.columns * element, from.rows);
}

std::span<const double> CudaBackend::read(const double* on_device, std::int64_t count) {
  if (count > results_count_) {
    free_pinned(results_);
    results_ = nullptr;
    results_count_ = 0;
    results_ = static_cast<double*>(allocate_pinned(2 * count * static_cast<std::int64_t>(sizeof(double))));
    results_count_ = 2 * count;
  }
  const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(double));
  copy_async(stream_, results_, bytes, on_device, bytes, bytes, 1);
  synchronize(stream_);
  return {results_, static_cast<std::size_t>(count)};
}

double CudaBackend::do_sum_squares(ConstView x) {
  double sum = 0;
  do_sum_squares(std::span(&x, 1), std::span(&sum, 1));
  return sum;
}

void CudaBackend::do_sum_squares(std::span<const ConstView> views, std::span<double> sums) {
  settle();
  std::fill(sums.begin(), sums.end(), 0.0);
  squared_.clear();
  for (const ConstView& view : views) {
    squared_.list.push_back(rectangle_of(view, squared_.tiles));
    squared_.tiles += tiles_of(view);
  }
  if (squared_.tiles == 0) return;
  const auto count = static_cast<std::int64_t>(views.size()), result_bytes = count * static_cast<std::int64_t>(sizeof(double));
  std::byte* scratch = scratch_.at_least(result_bytes + sum_squares_scratch_bytes(squared_.tiles));
  auto* results = reinterpret_cast<double*>(scratch);
  ELASTIFORM_GPU::sum_squares(stream_, uploads_.upload(std::span(squared_.list)), count, squared_.tiles, results, scratch + result_bytes);
  const std::span<const double> read_sums = read(results, count);
  std::copy(read_sums.begin(), read_sums.end(), sums.begin());
}

double CudaBackend::do_sum(ConstView row) {
  settle();
  if (row.size() == 0) return 0;
  auto* result = reinterpret_cast<double*>(scratch_.at_least(sizeof(double)));
  row_sum(stream_, row, result);
  return read(result, 1)[0];
}

}  // namespace elastiform::ELASTIFORM_GPU
