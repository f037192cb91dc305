// kernels/cuda/library_gemm.hpp over cuBLASLt.
#include <cublasLt.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <unordered_map>
#include <vector>

#include "kernels/cuda/device/algorithm_file.hpp"
#include "kernels/cuda/device/gemm_shape.hpp"
#include "kernels/cuda/kept_bytes.hpp"
#include "kernels/cuda/library_gemm.hpp"
#include "kernels/cuda/runtime.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

constexpr std::size_t kWorkspace = kLibraryWorkspaceBytes;
constexpr int kProposals = 8, kRepetitions = 5;

void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) throw DeviceError(std::string("cuBLASLt: ") + what + ": " + cublasLtGetStatusString(status));
}

cudaDataType_t type_of(DType type) { return type == DType::float32 ? CUDA_R_32F : type == DType::bfloat16 ? CUDA_R_16BF : CUDA_R_16F; }

/// A call's descriptors. cuBLASLt is column-major, so it computes cᵀ = Bᵀ Aᵀ: its first factor is our B.
class Plan {
 public:
  explicit Plan(const GemmCall& c) {
    check(cublasLtMatmulDescCreate(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a product");
    set(CUBLASLT_MATMUL_DESC_TRANSA, c.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, c.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (c.bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(c.c_type));
    }
    first_ = layout(c.type, c.b_transposed ? c.K : c.N, c.b_transposed ? c.N : c.K, c.b_ld);
    second_ = layout(c.type, c.a_transposed ? c.M : c.K, c.a_transposed ? c.K : c.M, c.a_ld);
    add_ = layout(c.c_type, c.N, c.M, c.add ? c.add_ld : c.c_ld);
    result_ = layout(c.c_type, c.N, c.M, c.c_ld);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() {
    for (const cublasLtMatrixLayout_t one : {first_, second_, add_, result_})
      if (one) static_cast<void>(cublasLtMatrixLayoutDestroy(one));
    if (operation_) static_cast<void>(cublasLtMatmulDescDestroy(operation_));
  }

  std::vector<cublasLtMatmulAlgo_t> proposals(cublasLtHandle_t handle, const GemmShape& shape) const {
    cublasLtMatmulPreference_t preference = nullptr;
    check(cublasLtMatmulPreferenceCreate(&preference), "a preference");
    const auto want = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      static_cast<void>(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value));
    };
    const std::size_t workspace = kWorkspace;
    want(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
    // Partial sums that meet by atomics would give other bits each time.
    const std::uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;
    want(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, schemes);
    // Unless told, it takes every matrix for aligned to 256 bytes; slices and shadows are less. Its first factor is our b.
    want(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<std::uint32_t>(shape.b_alignment));
    want(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<std::uint32_t>(shape.a_alignment));
    want(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<std::uint32_t>(shape.add_alignment));
    want(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<std::uint32_t>(shape.c_alignment));
    std::array<cublasLtMatmulHeuristicResult_t, kProposals> found;
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle, operation_, first_, second_, add_, result_, preference, kProposals, found.data(), &count);
    static_cast<void>(cublasLtMatmulPreferenceDestroy(preference));
    std::vector<cublasLtMatmulAlgo_t> algorithms;
    for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < count; ++i)
      if (found[static_cast<std::size_t>(i)].state == CUBLAS_STATUS_SUCCESS) algorithms.push_back(found[static_cast<std::size_t>(i)].algo);
    return algorithms;
  }

  /// Whether an algorithm of the file serves this product: it may have been written by hand.
  bool serves(cublasLtHandle_t handle, const cublasLtMatmulAlgo_t& algorithm) const {
    cublasLtMatmulHeuristicResult_t result{};
    return cublasLtMatmulAlgoCheck(handle, operation_, first_, second_, add_, result_, &algorithm, &result) == CUBLAS_STATUS_SUCCESS &&
           result.workspaceSize <= kWorkspace;
  }

  cublasStatus_t run(cublasLtHandle_t handle, const GemmCall& c, const cublasLtMatmulAlgo_t& algorithm, void* workspace, Stream stream) {
    if (c.bias) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, c.bias);
    return cublasLtMatmul(handle, operation_, &c.alpha, c.b, first_, c.a, second_, &c.beta, c.add ? c.add : c.c, add_, c.c, result_,
                          &algorithm, workspace, kWorkspace, reinterpret_cast<cudaStream_t>(stream));
  }

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    check(cublasLtMatmulDescSetAttribute(operation_, attribute, &value, sizeof value), "an attribute");
  }
  static cublasLtMatrixLayout_t layout(DType type, std::int64_t rows, std::int64_t columns, std::int64_t ld) {
    cublasLtMatrixLayout_t made = nullptr;
    check(cublasLtMatrixLayoutCreate(&made, type_of(type), static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns), ld),
          "a layout");
    return made;
  }

  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatrixLayout_t first_ = nullptr, second_ = nullptr, add_ = nullptr, result_ = nullptr;
};

