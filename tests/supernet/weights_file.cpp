#include "supernet/weights_file.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>

#include "kernels/errors.hpp"
#include "supernet/network.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/cpu.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/temporary_folder.hpp"
#include "tests/support/tuned_spaces.hpp"

namespace elastiform {
namespace {

SearchSpace space_of(int embed, int layers, int ffn = 40) {
  ModelConfig model = preset_model("llama");
  model.context = 16;
  model.head_dim = 8;
  const SearchSpace::Block block{.heads = {2, 4}, .ffn = {.widths = {24, ffn}, .ratios = {}}};
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

TEST_CASE("weights are mapped where the file has them, and stay what they are", "[supernet][weights_file]") {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  const Weights weights = numbered(space_of(32, 2, 48));
  const auto write = [&](const Weights& written) {
    Hdf5Writer file(path, "model");
    file.attribute("/", "odd", std::string_view("what stands before the weights"));
    write_weights(file, "/a/weights", written);
    file.close();
  };
  write(weights);
  const auto mapped_of = [&] {
    const Hdf5Reader file(path, "model");
    check_weights(file, "/a/weights", weights.table());
    return map_weights(file, "/a/weights", weights.table());
  };
  std::optional<Weights> first = mapped_of(), second = mapped_of();
  REQUIRE((first && second));
  CHECK(same_bits(*first, weights));
  CHECK(weights_hash(*first) == weights_hash(weights));
  CHECK(first->on_host());
  for (const TensorSpec& tensor : first->table().tensors()) {
    CAPTURE(tensor.name);
    CHECK(reinterpret_cast<std::uintptr_t>(first->view(tensor).data) % 64 == 0);
  }

  first->view("block.1.ffn.up").row<float>(0)[3] = -1;  // the writer's own from here on
  CHECK_FALSE(same_bits(*first, weights));
  CHECK(same_bits(*second, weights));
  CHECK(same_bits(*mapped_of(), weights));

  Weights other = numbered(space_of(32, 2, 48));
  other.view("block.0.ffn.up").row<float>(0)[0] = -2;
  write(other);  // the run trains on: another file under the name
  CHECK(same_bits(*second, weights));
  CHECK(same_bits(*mapped_of(), other));

  Weights copy(weights.shared_table(), DType::float32);
  CHECK_THROWS_AS(copy.assign(*second), std::logic_error);
}

TEST_CASE("a network computes the same bits from mapped weights", "[supernet][weights_file][bits]") {
  const TemporaryFolder folder;
  const SearchSpace space = space_of(32, 2, 48);
  const Weights weights = random_weights(space, DType::float32, 3);
  {
    Hdf5Writer writer(folder / "file", "model");
    write_weights(writer, "/weights", weights);
    writer.close();
  }
  const Hdf5Reader file(folder / "file", "model");
  const std::optional<Weights> mapped = map_weights(file, "/weights", weights.table());
  REQUIRE(mapped);
  REQUIRE_FALSE(mapped->table().lies_like(weights.table()));
  Cpu cpu(2);
  const Network network(space, DType::float32);
  const Batch batch = random_batch(space, 3, 11, 4);
  for (const Subnet& subnet : {space.largest(), space.smallest()}) {
    const auto hidden = [&](const Weights& from) {
      std::vector<float> values(static_cast<std::size_t>(batch.rows() * subnet.embed));
      Arena arena(network.plan_hidden(cpu.backend.traits(), subnet, batch.sequences, batch.tokens));
      const View view{reinterpret_cast<std::byte*>(values.data()), batch.rows(), subnet.embed, subnet.embed, DType::float32};
      network.hidden(cpu.backend, from, subnet, batch, view, arena);
      return values;
    };
    const std::vector<float> expected = hidden(weights);
    CHECK(hidden(*mapped) == expected);
    CHECK(hidden(extract(*mapped, space.largest())) == expected);
  }
  const Weights usual = copied(*mapped);
  CHECK(usual.table().lies_like(weights.table()));
  CHECK(same_bits(usual, weights));
}

TEST_CASE("weights that do not lie in the file as kernels want them are not mapped", "[supernet][weights_file]") {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  const auto maps = [&](const SearchSpace& space, const std::function<void(Hdf5Writer&, const Weights&)>& write) {
    const Weights weights = numbered(space);
    {
      Hdf5Writer file(path, "model");
      write(file, weights);
      file.close();
    }
    const Hdf5Reader file(path, "model");
    check_weights(file, "/weights", weights.table());
    return map_weights(file, "/weights", weights.table()).has_value();
  };
  const auto as_always = [](Hdf5Writer& file, const Weights& weights) { write_weights(file, "/weights", weights); };
  CHECK(maps(space_of(32, 1, 48), as_always));
  CHECK_FALSE(maps(space_of(32, 1, 40), as_always));  // rows of two and a half lines
  CHECK_FALSE(maps(space_of(32, 1, 48), [](Hdf5Writer& file, const Weights& weights) {
    for (const TensorSpec& tensor : weights.table().tensors()) {
      const ConstView view = weights.view(tensor);
      std::vector<std::span<const float>> rows;
      for (std::int64_t row = 0; row < view.rows; ++row) rows.emplace_back(view.row<float>(row), static_cast<std::size_t>(view.columns));
      file.ragged("/weights/" + tensor.name, rows);  // in chunks
    }
  }));
  CHECK_FALSE(maps(with_tuning(space_of(32, 1, 48), adapters()), as_always));
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
