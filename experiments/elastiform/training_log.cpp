#include "experiments/elastiform/training_log.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <limits>
#include <system_error>

#include "kernels/errors.hpp"
#include "supernet/formats/json.hpp"
#include "supernet/storage/hdf5_file.hpp"

namespace elastiform {
namespace {

/// What a row holds, nested names joined by "_": {"loss": {"middle": 1}} has loss_middle. Whole numbers and truth values are integers.
constexpr const char* kIntegers[] = {"step", "tokens", "skipped", "checkpoint"};
constexpr const char* kReals[] = {"loss_smallest", "loss_middle", "loss_largest", "train_loss",        "teacher_loss",     "hidden_loss",
                                  "gradient_norm", "rate",        "seconds",      "tokens_per_second", "flops_per_second", "noise_scale"};

/// The number of that name in a row; NaN where the row has none, as for a loss that was not finite.
double number_in(const nlohmann::json& row, const std::string& name) {
  const auto found = row.find(name);
  if (found != row.end() && found->is_boolean()) return found->get<bool>() ? 1 : 0;
  if (found != row.end()) return found->is_number() ? found->get<double>() : std::numeric_limits<double>::quiet_NaN();
  const auto split = name.find('_');
  const auto group = split == std::string::npos ? row.end() : row.find(name.substr(0, split));
  if (group == row.end() || !group->is_object()) return std::numeric_limits<double>::quiet_NaN();
  return number_in(*group, name.substr(split + 1));
}

/// -1 for what is no row.
std::int64_t step_in(const nlohmann::json& row) {
  if (!row.is_object()) return -1;
  const auto step = row.find("step");
  return step != row.end() && step->is_number_integer() ? step->get<std::int64_t>() : -1;
}

[[noreturn]] void fail(const std::string& path) { throw std::system_error(errno, std::generic_category(), path); }

}  // namespace

TrainingLog::TrainingLog(std::string path, std::int64_t step) : path_(std::move(path)), best_(std::numeric_limits<double>::infinity()) {
  std::int64_t kept = 0;
  {
    std::ifstream file(path_, std::ios::binary);
    std::int64_t number = 0;
    for (std::string line; std::getline(file, line) && !file.eof();) {  // eof: the last line has no end, so it was torn
      const auto row = nlohmann::json::parse(line, nullptr, false);
      const std::int64_t row_step = step_in(row);
      ++number;
      if (row_step < 0)  // rows are synced one by one, so no kill leaves this: cutting here would lose the rows behind it for good
        throw InputError({path_ + ": line " + std::to_string(number), "a row of a training, with its step", "something else",
                          "put the line right, or remove it to go on without it"});
      if (row_step > step) break;
      kept += static_cast<std::int64_t>(line.size()) + 1;
      seconds_ = row.value("seconds", seconds_);
      const auto loss = row.find("loss");
      if (row.value("checkpoint", false) && loss != row.end() && loss->is_object() && loss->contains("middle") &&
          (*loss)["middle"].is_number())
        best_ = std::min(best_, (*loss)["middle"].get<double>());
    }
  }
  file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (file_ < 0 || ::ftruncate(file_, kept) != 0 || ::lseek(file_, 0, SEEK_END) < 0 || ::fsync(file_) != 0) fail(path_);
}

TrainingLog::~TrainingLog() {
  if (file_ >= 0) ::close(file_);
}

void TrainingLog::append(const std::string& row) {
  const auto line = row + "\n";
  for (std::size_t done = 0; done < line.size();) {
    const auto written = ::write(file_, line.data() + done, line.size() - done);
    if (written < 0 && errno != EINTR) fail(path_);
    done += static_cast<std::size_t>(std::max<ssize_t>(written, 0));
  }
  if (::fdatasync(file_) != 0) fail(path_);
}

void TrainingLog::fold(const std::string& path, const std::string& recipe) const {
  std::vector<nlohmann::json> rows;
  std::ifstream file(path_, std::ios::binary);
  for (std::string line; std::getline(file, line) && !file.eof();)
    if (auto row = nlohmann::json::parse(line, nullptr, false); row.is_object()) rows.push_back(std::move(row));
  ColumnTable table;
  for (const char* name : kIntegers) {
    ColumnTable::Integers column;
    for (const auto& row : rows) {
      const double value = number_in(row, name);
      column.push_back(value == value ? static_cast<std::int64_t>(value) : -1);
    }
    table.add(name, std::move(column));
  }
  for (const char* name : kReals) {
    ColumnTable::Reals column;
    for (const auto& row : rows) column.push_back(number_in(row, name));
    table.add(name, std::move(column));
  }
  Hdf5Writer folded(path, "training");
  folded.attribute("/", "recipe", std::string_view(recipe));
  folded.table("/training", table);
  folded.close();
}

}  // namespace elastiform
