#include "search/latency_file.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <set>
#include <tuple>

#include "kernels/errors.hpp"
#include "supernet/formats/json.hpp"
#include "supernet/nearest_name.hpp"
#include "supernet/storage/durable_file.hpp"

namespace elastiform {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr const char* kFormat = "elastiform-latency";
constexpr std::int64_t kVersion = 2;  // 2: may have `calibration`
constexpr std::size_t kMaxFile = std::size_t{16} << 20;
constexpr std::size_t kMaxRows = 100'000, kMaxNetworks = 1'000;  // each network looks through the rows
constexpr std::size_t kMaxText = 200;
constexpr double kMostMilliseconds = 1e6;  // a quarter of an hour: sums over blocks in picoseconds stay integers

ordered_json with_times(ordered_json row, const char* prefix, const Milliseconds& time) {
  const std::string name(prefix);
  row[name + "ms"] = time.median;
  row[name + "low_ms"] = time.low;
  row[name + "high_ms"] = time.high;
  return row;
}

/// An object of the file whose keys are read one by one; what nobody reads is an error that names the nearest key.
class Fields {
 public:
  Fields(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object_.is_object()) refuse("", "an object", object_.type_name());
  }
  bool has(const char* key) {
    known_.push_back(key);
    return object_.contains(key);
  }
  const json& at(const char* key) {
    if (!has(key)) refuse(key, "a value", "none");
    return object_.at(key);
  }
  std::string text(const char* key, std::size_t most = kMaxText) {
    const json& value = at(key);
    if (!value.is_string()) refuse(key, "a text", value.type_name());
    const std::string text = value.get<std::string>();
    if (text.empty() || text.size() > most) refuse(key, "a text of 1 to " + std::to_string(most) + " bytes", std::to_string(text.size()));
    // Texts are printed: a line's end or an escape sequence in one could write anything to a terminal.
    if (std::ranges::any_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; }))
      refuse(key, "a printable text", "control characters");
    return text;
  }
  int integer(const char* key, int least, int most) {
    const json& value = at(key);
    if (!value.is_number_integer()) refuse(key, "an integer", value.is_number() ? value.dump() : value.type_name());
    const bool small = value.is_number_unsigned() ? value.get<std::uint64_t>() <= static_cast<std::uint64_t>(most)
                                                  : value.get<std::int64_t>() >= least && value.get<std::int64_t>() <= most;
    if (!small || value.get<std::int64_t>() < least)
      refuse(key, "an integer from " + std::to_string(least) + " to " + std::to_string(most), value.dump());
    return value.get<int>();
  }
  bool boolean(const char* key) {
    const json& value = at(key);
    if (!value.is_boolean()) refuse(key, "true or false", value.type_name());
    return value.get<bool>();
  }
  double number(const char* key, double least, double most) {
    const json& value = at(key);
    if (!value.is_number()) refuse(key, "a number", value.type_name());
    const double number = value.get<double>();
    if (!(number >= least && number <= most)) refuse(key, "a number from " + json(least).dump() + " to " + json(most).dump(), value.dump());
    return number;
  }
  /// Low and high may be left out: then they are the median.
  Milliseconds time(const std::string& prefix, bool may_be_zero = false) {
    const auto positive = [&](const std::string& key) {
      const double value = number(key.c_str(), 0, kMostMilliseconds);
      // A picosecond is the least that is counted; what takes less was not measured.
      if (value < 1e-9 && !(may_be_zero && value == 0))
        refuse(key, may_be_zero ? "0, or milliseconds above it" : "milliseconds above 0", object_.at(key).dump());
      return value;
    };
    Milliseconds time;
    time.median = time.low = time.high = positive(prefix + "ms");
    if (has_text(prefix + "low_ms")) time.low = positive(prefix + "low_ms");
    if (has_text(prefix + "high_ms")) time.high = positive(prefix + "high_ms");
    if (time.low > time.median || time.high < time.median)
      refuse(prefix + "ms", "a median between low_ms and high_ms", object_.at(prefix + "ms").dump());
    return time;
  }
  const json& rows(const char* key, std::size_t most) {
    const json& value = at(key);
    if (!value.is_array()) refuse(key, "a list", value.type_name());
    if (value.size() > most) refuse(key, "at most " + std::to_string(most) + " rows", std::to_string(value.size()));
    return value;
  }
  void finish() const {
    std::vector<std::string_view> known(known_.begin(), known_.end());
    for (const auto& [key, value] : object_.items())
      if (std::ranges::find(known, key) == known.end()) throw unknown_name(where_ + ": key", key.substr(0, 64), known);
  }
  [[noreturn]] void refuse(const std::string& key, std::string expected, std::string found) const {
    throw InputError({where_ + (key.empty() ? "" : ": " + key), std::move(expected), found.substr(0, 100), ""});
  }

 private:
  bool has_text(const std::string& key) {
    known_.push_back(key);
    return object_.contains(key);
  }
  const json& object_;
  std::string where_;
  std::vector<std::string> known_;
};

