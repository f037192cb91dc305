#include "experiments/elastiform/train_run.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "experiments/elastiform/fma_peak.hpp"
#include "experiments/elastiform/metric.hpp"
#include "experiments/elastiform/output.hpp"
#include "experiments/elastiform/recipe_data.hpp"
#include "experiments/elastiform/resume_check.hpp"
#include "experiments/elastiform/run_checkpoints.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "experiments/elastiform/teacher_file.hpp"
#include "experiments/elastiform/train_plan.hpp"
#include "experiments/elastiform/training_log.hpp"
#include "kernels/errors.hpp"
#include "supernet/sha256.hpp"
#include "supernet/storage/durable_file.hpp"
#include "trainers/checkpoint.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kCheckpointsKept = 2;

double seconds_now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// What a training that was killed before it wrote its recipe leaves: nothing worth keeping.
bool holds_only_leftovers(const std::string& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const auto name = entry->path().filename().string();
    const bool unfinished =
        name.ends_with(".new") && (name.starts_with("recipe.toml.") || name.starts_with("base.h5.") || name.starts_with("teacher.h5."));
    if (name != "lock" && name != "base.h5" && name != "teacher.h5" && !unfinished) return false;
  }
  return !error;
}

/// One training, from where its trainer stands to the end or to Ctrl-C. Of several ranks each has its session; rank 0's alone writes.
class Session {
 public:
  Session(const Recipe& recipe, const std::string& folder, const MemoryOptions& memory_options, const CommonOptions& common,
          const KeptNetworks& kept = {})
      : recipe_(recipe), stored_(as_stored(recipe, folder).text()), paths_{folder}, json_(common.json), ranks_(ranks_of(common)),
        data_(open_data(recipe)), pool_(threads_of(common)), compute_(training_compute(recipe, common.device)),
        backend_(make_backend(compute_, pool_)), away_(make_away(memory_options, compute_.device)),

        trainer_(recipe.space, recipe.train, recipe.stages, *data_, *backend_,
                 activation_limit(recipe, *backend_, elastiform::evaluation_bytes(recipe, *data_, pool_, compute_), memory_options, ranks_),
                 ranks_, away_.get(), weights_of_teacher(recipe, paths_, kept.teacher)),
        log_set_(
            scoring_set(*data_, recipe.space.model().context, {Split::search, recipe.space.model().context, recipe.train.log_segments})),
        evaluator_(trainer_.network(), trainer_.weights(), *data_, log_set_, pool_, compute_), ends_{recipe.space.smallest(),
                                                                                                     recipe.space.middle(),
                                                                                                     recipe.space.largest()} {
    evaluator_.share_batches(ranks_);
    if (ranks_.leads() && common.device == Device::cpu) peak_.emplace(pool_, compute_.precision, fma_peak_cache());
    if (kept.base != nullptr) begin_with(*kept.base);
    else if (!recipe.base.empty()) begin_with(load_supernet(paths_.base()));
  }

  Trainer& trainer() { return trainer_; }
  const DataSource& data() const { return *data_; }

  PlannedMemory memory() const {
    return {trainer_.memory(), evaluator_.plan_bytes(ends_), ranks_.size(), compute_.device != Device::cpu, away_ ? away_->name() : ""};
  }

  TrainOutcome run() {
    require_equal_sessions();
    std::optional<TrainingLog> log;
    if (ranks_.leads()) {
      log.emplace(paths_.training_log(), trainer_.next_step());
      best_ = log->best_middle();
      earlier_seconds_ = log->seconds();
      fs::create_directories(paths_.checkpoints());
    }
    Progress progress(json_, "training");
    begin_ = seconds_now();
    first_step_ = trainer_.next_step();
    while (!trainer_.done() && !any(ranks_, interrupted())) {
      train_one_step();
      const auto step = trainer_.next_step();
      const bool checkpoint = step % recipe_.train.checkpoint_every == 0 || trainer_.done();
      if (checkpoint || step % recipe_.train.log_every == 0) {
        backend_->wait();  // the evaluator has one of its own
        const auto scores = evaluator_.evaluate(ends_);
        if (log) report(progress, *log, scores, checkpoint);
      }
      if (progress.on_terminal()) progress.update(step, recipe_.train.steps, speed());  // elsewhere the reports are enough
    }
    if (log) {
      if (!trainer_.done()) save();  // Ctrl-C
      log->fold(paths_.training_table(), stored_);
    }
    return {paths_.folder, trainer_.next_step(),  recipe_.train.steps,      trainer_.skipped_steps(), earlier_seconds_ + seconds_,
            losses_,       recipe_.space.model(), log_set_.bytes_per_token, !trainer_.done()};
  }