// Freed when a trial throws, too.
struct OwnEvent {
  Event event = make_event(true);
  OwnEvent() = default;
  OwnEvent(const OwnEvent&) = delete;
  OwnEvent& operator=(const OwnEvent&) = delete;
  ~OwnEvent() { destroy(event); }
};
struct OwnMemory {
  void* data;
  explicit OwnMemory(std::int64_t bytes) : data(allocate_on_device(bytes)) {}
  OwnMemory(const OwnMemory&) = delete;
  OwnMemory& operator=(const OwnMemory&) = delete;
  ~OwnMemory() { free_on_device(data); }
};

class CublasGemm final : public LibraryGemm {
 public:
  CublasGemm() : file_(device_name() + ", " + version()) { check(cublasLtCreate(&handle_), "start"); }
  CublasGemm(const CublasGemm&) = delete;
  CublasGemm& operator=(const CublasGemm&) = delete;
  ~CublasGemm() override { static_cast<void>(cublasLtDestroy(handle_)); }

  std::string name() const override { return version(); }

  bool multiply(Stream stream, const GemmCall& call) override {
    Product& product = find(stream, call);
    if (!product.algorithm) return false;
    const cublasStatus_t status = product.plan->run(handle_, call, *product.algorithm, workspace_.data, stream);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) {
      product.algorithm.reset();
      return false;
    }
    check(status, "a product");
    return true;
  }

 private:
  struct Product {
    std::unique_ptr<Plan> plan;
    std::optional<cublasLtMatmulAlgo_t> algorithm;  // none: our kernel computes it
  };
  static std::string version() {
    const std::size_t number = cublasLtGetVersion();  // 130100: 13.1.0
    return "cuBLASLt " + std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." + std::to_string(number % 100);
  }

  Product& find(Stream stream, const GemmCall& call) {
    const GemmShape shape(call);
    if (const auto known = products_.find(shape); known != products_.end()) return known->second;
    Product product{std::make_unique<Plan>(call), std::nullopt};
    if (const std::optional<std::string> stored = file_.find(shape.text())) {
      if (stored->size() == sizeof(cublasLtMatmulAlgo_t)) std::memcpy(&product.algorithm.emplace(), stored->data(), stored->size());
      if (product.algorithm && !product.plan->serves(handle_, *product.algorithm)) product.algorithm.reset();
    } else {
      product.algorithm = fastest(stream, call, *product.plan, shape);
    }
    return products_.emplace(shape, std::move(product)).first->second;
  }

  /// Of what is proposed, which is kept in the file. The trials write a matrix of their own, so a call that adds to c may be repeated.
  std::optional<cublasLtMatmulAlgo_t> fastest(Stream stream, const GemmCall& call, Plan& plan, const GemmShape& shape) {
    const std::vector<cublasLtMatmulAlgo_t> algorithms = plan.proposals(handle_, shape);
    if (algorithms.empty()) {
      file_.add(shape.text(), "");
      return std::nullopt;
    }
    GemmCall trial = call;
    const OwnMemory elsewhere(call.M * call.c_ld * bytes_of(call.c_type));
    trial.c = elsewhere.data;
    if (call.add == nullptr) trial.beta = 0;
    const OwnEvent begin, end;
    std::optional<cublasLtMatmulAlgo_t> best;
    float least = 0;
    for (const cublasLtMatmulAlgo_t& algorithm : algorithms) {
      if (plan.run(handle_, trial, algorithm, workspace_.data, stream) != CUBLAS_STATUS_SUCCESS) continue;  // warms up
      record(begin.event, stream);
      for (int i = 0; i < kRepetitions; ++i) static_cast<void>(plan.run(handle_, trial, algorithm, workspace_.data, stream));
      record(end.event, stream);
      const float took = milliseconds_between(begin.event, end.event);
      if (!best || took < least) best = algorithm, least = took;
    }
    if (!best) return std::nullopt;  // all failed: the next process tries again
    const std::string kept = file_.add(shape.text(), std::string(reinterpret_cast<const char*>(&*best), sizeof *best));
    if (kept.size() == sizeof *best) std::memcpy(&*best, kept.data(), sizeof *best);  // another process may have been faster
    return best;
  }

  cublasLtHandle_t handle_ = nullptr;
  const OwnMemory workspace_{kWorkspace};
  AlgorithmFile file_;
  std::unordered_map<GemmShape, Product, HashOfGemmShape> products_;
};

}  // namespace

std::unique_ptr<LibraryGemm> make_library_gemm() { return std::make_unique<CublasGemm>(); }

}  // namespace elastiform::ELASTIFORM_GPU
