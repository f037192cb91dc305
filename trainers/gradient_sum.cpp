#include "trainers/gradient_sum.hpp"

#include <stdexcept>
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
  return ranks.size() > 1 ? table.trained_elements() * bytes_of(dtype) : 0;  // all bands may be active
}

}  // namespace

struct GradientSum::Part final : SummedNumbers {
  GradientSum& all;
  SharedSum sum;
  std::size_t first = 0, count = 0;  // its rectangles
  std::int64_t first_byte = 0, bytes = 0;
  enum class Progress { forming, pushed, done } progress = Progress::forming;  // of the micro-batch; done: of the step

  Part(GradientSum& gradients, std::int64_t micro_batches, int tag) : all(gradients), sum(micro_batches, all.ranks_, tag) {}
  bool is_active() const { return count > 0; }

  void add(int to, int from) override {
    for_each([&](std::size_t i) { all.backend_.add(rectangle(i, to), rectangle(i, from)); });
  }
  std::span<std::byte> packed(int slot) override {
    for_each([&](std::size_t i) { all.backend_.copy(place(i), rectangle(i, slot)); });
    if (all.on_host_) all.backend_.memory().copy(room().data(), all.message_.get() + first_byte, bytes);
    return room();
  }
  std::span<std::byte> room() override {
    return {(all.on_host_ ? all.on_host_ : all.message_).get() + first_byte, static_cast<std::size_t>(bytes)};
  }
  void add_received(int slot) override {
    take();
    for_each([&](std::size_t i) { all.backend_.add(rectangle(i, slot), place(i)); });
  }
  void copy_received(int slot) override {
    take();
    for_each([&](std::size_t i) { all.backend_.copy(rectangle(i, slot), place(i)); });
  }

 private:
  void take() {
    if (all.on_host_) all.backend_.memory().copy(all.message_.get() + first_byte, room().data(), bytes);
  }
  View rectangle(std::size_t i, int slot) const { return all.rectangles_[i].of(all.buffer(slot)); }
  View place(std::size_t i) const {
    const BandRectangle& one = all.rectangles_[i];
    return {all.message_.get() + all.places_[i], one.rows, one.columns, one.columns, all.backend_.dtype()};
  }
  /// body(the number of a rectangle), spread over workers.
  template <class Body>
  void for_each(const Body& body) {
    all.backend_.for_each(static_cast<std::int64_t>(count), [&](std::int64_t i) { body(first + static_cast<std::size_t>(i)); });
  }
};

GradientSum::GradientSum(std::shared_ptr<const WeightTable> table, Backend& backend, std::int64_t micro_batches, Communicator& ranks)
    : backend_(backend), ranks_(ranks), link_(&ranks),
      overlaps_(ranks.size() > 1 && ranks.overlaps() && &backend.memory() == &host_memory()),
      message_capacity_(message_capacity(*table, backend.dtype(), ranks)), message_(allocate_block(message_capacity_, backend.memory())),
      passes_(static_cast<std::size_t>(table->space().max_depth())), passes_of_step_(passes_) {
  const SumTree tree = tree_of(micro_batches, ranks);
  for (int slot = 0; slot < tree.slots(); ++slot) buffers_.emplace_back(table, backend.dtype(), backend.memory(), Held::trained);
  const int parts = overlaps_ ? table->space().max_depth() + 1 : 1;
  for (int part = 0; part < parts; ++part) parts_.push_back(std::make_unique<Part>(*this, micro_batches, part + 1));
  found_.reserve(most_band_rectangles(*table));
  rectangles_.reserve(found_.capacity());
  places_.reserve(found_.capacity());
  tickets_.reserve(parts_.size());
}

GradientSum::~GradientSum() = default;

std::int64_t GradientSum::first() const { return parts_.back()->sum.tree().first(); }
std::int64_t GradientSum::count() const { return parts_.back()->sum.tree().count(); }

std::size_t GradientSum::part_of(int block) const {
  return overlaps_ && block >= 0 ? parts_.size() - 2 - static_cast<std::size_t>(block) : parts_.size() - 1;
}

