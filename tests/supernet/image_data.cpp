#include "supernet/data/image_data.hpp"

#include <fstream>
#include <set>

#include "kernels/errors.hpp"
#include "supernet/data/augmentation.hpp"
#include "supernet/data/pictures.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

constexpr std::int64_t kImages = 40;

ModelConfig model_of(int height, int width, int channels, int patch, Readout readout = Readout::class_token) {
  ModelConfig model = preset_model("vit");
  model.vocabulary = 10;
  model.image = {height, width, channels, patch};
  model.readout = readout;
  model.context = model.tokens_of_image();
  return model;
}

/// Pixel p of image i, a byte.
int pixel(std::int64_t i, std::int64_t p) { return static_cast<int>((i * 37 + p * 11) % 256); }
int label(std::int64_t i) { return static_cast<int>(i * 3 % 10); }

std::string csv(std::int64_t images, std::int64_t values, bool label_first = false) {
  std::string text;
  for (std::int64_t i = 0; i < images; ++i) {
    if (label_first) text += std::to_string(label(i)) + ",";
    for (std::int64_t p = 0; p < values; ++p) text += std::to_string(pixel(i, p)) + (p + 1 < values || !label_first ? "," : "");
    if (!label_first) text += std::to_string(label(i));
    text += "\n";
  }
  return text;
}

std::string big_endian(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8), static_cast<char>(value)};
}
std::string idx(std::initializer_list<std::uint32_t> dims, const std::string& values, int type = 8) {
  std::string text{0, 0, static_cast<char>(type), static_cast<char>(dims.size())};
  for (const std::uint32_t d : dims) text += big_endian(d);
  return text + values;
}
std::string npy(const std::string& type, const std::string& shape, const std::string& values, const std::string& fortran = "False") {
  const std::string header = "{'descr': '" + type + "', 'fortran_order': " + fortran + ", 'shape': " + shape + ", }\n";
  return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(header.size() % 256) + static_cast<char>(header.size() / 256) + header +
         values;
}
std::string pixels(std::int64_t images, std::int64_t values) {
  std::string bytes;
  for (std::int64_t i = 0; i < images; ++i)
    for (std::int64_t p = 0; p < values; ++p) bytes += static_cast<char>(pixel(i, p));
  return bytes;
}
std::string labels(std::int64_t images) {
  std::string bytes;
  for (std::int64_t i = 0; i < images; ++i) bytes += static_cast<char>(label(i));
  return bytes;
}

DataOptions options_of(std::string images, std::string labels = "") {
  DataOptions options;
  options.splits = {80, 10, 10};
  options.image.images = std::move(images);
  options.image.labels = std::move(labels);
  return options;
}

/// The value of a normalised byte.
float normalised(int byte) { return static_cast<float>((byte / 255.0 - 0.5) / 0.5); }

void check_set(const ImageSet& set, std::int64_t values) {
  REQUIRE(set.count == kImages);
  for (std::int64_t i = 0; i < kImages; ++i) {
    REQUIRE(set.labels[static_cast<std::size_t>(i)] == label(i));
    for (std::int64_t p = 0; p < values; ++p) REQUIRE(set.value(i * values + p) == static_cast<float>(pixel(i, p)));
  }
}

/// That reading it throws InputError of one line which says `part`.
void check_refused(const ImageOptions& options, const ImageShape& shape, const std::string& part) {
  CAPTURE(options.images);
  check_input_error([&] { read_images(options, shape, 10); }, part);
}

}  // namespace

TEST_CASE("CSV, IDX and .npy hold the same images", "[supernet][images]") {
  const TemporaryFolder folder;
  const ImageShape shape{4, 6, 1, 2};
  const std::string bytes = pixels(kImages, 24);
  ImageOptions options;
  SECTION("csv") { options.images = folder.write("a.csv", csv(kImages, 24)); }
  SECTION("csv with a header, label first, Windows line ends") {
    std::string text = "class" + std::string(24, ',') + "\r\n";
    for (const char c : csv(kImages, 24, true)) text += c == '\n' ? std::string("\r\n") : std::string(1, c);
    options.images = folder.write("a.csv", text);
    options.label_column = "first";
  }
  SECTION("idx") {
    options.images = folder.write("i", idx({kImages, 4, 6}, bytes));
    options.labels = folder.write("l", idx({kImages}, labels(kImages)));
  }
  SECTION("npy") {
    options.images = folder.write("i.npy", npy("|u1", "(40, 4, 6)", bytes));
    options.labels = folder.write("l.npy", npy("|i1", "(40,)", labels(kImages)));
  }
  SECTION("npy of big-endian whole numbers") {
    std::string wide;
    for (const char c : bytes) wide += std::string(1, '\0') + c;
    options.images = folder.write("i.npy", npy(">u2", "(40, 4, 6, 1)", wide));
    options.labels = folder.write("l.npy", npy("|u1", "(40,)", labels(kImages)));
  }
  check_set(read_images(options, shape, 10), 24);
}

