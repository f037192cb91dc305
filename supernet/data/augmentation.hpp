#pragma once

#include <cstdint>
#include <span>

#include "kernels/random.hpp"
#include "supernet/data/data_options.hpp"
#include "supernet/search_space.hpp"

namespace elastiform {

/// A share of Beta(α, α), α > 0: a ratio of two gamma variates (Marsaglia and Tsang, TOMS 2000).
double beta_variate(RandomStream& random, double alpha);

/// `moved` = `image` [channel][row][column], moved and perhaps mirrored; where nothing is, `empty` of the channel.
void move_image(RandomStream& random, const Augmentation& augmentation, const ImageShape& shape, std::span<const float> image,
                std::span<const float> empty, std::span<float> moved);

/// Mixes `other` into `image`, as mixup or cutmix says, and returns its share of the label.
double mix_images(RandomStream& random, const Augmentation& augmentation, const ImageShape& shape, std::span<const float> other,
                  std::span<float> image);

}  // namespace elastiform
