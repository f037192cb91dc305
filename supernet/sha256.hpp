#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace elastiform {

/// Incremental SHA-256 (OpenSSL's).
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256& add(const void* data, std::size_t bytes);
  Sha256& add(std::string_view text) { return add(text.data(), text.size()); }
  std::string hex();  // ends the computation

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256_hex(std::string_view text);

}  // namespace elastiform