constexpr int kMostEmbed = 1 << 24, kMostHeads = 1 << 20;

/// One row after the other of a list; `read` returns what may be there once only.
template <class Read>
void read_rows(Fields& table, const char* key, const std::string& where, const Read& read, std::size_t most = kMaxRows) {
  using Shape = decltype(read(std::declval<Fields&>()));
  std::set<Shape> seen;
  std::size_t number = 0;
  for (const json& item : table.rows(key, most)) {
    Fields row(item, where + ": " + key + "[" + std::to_string(number++) + "]");
    if (!seen.insert(read(row)).second) row.refuse("", "every shape once", "one that stands above");
    row.finish();
  }
}

void read_deploy(Fields& table, const std::string& where, Deploy& deploy) {
  Fields fields(table.at("deploy"), where + ": deploy");
  const auto choice = [&](const char* key, const std::vector<std::string_view>& known) {
    const std::string text = fields.text(key);
    if (std::ranges::find(known, text) == known.end()) throw unknown_name(where + ": deploy." + key, text, known);
    return text;
  };
  deploy.dtype = choice("dtype", {"f32", "bf16"});
  deploy.batch = fields.integer("batch", 1, 1 << 20);
  deploy.context = fields.integer("context", 1, 1 << 24);
  deploy.phase = choice("phase", {"decode", "prefill"});
  deploy.threads = fields.integer("threads", 1, 4096);
  fields.finish();
}

void read_machine(Fields& table, const std::string& where, Machine& machine) {
  Fields fields(table.at("machine"), where + ": machine");
  machine.processor = fields.text("processor");
  machine.isa = fields.text("isa");
  machine.cores = fields.integer("cores", 0, 1 << 20);
  if (fields.has("accelerator")) machine.accelerator = fields.text("accelerator");
  if (fields.has("hash") && fields.text("hash") != machine.hash())
    fields.refuse("hash", machine.hash() + ", which its other keys give", fields.text("hash"));
  fields.finish();
}

void read_shapes(Fields& fields, const std::string& where, LatencyTable& table) {
  read_rows(fields, "frame", where, [&](Fields& row) {
    const auto& added = table.frames.emplace_back(
        LatencyTable::Frame{row.integer("embed", 1, kMostEmbed), row.time("embedding_", true), row.time("head_", true)});
    // Whole networks cannot tell the two apart: then one of them holds both.
    if (added.embedding.median + added.head.median == 0) row.refuse("embedding_ms", "with head_ms more than 0 ms", "0 and 0");
    return added.embed;
  });
  read_rows(fields, "attention", where, [&](Fields& row) {
    const auto& added = table.attentions.emplace_back(LatencyTable::Attention{
        row.integer("embed", 1, kMostEmbed), row.integer("heads", 1, kMostHeads), row.integer("groups", 1, kMostHeads), row.time("")});
    return std::tuple(added.embed, added.heads, added.groups);
  });
  read_rows(fields, "ffn", where, [&](Fields& row) {
    const auto& added = table.feed_forwards.emplace_back(
        LatencyTable::FeedForward{row.integer("embed", 1, kMostEmbed), row.integer("ffn", 1, kMostEmbed), row.time("")});
    return std::pair(added.embed, added.ffn);
  });
  for (const auto& [key, networks] : {std::pair("calibration", &table.calibration), std::pair("networks", &table.networks)})
    if (fields.has(key))
      read_rows(
          fields, key, where,
          [&to = *networks](Fields& row) {
            const auto& added = to.emplace_back(LatencyTable::Network{parse_subnet(row.text("subnet", kMaxSubnetText)), row.time("")});
            return format(added.subnet);
          },
          kMaxNetworks);
}

}  // namespace