TEST_CASE(".npy with channels before rows, and floats", "[supernet][images]") {
  const TemporaryFolder folder;
  const ImageShape shape{4, 6, 3, 2};
  std::string floats;
  for (std::int64_t i = 0; i < kImages; ++i)
    for (std::int64_t c = 0; c < 3; ++c)
      for (std::int64_t p = 0; p < 24; ++p) {
        const float value = static_cast<float>(pixel(i, p * 3 + c));
        floats.append(reinterpret_cast<const char*>(&value), 4);
      }
  ImageOptions options;
  options.images = folder.write("i.npy", npy("<f4", "(40, 3, 4, 6)", floats));
  options.labels = folder.write("l.npy", npy("|u1", "(40,)", labels(kImages)));
  check_set(read_images(options, shape, 10), 72);
}

TEST_CASE("a batch holds patches, channel by channel, and where its tokens stand", "[supernet][images]") {
  const TemporaryFolder folder;
  const ModelConfig model = model_of(4, 6, 3, 2, GENERATE(Readout::class_token, Readout::mean));
  const ImageData data(options_of(folder.write("a.csv", csv(kImages, 72))), model, {});
  const auto windows = data.scoring_windows(Split::search, model.context, 0, 0);
  REQUIRE(windows.size() == 4);
  const Batch batch = data.scoring_batch(windows, 1, 2, model.context);
  const bool has_class = model.readout == Readout::class_token;
  CHECK(batch.targets.size() == 2);
  CHECK(batch.inputs.size() == static_cast<std::size_t>(2 * (6 + has_class)));
  CHECK(batch.inputs.back() == 11 + has_class);
  CHECK(batch.images.head_rows.size() == (has_class ? 2U : 12U));
  const std::int64_t image = windows[2].begin;
  std::size_t at = 6 * 12;  // the second image
  for (int top = 0; top < 4; top += 2)
    for (int left = 0; left < 6; left += 2)
      for (int c = 0; c < 3; ++c)
        for (int y = top; y < top + 2; ++y)
          for (int x = left; x < left + 2; ++x) REQUIRE(batch.images.patches[at++] == normalised(pixel(image, (y * 6 + x) * 3 + c)));
}

TEST_CASE("the splits of images are disjoint, whole and always the same; an image is a block", "[supernet][images]") {
  const TemporaryFolder folder;
  const ModelConfig model = model_of(4, 6, 1, 2);
  const ImageData data(options_of(folder.write("a.csv", csv(kImages, 24))), model, {});
  std::set<std::int64_t> seen;
  for (const Split split : {Split::train, Split::search, Split::report})
    for (const Segment& segment : data.segments(split)) {
      CHECK(segment.end == segment.begin + 1);
      CHECK(seen.insert(segment.begin).second);
    }
  CHECK(seen.size() == kImages);
  CHECK(data.segments(Split::train).size() == 32);
  const ImageData again(options_of(folder / "a.csv"), model, {});
  CHECK(again.sha256() == data.sha256());
  CHECK(again.segments(Split::report).front().begin == data.segments(Split::report).front().begin);
}

