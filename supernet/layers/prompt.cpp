#include "supernet/layers/prompt.hpp"

#include "supernet/layer_tensors.hpp"

namespace elastiform {
namespace {

/// body(rows of x, rows of the tokens) of each sequence, on all workers; of x: the prompt's first.
template <class Body>
void for_sequences(Backend& backend, std::int64_t rows, std::int64_t tokens, std::int64_t sequences, const Body& body) {
  const std::int64_t all = rows / sequences, some = tokens / sequences;
  backend.for_each(sequences, [&](std::int64_t i) {
    body(Rows{i * all, all - some, 0}, Rows{i * all + all - some, some, 0}, Rows{i * some, some, 0});
  });
}

}  // namespace

std::int64_t Prompt::arena_bytes(const ModelConfig& model, DType dtype, std::int64_t rows, std::int64_t embed) {
  return TensorShape{present(model) ? rows : 0, embed}.bytes(dtype);
}

void Prompt::prepend(Backend& backend, View x, ConstView prompt, ConstView tokens, std::int64_t sequences) {
  for_sequences(backend, x.rows, tokens.rows, sequences, [&](Rows front, Rows behind, Rows own) {
    if (prompt.empty()) backend.zero(x[front]);
    else backend.copy(x[front], prompt);
    backend.copy(x[behind], tokens[own]);
  });
}

void Prompt::strip(Backend& backend, View tokens, ConstView x, std::int64_t sequences) {
  for_sequences(backend, x.rows, tokens.rows, sequences, [&](Rows, Rows behind, Rows own) { backend.copy(tokens[own], x[behind]); });
}

void Prompt::strip_backward(Backend& backend, View d, ConstView dtokens, std::int64_t sequences) {
  for_sequences(backend, d.rows, dtokens.rows, sequences, [&](Rows front, Rows behind, Rows own) {
    backend.zero(d[front]);
    backend.copy(d[behind], dtokens[own]);
  });
}

void Prompt::prepend_backward(Backend& backend, View dprompt, ConstView d, std::int64_t sequences) {
  const std::int64_t all = d.rows / sequences;
  for (std::int64_t i = 0; i < sequences; ++i) backend.add(dprompt, d.row_range(i * all, dprompt.rows));
}

}  // namespace elastiform
