#include <memory>
#include <vector>

#include "experiments/elastiform/command_line.hpp"

int main(int argc, char** argv) {
  using namespace elastiform;
  std::vector<std::unique_ptr<Command>> commands;  // in the order of a user's day
  commands.push_back(make_import_command());
  commands.push_back(make_tokenize_command());
  commands.push_back(make_train_command());
  commands.push_back(make_space_command());
  commands.push_back(make_sample_command());
  commands.push_back(make_cost_command());
  commands.push_back(make_evaluate_command());
  commands.push_back(make_latency_command());
  commands.push_back(make_profile_command());
  commands.push_back(make_search_command());
  commands.push_back(make_front_command());
  commands.push_back(make_show_command());
  commands.push_back(make_export_command());
  commands.push_back(make_finetune_command());
  commands.push_back(make_generate_command());
  commands.push_back(make_classify_command());
  commands.push_back(make_inspect_command());
  commands.push_back(make_compare_command());
  commands.push_back(make_methods_command());
  commands.push_back(make_demo_command());
  return run_program(argc, argv, commands);
}
