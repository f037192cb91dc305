// The journal's record of one round: a version, then fields one after the other; numbers as eight bytes, texts and lists after their length.
#include <cstring>
#include <type_traits>

#include "kernels/errors.hpp"
#include "search/result_file.hpp"

namespace elastiform {
namespace {

constexpr std::uint64_t kRecordVersion = 1;

class RecordWriter {
 public:
  template <class T>
  requires std::is_arithmetic_v<T>
  void operator()(const T& value) {
    static_assert(sizeof value == 8);
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void operator()(const std::string& value) {
    (*this)(std::uint64_t{value.size()});
    text_ += value;
  }
  void operator()(const Subnet& value) { (*this)(format(value)); }
  template <class T>
  void operator()(const std::vector<T>& values) {
    (*this)(std::uint64_t{values.size()});
    text_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

class RecordReader {
 public:
  RecordReader(std::string_view text, const std::string& path) : text_(text), path_(path) {}

  template <class T>
  requires std::is_arithmetic_v<T>
  void operator()(T& value) {
    static_assert(sizeof value == 8);
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
  }
  void operator()(std::string& value) { value = std::string(take(size(1))); }
  void operator()(Subnet& value) {
    std::string text;
    (*this)(text);
    value = parse_subnet(text);
  }
  template <class T>
  void operator()(std::vector<T>& values) {
    values.resize(size(sizeof(T)));
    const std::string_view bytes = take(values.size() * sizeof(T));
    if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  }
  /// A count of things that take at least `bytes` each, so never more than the record can hold.
  std::size_t size(std::size_t bytes) {
    std::uint64_t value = 0;
    (*this)(value);
    if (value > text_.size() / bytes) refuse();
    return static_cast<std::size_t>(value);
  }
  void end() const {
    if (!text_.empty()) refuse();
  }
  [[noreturn]] void refuse() const { throw InputError({path_, "records of rounds", "a record of another kind", ""}); }

 private:
  std::string_view take(std::size_t bytes) {
    if (bytes > text_.size()) refuse();
    const std::string_view taken = text_.substr(0, bytes);
    text_.remove_prefix(bytes);
    return taken;
  }
  std::string_view text_;
  const std::string& path_;
};

// One order of fields for both directions.
template <class Row, class Visit>
void search_fields(Row& s, Visit& visit) {
  visit(s.algorithm), visit(s.options), visit(s.budget), visit(s.law), visit(s.deployable), visit(s.deploy);
  visit(s.weights_hash), visit(s.blocks), visit(s.seed);
}

template <class Row, class Visit>
void evaluation_fields(Row& e, Visit& visit) {
  visit(e.id), visit(e.subnet), visit(e.weights_hash), visit(e.split), visit(e.blocks), visit(e.precision);
  visit(e.score.loss), visit(e.score.loss_se), visit(e.score.accuracy), visit(e.score.block_losses), visit(e.score.seconds);
  visit(e.costs.parameters), visit(e.costs.block_parameters), visit(e.costs.macs), visit(e.costs.inference_bytes);
  visit(e.costs.training_bytes), visit(e.latency_ms), visit(e.search), visit(e.round);
}

}  // namespace

std::string encode_round(const StoredRound& round) {
  RecordWriter write;
  write(kRecordVersion);
  search_fields(round.search, write);
  write(round.round);
  write(round.members);
  write(std::uint64_t{round.added.size()});
  for (const Evaluation& evaluation : round.added) evaluation_fields(evaluation, write);
  return write.take();
}

StoredRound decode_round(std::string_view record, const std::string& path) {
  RecordReader read(record, path);
  std::uint64_t version = 0;
  read(version);
  if (version > kRecordVersion)
    throw InputError({path, "records of version " + std::to_string(kRecordVersion), std::to_string(version), "use a newer elastiform"});
  StoredRound round;
  search_fields(round.search, read);
  read(round.round);
  read(round.members);
  round.added.resize(read.size(sizeof(std::int64_t)));
  for (Evaluation& evaluation : round.added) evaluation_fields(evaluation, read);
  read.end();
  return round;
}

}  // namespace elastiform
