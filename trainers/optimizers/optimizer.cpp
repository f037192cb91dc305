#include "trainers/optimizers/optimizer.hpp"

#include <array>

#include "kernels/errors.hpp"
#include "trainers/optimizers/adafactor.hpp"
#include "trainers/optimizers/adamw.hpp"
#include "trainers/optimizers/adamw8bit.hpp"
#include "trainers/optimizers/lamb.hpp"
#include "trainers/optimizers/lars.hpp"
#include "trainers/optimizers/lion.hpp"
#include "trainers/optimizers/sgd.hpp"
#include "trainers/registry.hpp"

namespace elastiform {

StateArray::StateArray(std::int64_t count, DType dtype, MemorySpace& memory)
    : count_(count), dtype_(dtype), memory_(&memory), data_(allocate_block(count * bytes_of(dtype), memory)) {
  if (count > 0) memory.zero(data_.get(), bytes());
}

MomentOptimizer::MomentOptimizer(const TrainOptions& options, const MomentRule& rule, std::shared_ptr<const WeightTable> table,
                                 const Backend& backend)
    : options_(options), clocks_(options, rule, *table) {
  rectangles_.reserve(most_band_rectangles(*table));
  moments_.emplace_back(table, backend.dtype(), backend.memory(), Held::trained);
  if (rule.has_second()) moments_.emplace_back(table, backend.dtype(), backend.memory(), Held::trained);
}

void MomentOptimizer::begin_update(const WeightTable& table, const ActiveBands& active, const UpdateStep& step) {
  clocks_.advance(active, step);
  clocks_.rectangles(table, active, rectangles_);
}

void MomentOptimizer::fade(Backend& backend, const BandRectangle& rectangle) {
  elastiform::fade(backend, clock(rectangle), rectangle.of(moments_[0]), moments_.size() > 1 ? rectangle.of(moments_[1]) : View{});
}

void fade(Backend& backend, const BandClocks::Band& clock, View m, View v) {
  if (!clock.fades()) return;
  backend.scale(m, clock.fade1);
  if (!v.empty()) backend.scale(v, clock.fade2);
}

std::int64_t MomentOptimizer::bytes() const {
  return static_cast<std::int64_t>(moments_.size()) * moments_.front().bytes() + clocks_.bytes();
}

std::map<std::string, Weights*> MomentOptimizer::moments() {
  std::map<std::string, Weights*> named{{"m", &moments_[0]}};
  if (moments_.size() > 1) named["v"] = &moments_[1];
  return named;
}

namespace {

template <class Made>
std::int64_t state_bytes(const TrainOptions& options, const WeightTable& table) {
  const MomentRule rule = Made::rule_of(options);
  return rule.moments * table.trained_elements() * bytes_of(DType::float32) + BandClocks::state_bytes(options, rule, table.band_count());
}

template <class Made>
std::unique_ptr<Optimizer> make(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend) {
  return std::make_unique<Made>(options, std::move(table), backend);
}

constexpr std::array kOptimizers{
    OptimizerEntry{"sgd", "gradient descent with momentum", "momentum nesterov", make<SgdOptimizer>, state_bytes<SgdOptimizer>,
                   SgdOptimizer::set_defaults, SgdOptimizer::refuses},
    OptimizerEntry{"lion", "the sign of a moment; half of AdamW's state (arXiv 2302.06675)", "beta1 beta2", make<LionOptimizer>,
                   state_bytes<LionOptimizer>, LionOptimizer::set_defaults, LionOptimizer::refuses},
    OptimizerEntry{"adamw", "AdamW with a step counter per band (arXiv 1711.05101)", "beta1 beta2 eps", make<AdamwOptimizer>,
                   state_bytes<AdamwOptimizer>},
    OptimizerEntry{"lars", "momentum with a rate per tensor, for large batches (arXiv 1708.03888)", "momentum trust", make<LarsOptimizer>,
                   state_bytes<LarsOptimizer>, LarsOptimizer::set_defaults, LarsOptimizer::refuses},
    OptimizerEntry{"lamb", "AdamW with a rate per tensor, for large batches (arXiv 1904.00962)", "beta1 beta2 eps", make<LambOptimizer>,
                   state_bytes<LambOptimizer>, LambOptimizer::set_defaults, LambOptimizer::refuses},
    OptimizerEntry{"adafactor", "second moments by rows and columns; next to no state (arXiv 1804.04235)", "", make<AdafactorOptimizer>,
                   AdafactorOptimizer::state_bytes, AdafactorOptimizer::set_defaults, AdafactorOptimizer::refuses},
    OptimizerEntry{"adamw8bit", "AdamW with moments of 8 bits; about a quarter of its state (arXiv 2110.02861)", "beta1 beta2 eps",
                   make<Adamw8bitOptimizer>, Adamw8bitOptimizer::state_bytes},
};

}  // namespace

std::span<const OptimizerEntry> optimizers() { return kOptimizers; }

bool OptimizerEntry::reads(std::string_view key) const { return names_key(keys, key); }

const OptimizerEntry& find_optimizer(std::string_view name) { return find_entry(optimizers(), name, "recipe: train.optimizer"); }

std::string_view refuses_without_corrections(BandPolicy policy) {
  return policy == BandPolicy::lazy_global ? "it corrects nothing by a clock, so that would be lazy-local" : "";
}

void check_policy(const TrainOptions& options) {
  const std::string_view reason = find_optimizer(options.optimizer).refuses(parse_band_policy(options.policy));
  if (!reason.empty())
    throw InputError({"recipe: train.policy", "one that " + options.optimizer + " can work under",
                      '"' + options.policy + "\": " + std::string(reason), "\"lazy-local\" works with every optimizer"});
}

std::unique_ptr<Optimizer> make_optimizer(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend) {
  check_policy(options);
  return find_optimizer(options.optimizer).make(options, std::move(table), backend);
}

}  // namespace elastiform
