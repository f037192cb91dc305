#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "supernet/formats/gguf_file.hpp"
#include "supernet/formats/half_floats.hpp"

namespace elastiform::gguf {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF data is little-endian");

constexpr std::size_t kBlock = 32, kHalf = sizeof(std::uint16_t), kBlockBytes = kHalf + kBlock;  // q8_0

/// Writes values one behind the other into bytes that were made before.
class Output {
 public:
  explicit Output(std::string& bytes) : at_(bytes.data()) {}
  template <class T>
  void put(T value) {
    std::memcpy(at_, &value, sizeof value);
    at_ += sizeof value;
  }

 private:
  char* at_;
};

template <class T>
T get(std::string_view bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

std::uint16_t finite_float16(float value) {
  const std::uint16_t half = to_float16(value);
  if (std::isfinite(value) && !std::isfinite(from_float16(half)))
    throw std::runtime_error("export: a weight of " + std::to_string(value) + " has no place in float16; choose gguf or gguf-bf16");
  return half;
}

/// To the nearest whole number, ties to even, of |value| < 2^22: the sum has no digits behind the point. std::nearbyint is a call a weight.
float rounded(float value) {
  constexpr float kWhole = 0x1.8p23f;
  return (value + kWhole) - kWhole;
}

/// q = round(x / scale) with the scale as the file keeps it, so that its own rounding costs nothing; |q| ≤ 127.
void put_block(Output& out, const float* x) {
  float largest = 0;
  for (std::size_t i = 0; i < kBlock; ++i) largest = std::max(largest, std::abs(x[i]));
  const std::uint16_t half = finite_float16(largest / 127);
  const float scale = from_float16(half);
  out.put(half);
  for (std::size_t i = 0; i < kBlock; ++i)
    out.put(static_cast<std::int8_t>(scale == 0 ? 0.0f : rounded(std::clamp(x[i] / scale, -127.0f, 127.0f))));
}

/// Element i of a block of 4-bit numbers that begin at `at`: the first half of them stand in the low bits of 16 bytes.
float nibble(std::string_view bytes, std::size_t at, std::size_t i) {
  const auto byte = get<std::uint8_t>(bytes, at + i % (kBlock / 2));
  return static_cast<float>(i < kBlock / 2 ? byte & 15 : byte >> 4);
}

/// The elements of the block that begins at `at`.
void get_block(Element element, std::string_view bytes, std::size_t at, float* into) {
  const float scale = from_float16(get<std::uint16_t>(bytes, at));
  if (element == Element::q8_0) {
    for (std::size_t i = 0; i < kBlock; ++i) into[i] = scale * get<std::int8_t>(bytes, at + kHalf + i);
  } else if (element == Element::q4_0) {
    for (std::size_t i = 0; i < kBlock; ++i) into[i] = scale * (nibble(bytes, at + kHalf, i) - 8);
  } else {
    const float least = from_float16(get<std::uint16_t>(bytes, at + kHalf));
    for (std::size_t i = 0; i < kBlock; ++i) into[i] = scale * nibble(bytes, at + 2 * kHalf, i) + least;
  }
}

}  // namespace

BlockSize block_size(std::uint32_t element) {
  switch (static_cast<Element>(element)) {
    case Element::f32: return {1, 4};
    case Element::f16:
    case Element::bf16: return {1, 2};
    case Element::q4_0: return {kBlock, kHalf + kBlock / 2};
    case Element::q4_1: return {kBlock, 2 * kHalf + kBlock / 2};
    case Element::q8_0: return {kBlock, kBlockBytes};
  }
  return {};
}

std::string encode(Element element, const std::vector<float>& values) {
  const BlockSize block = block_size(static_cast<std::uint32_t>(element));
  if (element == Element::q8_0 && values.size() % kBlock != 0) throw std::logic_error("gguf: q8_0 needs rows of whole blocks");
  std::string bytes(values.size() / static_cast<std::size_t>(block.elements) * static_cast<std::size_t>(block.bytes), '\0');
  Output out(bytes);
  switch (element) {
    case Element::f32:
      if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
      break;
    case Element::f16:
      for (const float value : values) out.put(finite_float16(value));
      break;
    case Element::bf16:
      for (const float value : values) out.put(to_bfloat16(value));
      break;
    case Element::q8_0:
      for (std::size_t i = 0; i < values.size(); i += kBlock) put_block(out, values.data() + i);
      break;
    case Element::q4_0:
    case Element::q4_1: throw std::logic_error("gguf: 4-bit blocks are read only");
  }
  return bytes;
}

std::vector<float> decode(std::uint32_t element, std::string_view bytes) {
  const BlockSize block = block_size(element);
  std::vector<float> values(bytes.size() / static_cast<std::size_t>(block.bytes) * static_cast<std::size_t>(block.elements));
  switch (static_cast<Element>(element)) {
    case Element::f32:
      if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
      break;
    case Element::f16:
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = from_float16(get<std::uint16_t>(bytes, 2 * i));
      break;
    case Element::bf16:
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = from_bfloat16(get<std::uint16_t>(bytes, 2 * i));
      break;
    case Element::q4_0:
    case Element::q4_1:
    case Element::q8_0:
      for (std::size_t i = 0; i < values.size(); i += kBlock)
        get_block(static_cast<Element>(element), bytes, i / kBlock * static_cast<std::size_t>(block.bytes), values.data() + i);
      break;
  }
  return values;
}

}  // namespace elastiform::gguf
