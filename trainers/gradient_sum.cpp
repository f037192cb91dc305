#include "trainers/gradient_sum.hpp"

#include <string>
#include <utility>

#include "kernels/errors.hpp"

namespace elastiform {
namespace {

SumTree tree_of(std::int64_t micro_batches, const Communicator& ranks) {
  if (micro_batches % ranks.size() != 0)
    throw InputError({"recipe: train.accumulation", "a multiple of the " + std::to_string(ranks.size()) + " ranks, which share it equally",
                      std::to_string(micro_batches), "start another number of processes"});
  return {micro_batches, ranks.size(), ranks.rank()};
}

std::int64_t message_capacity(const WeightTable& table, DType dtype, const Communicator& ranks) {
  return ranks.size() > 1 ? table.elements() * bytes_of(dtype) : 0;  // all bands may be active
}

}  // namespace

GradientSum::GradientSum(std::shared_ptr<const WeightTable> table, Backend& backend, std::int64_t micro_batches, Communicator& ranks)
    : backend_(backend), ranks_(ranks), link_(ranks), tree_(tree_of(micro_batches, ranks)),
      message_capacity_(message_capacity(*table, backend.dtype(), ranks)), message_(allocate_block(message_capacity_, backend.memory())),
      on_host_(allocate_block(&backend.memory() == &host_memory() ? 0 : message_capacity_)) {
  for (int slot = 0; slot < tree_.slots(); ++slot) buffers_.emplace_back(table, backend.dtype(), backend.memory());
  rectangles_.reserve(most_band_rectangles(*table));
  places_.reserve(rectangles_.capacity());
}

void GradientSum::begin(const ActiveBands& active) {
  band_rectangles(
      buffers_.front().table(), [&](std::int64_t band) { return active[band] ? 0 : -1; }, rectangles_);
  places_.clear();
  packed_bytes_ = 0;
  for (const BandRectangle& one : rectangles_) {
    places_.push_back(packed_bytes_);
    packed_bytes_ += one.rows * one.columns * bytes_of(backend_.dtype());
  }
}

void GradientSum::add() {
  tree_.push([&](int to, int from) { add_slots(to, from); });
}

void GradientSum::add_slots(int to, int from) {
  backend_.for_each(static_cast<std::int64_t>(rectangles_.size()), [&](std::int64_t i) {
    const BandRectangle& one = rectangles_[static_cast<std::size_t>(i)];
    backend_.add(one.of(buffer(to)), one.of(buffer(from)));
  });
}

template <class Body>
void GradientSum::for_each_packed(int slot, const Body& body) {
  backend_.for_each(static_cast<std::int64_t>(rectangles_.size()), [&](std::int64_t i) {
    const BandRectangle& one = rectangles_[static_cast<std::size_t>(i)];
    std::byte* const place = message_.get() + places_[static_cast<std::size_t>(i)];
    body(one.of(buffer(slot)), View(place, one.rows, one.columns, one.columns, backend_.dtype()));
  });
}

std::span<std::byte> GradientSum::message_to_send() {
  if (on_host_) backend_.memory().copy(on_host_.get(), message_.get(), packed_bytes_);
  return message_to_receive();
}

std::span<std::byte> GradientSum::message_to_receive() {
  std::byte* const bytes = on_host_ ? on_host_.get() : message_.get();
  return {bytes, bytes ? static_cast<std::size_t>(packed_bytes_) : 0};
}

void GradientSum::received() {
  if (on_host_) backend_.memory().copy(message_.get(), on_host_.get(), packed_bytes_);
}

const Weights& GradientSum::finish() {
  const std::int64_t before = link_.sent_bytes();
  const int sum = tree_.finish([&](int to, int from) { add_slots(to, from); },
                               [&](int slot, int rank) {
                                 for_each_packed(slot, [&](View here, View packed) { backend_.copy(packed, here); });
                                 link_.send(rank, message_to_send());
                               },
                               [&](int slot, int rank) {
                                 link_.receive(rank, message_to_receive());
                                 received();
                                 for_each_packed(slot, [&](View here, View packed) { backend_.add(here, packed); });
                               });
  reduced_bytes_ = link_.sent_bytes() - before;
  if (ranks_.size() == 1) return buffer(sum);
  // Back to all, so that every rank goes on with the same bits.
  const int slot = ranks_.leads() ? sum : tree_.next_slot();
  if (ranks_.leads()) for_each_packed(slot, [&](View here, View packed) { backend_.copy(packed, here); });
  broadcast(ranks_, link_, ranks_.leads() ? message_to_send() : message_to_receive());
  if (!ranks_.leads()) received();
  if (!ranks_.leads()) for_each_packed(slot, [&](View here, View packed) { backend_.copy(here, packed); });
  return buffer(slot);
}

std::int64_t GradientSum::bytes() const {
  return static_cast<std::int64_t>(buffers_.size()) * buffers_.front().bytes() + message_capacity_;
}

std::int64_t GradientSum::plan_bytes(const WeightTable& table, DType dtype, std::int64_t micro_batches, const Communicator& ranks) {
  return tree_of(micro_batches, ranks).slots() * table.elements() * bytes_of(dtype) + message_capacity(table, dtype, ranks);
}

}  // namespace elastiform
