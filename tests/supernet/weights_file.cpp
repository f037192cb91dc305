#include "supernet/weights_file.hpp"

#include <algorithm>
#include <functional>

#include "kernels/errors.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

SearchSpace space_of(int embed, int layers) {
  ModelConfig model = preset_model("llama");
  model.context = 16;
  model.head_dim = 8;
  const SearchSpace::Block block{.heads = {2, 4}, .ffn = {.widths = {24, 40}, .ratios = {}}};
  return {model, {embed / 2, embed}, {layers}, std::vector<SearchSpace::Block>(static_cast<std::size_t>(layers), block)};
}

Weights numbered(const SearchSpace& space) {
  Weights weights(std::make_shared<const WeightTable>(space), DType::float32);
  float value = 0;
  for (const TensorSpec& tensor : weights.table().tensors()) {
    const View view = weights.view(tensor);
    for (std::int64_t row = 0; row < view.rows; ++row)
      for (std::int64_t column = 0; column < view.columns; ++column) view.row<float>(row)[column] = value += 1;
  }
  return weights;
}

std::string refusal(const std::string& path, const std::string& group, const WeightTable& table) {
  return input_error([&] { check_weights(Hdf5Reader(path, "model"), group, table); });
}

}  // namespace

TEST_CASE("weights written to a group are read back, and only into a table of the same tensors", "[supernet][weights_file]") {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  const Weights weights = numbered(space_of(32, 2));
  {
    Hdf5Writer file(path, "model");
    write_weights(file, "/a/weights", weights);
    file.close();
  }
  const Hdf5Reader file(path, "model");
  Weights read(weights.shared_table(), DType::float32);
  read_weights(file, "/a/weights", read);
  CHECK(std::equal(read.data(), read.data() + read.bytes(), weights.data()));

  using Catch::Matchers::Contains;
  CHECK_THAT(refusal(path, "/b", weights.table()), Contains("/b") && Contains(path));
  CHECK_THAT(refusal(path, "/a/weights", WeightTable(space_of(32, 3))), Contains("tensors"));
  CHECK_THAT(refusal(path, "/a/weights", WeightTable(space_of(48, 2))), Contains("embedding.token") && Contains("256 x 48"));
  Weights other(std::make_shared<const WeightTable>(space_of(48, 2)), DType::float32);
  CHECK_THROWS_AS(read_weights(file, "/a/weights", other), InputError);
}

TEST_CASE("a group with one tensor too few, too many, renamed or transposed is refused", "[supernet][weights_file][hostile]") {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  const Weights weights = numbered(space_of(32, 1));
  const std::string one = "/weights/block.0.ffn.up";
  const auto write = [&](const std::function<void(Hdf5Writer&, ConstView)>& instead) {
    Hdf5Writer file(path, "model");
    for (const TensorSpec& tensor : weights.table().tensors()) {
      const std::string name = "/weights/" + tensor.name;
      if (name == one) instead(file, weights.view(tensor));
      else file.matrix(name, weights.view(tensor));
    }
    file.close();
    return refusal(path, "/weights", weights.table());
  };
  const std::vector<float> values(32 * 40);
  using Catch::Matchers::Contains;
  CHECK(write([&](Hdf5Writer& file, ConstView view) { file.matrix(one, view); }) == kNoError);
  CHECK_THAT(write([&](Hdf5Writer&, ConstView) {}), Contains("tensors"));
  CHECK_THAT(write([&](Hdf5Writer& file, ConstView view) { file.matrix(one + "s", view); }), Contains(one));
  CHECK_THAT(write([&](Hdf5Writer& file, ConstView) { file.dataset(one, values, {40, 32}); }), Contains("40 x 32"));
  CHECK_THAT(write([&](Hdf5Writer& file, ConstView) { file.dataset(one, values); }), Contains("1280"));
  CHECK_THAT(write([&](Hdf5Writer& file, ConstView view) {
               file.matrix(one, view);
               file.matrix(one + "s", view);
             }),
             Contains("tensors"));
}

TEST_CASE("tensors that claim more than the file holds are refused", "[supernet][weights_file][hostile]") {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  // Rows without a value take no space in a ragged dataset, and its shape is 65,536 x 8,192.
  ModelConfig model = preset_model("llama");
  model.vocabulary = 65536;
  model.head_dim = 8;
  const WeightTable table({model, {8192}, {1}, {SearchSpace::Block{.heads = {0}, .ffn = {.widths = {8}, .ratios = {}}}}});
  const std::vector<float> row(8192);
  Hdf5Writer file(path, "model");
  for (const TensorSpec& tensor : table.tensors()) {
    std::vector<std::span<const float>> rows(static_cast<std::size_t>(tensor.rows));
    rows.front() = std::span(row).first(static_cast<std::size_t>(tensor.columns));
    file.ragged("/weights/" + tensor.name, rows);
  }
  file.close();
  CHECK_THAT(refusal(path, "/weights", table), Catch::Contains("fits the file"));
}

}  // namespace elastiform
