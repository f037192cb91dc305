#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/collectives/sum_tree.hpp"
#include "kernels/memory_block.hpp"
#include "trainers/optimizers/bands.hpp"

namespace elastiform {

/// Gradients of a step: those of its n micro-batches, each formed by itself, added in one fixed tree over their numbers (SumTree). The bits
/// depend on n alone: one process with n micro-batches and n ranks with one each have the same. Between ranks only the active bands travel,
/// packed.
class GradientSum {
 public:
  /// Throws InputError when the micro-batches cannot be dealt equally to the ranks.
  GradientSum(std::shared_ptr<const WeightTable> table, Backend& backend, std::int64_t micro_batches, Communicator& ranks);

  /// Micro-batches of this rank: [first(), first() + count()).
  std::int64_t first() const { return tree_.first(); }
  std::int64_t count() const { return tree_.count(); }

  /// A step in which `active` is touched: next() is where the gradients of the next micro-batch are formed, add() says that they are.
  void begin(const ActiveBands& active);
  Weights& next() { return buffers_[static_cast<std::size_t>(tree_.next_slot())]; }
  void add();
  /// The sum over all micro-batches, on every rank: defined in the active bands, until the next step. The one place where ranks exchange
  /// gradients.
  const Weights& finish();

  std::int64_t packed_bytes() const { return packed_bytes_; }    // of the active bands: what one message takes
  std::int64_t reduced_bytes() const { return reduced_bytes_; }  // that this rank sent towards the last sum

  std::int64_t bytes() const;  // that it holds
  static std::int64_t plan_bytes(const WeightTable& table, DType dtype, std::int64_t micro_batches, const Communicator& ranks);

 private:
  Weights& buffer(int slot) { return buffers_[static_cast<std::size_t>(slot)]; }
  void add_slots(int to, int from);
  /// body(a rectangle of the slot, its place in the message), spread over workers.
  template <class Body>
  void for_each_packed(int slot, const Body& body);

  std::span<std::byte> message_to_send();     // what was packed, where the link can read it
  std::span<std::byte> message_to_receive();  // where the link can write it
  void received();                            // brings it to message_

  Backend& backend_;
  Communicator& ranks_;
  Link& link_;  // of the memory that gradients are in
  SumTree tree_;
  std::vector<Weights> buffers_;  // by slot
  std::int64_t message_capacity_ = 0, packed_bytes_ = 0, reduced_bytes_ = 0;
  MemoryBlock message_;  // in the backend's memory; empty where there is no other rank
  MemoryBlock on_host_;  // what the link takes; empty where that is message_ itself
  std::vector<BandRectangle> rectangles_;
  std::vector<std::int64_t> places_;  // bytes before each in the message
};

}  // namespace elastiform
