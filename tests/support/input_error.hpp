#pragma once

#include <string>

#include "kernels/errors.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {

inline const std::string kNoError = "no error";

/// What the InputError says that the body throws; kNoError where it throws none.
template <class Body>
std::string input_error(Body&& body) {
  try {
    body();
  } catch (const InputError& error) {
    return error.what();
  }
  return kNoError;
}

/// The body throws an InputError of one line with `says` in it; returns the line.
template <class Body>
std::string check_input_error(Body&& body, const std::string& says = "") {
  const std::string line = input_error(body);
  CAPTURE(line);
  CHECK(line != kNoError);
  CHECK_THAT(line, Catch::Matchers::Contains(says));
  CHECK(line.find('\n') == std::string::npos);
  return line;
}

}  // namespace elastiform