TEST_CASE("a training batch is a function of seed and step, and its parts are those of the whole", "[supernet][images]") {
  const TemporaryFolder folder;
  const ModelConfig model = model_of(4, 6, 1, 2);
  const Augmentation augmentation{.crop = 1, .flip = 0.5, .mixup = 0.4, .cutmix = 1};
  const ImageData data(options_of(folder.write("a.csv", csv(kImages, 24))), model, augmentation);
  const Batch whole = data.training_batch(7, 3, 6, model.context);
  Batch part;
  data.training_batch(7, 3, 4, model.context, part, 2);
  CHECK(std::equal(part.images.patches.begin(), part.images.patches.end(), whole.images.patches.begin() + 2 * 24));
  CHECK(std::equal(part.targets.begin(), part.targets.end(), whole.targets.begin() + 2));
  CHECK(std::equal(part.images.mixed_with.begin(), part.images.mixed_with.end(), whole.images.mixed_with.begin() + 2));
  CHECK(data.training_batch(7, 4, 6, model.context).images.patches != whole.images.patches);
  CHECK(data.training_batch(8, 3, 6, model.context).images.patches != whole.images.patches);
  for (const float share : whole.images.mixed_share) CHECK((share >= 0 && share <= 1));
}

TEST_CASE("crop moves, flip mirrors, cutmix takes the area that it says, mixup the share", "[supernet][images]") {
  const ImageShape shape{5, 7, 2, 1};
  std::vector<float> image(70), other(70, 100.0f), moved(70);
  for (std::size_t i = 0; i < 70; ++i) image[i] = static_cast<float>(i);
  const std::vector<float> empty{-1, -2};
  RandomStream random(3, Purpose::test);
  move_image(random, {.flip = 1}, shape, image, empty, moved);
  for (std::size_t row = 0; row < 10; ++row)
    for (std::size_t x = 0; x < 7; ++x) CHECK(moved[row * 7 + x] == image[row * 7 + 6 - x]);
  std::set<float> corners;
  for (int i = 0; i < 200; ++i) {
    move_image(random, {.crop = 1}, shape, image, empty, moved);
    corners.insert(moved[0]);
    CHECK((moved[35] == empty[1] || moved[35] >= 35));  // of the second channel
  }
  CHECK(corners == std::set<float>{-1, 0, 1, 7, 8});  // nine places, of which those beyond the image are empty
  for (int i = 0; i < 100; ++i) {
    std::vector<float> cut = image, mixed = image;
    const double area = mix_images(random, {.cutmix = 1}, shape, other, cut),
                 share = mix_images(random, {.mixup = 0.3}, shape, other, mixed);
    CHECK(static_cast<double>(std::count(cut.begin(), cut.end(), 100.0f)) == Approx(area * 70).margin(1e-9));
    CHECK(static_cast<double>(mixed[30]) == Approx(30 + share * 70).epsilon(1e-5));
  }
}

TEST_CASE("Beta variates have the moments of their law", "[supernet][images]") {
  const double alpha = GENERATE(0.2, 0.8, 1.0, 3.0);
  RandomStream random(11, Purpose::test);
  double sum = 0, squares = 0;
  constexpr int kDraws = 40000;
  for (int i = 0; i < kDraws; ++i) {
    const double x = beta_variate(random, alpha);
    REQUIRE((x >= 0 && x <= 1));
    sum += x, squares += x * x;
  }
  const double mean = sum / kDraws, variance = 1 / (4 * (2 * alpha + 1));
  CHECK(mean == Approx(0.5).margin(5 * std::sqrt(variance / kDraws)));
  CHECK(squares / kDraws - mean * mean == Approx(variance).epsilon(0.05));
}

TEST_CASE("a resized picture keeps its mean, and its middle", "[supernet][images]") {
  Picture picture{40, 60, 1, {}};
  for (int y = 0; y < 40; ++y)
    for (int x = 0; x < 60; ++x) picture.values.push_back(static_cast<std::uint8_t>(4 * x));
  const Picture same = resized(picture, 40, 60), small = resized(picture, 10, 10), large = resized(picture, 80, 120);
  CHECK(same.values == picture.values);
  for (int y = 0; y < 10; ++y)
    for (int x = 1; x < 9; ++x)  // columns 8 to 47 of the picture, four to a pixel
      CHECK(std::abs(small.values[static_cast<std::size_t>(y * 10 + x)] - 4 * (8 + 4 * x + 1.5)) <= 1);
  CHECK(large.values[60] == Approx(4 * 29.75).margin(1.01));
  // Scaled to 224 rows a strip has 224 million columns, of which its middle is kept.
  const Picture strip = resized({1, 1'000'000, 1, std::vector<std::uint8_t>(1'000'000, 7)}, 224, 224);
  CHECK(strip.values == std::vector<std::uint8_t>(224 * 224, 7));
}

