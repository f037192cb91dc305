#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/memory_block.hpp"
#include "kernels/view.hpp"
#include "supernet/storage/column_table.hpp"

namespace elastiform {

/// The one header over HDF5's C API. Our files begin with a 512-byte user block (magic, format version, kind, length, SHA-256 of the
/// rest) that is verified before HDF5 sees them, because HDF5 1.10 crashes on malformed files; object times are off, so equal content gives
/// equal bytes. Every size read from a file is checked before memory is allocated. Errors are InputError (bad file) naming path and object.
/// All HDF5 calls happen on one thread at a time.
class Hdf5Writer {
 public:
  /// `kind` names what the file is, e.g. "supernet", "results", "model". Nothing stands at `path` until close().
  Hdf5Writer(std::string path, std::string kind);
  ~Hdf5Writer();  // without close(): the file is dropped
  Hdf5Writer(const Hdf5Writer&) = delete;
  Hdf5Writer& operator=(const Hdf5Writer&) = delete;

  /// Paths are absolute inside the file ("/weights/value/embedding.token"); groups are made on the way. "/" is the root's attributes.
  void attribute(const std::string& object, const std::string& name, std::string_view value);
  void attribute(const std::string& object, const std::string& name, std::int64_t value);
  void attribute(const std::string& object, const std::string& name, double value);
  void dataset(const std::string& path, std::span<const float> values, std::vector<std::uint64_t> shape = {});
  void dataset(const std::string& path, std::span<const double> values, std::vector<std::uint64_t> shape = {});
  void dataset(const std::string& path, std::span<const std::int64_t> values, std::vector<std::uint64_t> shape = {});
  void dataset(const std::string& path, std::span<const std::uint8_t> values, std::vector<std::uint64_t> shape = {});
  void dataset(const std::string& path, const std::vector<std::string>& values);  // variable-length UTF-8
  void matrix(const std::string& path, ConstView values);                         // rows × columns without padding, at bounds of 64 bytes
  void table(const std::string& path, const ColumnTable& values);                 // one compound dataset
  /// [row, longest] float32; what a row lacks reads as NaN and takes no space.
  void ragged(const std::string& path, const std::vector<std::span<const float>>& rows);

  /// Checksum, sync, rename (DurableFile's rule).
  void close();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class Hdf5Reader {
 public:
  /// Verifies the user block; `kind` empty accepts any of ours. Throws InputError for foreign, truncated, damaged or newer files.
  Hdf5Reader(const std::string& path, std::string_view kind);
  ~Hdf5Reader();
  Hdf5Reader(const Hdf5Reader&) = delete;
  Hdf5Reader& operator=(const Hdf5Reader&) = delete;

  const std::string& path() const;
  std::uint64_t file_bytes() const;
  std::string kind() const;
  bool has(const std::string& path) const;
  std::vector<std::string> children(const std::string& group) const;  // sorted by name
  bool has_attribute(const std::string& object, const std::string& name) const;
  std::string text_attribute(const std::string& object, const std::string& name) const;
  std::int64_t integer_attribute(const std::string& object, const std::string& name) const;
  double real_attribute(const std::string& object, const std::string& name) const;
  std::vector<std::uint64_t> shape(const std::string& path) const;
  std::vector<float> floats(const std::string& path) const;
  std::vector<double> doubles(const std::string& path) const;
  std::vector<std::int64_t> integers(const std::string& path) const;
  std::vector<std::uint8_t> bytes(const std::string& path) const;
  std::vector<std::string> strings(const std::string& path) const;
  /// Fills `into`, whose rows × columns must be the dataset's.
  void matrix(const std::string& path, View into) const;
  /// Where the file has the rows of a dataset of float32 one behind the other, as memory has a matrix whose leading dimension is its columns:
  /// bytes from the file's start. nullopt: nowhere.
  std::optional<std::int64_t> matrix_place(const std::string& path) const;
  /// Bytes [from, to) of the file (map_file).
  MemoryBlock map(std::int64_t from, std::int64_t to) const;
  ColumnTable table(const std::string& path) const;
  /// The first counts[i] values of each row of a ragged dataset.
  std::vector<std::vector<float>> ragged(const std::string& path, std::span<const std::int64_t> counts) const;

  /// SHA-256 over every object's path, type, shape, content and attributes in order of path, except those named in `skip`
  /// (paths, "path@attribute" or "path:column"): what `inspect --digest` prints.
  std::string digest(const std::vector<std::string>& skip) const;
  /// One line an object: path, type, shape or attribute value.
  std::vector<std::string> listing() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace elastiform
