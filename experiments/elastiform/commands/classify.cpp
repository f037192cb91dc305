#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/output.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "kernels/device.hpp"
#include "kernels/errors.hpp"
#include "supernet/classification.hpp"
#include "supernet/data/image_data.hpp"
#include "supernet/formats/format.hpp"

namespace elastiform {
namespace {

constexpr std::int64_t kImagesOfBatch = 64;

/// A class and its probability.
struct Guess {
  int label = 0;
  double probability = 0;
};

/// The likeliest classes of a row of logits, best first; of equals the first.
std::vector<Guess> best_of(std::span<const float> logits, std::size_t count, const std::string& image) {
  if (!std::all_of(logits.begin(), logits.end(), [](float z) { return std::isfinite(z); }))
    throw InputError({image, "finite logits", "some that are not", "the training diverged: see elastiform evaluate"});
  const double largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double total = 0;
  for (const float z : logits) total += std::exp(static_cast<double>(z) - largest);
  std::vector<int> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)]; });
  std::vector<Guess> best;
  for (std::size_t i = 0; i < std::min(count, order.size()); ++i)
    best.push_back({order[i], std::exp(static_cast<double>(logits[static_cast<std::size_t>(order[i])]) - largest) / total});
  return best;
}

/// `elastiform classify`: the classes of images, by an exported classifier or a subnet of a run.
class ClassifyCommand final : public Command {
 public:
  std::string_view name() const override { return "classify"; }
  std::string_view help() const override { return "The likeliest classes of images, by an exported model or a subnet of a run"; }
  std::string_view example() const override { return "elastiform classify runs/digits --subnet largest three.png seven.png"; }
  bool computes() const override { return true; }
  void declare(Options& options) override {
    options.positional("model", path_, "An exported classifier (file or folder) or a run folder");
    options.positionals("image", images_, "PNG or JPEG files, or files of images as data.images takes them");
    options.option("subnet", subnet_, "Of a run: a subnet's text, largest (default), middle, smallest or an id");
    options.choice("weights", weights_, kWeightChoices, "Of a run: " + std::string(kWeightsHelp));
    options.option("rank", rank_, kRankHelp, 1);
    options.option("top", top_, "Classes to show of each image", 1);
  }
  int run(const CommonOptions& common) override {
    if (is_run_folder(path_)) {
      Run run(path_, weights_, rank_);
      require_images(run.space().model());
      return classify_with({run.weights(), run.subnet(subnet_.value_or("largest")), run.recipe().data.image,
                            class_names(run.recipe().data.image, run.space().model())},
                           common);
    }
    const DenseModel model = load_model(path_);
    require_images(model.model);
    if (model.headless)
      throw InputError({path_, "a classifier", "a body without a head",
                        fmt::format("elastiform import {} --run DIR --images DATA --classes N makes one, to be fine-tuned", path_)});
    for (const auto& [given, option] : {std::pair{subnet_.has_value(), "--subnet"},
                                        std::pair{weights_ != kWeightChoices.front(), "--weights"}, std::pair{rank_.has_value(), "--rank"}})
      if (given)
        throw InputError({std::string("elastiform classify: ") + option, "a run folder", path_ + ", which holds one network",
                          std::string("leave ") + option + " out"});
    return classify_with({model.weights, model.subnet, model.reading, model.class_names}, common);
  }

 private:
  /// A network, and how it reads images.
  struct Classifier {
    const Weights& weights;
    Subnet subnet;
    ImageOptions reading;
    std::vector<std::string> names;
  };

  void require_images(const ModelConfig& model) const {
    if (!model.classifies()) throw InputError({path_, "a classifier of images", "a language model", "elastiform generate continues texts"});
  }

  int classify_with(const Classifier& classifier, const CommonOptions& common) {
    const SearchSpace& space = classifier.weights.table().space();
    const ModelConfig& model = space.model();
    const ThreadPool pool(threads_of(common));
    const auto backend = make_backend(Compute(common.device, Precision::f32), pool);
    const Network network(space, DType::float32, backend->memory());
    const PlacedWeights weights(classifier.weights, backend->memory());
    std::vector<std::string> documents;
    for (const std::string& path : images_) {
      const ImageSet set = read_unlabelled(path, classifier.reading, model.image);
      for (std::int64_t first = 0; first < set.count && !interrupted(); first += kImagesOfBatch) {
        const ImageSet part = part_of(set, model.image, first, std::min(kImagesOfBatch, set.count - first));
        const std::vector<float> logits =
            image_logits(*backend, network, *weights, classifier.subnet, batch_of(part, classifier.reading, model));
        const std::span<const float> all(logits);
        const auto classes = static_cast<std::size_t>(model.vocabulary);
        for (std::int64_t i = 0; i < part.count; ++i) {
          const auto best = best_of(all.subspan(static_cast<std::size_t>(i) * classes, classes), static_cast<std::size_t>(top_), path);
          show(set.count > 1 ? fmt::format("{}#{}", path, first + i) : path, best, classifier.names, common.json, documents);
        }
      }
    }
    if (common.json)
      fmt::print("{}\n", JsonObject().add("subnet", format(classifier.subnet)).add_json("images", json_list(documents)).text());
    return interrupted() ? kInterruptedStatus : 0;
  }

  static ImageSet part_of(const ImageSet& set, const ImageShape& shape, std::int64_t first, std::int64_t count) {
    ImageSet part{.count = count,
                  .bytes = {},
                  .floats = {},
                  .labels = std::vector<std::int32_t>(static_cast<std::size_t>(count), 0),
                  .white = set.white};
    const auto cut = [&](const auto& from, auto& to) {
      if (!from.empty()) to.assign(from.begin() + first * shape.values(), from.begin() + (first + count) * shape.values());
    };
    cut(set.bytes, part.bytes);
    cut(set.floats, part.floats);
    return part;
  }

  static void show(const std::string& image, const std::vector<Guess>& best, const std::vector<std::string>& names, bool json,
                   std::vector<std::string>& documents) {
    std::vector<std::string> items;
    std::string line;
    for (const Guess& guess : best) {
      JsonObject item;
      item.add("class", std::int64_t{guess.label});
      if (!names.empty()) item.add("name", names[static_cast<std::size_t>(guess.label)]);
      items.push_back(item.add("probability", guess.probability).text());
      line += fmt::format("  {} ({:.1f} %)", names.empty() ? std::to_string(guess.label) : names[static_cast<std::size_t>(guess.label)],
                          100 * guess.probability);
    }
    if (json) documents.push_back(JsonObject().add("image", image).add_json("classes", json_list(items)).text());
    else fmt::print("{}:{}\n", image, line);
  }

  std::string path_, weights_ = kWeightChoices.front();
  std::optional<std::string> subnet_;
  std::optional<std::int64_t> rank_;
  std::vector<std::string> images_;
  std::int64_t top_ = 1;
};

}  // namespace

std::unique_ptr<Command> make_classify_command() { return std::make_unique<ClassifyCommand>(); }

}  // namespace elastiform