 private:
  // Of a tuning: what is added stays as it was initialized, a checkpoint brings the rest.
  void begin_with(const LoadedSupernet& base) {
    if (base.weights_hash != recipe_.base)
      throw InputError({paths_.base(), "the weights that the run began with, SHA-256 " + recipe_.base.substr(0, 16),
                        base.weights_hash.substr(0, 16), "restore the run's base.h5"});
    trainer_.begin_with(base.weights);
  }

  // Ranks that differ in any of these would drift apart, or end apart.
  void require_equal_sessions() {
    const BuildIdentity build = this_build(*backend_);
    require_equal(ranks_, {{"recipe, SHA-256", sha256_hex(recipe_.text())},
                           {"data, SHA-256", data_->sha256()},
                           {"step", std::to_string(trainer_.next_step())},
                           {"instruction set", build.isa},
                           {"program", build.commit + ", " + build.compiler}});
  }

  void train_one_step() {
    const double begin = seconds_now();
    last_ = trainer_.step();
    const double took = seconds_now() - begin;
    seconds_ += took;
    interval_.seconds += took;
    interval_.inputs += inputs_per_step();
    interval_.flops += last_.flops;
  }

  // Of text tokens, else images: a sandwich reads it once for all its subnets. What each of them costs is in the FLOPs.
  std::int64_t inputs_per_step() const {
    const ModelConfig& model = recipe_.space.model();
    return model.head_rows(sequences_of_step(recipe_.train), model.context);
  }

  double shown(double nats) const { return metric_.shown(nats, log_set_.bytes_per_token); }

  /// Of the step's subnets.
  double train_loss() const {
    double sum = 0;
    for (const auto& loss : last_.losses) sum += loss.label_loss / static_cast<double>(last_.losses.size());
    return sum;
  }

  /// Of the step's subnets that learn from a teacher, of which there are some.
  double mean_distance(double LossReport::*loss) const {
    const auto taught = std::span(last_.losses).subspan(last_.first_taught);
    double sum = 0;
    for (const LossReport& one : taught) sum += one.*loss / static_cast<double>(taught.size());
    return sum;
  }

  std::string quality_line(const std::vector<Score>& scores) const {
    if (last_.masked_patches > 0) return fmt::format("squared error of {} hidden patches {:.3f}", last_.masked_patches, train_loss());
    if (metric_.classifies)
      return fmt::format("accuracy smallest {:.1f} %  middle {:.1f} %  largest {:.1f} %  loss {:.3f}", 100 * scores[0].accuracy,
                         100 * scores[1].accuracy, 100 * scores[2].accuracy, scores[2].loss);
    return fmt::format("{} smallest {:.3f}  middle {:.3f}  largest {:.3f}", metric_.loss, shown(scores[0].loss), shown(scores[1].loss),
                       shown(scores[2].loss));
  }

  std::string speed() const {
    if (!(interval_.seconds > 0)) return "";
    const double flops = interval_.flops / interval_.seconds;
    return fmt::format("{} {}/s, {:.1f} GFLOP/s{}", grouped(std::llround(static_cast<double>(interval_.inputs) / interval_.seconds)),
                       metric_.inputs, flops * 1e-9, peak_ ? fmt::format(" ({:.0f} % of peak)", 100 * rank_flops() / peak_->flops()) : "");
  }

  std::string noise_text() const {
    if (!recipe_.train.noise_scale) return "";
    const double scale = trainer_.noise().scale();
    return std::isnan(scale) ? "  noise scale: no estimate yet" : fmt::format("  noise scale {:.0f} sequences", scale);
  }

  // FLOP/s since the last report; the peak is that of one rank's threads.
  double rank_flops() const { return interval_.flops / interval_.seconds / ranks_.size(); }

  double seconds_left() const {
    const auto step = trainer_.next_step();
    return (seconds_now() - begin_) / static_cast<double>(step - first_step_) * static_cast<double>(recipe_.train.steps - step);
  }

