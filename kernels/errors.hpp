#pragma once

#include <stdexcept>
#include <string>

namespace elastiform {

/// Bad input from a person or a file: one line that says what, where, what was expected, what was found and what to do:
/// "where: expected X, found Y; remedy", or "where: Y; remedy" without an expectation. The program maps it to exit status 2.
class InputError : public std::runtime_error {
 public:
  struct Parts {
    std::string where;     // "subnet e320:2xh7f1280", "recipe demo.toml: train.rate", "runs/demo/supernet.h5"
    std::string expected;  // "a multiple of 2", "one of constant, wsd, cosine"
    std::string found;     // "7", "a truncated file"; where nothing is expected, a statement: "block 0 has 7 heads"
    std::string remedy;    // "use --resume runs/demo or another --run"; may be empty
  };
  explicit InputError(Parts parts);
  const Parts& parts() const { return parts_; }

 private:
  Parts parts_;
};

/// Two operands of an operation disagree. Inside the program this is a bug of ours, never of the user.
class ShapeError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

}  // namespace elastiform
