#include "experiments/elastiform/training_log.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <system_error>

namespace elastiform {
namespace {

[[noreturn]] void fail(const std::string& path) { throw std::system_error(errno, std::generic_category(), path); }

}  // namespace

TrainingLog::TrainingLog(std::string path, std::int64_t step) : path_(std::move(path)), best_(std::numeric_limits<double>::infinity()) {
  std::int64_t kept = 0;
  {
    std::ifstream file(path_, std::ios::binary);
    for (std::string line; std::getline(file, line) && !file.eof();) {  // eof: the last line has no end, so it was torn
      const auto row = nlohmann::json::parse(line, nullptr, false);
      if (!row.is_object() || row.value("step", std::int64_t{-1}) < 0 || row.value("step", std::int64_t{0}) > step) break;
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

}  // namespace elastiform
