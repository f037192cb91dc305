#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace elastiform {

/// One compiled pattern. Without Oniguruma (libonig-dev was not there when the program was built) every use throws InputError.
class Pattern {
 public:
  Pattern(const std::string& pattern, std::string where);
  ~Pattern();
  Pattern(Pattern&&) noexcept;

  struct Match {
    std::size_t begin = 0, end = 0;
  };
  /// The leftmost match in valid UTF-8 that begins at `from` or later; false when there is none.
  bool search(std::string_view text, std::size_t from, Match& match) const;

  static bool available();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace elastiform
