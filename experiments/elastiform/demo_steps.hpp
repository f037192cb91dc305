#pragma once

#include <string>
#include <vector>

#include "experiments/elastiform/byte_models.hpp"
#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/export_steps.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "experiments/elastiform/search_steps.hpp"

namespace elastiform {

/// A subnet under the name that the demo's table gives it.
struct NamedSubnet {
  std::string name;
  Subnet subnet;
  Evaluation report;  // on the whole report split
};

/// Smallest, middle, largest, and what the searches found beside the best homogeneous one, scored together: one look at the report split.
std::vector<NamedSubnet> score_on_report(Run& run, const std::vector<SearchOutcome>& outcomes, const CommonOptions& common);

/// The table of these beside the byte models, and for each search its difference on the report split with interval and verdict.
std::string report_text(const std::vector<NamedSubnet>& rows, const std::vector<SearchOutcome>& outcomes, const ByteModels& models);

/// The beginning of the report split's first whole line: a prompt that no network was trained on.
std::string demo_prompt(Run& run);

/// What an exported model makes of a prompt.
std::string continuation(const std::string& path, const std::string& prompt, std::int64_t tokens, const CommonOptions& common);

}  // namespace elastiform
