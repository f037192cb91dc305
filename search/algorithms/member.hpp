#pragma once

#include "supernet/subnet.hpp"

namespace elastiform {

/// An evaluated subnet, as algorithms that learn remember it.
struct Member {
  Subnet subnet;
  double loss = 0;  // infinite where the evaluation's is no number
};

}  // namespace elastiform
