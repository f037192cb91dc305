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
#include "kernels/cuda/library_gemm.hpp"
#include "kernels/cuda/runtime.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

constexpr std::size_t kWorkspace = std::size_t{32} << 20;  // what NVIDIA advises for Hopper
constexpr int kProposals = 8, kRepetitions = 5;

void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) throw DeviceError(std::string("cuBLASLt: ") + what + ": " + cublasLtGetStatusString(status));
}

cudaDataType_t type_of(DType type) { return type == DType::float32 ? CUDA_R_32F : type == DType::bfloat16 ? CUDA_R_16BF : CUDA_R_16F; }

/// Sixteen bytes, as tensor cores want pointers and rows; what is aligned less has another key and another algorithm.
int alignment(const void* data, std::int64_t ld, DType type) {
  const auto bits = reinterpret_cast<std::uintptr_t>(data) | static_cast<std::uintptr_t>(ld * bytes_of(type));
  int bytes = 16;
  while (bytes > 1 && bits % static_cast<std::uintptr_t>(bytes) != 0) bytes /= 2;
  return bytes;
}

/// All that the choice of an algorithm depends on.
std::string key_of(const GemmCall& c) {
  std::string key;
  for (const std::int64_t number : {c.M, c.N, c.K, c.a_ld, c.b_ld, c.c_ld, c.add_ld, std::int64_t{alignment(c.a, c.a_ld, c.type)},
                                    std::int64_t{alignment(c.b, c.b_ld, c.type)}, std::int64_t{alignment(c.c, c.c_ld, c.c_type)},
                                    static_cast<std::int64_t>(c.type), static_cast<std::int64_t>(c.c_type), std::int64_t{c.a_transposed},
                                    std::int64_t{c.b_transposed}, std::int64_t{c.bias != nullptr}, std::int64_t{c.beta != 0}})
    key += std::to_string(number) + ",";
  return key;
}

/// A call's descriptors. cuBLASLt is column-major, so it computes cᵀ = Bᵀ Aᵀ: its first factor is our B.
class Plan {
 public:
  explicit Plan(const GemmCall& c) {
    check(cublasLtMatmulDescCreate(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a product");
    set(CUBLASLT_MATMUL_DESC_TRANSA, c.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, c.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (c.bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_32F);
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

  std::vector<cublasLtMatmulAlgo_t> proposals(cublasLtHandle_t handle) const {
    cublasLtMatmulPreference_t preference = nullptr;
    check(cublasLtMatmulPreferenceCreate(&preference), "a preference");
    const std::size_t workspace = kWorkspace;
    // Partial sums that meet by atomics would give other bits each time.
    const std::uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;
    static_cast<void>(
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace));
    static_cast<void>(
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes));
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

class CublasGemm final : public LibraryGemm {
 public:
  CublasGemm() : file_(device_name() + ", " + version()) {
    check(cublasLtCreate(&handle_), "start");
    workspace_ = allocate_on_device(kWorkspace);
  }
  CublasGemm(const CublasGemm&) = delete;
  CublasGemm& operator=(const CublasGemm&) = delete;
  ~CublasGemm() override {
    free_on_device(workspace_);
    static_cast<void>(cublasLtDestroy(handle_));
  }

  std::string name() const override { return version(); }

  bool multiply(Stream stream, const GemmCall& call) override {
    Shape& shape = find(stream, call);
    if (!shape.algorithm) return false;
    check(shape.plan->run(handle_, call, *shape.algorithm, workspace_, stream), key_of(call).c_str());
    return true;
  }

 private:
  struct Shape {
    std::unique_ptr<Plan> plan;
    std::optional<cublasLtMatmulAlgo_t> algorithm;
  };
  static std::string version() {
    const std::size_t number = cublasLtGetVersion();  // 130100: 13.1.0
    return "cuBLASLt " + std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." + std::to_string(number % 100);
  }

  Shape& find(Stream stream, const GemmCall& call) {
    const std::string key = key_of(call);
    if (const auto known = shapes_.find(key); known != shapes_.end()) return known->second;
    Shape& shape = shapes_[key];
    shape.plan = std::make_unique<Plan>(call);
    if (const std::optional<std::string> stored = file_.find(key)) {
      if (stored->size() == sizeof(cublasLtMatmulAlgo_t)) std::memcpy(&shape.algorithm.emplace(), stored->data(), stored->size());
      return shape;
    }
    shape.algorithm = fastest(stream, call, *shape.plan);
    file_.add(
        key, shape.algorithm ? std::string(reinterpret_cast<const char*>(&*shape.algorithm), sizeof(cublasLtMatmulAlgo_t)) : std::string());
    return shape;
  }

  /// Of what is proposed. The trials write a matrix of their own, so a call that adds to c may be repeated.
  std::optional<cublasLtMatmulAlgo_t> fastest(Stream stream, const GemmCall& call, Plan& plan) {
    const std::vector<cublasLtMatmulAlgo_t> algorithms = plan.proposals(handle_);
    if (algorithms.empty()) return std::nullopt;
    if (algorithms.size() == 1) return algorithms.front();
    GemmCall trial = call;
    void* const elsewhere = allocate_on_device(call.M * call.c_ld * bytes_of(call.c_type));
    trial.c = elsewhere;
    if (call.add == nullptr) trial.beta = 0;
    const Event begin = make_event(), end = make_event();
    std::optional<cublasLtMatmulAlgo_t> best;
    float least = 0;
    for (const cublasLtMatmulAlgo_t& algorithm : algorithms) {
      if (plan.run(handle_, trial, algorithm, workspace_, stream) != CUBLAS_STATUS_SUCCESS) continue;  // warms up
      record(begin, stream);
      for (int i = 0; i < kRepetitions; ++i) static_cast<void>(plan.run(handle_, trial, algorithm, workspace_, stream));
      record(end, stream);
      const float took = milliseconds_between(begin, end);
      if (!best || took < least) best = algorithm, least = took;
    }
    destroy(begin);
    destroy(end);
    free_on_device(elsewhere);
    return best;
  }

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  AlgorithmFile file_;
  std::unordered_map<std::string, Shape> shapes_;
};

}  // namespace

std::unique_ptr<LibraryGemm> make_library_gemm() { return std::make_unique<CublasGemm>(); }

}  // namespace elastiform::ELASTIFORM_GPU
