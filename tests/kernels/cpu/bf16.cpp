#include "kernels/cpu/bf16.hpp"

#include <bit>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/cpu/bf16_tiles.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/vectors.hpp"

namespace elastiform {
namespace {

std::uint32_t number(const nlohmann::json& text) { return static_cast<std::uint32_t>(std::stoul(text.get<std::string>(), nullptr, 16)); }

/// The half of a packed word that holds element (i, k).
std::uint32_t element(const std::vector<std::uint32_t>& packed, bool tiles, std::int64_t K, std::int64_t i, std::int64_t k) {
  const std::int64_t panel = i / 16 * cpu::bf16_words(16, K), row = i % 16;
  const std::int64_t at = tiles ? k / 32 * 256 + row * 16 + k % 32 / 2 : k / 2 * 16 + row;
  return packed[static_cast<std::size_t>(panel + at)] >> (k % 2 * 16) & 0xffff;
}

}  // namespace

TEST_CASE("packing rounds to bf16 as the reference vector says, in both orders, and pads with zero", "[kernels][bf16]") {
  if (precisions_here().back() != Precision::bf16) return;
  const auto& rows = vector("bf16")["expected"];
  const auto count = static_cast<std::int64_t>(rows.size());
  const std::int64_t K = GENERATE_COPY(std::int64_t{1}, std::int64_t{2}, std::int64_t{7}, count), n = (count + K - 1) / K;
  const bool k_first = GENERATE(false, true);
  const cpu::Bf16Side side = GENERATE(cpu::Bf16Side::a, cpu::Bf16Side::b);
  const bool tiles = side == cpu::Bf16Side::a && cpu::has_bf16_tiles();
  CAPTURE(K, n, k_first, tiles);
  std::vector<float> x(static_cast<std::size_t>(n * K), 0.0f);
  const auto place = [&](std::int64_t i, std::int64_t k) { return static_cast<std::size_t>(k_first ? k * n + i : i * K + k); };
  for (std::int64_t e = 0; e < count; ++e) x[place(e / K, e % K)] = std::bit_cast<float>(number(rows[static_cast<std::size_t>(e)]["f32"]));
  std::vector<std::uint32_t> packed(static_cast<std::size_t>(cpu::bf16_words(n, K)), 0xdeadbeef);
  const ConstView matrix = k_first ? view_of(x.data(), K, n, n) : view_of(x.data(), n, K, K);
  cpu::pack_bf16({.n = n, .K = K, .x = matrix, .k_first = k_first, .side = side}, packed.data());
  for (std::int64_t e = 0; e < count; ++e) {
    const auto& row = rows[static_cast<std::size_t>(e)];
    CAPTURE(row.dump());
    const std::uint32_t bits = number(row["f32"]);
    // The instruction takes denormals for zero: 1e-38 beside nothing that a network computes with.
    const std::uint32_t expected = (bits & 0x7f800000) == 0 ? bits >> 16 & 0x8000 : number(row["bf16"]);
    CHECK(element(packed, tiles, K, e / K, e % K) == expected);
    if (!std::isnan(std::bit_cast<float>(bits)))
      CHECK(std::bit_cast<std::uint32_t>(to_bf16(std::bit_cast<float>(bits))) >> 16 == number(row["bf16"]));
  }
  bool zero = true;
  for (std::int64_t i = 0; i < (n + 15) / 16 * 16; ++i)
    for (std::int64_t k = 0; k < (K + 31) / 32 * 32; ++k) zero = zero && ((i < n && k < K) || element(packed, tiles, K, i, k) == 0);
  CHECK(zero);
}

}  // namespace elastiform
