#pragma once

#include "kernels/random.hpp"
#include "supernet/subnet.hpp"
#include "supernet/weights.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/finite_difference.hpp"

namespace elastiform {

/// Which elements of each tensor are compared.
struct Sampled {
  int elements = 3;
  bool inside = false;  // all of them of the subnet; else of the whole tensor
};

/// A few elements of every tensor's gradient are central differences of the loss, which reads the float64 weights. Elements outside the
/// subnet have none, and of a frozen tensor nothing is held.
template <class Loss>
void check_differences(Weights& weights, const Weights& gradients, const Subnet& subnet, Loss&& loss, Sampled sampled = {}) {
  for (const TensorSpec& tensor : weights.table().tensors()) {
    CAPTURE(tensor.name, format(subnet));
    if (!tensor.trained) {
      CHECK(gradients.view(tensor).empty());
      continue;
    }
    const Extent part = weights.table().extent(tensor, subnet);
    const Extent from = sampled.inside ? part : Extent{tensor.rows, tensor.columns};
    RandomStream random(9, Purpose::test, static_cast<std::uint64_t>(tensor.offset));
    for (int sample = 0; from.rows > 0 && sample < sampled.elements; ++sample) {
      const auto row = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(from.rows)));
      const auto column = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(from.columns)));
      const double gradient = gradients.view(tensor).row<double>(row)[column];
      CAPTURE(row, column);
      if (row >= part.rows || column >= part.columns) {
        CHECK(gradient == 0);
        continue;
      }
      double& w = weights.view(tensor).row<double>(row)[column];
      CHECK(gradient == Approx(central_difference(w, loss)).epsilon(2e-6).margin(2e-9));
    }
  }
}

}  // namespace elastiform
