#include "trainers/frozen_teacher.hpp"

#include <stdexcept>
#include <utility>

#include "supernet/arena_bytes.hpp"

namespace elastiform {
namespace {

std::unique_ptr<const Weights> placed(std::unique_ptr<const Weights> weights, const Backend& backend) {
  if (!weights || weights->dtype() != backend.dtype()) throw std::logic_error("teacher: weights of the backend's type");
  if (&weights->memory() == &backend.memory()) return weights;
  return std::make_unique<const Weights>(copied(*weights, backend.memory()));
}

}  // namespace

SearchSpace teacher_space(const ModelConfig& model, const Subnet& subnet) {
  ModelConfig plain = model;
  plain.tuning = {};
  return SearchSpace::of(plain, subnet);
}

FrozenTeacher::FrozenTeacher(std::unique_ptr<const Weights> weights, Backend& backend)
    : weights_(placed(std::move(weights), backend)), network_(weights_->table().space(), backend.dtype(), backend.memory()),
      subnet_(weights_->table().space().largest()) {}

void FrozenTeacher::hidden(Backend& backend, const Batch& batch, View hidden, Arena& arena) const {
  network_.hidden(backend, *weights_, subnet_, batch, hidden, arena);
}

std::int64_t FrozenTeacher::arena_bytes(const SearchSpace& space, const BackendTraits& traits, std::int64_t sequences) {
  return hidden_arena_bytes(space.model(), traits, space.largest(), sequences, space.model().context);
}

std::int64_t FrozenTeacher::weight_bytes(const SearchSpace& space, DType dtype) { return WeightTable(space).elements() * bytes_of(dtype); }

}  // namespace elastiform
