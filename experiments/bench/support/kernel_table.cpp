#include "experiments/bench/support/kernel_table.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>

#include "kernels/arena.hpp"
#include "kernels/ops/compression.hpp"
#include "kernels/ops/dynamic_map.hpp"

namespace elastiform {
namespace {

constexpr std::int64_t kTokens = 2048;

std::string operand(const char* name, std::int64_t rows, std::int64_t columns) {
  return fmt::format(" {}={}x{}/{}", name, rows, columns, padded_ld(rows, columns));
}

/// `operation` with operands of one size, as most operations between the products have them.
std::string alike(const char* operation, std::initializer_list<const char*> names, std::int64_t rows, std::int64_t columns) {
  std::string line = operation;
  for (const char* name : names) line += operand(name, rows, columns);
  return line;
}

void add_products(std::vector<std::string>& lines, std::int64_t N, std::int64_t I, std::int64_t O) {
  const std::string w = operand("w", I, O);
  lines.push_back("matmul" + operand("y", N, O) + operand("x", N, I) + w + operand("bias", 1, O));
  lines.push_back("matmul_dx" + operand("dx", N, I) + operand("dy", N, O) + w);
  lines.push_back("matmul_dw" + operand("dw", I, O) + operand("dbias", 1, O) + operand("x", N, I) + operand("dy", N, O));
}

void add_attention(std::vector<std::string>& lines, std::int64_t B, std::int64_t T, std::int64_t H, std::int64_t G, std::int64_t D) {
  const std::int64_t N = B * T;
  const auto queries = [&](const char* name) { return operand(name, N, H * D); };
  const auto keys = [&](const char* name) { return operand(name, N, G * D); };
  const std::string lse = operand("lse", H, N), inputs = queries("q") + keys("k") + keys("v");
  const std::string shape = fmt::format(" batch={} query_tokens={} key_tokens={} heads={} groups={} head_dim={} scale={:.6g}", B, T, T, H,
                                        G, D, 1 / std::sqrt(static_cast<double>(D)));
  lines.push_back("attention_forward" + queries("out") + lse + inputs + shape);
  lines.push_back("attention_backward" + queries("dq") + keys("dk") + keys("dv") + queries("dout") + queries("out") + lse + inputs + shape);
}

void add_norms(std::vector<std::string>& lines, std::int64_t C) {
  const std::string gain = operand("gain", 1, C), bias = operand("bias", 1, C);
  const std::string rstd = operand("rstd", 1, kTokens), mean = operand("mean", 1, kTokens);
  for (const bool layer : {true, false}) {
    const std::string kind = layer ? " kind=layer" : " kind=rms";
    lines.push_back(alike("norm_forward", {"y", "x"}, kTokens, C) + rstd + (layer ? mean : "") + gain + (layer ? bias : "") + kind);
    lines.push_back(alike("norm_backward", {"dx", "dy", "residual", "x"}, kTokens, C) + operand("dgain", 1, C) +
                    (layer ? operand("dbias", 1, C) : "") + rstd + (layer ? mean : "") + gain + kind);
  }
}

void add_rest(std::vector<std::string>& lines) {
  constexpr std::int64_t C = 384, V = 256;
  for (const char* kind : {" kind=tanh", " kind=erf"}) {
    lines.push_back(alike("gelu_forward", {"y", "x"}, kTokens, 4 * C) + kind);
    lines.push_back(alike("gelu_backward", {"dx", "dy", "x"}, kTokens, 4 * C) + kind);
  }
  lines.push_back(alike("swiglu_forward", {"y", "gate", "up"}, kTokens, 688));
  lines.push_back(alike("swiglu_backward", {"dgate", "dup", "dy", "gate", "up"}, kTokens, 688));
  lines.push_back(alike("hadamard", {"y", "a"}, kTokens, C) + operand("b", 1, C));
  lines.push_back("compress" + operand("codes", kTokens, compressed_row_bytes(4 * C, 4)) + operand("x", kTokens, 4 * C) + " bits=4");
  lines.push_back("decompress" + operand("x", kTokens, 4 * C) + operand("codes", kTokens, compressed_row_bytes(4 * C, 4)) + " bits=4");
  lines.push_back("rope" + operand("x", kTokens, C) + operand("cosine", 256, 32) + operand("sine", 256, 32) + " period=256");
  lines.push_back(alike("dropout", {"y", "x", "add"}, kTokens, C) + " rate=0.1");
  lines.push_back("embedding_forward" + operand("y", kTokens, C) + operand("table", V, C) + operand("positions", 256, C) + " period=256");
  lines.push_back("embedding_backward" + operand("dtable", V, C) + operand("dpositions", 256, C) + operand("dy", kTokens, C) +
                  " period=256");
  lines.push_back("softmax_loss" + operand("losses", 1, kTokens) + alike("", {"dlogits", "logits"}, kTokens, V));
  lines.push_back("softmax_loss" + operand("losses", 1, 256) + alike("", {"dlogits", "logits", "teacher"}, 256, 50257) +
                  " label_weight=0.5 teacher_weight=0.5");
  lines.push_back(alike("affine_forward", {"y", "x", "add"}, kTokens, C) + operand("gain", 1, C));
  lines.push_back(alike("affine_backward", {"dx", "dy", "x"}, kTokens, C) + operand("dgain", 1, C) + operand("gain", 1, C));
  lines.push_back("sum_panels" + operand("sum", 1, C) + operand("partials", 8, C));
  lines.push_back(alike("adamw", {"weight", "m", "v", "gradient"}, 4096, 1024));
  lines.push_back(alike("momentum_step", {"weight", "m", "gradient"}, 4096, 1024));
  lines.push_back("factored_moments" + operand("row", 1, 4096) + operand("column", 1, 1024) + operand("gradient", 4096, 1024));
  lines.push_back("factored_step" + operand("weight", 4096, 1024) + operand("row", 1, 4096) + operand("column", 1, 1024) +
                  operand("gradient", 4096, 1024));
  const std::int64_t blocks = CodeBlocks(4096, 1024).count();
  lines.push_back("adamw_8bit" + operand("weight", 4096, 1024) + operand("m", 4096, 1024) + ":uint8" + operand("v", 4096, 1024) + ":uint8" +
                  operand("m_scale", 1, blocks) + operand("v_scale", 1, blocks) + operand("gradient", 4096, 1024));
}

}  // namespace

bool has_bf16_products(const std::string& operation) { return operation.starts_with("matmul") || operation.starts_with("attention"); }

CaseLine in_bf16(CaseLine line) {
  line.precision = Precision::bf16;
  const bool attention = line.operation.starts_with("attention");
  for (CaseLine::Operand& operand : line.operands)
    operand.bf16 =
        attention ? operand.name == "out" || operand.name == "q" || operand.name == "k" || operand.name == "v" : operand.name == "x";
  return line;
}

std::vector<std::string> kernel_table() {
  std::vector<std::string> lines;
  add_products(lines, kTokens, 384, 384);
  add_products(lines, kTokens, 384, 1536);
  add_products(lines, kTokens, 1536, 384);
  add_products(lines, kTokens, 192, 192);
  add_products(lines, kTokens, 256, 688);
  add_products(lines, 1024, 768, 3072);
  lines.push_back("matmul" + operand("y", 256, 50257) + operand("x", 256, 768) + operand("w", 50257, 768) + " transposed=1");
  add_attention(lines, 8, 256, 6, 6, 64);
  add_attention(lines, 8, 256, 8, 4, 32);
  add_attention(lines, 2, 512, 12, 12, 64);
  add_attention(lines, 1, 2048, 6, 2, 64);
  add_norms(lines, 384);
  add_rest(lines);
  return lines;
}

}  // namespace elastiform
