#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// Vocabularies of the sentencepiece library: its tokenizer.model, and GGUF files whose tokenizer.ggml.model is "llama".
namespace elastiform::sentencepiece {

enum class Kind : std::int32_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };  // of both files

struct Piece {
  std::string text;
  float score = 0;
  Kind kind = Kind::normal;
};

struct Model {
  bool unigram = false;             // else byte-pair encoding, of two neighbours that make a piece the pair with the best score first
  std::vector<Piece> pieces;        // id = place; of kind unused: no token
  bool prefix_space = true;         // a text begins with a space that is not its own
  bool collapses_spaces = false;    // of several spaces one is kept, at the ends none
  bool finds_tokens_first = false;  // llama.cpp: user-defined pieces, in the text as written, and prefix_space is put behind each, too
  std::int32_t begin = -1;          // the token before a text, -1: none
};

/// sentencepiece_model.proto, of which only what changes ids is read. InputError when the file is damaged, or when its model has no place
/// here.
Model read_model(std::string_view file, const std::string& where);

/// The tokenizer.json that gives the same ids, but for control pieces ("</s>"): they are found in a text, as transformers finds them, where
/// sentencepiece takes them for ordinary characters. InputError when there is none.
std::string tokenizer_json(const Model& model, const std::string& where);

}  // namespace elastiform::sentencepiece