  // Order: the log's row, best.h5, step-N.h5, supernet.h5. supernet.h5 is the commit: what a kill before it left is of a later step than a
  // resume begins with, so its row is dropped and everything is made again, with the same bits. After it a missing row or an older best.h5
  // would stay for good, because no later step looks back.
  void report(Progress& progress, TrainingLog& log, const std::vector<Score>& scores, bool checkpoint) {
    if (peak_) peak_->reached(rank_flops());
    losses_ = EndLosses{scores[0].loss, scores[1].loss, scores[2].loss};
    const auto step = trainer_.next_step();
    JsonObject loss, row;
    loss.add("smallest", losses_->smallest).add("middle", losses_->middle).add("largest", losses_->largest);
    row.add("step", step).add("tokens", step * inputs_per_step()).add_json("loss", loss.text());
    row.add("train_loss", train_loss());
    const bool taught = last_.first_taught < last_.losses.size();
    if (taught) row.add("teacher_loss", mean_distance(&LossReport::teacher_loss));
    if (taught && last_.follows_hidden) row.add("hidden_loss", mean_distance(&LossReport::hidden_loss));
    row.add("gradient_norm", last_.gradient_norm).add("rate", last_.rate).add("skipped", trainer_.skipped_steps());
    if (recipe_.train.noise_scale) row.add("noise_scale", trainer_.noise().scale());
    row.add("checkpoint", checkpoint).add("seconds", earlier_seconds_ + seconds_);
    row.add("tokens_per_second", static_cast<double>(interval_.inputs) / interval_.seconds)
        .add("flops_per_second", interval_.flops / interval_.seconds);
    log.append(row.text());
    progress.line(fmt::format("step {:>{}}  {}  {}{}{}{}", step, std::to_string(recipe_.train.steps).size(), quality_line(scores), speed(),
                              noise_text(), trainer_.done() ? "" : "  " + duration_text(seconds_left()) + " left",
                              trainer_.skipped_steps() > 0 ? fmt::format("  {} steps skipped: not finite", trainer_.skipped_steps()) : "") +
                  (trainer_.precision_summary().empty() ? "" : "  " + trainer_.precision_summary()));
    interval_ = {};
    if (!checkpoint) return;
    if (losses_->middle < best_) {
      best_ = losses_->middle;
      save_checkpoint(trainer_, stored_, data_->sha256(), paths_.checkpoints() + "/best.h5");
    }
    save();
    log.fold(paths_.training_table(), stored_);  // after the commit: it is made of the log, and made again by whoever comes next
  }

  void save() {
    save_checkpoint(trainer_, stored_, data_->sha256(), fmt::format("{}/step-{:06}.h5", paths_.checkpoints(), trainer_.next_step()));
    save_checkpoint(trainer_, stored_, data_->sha256(), paths_.supernet());
    const auto checkpoints = step_checkpoints(paths_);
    for (std::size_t i = kCheckpointsKept; i < checkpoints.size(); ++i) fs::remove(checkpoints[i]);
  }

  struct Interval {
    double seconds = 0, flops = 0;
    std::int64_t inputs = 0;
  };  // since the last report

  const Recipe& recipe_;
  const Metric& metric_ = metric_of(recipe_.space.model());
  std::string stored_;
  RunPaths paths_;
  bool json_;
  Communicator& ranks_;
  std::unique_ptr<DataSource> data_;
  ThreadPool pool_;
  Compute compute_;
  std::unique_ptr<Backend> backend_;
  std::optional<FmaPeak> peak_;        // the CPU's; of rank 0, which shows speed
  std::unique_ptr<MemorySpace> away_;  // where activations wait; null: nowhere
  Trainer trainer_;
  ScoringSet log_set_;
  PrefixEvaluator evaluator_;
  std::vector<Subnet> ends_;  // smallest, middle, largest
  std::optional<EndLosses> losses_;
  StepReport last_;
  Interval interval_;
  std::int64_t first_step_ = 0;  // of this session
  double begin_ = 0, best_ = 0, seconds_ = 0, earlier_seconds_ = 0;
};

void compare_builds(std::FILE* stream, const BuildIdentity& then, const BuildIdentity& now) {
  const auto line = [&](const char* what, const std::string& a, const std::string& b) {
    if (a != b)
      fmt::print(stream, "note: {} was {} and is {}: the run goes on, its bits may differ from an uninterrupted one\n", what, a, b);
  };
  line("the program's commit", then.commit, now.commit);
  line("the instruction set", then.isa, now.isa);
  line("compiler", then.compiler, now.compiler);
  line("the precision", then.precision, now.precision);
}

