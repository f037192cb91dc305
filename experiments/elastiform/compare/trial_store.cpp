#include "experiments/elastiform/compare/trial_store.hpp"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "experiments/elastiform/run_folder.hpp"
#include "kernels/cpu/identity.hpp"
#include "kernels/errors.hpp"
#include "supernet/sha256.hpp"
#include "supernet/storage/hdf5_file.hpp"
#include "version.hpp"

namespace elastiform {
namespace {

constexpr const char* kKind = "comparison";

TrialPurpose parse_purpose(const std::string& text, const std::string& where) {
  for (const TrialPurpose purpose : {TrialPurpose::probe, TrialPurpose::tune, TrialPurpose::compare})
    if (name_of(purpose) == text) return purpose;
  throw InputError({where, "a purpose: probe, tune or compare", text, ""});
}

constexpr std::size_t kShown = 16;  // digits of a hash that messages show

void require_same(const Hdf5Reader& file, const char* name, const char* what, const std::string& now, std::size_t shown = kShown) {
  const std::string then = file.text_attribute("/", name);
  if (then != now) throw InputError({file.path(), what + (" " + now.substr(0, shown)), then.substr(0, shown), "--run another folder"});
}

}  // namespace

TrialPlace TrialPlace::here(const Experiment& experiment, const CommonOptions& common) {
  const Recipe recipe = experiment.recipe_of(experiment.arms.front(), {});
  return {.data_sha256 = open_data(recipe).sha256(),
          .device = std::string(name_of(common.device)),
          .threads = std::to_string(threads_of(common)),
          .processor = processor_name()};
}

TrialStore::TrialStore(std::string path, const Experiment& experiment, TrialPlace place)
    : path_(std::move(path)), experiment_(experiment.text()), place_(std::move(place)), subnets_(experiment.subnets) {
  // Made before the first training: what it leaves half-way is then known to be this experiment's.
  if (std::error_code error; std::filesystem::exists(path_, error)) read();
  else write();
}

void TrialStore::read() {
  const Hdf5Reader file(path_, kKind);
  require_same(file, "experiment_sha256", "this experiment, SHA-256", sha256_hex(experiment_));
  require_same(file, "commit", "trials of this program's commit", ELASTIFORM_COMMIT);
  require_same(file, "isa", "trials on this instruction set", isa_name(Precision::f32));
  require_same(file, "data_sha256", "trials on the text, SHA-256", place_.data_sha256);
  require_same(file, "device", "trials with --device", place_.device);
  require_same(file, "threads", "trials with --threads", place_.threads);
  require_same(file, "processor", "trials on this processor,", place_.processor, std::string::npos);
  const ColumnTable table = file.table("/trials");
  const auto& counts = table.integers("blocks");
  const std::size_t subnets = subnets_.size();
  for (std::size_t i = 0; i < table.rows(); ++i) {
    Trial trial{.arm = table.texts("arm")[i],
                .purpose = parse_purpose(table.texts("purpose")[i], path_ + ": /trials"),
                .seed = table.integers("seed")[i],
                .steps = table.integers("steps")[i],
                .rate = table.reals("rate")[i],
                .seconds = table.reals("seconds")[i],
                .flops = table.reals("flops")[i],
                .tokens = table.integers("tokens")[i],
                .planned_bytes = table.integers("planned_bytes")[i],
                .peak_bytes = table.integers("peak_bytes")[i],
                .joules = table.reals("joules")[i],
                .search_loss = table.reals("search_loss")[i]};
    if (trial.purpose == TrialPurpose::compare)
      for (std::size_t s = 0; s < subnets; ++s) trial.losses.push_back(table.reals("loss_" + std::to_string(s))[i]);
    trials_.push_back(std::move(trial));
  }
  std::vector<std::int64_t> each;  // one row a trial and subnet
  for (std::size_t i = 0; i < trials_.size(); ++i) each.insert(each.end(), subnets, counts[i]);
  auto rows = file.ragged("/block_losses", each);
  for (std::size_t i = 0; i < trials_.size(); ++i)
    for (std::size_t s = 0; s < trials_[i].losses.size(); ++s) trials_[i].block_losses.push_back(std::move(rows[i * subnets + s]));
}

std::optional<Trial> TrialStore::find(const Trial& like) const {
  const auto found = std::ranges::find_if(trials_, [&](const Trial& one) { return one.same_training(like); });
  return found == trials_.end() ? std::nullopt : std::optional(*found);
}

void TrialStore::add(const Trial& trial) {
  trials_.push_back(trial);
  write();
}

void TrialStore::write() const {
  ColumnTable table;
  const auto texts = [&](const char* name, const auto& of) {
    ColumnTable::Texts column;
    for (const Trial& trial : trials_) column.emplace_back(of(trial));
    table.add(name, std::move(column));
  };
  const auto integers = [&](const char* name, const auto& of) {
    ColumnTable::Integers column;
    for (const Trial& trial : trials_) column.push_back(of(trial));
    table.add(name, std::move(column));
  };
  const auto reals = [&](const std::string& name, const auto& of) {
    ColumnTable::Reals column;
    for (const Trial& trial : trials_) column.push_back(of(trial));
    table.add(name, std::move(column));
  };
  texts("arm", [](const Trial& t) { return t.arm; });
  texts("purpose", [](const Trial& t) { return name_of(t.purpose); });
  integers("seed", [](const Trial& t) { return t.seed; });
  integers("steps", [](const Trial& t) { return t.steps; });
  reals("rate", [](const Trial& t) { return t.rate; });
  reals("seconds", [](const Trial& t) { return t.seconds; });
  reals("flops", [](const Trial& t) { return t.flops; });
  integers("tokens", [](const Trial& t) { return t.tokens; });
  integers("planned_bytes", [](const Trial& t) { return t.planned_bytes; });
  integers("peak_bytes", [](const Trial& t) { return t.peak_bytes; });
  reals("joules", [](const Trial& t) { return t.joules; });
  reals("search_loss", [](const Trial& t) { return t.search_loss; });
  for (std::size_t s = 0; s < subnets_.size(); ++s)
    reals("loss_" + std::to_string(s), [s](const Trial& t) { return t.losses.empty() ? Trial::kUnknown : t.losses[s]; });
  integers("blocks", [](const Trial& t) {
    return t.block_losses.empty() ? std::int64_t{0} : static_cast<std::int64_t>(t.block_losses.front().size());
  });
  std::vector<std::span<const float>> blocks;
  for (const Trial& trial : trials_)
    for (std::size_t s = 0; s < subnets_.size(); ++s)
      blocks.push_back(trial.block_losses.empty() ? std::span<const float>() : std::span<const float>(trial.block_losses[s]));

  Hdf5Writer file(path_, kKind);
  file.attribute("/", "version", std::string_view(ELASTIFORM_VERSION));
  file.attribute("/", "commit", std::string_view(ELASTIFORM_COMMIT));
  file.attribute("/", "isa", std::string_view(isa_name(Precision::f32)));
  file.attribute("/", "data_sha256", std::string_view(place_.data_sha256));
  file.attribute("/", "device", std::string_view(place_.device));
  file.attribute("/", "threads", std::string_view(place_.threads));
  file.attribute("/", "processor", std::string_view(place_.processor));
  file.attribute("/", "experiment", std::string_view(experiment_));
  file.attribute("/", "experiment_sha256", std::string_view(sha256_hex(experiment_)));
  file.dataset("/subnets", subnets_);
  file.table("/trials", table);
  file.ragged("/block_losses", blocks);
  file.close();
}

}  // namespace elastiform