// Not when it is made: then the other ranks may not have been called yet.
void GradientSum::connect() {
  connected_ = true;
  if (ranks_.size() == 1 || &backend_.memory() == &host_memory()) return;
  device_link_ = backend_.make_link(ranks_);
  if (device_link_) link_ = device_link_.get();
  else on_host_ = allocate_block(message_capacity_);
}

void GradientSum::begin(const ActiveBands& active, std::span<const Subnet> subnets) {
  if (!connected_) connect();
  list_rectangles(active);
  for (const auto& part : parts_) part->progress = Part::Progress::forming;
  formed_ = 0;
  reduced_bytes_ = 0;
  passes_of_step_.assign(passes_of_step_.size(), 0);
  for (const Subnet& subnet : subnets)
    for (int i = 0; i < subnet.depth(); ++i) ++passes_of_step_[static_cast<std::size_t>(subnet.block_index(i))];
  passes_ = passes_of_step_;
}

void GradientSum::list_rectangles(const ActiveBands& active) {
  band_rectangles(
      buffers_.front().table(), [&](std::int64_t band) { return active[band] ? 0 : -1; }, found_);
  rectangles_.clear();
  places_.clear();
  packed_bytes_ = 0;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    Part& part = *parts_[i];
    part.first = rectangles_.size();
    part.first_byte = packed_bytes_;
    for (const BandRectangle& one : found_) {
      if (part_of(one.tensor->block) != i) continue;
      rectangles_.push_back(one);
      places_.push_back(packed_bytes_);
      packed_bytes_ += one.rows * one.columns * bytes_of(backend_.dtype());
    }
    part.count = rectangles_.size() - part.first;
    part.bytes = packed_bytes_ - part.first_byte;
  }
}

Weights& GradientSum::next() { return buffer(parts_.back()->sum.tree().next_slot()); }

void GradientSum::push(Part& part) {
  if (part.is_active()) part.sum.push(part);
  part.progress = Part::Progress::pushed;
}

void GradientSum::block_done(int block) {
  int& passes = passes_[static_cast<std::size_t>(block)];
  if (passes == 0) throw std::logic_error("gradients of block " + std::to_string(block) + " are formed after they were complete");
  if (--passes > 0 || !overlaps_ || formed_ + 1 < count()) return;
  push(*parts_[part_of(block)]);
  go_on();
}

void GradientSum::add() {
  for (const auto& part : parts_)
    if (part->progress == Part::Progress::forming) push(*part);
  if (++formed_ == count()) return go_on();
  for (const auto& part : parts_) part->progress = Part::Progress::forming;
  passes_ = passes_of_step_;
}

void GradientSum::go_on() {
  tickets_.clear();
  for (const auto& one : parts_) {
    Part& part = *one;
    if (part.progress != Part::Progress::pushed) continue;
    const std::int64_t before = part.sum.sent_bytes();
    if (!part.is_active() || part.sum.go_on(*link_, part)) part.progress = Part::Progress::done;
    else tickets_.push_back(part.sum.awaited());
    reduced_bytes_ += part.sum.sent_bytes() - before;
  }
}

Weights& GradientSum::finish() {
  if (formed_ != count()) throw std::logic_error("GradientSum: fewer micro-batches than this rank has");
  for (go_on(); !tickets_.empty(); go_on()) link_->wait_for_any(tickets_);
  link_->check_queued();
  return buffer(parts_.back()->sum.slot());
}

std::int64_t GradientSum::bytes() const {
  return static_cast<std::int64_t>(buffers_.size()) * buffers_.front().bytes() + message_capacity_;
}

std::int64_t GradientSum::plan_bytes(const WeightTable& table, DType dtype, std::int64_t micro_batches, const Communicator& ranks) {
  return tree_of(micro_batches, ranks).slots() * table.trained_elements() * bytes_of(dtype) + message_capacity(table, dtype, ranks);
}

}  // namespace elastiform
