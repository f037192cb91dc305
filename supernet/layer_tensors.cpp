#include "supernet/layer_tensors.hpp"

namespace elastiform {
namespace {

// FLOPs of a GEMM in the time of a byte that elementwise work reads or writes, a core (bench_cpu.md): norms and GELU at 11 GB/s beside 130
// GFLOP/s in float32, at 5 GB/s beside 580 GFLOP/s in bf16 on AMX. Only which plan is chosen depends on it, never a result.
constexpr std::int64_t flops_per_byte(const BackendTraits& traits) { return traits.operand == DType::bfloat16 ? 100 : 8; }
// The same for an element that is compressed and decompressed, 1.6 ns, and for a byte that is written to a file and read again.
constexpr std::int64_t flops_of_compression(const BackendTraits& traits) { return traits.operand == DType::bfloat16 ? 900 : 200; }
constexpr std::int64_t flops_per_byte_away(const BackendTraits& traits) { return traits.operand == DType::bfloat16 ? 430 : 100; }

/// Calls visit(id, tensor) for the tensors that are present and, as asked, dropped or not.
template <class Visit>
void each(const LayerTensors& tensors, TensorSet dropped, bool which, const Visit& visit) {
  for (std::size_t id = 0; id < tensors.kept.size(); ++id)
    if (tensors.kept[id].shape.rows > 0 && dropped.has(static_cast<int>(id)) == which) visit(static_cast<int>(id), tensors.kept[id]);
}

DType type_of(const KeptTensor& tensor, const BackendTraits& traits) { return tensor.operand ? traits.operand : traits.dtype; }

std::int64_t bytes_of(const KeptTensor& tensor, const BackendTraits& traits) { return tensor.shape.bytes(type_of(tensor, traits)); }

TensorShape codes_shape(const KeptTensor& tensor, int bits) {
  return {tensor.shape.rows, compressed_row_bytes(tensor.shape.columns, bits)};
}

/// Calls visit(id, tensor) for the tensors that are present and neither dropped nor kept as they are.
template <class Visit>
void each_waiting(const LayerTensors& tensors, const LayerPlan& plan, const Visit& visit) {
  each(tensors, tensors.not_kept(plan.dropped), false, [&](int id, const KeptTensor& tensor) {
    if (plan.bits.of(id) > 0) visit(id, tensor);
  });
}

std::int64_t room_bytes(const LayerTensors& tensors, const LayerPlan& plan, const BackendTraits& traits) {
  std::int64_t sum = 0;
  each_waiting(tensors, plan, [&](int, const KeptTensor& tensor) { sum += bytes_of(tensor, traits); });
  return sum;
}

TensorShape forward_shape(const KeptTensor& tensor, const BackendTraits& traits) {
  return tensor.by_panel ? PanelScratch::shape(traits, tensor.shape.rows, tensor.shape.columns) : tensor.shape;
}

std::int64_t effective_bytes(const LayerTensors& tensors, const BackendTraits& traits) {
  std::int64_t sum = 0;
  for (const TensorShape& shape : tensors.effective) sum += shape.bytes(traits.dtype);
  return sum;
}

}  // namespace

TensorSet LayerTensors::not_kept(TensorSet dropped) const {
  for (std::size_t id = 0; id < kept.size(); ++id)
    if (!kept[id].read) dropped.insert(static_cast<int>(id));
  return dropped;
}

TensorSet LayerTensors::again(TensorSet dropped) const {
  const TensorSet absent = not_kept(dropped);
  TensorSet result;
  for (std::size_t id = 0; id < kept.size(); ++id)
    if (absent.has(static_cast<int>(id)) && (kept[id].read || kept[id].makes.meets(dropped))) result.insert(static_cast<int>(id));
  return result;
}

TensorSet LayerTensors::taken(TensorSet dropped) const {
  const TensorSet absent = not_kept(dropped);
  TensorSet result = again(dropped);
  for (std::size_t id = 0; id < kept.size(); ++id)
    if (absent.has(static_cast<int>(id)) && kept[id].place) result.insert(static_cast<int>(id));
  return result;
}

std::int64_t LayerTensors::saved_bytes(const LayerPlan& plan, const BackendTraits& traits) const {
  std::int64_t sum = 0;
  each(*this, not_kept(plan.dropped), false, [&](int id, const KeptTensor& tensor) {
    const int bits = plan.bits.of(id);
    if (bits != TensorBits::kAway) sum += bits == 0 ? bytes_of(tensor, traits) : codes_shape(tensor, bits).bytes(DType::uint8);
  });
  return sum;
}

std::int64_t LayerTensors::away_bytes(const LayerPlan& plan, const BackendTraits& traits) const {
  std::int64_t sum = 0;
  each_waiting(*this, plan, [&](int id, const KeptTensor& tensor) {
    if (plan.bits.of(id) == TensorBits::kAway) sum += bytes_of(tensor, traits);
  });
  return sum;
}

std::int64_t LayerTensors::forward_bytes(const LayerPlan& plan, const BackendTraits& traits) const {
  std::int64_t sum = effective_bytes(*this, traits) + room_bytes(*this, plan, traits);
  each(*this, not_kept(plan.dropped), true,
       [&](int, const KeptTensor& tensor) { sum += forward_shape(tensor, traits).bytes(type_of(tensor, traits)); });
  return sum;
}

std::int64_t LayerTensors::backward_bytes(const LayerPlan& plan, const BackendTraits& traits) const {
  std::int64_t sum = effective_bytes(*this, traits) + room_bytes(*this, plan, traits);
  for (const TensorShape& shape : backward_scratch) sum += shape.bytes(traits.dtype);
  each(*this, taken(plan.dropped), true, [&](int, const KeptTensor& tensor) { sum += bytes_of(tensor, traits); });
  return sum;
}

std::int64_t LayerTensors::flops() const {
  std::int64_t sum = result_flops;
  for (const KeptTensor& tensor : kept) sum += tensor.flops;
  return sum;
}

std::int64_t LayerTensors::recomputed_flops(const LayerPlan& plan) const {
  std::int64_t sum = 0;
  each(*this, again(plan.dropped), true, [&](int, const KeptTensor& tensor) { sum += tensor.flops; });
  return sum;
}

std::int64_t LayerTensors::cost(const LayerPlan& plan, const BackendTraits& traits) const {
  std::int64_t sum = 0;
  // Elementwise: an operand of the same size is read, the tensor is written.
  each(*this, again(plan.dropped), true, [&](int, const KeptTensor& tensor) {
    sum += tensor.flops > 0 ? tensor.flops * tensor.slowness : 2 * flops_per_byte(traits) * bytes_of(tensor, traits);
  });
  each_waiting(*this, plan, [&](int id, const KeptTensor& tensor) {
    const bool away = plan.bits.of(id) == TensorBits::kAway;
    sum += away ? flops_per_byte_away(traits) * bytes_of(tensor, traits)
                : flops_of_compression(traits) * tensor.shape.rows * tensor.shape.columns;
  });
  return sum;
}

int LayerTensors::tensors() const {
  int count = 0;
  each(*this, not_kept({}), false, [&](int, const KeptTensor&) { ++count; });
  return count;
}

int LayerTensors::compressed_tensors(const LayerPlan& plan) const {
  int count = 0;
  each_waiting(*this, plan, [&](int id, const KeptTensor&) { count += plan.bits.of(id) != TensorBits::kAway ? 1 : 0; });
  return count;
}

LayerPlan LayerTensors::compressed(LayerPlan plan, int bits) const {
  each(*this, not_kept(plan.dropped), false, [&](int id, const KeptTensor& tensor) {
    if (tensor.least_bits > 0) plan.bits.set(id, std::max(bits, tensor.least_bits));
  });
  return plan;
}

LayerPlan LayerTensors::sent_away(LayerPlan plan) const {
  each(*this, not_kept(plan.dropped), false, [&](int id, const KeptTensor& tensor) {
    if (tensor.least_bits > 0) plan.bits.set(id, TensorBits::kAway);
  });
  return plan;
}

Saved::Saved(Arena& arena, std::span<const TensorShape> shapes, DType dtype) {
  for (std::size_t id = 0; id < shapes.size(); ++id)
    if (shapes[id].rows > 0) views_[id] = arena.matrix(shapes[id].rows, shapes[id].columns, dtype);
}

Saved::Saved(Arena& arena, const LayerTensors& tensors, const LayerPlan& plan, const BackendTraits& traits, Arena* away) : plan_(plan) {
  plan_.dropped = tensors.not_kept(plan.dropped);
  each(tensors, plan_.dropped, false, [&](int id, const KeptTensor& tensor) {
    const auto at = static_cast<std::size_t>(id);
    const int bits = plan.bits.of(id);
    const TensorShape& shape = tensor.shape;
    if (bits == 0) {
      views_[at] = arena.matrix(shape.rows, shape.columns, type_of(tensor, traits));
    } else if (bits == TensorBits::kAway) {
      if (!away) throw std::logic_error("Saved: a plan sends away, but there is nowhere to send to");
      waiting_[at] = away->matrix(shape.rows, shape.columns, type_of(tensor, traits));
    } else {
      const TensorShape codes = codes_shape(tensor, bits);
      waiting_[at] = arena.matrix(codes.rows, codes.columns, DType::uint8);
    }
  });
}

void Saved::make_room(Arena& arena, const LayerTensors& tensors, const BackendTraits& traits) {
  each_waiting(tensors, plan_, [&](int id, const KeptTensor& tensor) {
    views_[static_cast<std::size_t>(id)] = arena.matrix(tensor.shape.rows, tensor.shape.columns, type_of(tensor, traits));
  });
}

namespace {

/// Calls visit(id, place where it waits, bits) for the tensors that are not kept as they are.
template <class Visit>
void each_waiting_of(const Saved& saved, const Visit& visit) {
  for (int id = 0; id < static_cast<int>(ShortList<KeptTensor>::kCapacity); ++id)
    if (const View waiting = saved.waiting(id); !waiting.empty()) visit(id, waiting, saved.plan().bits.of(id));
}

std::int64_t bytes_between(ConstView view) { return view.rows * view.ld * bytes_of(view.dtype); }

}  // namespace

void store(Backend& backend, const Saved& saved, const NoiseName& noise, std::int64_t first_row, Arena* away) {
  each_waiting_of(saved, [&](int id, View waiting, int bits) {
    const ConstView x = saved.read(id);
    NoiseName own = noise;
    own.name[1] += static_cast<std::uint32_t>(id) << 8;
    backend.panels(x.rows, [&](Rows r) {
      if (bits == TensorBits::kAway) return backend.copy(waiting[r], x[r]);
      backend.compress({.codes = waiting[r], .x = x[r], .bits = bits, .noise = own, .first_row = first_row + r.first});
    });
    if (bits == TensorBits::kAway) away->space().rest(waiting.data, bytes_between(waiting));
  });
}

void restore(Backend& backend, const Saved& saved) {
  each_waiting_of(saved, [&](int id, View waiting, int bits) {
    const View x = saved.write(id);
    backend.panels(x.rows, [&](Rows r) {
      if (bits == TensorBits::kAway) return backend.copy(x[r], waiting[r]);
      backend.decompress({.x = x[r], .codes = waiting[r], .bits = bits});
    });
  });
}

void recall(const Saved& saved, Arena& away) {
  each_waiting_of(saved, [&](int, View waiting, int bits) {
    if (bits == TensorBits::kAway) away.space().recall(waiting.data, bytes_between(waiting));
  });
}

std::int64_t Saved::address() const {
  for (const View& view : views_)
    if (!view.empty()) return elastiform::address(view.data);
  return 0;
}

ForwardTensors::ForwardTensors(Backend& backend, Arena& arena, const LayerTensors& tensors, const Saved& saved) : backend_(backend) {
  for (std::size_t id = 0; id < tensors.kept.size(); ++id) places_[id] = saved.write(static_cast<int>(id));
  each(tensors, saved.dropped(), true, [&](int id, const KeptTensor& tensor) {
    const TensorShape shape = forward_shape(tensor, backend.traits());
    places_[static_cast<std::size_t>(id)] = arena.matrix(shape.rows, shape.columns, type_of(tensor, backend.traits()));
    if (tensor.by_panel) by_panel_.insert(id);
  });
}

View ForwardTensors::rows(int id, Rows r) const {
  const View place = whole(id);
  if (place.empty()) return place;
  return by_panel_.has(id) ? PanelScratch(place, backend_.slots()).at(backend_.slot(), r.count) : place[r];
}

BackwardTensors::BackwardTensors(Backend& backend, Arena& arena, const LayerTensors& tensors, const Saved& saved)
    : backend_(backend), arena_(arena), tensors_(tensors), saved_(saved), again_(tensors.again(saved.dropped())),
      taken_(tensors.taken(saved.dropped())), scratch_(arena, tensors.backward_scratch, backend.dtype()) {}

View BackwardTensors::take(int id) const {
  if (!saved_.dropped(id)) return saved_.write(id);
  const KeptTensor& tensor = tensors_.kept[static_cast<std::size_t>(id)];
  return tensor.shape.rows > 0 && taken_.has(id)
             ? arena_.matrix(tensor.shape.rows, tensor.shape.columns, type_of(tensor, backend_.traits()))
             : View{};
}

}  // namespace elastiform
