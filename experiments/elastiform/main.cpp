#include <memory>
#include <vector>

#include "experiments/elastiform/command_line.hpp"

int main(int argc, char** argv) {
  using namespace elastiform;
  std::vector<std::unique_ptr<Command>> commands;  // in the order of a user's day
  return run_program(argc, argv, commands);
}
