#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "search/feasible_set.hpp"
#include "search/stratum.hpp"

namespace elastiform {

/// Every subnet of a space whose blocks are all equal, in order; counted before any is made.
class HomogeneousList {
 public:
  explicit HomogeneousList(const SearchSpace& space);
  std::int64_t size() const { return size_; }
  Subnet at(std::int64_t index) const;
  struct Range {
    std::int64_t begin, end;
  };
  Range range(int embed, int depth) const;  // of indices
  /// Throws InputError naming `who` when there are more than kMostHomogeneous.
  void refuse_long(const std::string& who) const;

 private:
  struct Part {
    int embed, depth;
    std::vector<int> heads, widths;  // that all of its blocks allow
    std::int64_t first;              // index of its first subnet
  };
  int queries_per_group_;
  std::vector<Part> parts_;  // none is empty
  std::int64_t size_ = 0;
};

/// Whether a target judges each block by itself, so that its subnets are a product of lists; else its blocks are all alike.
bool looks_at_blocks(Deployable target);
/// What such a target leaves of the choices at one embed width and depth; nothing when it can express none of these subnets.
std::optional<Choices> deployable_choices(const SearchSpace& space, int embed, int depth, Deployable target);
/// Of `list`, the subnets of one embed width and depth that `target` can express, in order.
std::vector<Subnet> deployable_subnets(const SearchSpace& space, const HomogeneousList& list, int embed, int depth, Deployable target);
/// For a space of which `target` can express nothing: why, by the example of its largest homogeneous subnet.
std::string why_no_member(const SearchSpace& space, Deployable target);

}  // namespace elastiform
