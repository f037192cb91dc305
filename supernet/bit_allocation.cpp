#include "supernet/bit_allocation.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/ops/compression.hpp"

namespace elastiform {

double CompressedTensor::variance(int bits) const {
  const double levels = (1 << bits) - 1;
  return weight / (levels * levels);
}

std::int64_t CompressedTensor::bytes(int bits) const { return rows * compressed_row_bytes(columns, bits); }

std::vector<int> allocate_bits(std::span<const CompressedTensor> tensors, FunctionRef<bool(std::span<const int>)> fits) {
  std::vector<int> bits(tensors.size(), 8);
  while (!fits(bits)) {
    std::size_t cheapest = tensors.size();
    double least = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      if (bits[i] / 2 < tensors[i].least_bits) continue;
      const double added = tensors[i].variance(bits[i] / 2) - tensors[i].variance(bits[i]);
      const double price = added / static_cast<double>(tensors[i].bytes(bits[i]) - tensors[i].bytes(bits[i] / 2));
      if (price < least) least = price, cheapest = i;
    }
    if (cheapest == tensors.size()) return bits;
    bits[cheapest] /= 2;
  }
  std::vector<std::size_t> dearest(tensors.size());
  std::iota(dearest.begin(), dearest.end(), 0);
  std::stable_sort(dearest.begin(), dearest.end(),
                   [&](std::size_t a, std::size_t b) { return tensors[a].variance(bits[a]) > tensors[b].variance(bits[b]); });
  for (const std::size_t i : dearest)
    while (bits[i] < 8) {
      bits[i] *= 2;
      if (fits(bits)) continue;
      bits[i] /= 2;
      break;
    }
  return bits;
}

}  // namespace elastiform
