#pragma once

#include <concepts>
#include <type_traits>
#include <utility>

namespace elastiform {

template <class Signature>
class FunctionRef;

/// A borrowed callable, two words, for parameters only: it must outlive the call that it is passed to. std::function copies a lambda of
/// more than two words to the heap, and a training step would do so for every loop of every layer.
template <class Result, class... Arguments>
class FunctionRef<Result(Arguments...)> {
 public:
  template <class Callable>
  requires(!std::same_as<std::remove_cvref_t<Callable>, FunctionRef> && std::is_object_v<std::remove_reference_t<Callable>> &&
           std::is_invocable_r_v<Result, Callable&, Arguments...>)
      FunctionRef(Callable&& callable)  // NOLINT(google-explicit-constructor,bugprone-forwarding-reference-overload)
      : callable_(const_cast<void*>(static_cast<const void*>(&callable))), call_([](void* borrowed, Arguments... arguments) -> Result {
          return static_cast<Result>((*static_cast<std::remove_reference_t<Callable>*>(borrowed))(std::forward<Arguments>(arguments)...));
        }) {}

  Result operator()(Arguments... arguments) const { return call_(callable_, std::forward<Arguments>(arguments)...); }

 private:
  void* callable_;
  Result (*call_)(void*, Arguments...);
};

}  // namespace elastiform
