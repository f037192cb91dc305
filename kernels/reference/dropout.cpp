#include "kernels/random.hpp"
#include "kernels/reference/reference_backend.hpp"

namespace elastiform {

void ReferenceBackend::do_dropout(const Dropout& op) {
  for (std::int64_t n = 0; n < op.y.rows; ++n)
    for (std::int64_t c = 0; c < op.y.columns; ++c) {
      const std::uint32_t word = philox4x32(op.counter(n, c / 4), op.key())[static_cast<std::size_t>(c % 4)];
      const double kept = word >= op.threshold() ? op.x.row<double>(n)[c] * op.scale() : 0;
      op.y.row<double>(n)[c] = kept + (op.add.empty() ? 0 : op.add.row<double>(n)[c]);
    }
}

}  // namespace elastiform
