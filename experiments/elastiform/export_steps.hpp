#pragma once

#include <cstdint>
#include <string>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "supernet/formats/format.hpp"

namespace elastiform {

struct Exported {
  std::string path;
  std::int64_t id = 0;    // of the subnet in the run
  double difference = 0;  // largest |Δlogit| / largest |logit| between the file read back and the subnet inside the supernet
  ModelCard card;
};

/// Exports a subnet of a run with a model card: scores it on both splits (a look at the report split, which is counted), writes, reads back,
/// compares. An empty `to` is exports/ID-HASH8 in the run, with .h5 where the format is a file. What a format cannot express is refused
/// before anything is scored.
Exported export_subnet(Run& run, const Subnet& subnet, const Format& format, std::string to, const CommonOptions& common);

/// A command that shows the export at work.
std::string generate_line(const std::string& path);

}  // namespace elastiform
