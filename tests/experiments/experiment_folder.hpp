#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "supernet/storage/durable_file.hpp"
#include "tests/experiments/own_run.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {

/// two.toml, an experiment over the micro recipe, in a folder of its own.
struct ExperimentFolder : OwnFolder {
  explicit ExperimentFolder(const std::string& head, const std::string& arms, int steps = 8) {
    write_micro(folder, staged_micro_recipe());
    const std::string seeds = head.find("seeds") == std::string::npos ? "seeds = 2\n" : "";
    write_durably(folder.path() + "/two.toml",
                  "recipe = \"micro.toml\"\nset = [\"train.steps=" + std::to_string(steps) + "\"]\n" + seeds + head + arms);
  }
};

inline const std::string kTwoArms = "[[arm]]\nname = \"one\"\n[[arm]]\nname = \"other\"\nset = [\"train.clip=0.001\"]\n";

inline nlohmann::json arm_of(const ProgramResult& result, std::size_t index) {
  INFO(result.err);
  REQUIRE(result.status == 0);
  return nlohmann::json::parse(result.out)["arms"][index];
}

}  // namespace elastiform