/// From here on the other ranks train too, and all know what to do should one be lost.
void call_followers(const CommonOptions& common, const std::string& folder) {
  if (common.job == nullptr) return;
  common.job->say_when_lost("what was saved last is whole; go on with: elastiform train --resume " + folder);
  common.job->call_followers();
}

}  // namespace

TrainOutcome train_new(const Recipe& recipe, const std::string& folder, const MemoryOptions& memory_options, const CommonOptions& common,
                       const KeptNetworks& kept) {
  if (!ranks_of(common).leads()) {  // rank 0 has checked everything and made the folder
    call_followers(common, folder);
    return Session(recipe, folder, memory_options, common).run();
  }
  std::error_code error;
  if (is_run_folder(folder))
    throw InputError(
        {folder, "a folder that does not exist", "a run", fmt::format("--run another, or elastiform train --resume {}", folder)});
  if (fs::exists(folder, error) && !(fs::is_directory(folder, error) && holds_only_leftovers(folder)))
    throw InputError({folder, "a folder that does not exist", "something else", "--run another"});
  Session session(recipe, folder, memory_options, common, kept);  // opens the data: what is wrong with it shows before anything is written
  print_plan(text_stream(common.json), recipe, session.memory());
  if (!fs::create_directories(folder, error) && error)
    throw InputError({folder, "a folder that can be made", error.message(), "--run another"});
  const FolderLock lock(folder);
  if (is_run_folder(folder)) throw InputError({folder, "a folder that does not exist", "a run that has just begun", "--run another"});
  if (kept.base != nullptr) save_base(*kept.base, RunPaths{folder}.base());  // before the recipe, which makes the folder a run
  if (kept.teacher != nullptr) save_base(*kept.teacher, RunPaths{folder}.teacher());
  write_durably(RunPaths{folder}.recipe(), as_stored(recipe, folder).text());
  call_followers(common, folder);
  return session.run();
}

namespace {

// As rank 0 has left the run.
TrainOutcome follow_resumed(const RunPaths& paths, const std::vector<std::string>& set, const MemoryOptions& memory_options,
                            const CommonOptions& common) {
  call_followers(common, paths.folder);
  const auto recipe = Recipe::load(paths.recipe(), set);
  Session session(recipe, paths.folder, memory_options, common);
  std::error_code error;
  if (fs::exists(paths.supernet(), error)) load_checkpoint(session.trainer(), paths.supernet());
  return session.run();
}

}  // namespace

TrainOutcome train_resume(const std::string& folder, const std::vector<std::string>& set, std::optional<std::int64_t> steps,
                          const MemoryOptions& memory_options, const CommonOptions& common) {
  if (!is_run_folder(folder)) throw InputError({folder, "a run folder", "none", "elastiform train RECIPE starts one"});
  refuse_settings(set);
  const RunPaths paths{folder};
  if (!ranks_of(common).leads()) return follow_resumed(paths, set, memory_options, common);
  const FolderLock lock(folder);
  auto recipe = Recipe::load(paths.recipe(), set);
  replace_lost_supernet(paths, text_stream(common.json));
  std::error_code error;
  std::string data_sha256;
  std::int64_t trained = 0;
  if (fs::exists(paths.supernet(), error)) {
    const auto before = load_supernet(paths.supernet());  // a copy of the weights, gone before the session makes its own
    refuse_changes(recipe, before.recipe_toml, before.steps, paths.recipe());
    data_sha256 = before.data_sha256;
    trained = before.steps;
  }
  if (steps) lengthen(recipe, *steps, trained);
  Session session(recipe, folder, memory_options, common);
  if (!data_sha256.empty()) {
    if (session.data().sha256() != data_sha256)
      throw InputError({*main_path(recipe.data).path, "the data that the run began with, SHA-256 " + data_sha256.substr(0, 16),
                        session.data().sha256().substr(0, 16), fmt::format("--set {}=PATH", main_path(recipe.data).key)});
    compare_builds(text_stream(common.json), load_checkpoint(session.trainer(), paths.supernet()), this_build(session.trainer().backend()));
  }
  if (const auto text = as_stored(recipe, folder).text(); steps || !set.empty()) write_durably(paths.recipe(), text);
  fmt::print(text_stream(common.json), "{} goes on at step {} of {}\n", folder, session.trainer().next_step(), recipe.train.steps);
  print_memory(text_stream(common.json), session.memory());
  call_followers(common, folder);
  return session.run();
}

}  // namespace elastiform
