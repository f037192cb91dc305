#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

// The pointers inside the argument of a kernel. C++20 does not say which members a struct has, but how many values it can be made of, and a
// structured binding names that many.
namespace elastiform::ELASTIFORM_GPU::host {

/// Becomes any member.
struct AnyMember {
  template <class T>
  operator T() const;  // NOLINT(google-explicit-constructor)
};
template <std::size_t>
using AnyMemberOf = AnyMember;

template <class T, std::size_t... I>
constexpr bool can_be_made_of(std::index_sequence<I...> /*count*/) {
  return requires { T{AnyMemberOf<I>{}...}; };
}
constexpr std::size_t kMostMembers = 16;
/// Of an aggregate without arrays.
template <class T, std::size_t kCount = kMostMembers>
constexpr std::size_t member_count() {
  static_assert(!can_be_made_of<T>(std::make_index_sequence<kMostMembers + 1>()), "add a case to for_each_pointer");
  if constexpr (kCount == 0 || can_be_made_of<T>(std::make_index_sequence<kCount>())) return kCount;
  else return member_count<T, kCount - 1>();
}

template <class T, class Body>
void for_each_pointer(const T& argument, const Body& body);

template <class Body, class... Members>
void for_each_pointer_of(const Body& body, const Members&... members) {
  (for_each_pointer(members, body), ...);
}

/// Of a struct with arrays, which says that nothing in it is a pointer.
template <class T>
concept NumbersOnly = requires {
  requires T::kNumbersOnly;
};

/// body(pointer) for the argument, or for each pointer among its members and theirs.
template <class T, class Body>
void for_each_pointer(const T& x, const Body& body) {
  if constexpr (std::is_pointer_v<T>) {
    body(x);
  } else if constexpr (NumbersOnly<T>) {
    static_assert(std::is_trivially_copyable_v<T>, "arguments of kernels are values");
  } else if constexpr (std::is_class_v<T>) {
    static_assert(std::is_aggregate_v<T> && std::is_trivially_copyable_v<T>, "arguments of kernels are values");
    constexpr std::size_t kCount = member_count<T>();
    if constexpr (kCount == 1) {
      const auto& [a] = x;
      for_each_pointer_of(body, a);
    } else if constexpr (kCount == 2) {
      const auto& [a, b] = x;
      for_each_pointer_of(body, a, b);
    } else if constexpr (kCount == 3) {
      const auto& [a, b, c] = x;
      for_each_pointer_of(body, a, b, c);
    } else if constexpr (kCount == 4) {
      const auto& [a, b, c, d] = x;
      for_each_pointer_of(body, a, b, c, d);
    } else if constexpr (kCount == 5) {
      const auto& [a, b, c, d, e] = x;
      for_each_pointer_of(body, a, b, c, d, e);
    } else if constexpr (kCount == 6) {
      const auto& [a, b, c, d, e, f] = x;
      for_each_pointer_of(body, a, b, c, d, e, f);
    } else if constexpr (kCount == 7) {
      const auto& [a, b, c, d, e, f, g] = x;
      for_each_pointer_of(body, a, b, c, d, e, f, g);
    } else if constexpr (kCount == 8) {
      const auto& [a, b, c, d, e, f, g, h] = x;
      for_each_pointer_of(body, a, b, c, d, e, f, g, h);
    } else if constexpr (kCount == 9) {
      const auto& [a, b, c, d, e, f, g, h, i] = x;
      for_each_pointer_of(body, a, b, c, d, e, f, g, h, i);
    } else if constexpr (kCount == 10) {
      const auto& [a, b, c, d, e, f, g, h, i, j] = x;
      for_each_pointer_of(body, a, b, c, d, e, f, g, h, i, j);
    } else if constexpr (kCount == 11) {
      const auto& [a, b, c, d, e, f, g, h, i, j, k] = x;
      for_each_pointer_of(body, a, b, c, d, e, f, g, h, i, j, k);
    } else if constexpr (kCount == 12) {
      const auto& [a, b, c, d, e, f, g, h, i, j, k, l] = x;
      for_each_pointer_of(body, a, b, c, d, e, f, g, h, i, j, k, l);
    } else if constexpr (kCount == 13) {
      const auto& [a, b, c, d, e, f, g, h, i, j, k, l, m] = x;
      for_each_pointer_of(body, a, b, c, d, e, f, g, h, i, j, k, l, m);
    } else if constexpr (kCount == 14) {
      const auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = x;
      for_each_pointer_of(body, a, b, c, d, e, f, g, h, i, j, k, l, m, n);
    } else if constexpr (kCount == 15) {
      const auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o] = x;
      for_each_pointer_of(body, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o);
    } else if constexpr (kCount == 16) {
      const auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = x;
      for_each_pointer_of(body, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p);
    }
  }
}

}  // namespace elastiform::ELASTIFORM_GPU::host