std::string latency_text(const LatencyTable& table) {
  ordered_json file{{"format", kFormat}, {"version", kVersion}, {"source", table.source}, {"imported", table.imported}};
  if (!table.machine.processor.empty())
    file["machine"] = {
        {"hash", table.machine.hash()}, {"processor", table.machine.processor}, {"isa", table.machine.isa}, {"cores", table.machine.cores}};
  if (!table.machine.accelerator.empty()) file["machine"]["accelerator"] = table.machine.accelerator;
  file["device"] = table.device;
  const Deploy& deploy = table.deploy;
  file["deploy"] = {
      {"dtype", deploy.dtype}, {"batch", deploy.batch}, {"context", deploy.context}, {"phase", deploy.phase}, {"threads", deploy.threads}};
  file["samples"] = table.samples;
  file["noise"] = {{"mean", table.noise_mean}, {"worst", table.noise_worst}};
  for (const char* key : {"frame", "attention", "ffn", "calibration", "networks"}) file[key] = ordered_json::array();
  for (const auto& row : table.frames)
    file["frame"].push_back(with_times(with_times({{"embed", row.embed}}, "embedding_", row.embedding), "head_", row.head));
  for (const auto& row : table.attentions)
    file["attention"].push_back(with_times({{"embed", row.embed}, {"heads", row.heads}, {"groups", row.groups}}, "", row.time));
  for (const auto& row : table.feed_forwards) file["ffn"].push_back(with_times({{"embed", row.embed}, {"ffn", row.ffn}}, "", row.time));
  for (const auto& [key, networks] : {std::pair("calibration", &table.calibration), std::pair("networks", &table.networks)})
    for (const auto& row : *networks) file[key].push_back(with_times({{"subnet", format(row.subnet)}}, "", row.time));
  return file.dump(1) + "\n";
}

LatencyTable parse_latency(std::string_view text, const std::string& where) {
  const json document = parse_untrusted_json(text, where, 8);
  Fields fields(document, where);
  if (fields.text("format") != kFormat) fields.refuse("format", kFormat, fields.text("format"));
  if (const int version = fields.integer("version", 1, INT32_MAX); version > kVersion)
    throw InputError({where, "a latency table of version " + std::to_string(kVersion), std::to_string(version), "use a newer elastiform"});
  LatencyTable table;
  table.source = fields.text("source");
  if (fields.has("imported")) table.imported = fields.boolean("imported");
  if (fields.has("machine")) read_machine(fields, where, table.machine);
  if (fields.has("device")) table.device = fields.text("device");
  read_deploy(fields, where, table.deploy);
  if (fields.has("samples")) table.samples = fields.integer("samples", 0, INT32_MAX);
  if (fields.has("noise")) {
    Fields noise(fields.at("noise"), where + ": noise");
    table.noise_mean = noise.number("mean", 0, 1e9);
    table.noise_worst = noise.number("worst", 0, 1e9);
    noise.finish();
  }
  read_shapes(fields, where, table);
  fields.finish();
  return table;
}

LatencyTable load_latency(const std::string& path) { return parse_latency(read_small_file(path, kMaxFile), path); }

void save_latency(const LatencyTable& table, const std::string& path) { write_durably(path, latency_text(table)); }

}  // namespace elastiform
