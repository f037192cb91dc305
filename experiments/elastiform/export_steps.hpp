#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/consumers.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "search/deployable.hpp"
#include "supernet/formats/format.hpp"
#include "supernet/formats/padding.hpp"

namespace elastiform {

/// What --pad made of a subnet, and how large both are.
struct Padding {
  Subnet subnet;
  NetworkSize exact, padded;
};

struct Exported {
  std::string path;
  std::int64_t id = 0;    // of the subnet in the run; 0: not scored
  double difference = 0;  // largest |Δlogit| / largest |logit| between the file read back and the subnet inside the supernet
  ModelCard card;
  std::optional<Padding> padding;
  std::optional<ConsumerReport> report;
  std::string note;  // in which texts the format's consumer finds other ids than the run's tokenizer; empty: in none
};

/// A real consumer, and the Python that runs it (consumers.hpp).
struct Check {
  const Consumer* consumer = nullptr;
  std::string python;
};

struct ExportWishes {
  std::string to;      // empty: exports/ID-HASH8 in the run (HASH8 without an id), with the suffix of a format that is a file
  bool pad = false;    // among zeros that make all blocks alike (Format::padded)
  bool scores = true;  // for the card: on both splits (a look at the report split, which is counted)
  Check check;         // before the export has its name, this consumer runs it on the beginning of the search split
};

/// Exports a subnet of a run with a model card: scores it, writes, reads back, compares. What a format cannot express is refused before anything
/// is scored.
Exported export_subnet(Run& run, const Subnet& subnet, const Format& format, ExportWishes wishes, const CommonOptions& common);

std::string padding_line(const Padding& padding);  // for a person

/// Refuses a recipe or run whose tokenizer the format that its subnets are meant for cannot hold. A tokenizer.json that is not there is no matter
/// yet.
void check_deployable_tokenizer(const Recipe& recipe, Deployable target);

/// A command that shows the export at work.
std::string try_line(const std::string& path, const ModelConfig& model);

}  // namespace elastiform