TEST_CASE("hostile CSV files of images end in one line each", "[supernet][images][hostile]") {
  const TemporaryFolder folder;
  const ImageShape shape{4, 6, 1, 2};
  const auto csv_refused = [&](const std::string& text, const std::string& part) {
    ImageOptions options;
    options.images = folder.write("bad.csv", text);
    check_refused(options, shape, part);
  };
  csv_refused("", "at least 3 images");
  csv_refused(csv(2, 24), "at least 3 images");
  csv_refused(csv(40, 23), "25 columns");
  csv_refused("x" + csv(3, 24), "line 1, column 1");  // one name makes no header
  csv_refused(csv(3, 24) + "1,2,3\n", "line 4");
  csv_refused(csv(3, 24) + "x" + csv(1, 24), "line 4, column 1");
  csv_refused(csv(3, 24) + "nan" + csv(1, 24).substr(csv(1, 24).find(',')), "a number");
  csv_refused(csv(3, 24) + "1e39" + csv(1, 24).substr(csv(1, 24).find(',')), "a number");  // no float32
  csv_refused(csv(3, 24).replace(csv(3, 24).size() - 2, 1, "99"), "from 0 to 9");
  csv_refused(csv(3, 24).replace(csv(3, 24).size() - 2, 1, "1.5"), "whole number");
  csv_refused(csv(3, 24).replace(csv(3, 24).size() - 2, 1, "-1"), "from 0 to 9");
  csv_refused(std::string("\x1f\x8b\x08\x00garbage", 11), "gzip");
}

TEST_CASE("hostile image files end in one line each", "[supernet][images][hostile]") {
  const TemporaryFolder folder;
  const ImageShape shape{4, 6, 1, 2};
  const std::string good = npy("|u1", "(40, 4, 6)", pixels(kImages, 24));
  const std::string of_good = folder.write("good.idx", idx({kImages}, labels(kImages)));
  const std::string npy_labels = folder.write("good.npy", npy("|u1", "(40,)", labels(kImages)));
  const auto npy_refused = [&](const std::string& text, const std::string& part) {
    ImageOptions options;
    options.images = folder.write("bad.npy", text);
    options.labels = npy_labels;
    check_refused(options, shape, part);
  };
  const auto idx_refused = [&](const std::string& text, const std::string& part) {
    ImageOptions options;
    options.images = folder.write("bad", text);
    options.labels = of_good;
    check_refused(options, shape, part);
  };
  ImageOptions missing;
  missing.images = folder / "nothing.csv";
  check_refused(missing, shape, "nothing");

  npy_refused("", "truncated");
  npy_refused("\x93NUMPX" + good.substr(6), "an .npy file");
  npy_refused(good.substr(0, 30), "truncated");
  npy_refused(good.substr(0, good.size() - 1), "960 bytes of values");
  npy_refused(good + "x", "more");
  npy_refused(npy("|u1", "(40, 6, 4)", pixels(kImages, 24)), "[n, 4, 6]");
  npy_refused(npy("|u1", "(40, 4, 6)", pixels(kImages, 24), "True"), "Fortran");
  npy_refused(npy("|O", "(40, 4, 6)", pixels(kImages, 24)), "elements u1");
  npy_refused(npy("<f2", "(40, 4, 6)", pixels(kImages, 48)), "f4 or f8");
  npy_refused(npy("|u1", "(99999999999, 4, 6)", ""), "2^31");
  npy_refused(npy("|u1", "(2000000000, 4, 6)", ""), "bytes of values");  // nothing of that size is allocated
  npy_refused(npy("|u1", "(-1, 4, 6)", ""), "whole numbers");
  npy_refused(npy("|u1", "40, 4, 6", ""), "brackets");
  npy_refused(npy("<f4", "(40, 4, 6)", std::string(40 * 24 * 4, '\xff')), "finite");
  npy_refused(npy("|u1", "(39, 4, 6)", pixels(39, 24)), "a class for each image");

  idx_refused(idx({kImages, 4, 6}, pixels(kImages, 24), 13), "unsigned bytes");
  idx_refused(idx({kImages, 4, 6}, pixels(kImages, 23)), "960 bytes of values");
  idx_refused(idx({0xffffffff, 4, 6}, ""), "2^31");
  idx_refused(idx({kImages, 4}, pixels(kImages, 4)), "[n, 4, 6]");
  idx_refused("not an image at all", "an IDX file");
}

}  // namespace elastiform
