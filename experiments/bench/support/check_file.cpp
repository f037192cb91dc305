#include "experiments/bench/support/check_file.hpp"

#include <fmt/format.h>

#include <fstream>
#include <memory>

#include "experiments/bench/support/steps.hpp"
#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/errors.hpp"

namespace elastiform {
namespace {

std::string list_of(const std::vector<std::int32_t>& values) { return fmt::format("[{}]", fmt::join(values, ", ")); }

/// Writes the weights and says in JSON where each stands.
std::string write_weights(std::ofstream& out, const Weights& weights) {
  std::string tensors;
  std::int64_t offset = 0;
  for (const TensorSpec& tensor : weights.table().tensors()) {
    const ConstView view = weights.view(tensor);
    tensors += fmt::format("{}\n  \"{}\": [{}, {}, {}]", tensors.empty() ? "" : ",", tensor.name, offset, view.rows, view.columns);
    for (std::int64_t i = 0; i < view.rows; ++i)
      out.write(reinterpret_cast<const char*>(view.row<float>(i)), view.columns * static_cast<std::int64_t>(sizeof(float)));
    offset += view.size();
  }
  return tensors;
}

std::string result(const Network& network, Backend& backend, const Weights& weights, const Subnet& subnet, const Batch& batch) {
  Weights gradients(weights.shared_table(), DType::float32);
  const ActivationPlan plan = network.plan_training(backend.traits(), subnet, {batch.sequences, batch.tokens, false});
  Arena arena(plan.arena_bytes);
  const LossReport report = network.forward_backward(backend, weights, gradients, subnet, batch, {}, {}, {}, plan, arena);
  const std::vector<Subnet> one{subnet};
  BandScratch scratch(weights.table());
  const double norm = global_norm(backend, gradients, ActiveBands(weights.table(), one), scratch);
  return fmt::format("\n  [\"{}\", {:.9g}, {:.9g}]", format(subnet), report.label_loss, norm);
}

}  // namespace

void write_check(const std::string& path, const Shape& shape, int threads) {
  const ThreadPool pool(threads);
  CpuBackend backend(pool);
  const Network network(shape.space, DType::float32);
  const Weights weights = initial_weights(shape.space);
  const Batch batch = random_batch(shape.space.model().vocabulary, shape.sequences, shape.context());
  std::ofstream numbers(path + ".weights", std::ios::binary);
  const std::string tensors = write_weights(numbers, weights);
  std::vector<Subnet> subnets{shape.space.largest(), shape.space.smallest()};
  subnets.insert(subnets.end(), shape.list.begin(), shape.list.end());
  std::string results;
  for (const Subnet& subnet : subnets) results += (results.empty() ? "" : ",") + result(network, backend, weights, subnet, batch);
  std::ofstream out(path);
  out << "{\"work\": " << work_text(shape) << ",\n \"inputs\": " << list_of(batch.inputs) << ",\n \"targets\": " << list_of(batch.targets)
      << ",\n \"tensors\": {" << tensors << "},\n \"results\": [" << results << "]}\n";
  if (!out.flush() || !numbers.flush())
    throw InputError({.where = path, .expected = "a file that can be written", .found = "an error", .remedy = ""});
}

}  // namespace elastiform
