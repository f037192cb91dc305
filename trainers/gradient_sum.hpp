#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/collectives/shared_sum.hpp"
#include "kernels/memory_block.hpp"
#include "trainers/optimizers/bands.hpp"

namespace elastiform {

/// Gradients of a step: those of its n micro-batches, each formed by itself, added in one fixed tree over their numbers (SumTree). The bits
/// depend on n alone: one process with n micro-batches and n ranks with one each have the same. Between ranks only the active bands travel,
/// packed, and those of a block while the blocks before it are still in their backward passes.
class GradientSum {
 public:
  /// Throws InputError when the micro-batches cannot be dealt equally to the ranks.
  GradientSum(std::shared_ptr<const WeightTable> table, Backend& backend, std::int64_t micro_batches, Communicator& ranks);
  ~GradientSum();
  GradientSum(const GradientSum&) = delete;
  GradientSum& operator=(const GradientSum&) = delete;

  /// Micro-batches of this rank: [first(), first() + count()).
  std::int64_t first() const;
  std::int64_t count() const;

  /// A step of these subnets, whose bands are `active`: next() is where the gradients of the next micro-batch are formed, add() says that
  /// they are.
  void begin(const ActiveBands& active, std::span<const Subnet> subnets);
  Weights& next();
  /// Of the micro-batch that is being formed: one subnet's backward pass through a block is done. After that of the last subnet that has the
  /// block nothing may change the block's gradients: in this rank's last micro-batch they set out.
  void block_done(int block);
  void add();
  /// The sum over all micro-batches, on every rank: defined in the active bands, until the next begin(), and the caller's to write to.
  /// Returns when all have it.
  Weights& finish();

  std::int64_t packed_bytes() const { return packed_bytes_; }    // of the active bands: what one message of each takes
  std::int64_t reduced_bytes() const { return reduced_bytes_; }  // that this rank sent towards the last sum

  std::int64_t bytes() const;  // that it holds
  static std::int64_t plan_bytes(const WeightTable& table, DType dtype, std::int64_t micro_batches, const Communicator& ranks);

 private:
  /// The bands that travel together: a block's, or all that are outside of blocks.
  struct Part;
  Weights& buffer(int slot) { return buffers_[static_cast<std::size_t>(slot)]; }
  std::size_t part_of(int block) const;
  void connect();
  void list_rectangles(const ActiveBands& active);
  void push(Part& part);
  /// All parts that have set out, without waiting; what they wait for goes into tickets_.
  void go_on();

  Backend& backend_;
  Communicator& ranks_;
  std::unique_ptr<Link> device_link_;
  Link* link_;                                // of the memory that messages are in
  const bool overlaps_;                       // with backward passes
  std::vector<std::unique_ptr<Part>> parts_;  // as backward comes to them
  std::vector<Weights> buffers_;              // by slot
  std::int64_t message_capacity_ = 0, packed_bytes_ = 0, reduced_bytes_ = 0;
  MemoryBlock message_;  // in the backend's memory, a place for each part; empty where there is no other rank
  MemoryBlock on_host_;  // what the link takes; empty where that is message_ itself
  bool connected_ = false;
  std::int64_t formed_ = 0;  // micro-batches of the step
  std::vector<int> passes_;  // by block: of the micro-batch, still to come
  std::vector<int> passes_of_step_;
  std::vector<BandRectangle> found_, rectangles_;  // the latter part by part
  std::vector<std::int64_t> places_;               // bytes before each in the message
  std::vector<Link::Ticket> tickets_;
};

}  // namespace elastiform
