#include "supernet/layer_tensors.hpp"

namespace elastiform {
namespace {

// FLOPs of a GEMM in the time of a byte that elementwise work reads or writes, a core (bench_cpu.md): norms and GELU at 11 GB/s beside 130
// GFLOP/s in float32, at 5 GB/s beside 580 GFLOP/s in bf16 on AMX. Only which plan is chosen depends on it, never a result.
constexpr std::int64_t flops_per_byte(const BackendTraits& traits) { return traits.operand == DType::bfloat16 ? 100 : 8; }

/// Calls visit(id, tensor) for the tensors that are present and, as asked, dropped or not.
template <class Visit>
void each(const LayerTensors& tensors, TensorSet dropped, bool which, const Visit& visit) {
  for (std::size_t id = 0; id < tensors.kept.size(); ++id)
    if (tensors.kept[id].shape.rows > 0 && dropped.has(static_cast<int>(id)) == which) visit(static_cast<int>(id), tensors.kept[id]);
}

DType type_of(const KeptTensor& tensor, const BackendTraits& traits) { return tensor.operand ? traits.operand : traits.dtype; }

std::int64_t bytes_of(const KeptTensor& tensor, const BackendTraits& traits) { return tensor.shape.bytes(type_of(tensor, traits)); }

TensorShape forward_shape(const KeptTensor& tensor, const BackendTraits& traits) {
  return tensor.by_panel ? PanelScratch::shape(traits, tensor.shape.rows, tensor.shape.columns) : tensor.shape;
}

}  // namespace

std::int64_t LayerTensors::saved_bytes(TensorSet dropped, const BackendTraits& traits) const {
  std::int64_t sum = 0;
  each(*this, dropped, false, [&](int, const KeptTensor& tensor) { sum += bytes_of(tensor, traits); });
  return sum;
}

std::int64_t LayerTensors::forward_bytes(TensorSet dropped, const BackendTraits& traits) const {
  std::int64_t sum = 0;
  each(*this, dropped, true, [&](int, const KeptTensor& tensor) { sum += forward_shape(tensor, traits).bytes(type_of(tensor, traits)); });
  return sum;
}

std::int64_t LayerTensors::backward_bytes(TensorSet dropped, const BackendTraits& traits) const {
  std::int64_t sum = 0;
  for (const TensorShape& shape : backward_scratch) sum += shape.bytes(traits.dtype);
  each(*this, dropped, true, [&](int, const KeptTensor& tensor) { sum += bytes_of(tensor, traits); });
  return sum;
}

std::int64_t LayerTensors::flops() const {
  std::int64_t sum = result_flops;
  for (const KeptTensor& tensor : kept) sum += tensor.flops;
  return sum;
}

std::int64_t LayerTensors::recomputed_flops(TensorSet dropped) const {
  std::int64_t sum = 0;
  each(*this, dropped, true, [&](int, const KeptTensor& tensor) { sum += tensor.flops; });
  return sum;
}

std::int64_t LayerTensors::recomputed_cost(TensorSet dropped, const BackendTraits& traits) const {
  std::int64_t sum = 0;
  // Elementwise: an operand of the same size is read, the tensor is written.
  each(*this, dropped, true, [&](int, const KeptTensor& tensor) {
    sum += tensor.flops > 0 ? tensor.flops * tensor.slowness : 2 * flops_per_byte(traits) * bytes_of(tensor, traits);
  });
  return sum;
}

Saved::Saved(Arena& arena, std::span<const TensorShape> shapes, DType dtype) {
  for (std::size_t id = 0; id < shapes.size(); ++id)
    if (shapes[id].rows > 0) views_[id] = arena.matrix(shapes[id].rows, shapes[id].columns, dtype);
}

Saved::Saved(Arena& arena, const LayerTensors& tensors, TensorSet dropped, const BackendTraits& traits) : dropped_(dropped) {
  each(tensors, dropped, false, [&](int id, const KeptTensor& tensor) {
    views_[static_cast<std::size_t>(id)] = arena.matrix(tensor.shape.rows, tensor.shape.columns, type_of(tensor, traits));
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
    : backend_(backend), arena_(arena), tensors_(tensors), saved_(saved), scratch_(arena, tensors.backward_scratch, backend.dtype()) {}

View BackwardTensors::take(int id) const {
  if (!saved_.dropped(id)) return saved_.write(id);
  const KeptTensor& tensor = tensors_.kept[static_cast<std::size_t>(id)];
  return tensor.shape.rows > 0 ? arena_.matrix(tensor.shape.rows, tensor.shape.columns, type_of(tensor, backend_.traits())) : View{};
}

}  // namespace elastiform
