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
  const BandClocks::Band& c = clock(rectangle);
  if (!c.fades()) return;
  backend.scale(rectangle.of(moments_[0]), c.fade1);
  if (moments_.size() > 1) backend.scale(rectangle.of(moments_[1]), c.fade2);
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
std::unique_ptr<Optimizer> make(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend) {
  return std::make_unique<Made>(options, std::move(table), backend);
}

constexpr std::array kOptimizers{
    OptimizerEntry{"sgd", "gradient descent with momentum", "momentum nesterov", make<SgdOptimizer>, SgdOptimizer::state_bytes,
                   SgdOptimizer::set_defaults, SgdOptimizer::refuses},
    OptimizerEntry{"lion", "the sign of a moment; half of AdamW's state (arXiv 2302.06675)", "beta1 beta2", make<LionOptimizer>,
                   LionOptimizer::state_bytes, LionOptimizer::set_defaults, LionOptimizer::refuses},
    OptimizerEntry{"adamw", "AdamW with a step counter per band (arXiv 1711.05101)", "beta1 beta2 eps", make<AdamwOptimizer>,
                   AdamwOptimizer::state_bytes},
    OptimizerEntry{"lars", "momentum with a rate per tensor, for large batches (arXiv 1708.03888)", "momentum trust", make<LarsOptimizer>,
                   LarsOptimizer::state_bytes, LarsOptimizer::set_defaults, LarsOptimizer::refuses},
    OptimizerEntry{"lamb", "AdamW with a rate per tensor, for large batches (arXiv 1904.00962)", "beta1 beta2 eps", make<LambOptimizer>,
                   LambOptimizer::state_bytes, LambOptimizer::set_defaults, LambOptimizer::refuses},
    OptimizerEntry{"adafactor", "second moments by rows and columns; next to no state (arXiv 1804.04235)", "", make<AdafactorOptimizer>,
                   AdafactorOptimizer::state_bytes, AdafactorOptimizer::set_defaults, AdafactorOptimizer::refuses},
    OptimizerEntry{"adamw8bit", "AdamW with moments of 8 bits; about a quarter of its state (arXiv 2110.02861)", "beta1 beta2 eps",
                   make<Adamw8bitOptimizer>, Adamw8bitOptimizer::state_bytes},
};

}  // namespace

std::span<const OptimizerEntry> optimizers() { return kOptimizers; }

bool OptimizerEntry::reads(std::string_view key) const { return names_key(keys, key); }

const OptimizerEntry& find_optimizer(std::string_view name) {
  std::string names;
  for (const OptimizerEntry& entry : kOptimizers) {
    if (entry.name == name) return entry;
    names += (names.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw InputError({"recipe: train.optimizer", "one of " + names, '"' + std::string(name) + '"', ""});
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
