#include "experiments/bench/support/growth.hpp"

#include <algorithm>
#include <cmath>

#include "experiments/bench/support/machine.hpp"
#include "experiments/bench/support/shape.hpp"
#include "experiments/bench/support/steps.hpp"
#include "kernels/cpu/cpu_backend.hpp"

namespace elastiform {
namespace {

constexpr int kTokens = 2048, kHeadDim = 64, kSteps = 3;

void fill(View view) {
  for (std::int64_t i = 0; i < view.rows; ++i)
    for (std::int64_t j = 0; j < view.columns; ++j) view.row<float>(i)[j] = static_cast<float>((i * 31 + j * 17) % 64) / 64 - 0.5f;
}

/// Seconds of one layer's attention, forward and backward.
double attention_seconds(CpuBackend& backend, int context, int embed) {
  const std::int64_t heads = embed / kHeadDim;
  const AttentionShape shape{.batch = kTokens / context,
                             .query_tokens = context,
                             .key_tokens = context,
                             .heads = heads,
                             .groups = heads,
                             .head_dim = kHeadDim,
                             .scale = 1 / std::sqrt(static_cast<double>(kHeadDim))};
  Arena arena(8 * Arena::bytes_for(kTokens, embed, DType::float32) + Arena::bytes_for(heads, kTokens, DType::float32));
  const auto matrix = [&] {
    const View view = arena.matrix(kTokens, embed, DType::float32);
    fill(view);
    return view;
  };
  const View q = matrix(), k = matrix(), v = matrix(), out = matrix(), dout = matrix(), dq = matrix(), dk = matrix(), dv = matrix();
  const View lse = arena.matrix(heads, kTokens, DType::float32);
  return best_seconds([&] {
    backend.attention_forward({.out = out, .lse = lse, .q = q, .k = k, .v = v, .shape = shape});
    backend.attention_backward(
        {.dq = dq, .dk = dk, .dv = dv, .dout = dout, .out = out, .lse = lse, .q = q, .k = k, .v = v, .shape = shape});
  });
}

GrowthRow measure(std::string grows, Precision precision, int threads, int context, int layers, int embed) {
  reset_peak_resident();
  const ThreadPool pool(threads);
  CpuBackend backend(pool, precision);
  const SearchSpace space = uniform_space(embed, layers, context, 256);
  TrainingSteps steps(space, backend, initial_weights(space), kTokens / context, false);
  const std::vector<Subnet> subnets{space.largest()};
  steps.step(subnets);
  double best = seconds_of([&] { steps.step(subnets); });
  for (int i = 1; i < kSteps; ++i) best = std::min(best, seconds_of([&] { steps.step(subnets); }));
  GrowthRow row{.grows = std::move(grows), .threads = threads, .context = context, .layers = layers, .embed = embed};
  row.peak_mib = peak_resident_mib();
  row.microseconds_a_token = 1e6 * best / kTokens;
  row.attention_microseconds_a_token = 1e6 * layers * attention_seconds(backend, context, embed) / kTokens;
  return row;
}

}  // namespace

std::vector<GrowthRow> measure_growth(Precision precision, int threads) {
  std::vector<int> counts{1};
  if (threads > 1) counts.push_back(threads);
  std::vector<GrowthRow> rows;
  for (const int count : counts) {
    for (const int context : {128, 256, 512, 1024}) rows.push_back(measure("tokens", precision, count, context, 6, 384));
    for (const int layers : {2, 4, 8, 16}) rows.push_back(measure("layers", precision, count, 256, layers, 384));
    for (const int embed : {192, 384, 768}) rows.push_back(measure("width", precision, count, 256, 6, embed));
  }
  return rows;
}

}  // namespace elastiform
