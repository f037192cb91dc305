#pragma once

#include <cstdint>
#include <string>

namespace elastiform {

/// training.jsonl of a run: one JSON object a line, appended and synced, the truth about what a training did. Everything in a row but its
/// timings is a function of the state at that step, so the log of a resumed run equals that of an uninterrupted one.
class TrainingLog {
 public:
  /// Opens or creates. Drops a torn last line and every row of a later step than `step`: they belong to work that was lost.
  /// Any other line that is no row is an InputError that names it, and the file stays as it is.
  TrainingLog(std::string path, std::int64_t step);
  ~TrainingLog();
  TrainingLog(const TrainingLog&) = delete;
  TrainingLog& operator=(const TrainingLog&) = delete;

  void append(const std::string& row);  // on disk when it returns
  /// All rows as one table, /training of an HDF5 file (docs/runs.md), with the recipe beside it. Written anew each time.
  void fold(const std::string& path, const std::string& recipe) const;
  double best_middle() const { return best_; }  // lowest loss of the middle subnet among checkpointed rows; infinity: none
  double seconds() const { return seconds_; }   // trained so far, from the last row kept

 private:
  std::string path_;
  int file_ = -1;
  double best_, seconds_ = 0;
};

}  // namespace elastiform
