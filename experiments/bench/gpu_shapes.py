"""Case lines for bench_kernels (./dev gpu-check): the products and the attention of training steps, in bf16 as they are stored there."""
import collections
import re


def padded(columns):
    """kernels/arena.hpp: rows begin a multiple of 32 elements apart, and never of 512."""
    ld = -(-columns // 32) * 32
    return ld + 32 if ld % 512 == 0 else ld


def matrix(name, rows, columns, stored="", ld=None):
    return f" {name}={rows}x{columns}/{ld or (padded(columns) if rows > 1 else columns)}{stored}"


def product(tokens, inside, outside, adds, ld):
    """Forward, gradient of the input, gradient of the weight. What is added to the stream is float32, all else between products bf16."""
    stored = "" if adds else ":bf16"
    weight = (inside, outside)
    return ["matmul" + matrix("y", tokens, outside, stored) + matrix("x", tokens, inside, ":bf16") + matrix("w", *weight, ld=ld) + matrix("bias", 1, outside)
            + (matrix("add", tokens, outside) if adds else "") + " precision=bf16",
            "matmul_dx" + matrix("dx", tokens, inside, ":bf16" if adds else "") + matrix("dy", tokens, outside, stored) + matrix("w", *weight, ld=ld) + " precision=bf16",
            "matmul_dw" + matrix("dw", *weight, ld=ld) + matrix("dbias", 1, outside) + matrix("x", tokens, inside, ":bf16") + matrix("dy", tokens, outside, stored)
            + " precision=bf16"]


def block(tokens, embed, columns, ffn, most_embed, most_columns, most_ffn):
    """The products of a block: three projections of the input, one of the mixed values, two of the feed-forward network."""
    lines = []
    if columns:
        lines += 3 * product(tokens, embed, columns, False, padded(most_columns)) + product(tokens, columns, embed, True, padded(most_embed))
    if ffn:
        lines += product(tokens, embed, ffn, False, padded(most_ffn)) + product(tokens, ffn, embed, True, padded(most_embed))
    return lines


def attention(batch, tokens, heads, head_dim):
    rows, columns = batch * tokens, heads * head_dim
    shape = f" batch={batch} query_tokens={tokens} key_tokens={tokens} heads={heads} groups={heads} head_dim={head_dim} scale={head_dim ** -0.5} precision=bf16"
    kept = "".join(matrix(name, rows, columns, ":bf16") for name in ("out", "q", "k", "v")) + matrix("lse", heads, rows)
    return ["attention_forward" + kept + shape,
            "attention_backward" + "".join(matrix(name, rows, columns) for name in ("dq", "dk", "dv")) + matrix("dout", rows, columns, ":bf16") + kept + shape]


def gpt2_cases():
    return sorted(set(block(64 * 1024, 768, 768, 3072, 768, 768, 3072))) + attention(64, 1024, 12, 64)


def parsed(subnet):
    embed, runs = re.fullmatch(r"e(\d+):(.+)", subnet).groups()
    blocks = []
    for run in runs.split(","):
        count, heads, ffn = re.fullmatch(r"(?:(\d+)x)?h(\d+)f(\d+)", run).groups()
        blocks += [(int(heads), int(ffn))] * int(count or 1)
    return int(embed), blocks


def products_of_list(work):
    """Case line → how often it runs in one step of each subnet of the list (bench_step --write-work), the head's products included."""
    tokens, dim = work["batch"] * work["context"], work["head_dim"]
    most_embed, most = parsed(work["largest"])
    most_columns, most_ffn = max(heads for heads, _ in most) * dim, max(ffn for _, ffn in most)
    counts = collections.Counter()
    for subnet in work["subnets"]:
        embed, blocks = parsed(subnet)
        for heads, ffn in blocks:
            counts.update(block(tokens, embed, heads * dim, ffn, most_embed, most_columns, most_ffn))
        table = matrix("w", work["vocabulary"], embed, ld=padded(most_embed))
        counts["matmul" + matrix("y", tokens, work["vocabulary"]) + matrix("x", tokens, embed, ":bf16") + table + " transposed=1 precision=bf16"] += 1
        counts["matmul_dx" + matrix("dx", tokens, embed) + matrix("dy", tokens, work["vocabulary"]) + table + " transposed=1 precision=bf16"] += 1
        counts["matmul_dw" + table.replace(" w=", " dw=") + matrix("x", tokens, embed, ":bf16") + matrix("dy", tokens, work["vocabulary"])
               + " transposed=1 precision=bf16"] += 1
    return counts
