#include "supernet/data/augmentation.hpp"

#include <algorithm>
#include <cmath>

namespace elastiform {
namespace {

double gamma_variate(RandomStream& random, double shape) {
  if (shape < 1) {
    const double u = 1 - random.uniform();  // above 0
    return gamma_variate(random, shape + 1) * std::pow(u, 1 / shape);
  }
  const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = random.normal(), v = std::pow(1 + c * x, 3);
    if (v <= 0) continue;
    if (std::log(1 - random.uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

/// [first, end) of an axis that a box of that length around a place covers.
struct Range {
  std::int64_t first, end;
};
Range box_side(RandomStream& random, std::int64_t side, double length) {
  const auto middle = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(side)));
  const std::int64_t half = std::llround(length * static_cast<double>(side)) / 2;
  return {std::max<std::int64_t>(0, middle - half), std::min(side, middle + half)};
}

}  // namespace

double beta_variate(RandomStream& random, double alpha) {
  const double a = gamma_variate(random, alpha), b = gamma_variate(random, alpha);
  return a + b > 0 ? a / (a + b) : 0.5;  // both underflow where α is tiny
}

void move_image(RandomStream& random, const Augmentation& augmentation, const ImageShape& shape, std::span<const float> image,
                std::span<const float> empty, std::span<float> moved) {
  std::int64_t down = 0, right = 0;
  if (augmentation.crop > 0) {
    const auto places = static_cast<std::uint64_t>(2 * augmentation.crop + 1);
    down = static_cast<std::int64_t>(random.below(places)) - augmentation.crop;
    right = static_cast<std::int64_t>(random.below(places)) - augmentation.crop;
  }
  const bool mirrored = augmentation.flip > 0 && random.uniform() < augmentation.flip;
  const std::int64_t H = shape.height, W = shape.width;
  for (std::int64_t c = 0; c < shape.channels; ++c)
    for (std::int64_t y = 0; y < H; ++y)
      for (std::int64_t x = 0; x < W; ++x) {
        const std::int64_t from_y = y - down, from_x = (mirrored ? W - 1 - x : x) - right;
        const bool inside = from_y >= 0 && from_y < H && from_x >= 0 && from_x < W;
        moved[static_cast<std::size_t>((c * H + y) * W + x)] =
            inside ? image[static_cast<std::size_t>((c * H + from_y) * W + from_x)] : empty[static_cast<std::size_t>(c)];
      }
}

double mix_images(RandomStream& random, const Augmentation& augmentation, const ImageShape& shape, std::span<const float> other,
                  std::span<float> image) {
  const bool both = augmentation.mixup > 0 && augmentation.cutmix > 0;
  const bool cuts = both ? random.uniform() < 0.5 : augmentation.cutmix > 0;
  const double share = 1 - beta_variate(random, cuts ? augmentation.cutmix : augmentation.mixup);
  if (!cuts) {
    const auto part = static_cast<float>(share);
    for (std::size_t i = 0; i < image.size(); ++i) image[i] += part * (other[i] - image[i]);
    return share;
  }
  const Range rows = box_side(random, shape.height, std::sqrt(share)), columns = box_side(random, shape.width, std::sqrt(share));
  for (std::int64_t c = 0; c < shape.channels; ++c)
    for (std::int64_t y = rows.first; y < rows.end; ++y) {
      const auto at = static_cast<std::size_t>((c * shape.height + y) * shape.width);
      for (std::int64_t x = columns.first; x < columns.end; ++x)
        image[at + static_cast<std::size_t>(x)] = other[at + static_cast<std::size_t>(x)];
    }
  const double area =
      static_cast<double>(std::max<std::int64_t>(0, rows.end - rows.first) * std::max<std::int64_t>(0, columns.end - columns.first));
  return area / (static_cast<double>(shape.height) * shape.width);
}

}  // namespace elastiform
