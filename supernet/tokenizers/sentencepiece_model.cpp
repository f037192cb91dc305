#include "supernet/tokenizers/sentencepiece_model.hpp"

#include <algorithm>
#include <cstring>
#include <optional>

#include "kernels/errors.hpp"
#include "supernet/tokenizers/tokenizer.hpp"

namespace elastiform::sentencepiece {
namespace {

/// Fields of one message of Protocol Buffers' wire format, never beyond its end (protobuf.dev, "Encoding").
class Message {
 public:
  Message(std::string_view bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {}

  enum Wire : std::uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
  struct Field {
    std::uint64_t number = 0;
    std::uint32_t wire = kVarint;
    std::uint64_t value = 0;  // varint, fixed32
    std::string_view bytes;   // kBytes
  };
  std::optional<Field> next() {
    if (at_ == bytes_.size()) return std::nullopt;
    const std::uint64_t tag = varint();
    Field field{.number = tag >> 3, .wire = static_cast<std::uint32_t>(tag & 7), .bytes = {}};
    if (field.number == 0) damaged("a field from 1", "field 0");
    switch (field.wire) {
      case kVarint: field.value = varint(); break;
      case kFixed64: take(8); break;
      case kBytes: field.bytes = take(varint()); break;
      case kFixed32: {
        std::uint32_t value = 0;
        std::memcpy(&value, take(sizeof value).data(), sizeof value);
        field.value = value;
        break;
      }
      default: damaged("a field of wire type 0, 1, 2 or 5", "type " + std::to_string(field.wire));
    }
    return field;
  }

  std::string_view bytes_of(const Field& field) const {
    require(field, kBytes);
    return field.bytes;
  }
  std::string text_of(const Field& field) const { return std::string(bytes_of(field)); }
  bool flag_of(const Field& field) const { return number_of(field) != 0; }
  /// Of an int32 or an enum: 64 bits on the wire, the low 32 of which count.
  std::int32_t number_of(const Field& field) const {
    require(field, kVarint);
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(field.value));
  }
  float real_of(const Field& field) const {
    require(field, kFixed32);
    const auto bits = static_cast<std::uint32_t>(field.value);
    float value = 0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }

 private:
  [[noreturn]] void damaged(const std::string& expected, const std::string& found) const {
    throw InputError({where_, expected, found + " at byte " + std::to_string(at_), "the file is damaged or no tokenizer.model"});
  }
  void require(const Field& field, std::uint32_t wire) const {
    if (field.wire != wire)
      damaged("field " + std::to_string(field.number) + " of wire type " + std::to_string(wire), "type " + std::to_string(field.wire));
  }
  std::string_view take(std::uint64_t count) {
    if (count > bytes_.size() - at_) damaged("a field inside its message", "one of " + std::to_string(count) + " bytes");
    const std::string_view taken = bytes_.substr(at_, static_cast<std::size_t>(count));
    at_ += static_cast<std::size_t>(count);
    return taken;
  }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1).front());
      value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    damaged("a number of at most 10 bytes", "a longer one");
  }

  std::string_view bytes_;
  std::string where_;
  std::size_t at_ = 0;
};

Piece piece_of(std::string_view bytes, const std::string& where) {
  Piece piece;
  Message message(bytes, where);
  while (const auto field = message.next()) {
    if (field->number == 1) piece.text = message.text_of(*field);
    if (field->number == 2) piece.score = message.real_of(*field);
    if (field->number != 3) continue;
    const std::int32_t kind = message.number_of(*field);
    if (kind < 1 || kind > 6) throw InputError({where, "a type from 1 to 6", std::to_string(kind), ""});
    piece.kind = static_cast<Kind>(kind);
  }
  return piece;
}

/// What a TrainerSpec says beside the model's kind.
struct Trained {
  bool byte_fallback = false, marks_behind = false;
  std::int32_t type = 1, begin = 1;
};

Trained trained_of(std::string_view bytes, const std::string& where) {
  Trained trained;
  Message message(bytes, where);
  while (const auto field = message.next()) {
    if (field->number == 3) trained.type = message.number_of(*field);
    if (field->number == 24) trained.marks_behind = message.flag_of(*field);
    if (field->number == 35) trained.byte_fallback = message.flag_of(*field);
    if (field->number == 41) trained.begin = message.number_of(*field);
  }
  return trained;
}

/// A NormalizerSpec, as the Model's fields; a denormalizer's must change nothing.
void read_normalizer(std::string_view bytes, const std::string& where, Model& model) {
  Message message(bytes, where);
  std::string name = "a table without a name";
  bool table = false;
  while (const auto field = message.next()) {
    if (field->number == 1) name = message.text_of(*field);
    if (field->number == 2) table = !message.bytes_of(*field).empty();
    if (field->number == 3) model.prefix_space = message.flag_of(*field);
    if (field->number == 4) model.collapses_spaces = message.flag_of(*field);
    if (field->number == 5 && !message.flag_of(*field)) throw InputError({where + ".escape_whitespaces", "true", "false", kOtherTokenizer});
  }
  if (!table) return;
  name.resize(std::min<std::size_t>(name.size(), 32));
  for (char& c : name) c = c >= ' ' && c <= '~' ? c : '?';
  throw InputError({where + ".precompiled_charsmap", "none, as of the rule identity", "'" + name + "'", kOtherTokenizer});
}

}  // namespace

Model read_model(std::string_view file, const std::string& where) {
  Model model{.pieces = {}, .collapses_spaces = true};
  Trained trained;
  Message message(file, where);
  while (const auto field = message.next()) {
    if (field->number == 1)
      model.pieces.push_back(piece_of(message.bytes_of(*field), where + ": piece " + std::to_string(model.pieces.size())));
    if (field->number == 2) trained = trained_of(message.bytes_of(*field), where + ": trainer_spec");
    if (field->number == 3) read_normalizer(message.bytes_of(*field), where + ": normalizer_spec", model);
    if (field->number != 5) continue;
    Model unused;
    read_normalizer(message.bytes_of(*field), where + ": denormalizer_spec", unused);
  }
  if (model.pieces.empty()) throw InputError({where, "pieces", "none", "the file is damaged or no tokenizer.model"});
  if (trained.type != 1 && trained.type != 2)
    throw InputError({where + ": trainer_spec.model_type", "1 (Unigram) or 2 (BPE)", std::to_string(trained.type), kOtherTokenizer});
  if (trained.marks_behind) throw InputError({where + ": trainer_spec.treat_whitespace_as_suffix", "false", "true", kOtherTokenizer});
  model.unigram = trained.type == 1;
  const bool bytes = std::any_of(model.pieces.begin(), model.pieces.end(), [](const Piece& piece) { return piece.kind == Kind::byte; });
  if (bytes != trained.byte_fallback)
    throw InputError({where + ": trainer_spec.byte_fallback", bytes ? "true beside pieces of bytes" : "false without pieces of bytes",
                      bytes ? "false" : "true", "the file is damaged"});
  for (std::size_t i = 0; i < model.pieces.size(); ++i)
    if (model.pieces[i].kind == Kind::unused)
      throw InputError({where + ": piece " + std::to_string(i), "no piece of type UNUSED", "one", kOtherTokenizer});
  const auto begin = static_cast<std::size_t>(trained.begin);
  if (trained.begin >= 0 && begin < model.pieces.size() && model.pieces[begin].kind == Kind::control) model.begin = trained.begin;
  return model;
}

}  // namespace elastiform::sentencepiece
