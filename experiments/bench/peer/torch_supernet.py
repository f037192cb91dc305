"""The steps of bench_step, in PyTorch: a GPT-2-like weight-sharing network whose subnets use the first rows and columns of each weight.

Written as the supernet papers do it (F.linear on slices of the shared weight), with what makes PyTorch fast on a CPU: one fused QKV
projection whose slice needs no copy, scaled_dot_product_attention, whole weights unsliced, the faster of the fused and foreach AdamW.
Prints one JSON document. Both programs read the same list of subnets (interface: ["e384:6xh6f1536", ...])."""
import argparse
import json
import re
import resource
import statistics
import time

import torch
import torch.nn.functional as F


def parse_subnet(text):
    """'e320:2xh5f1280,h4f960' → (320, [(5, 1280), (5, 1280), (4, 960)])"""
    embed, runs = re.fullmatch(r"e(\d+):(.+)", text).groups()
    blocks = []
    for run in runs.split(","):
        count, heads, ffn = re.fullmatch(r"(?:(\d+)x)?h(\d+)f(\d+)", run).groups()
        blocks += [(int(heads), int(ffn))] * int(count or 1)
    return int(embed), blocks


def part(weight, rows, columns=None):
    """The first rows (and columns) of a shared weight, without a slice node where that is all of it."""
    if columns is not None and columns < weight.shape[-1]:
        weight = weight[..., :columns]
    return weight if rows == weight.shape[0] else weight[:rows]


class Block(torch.nn.Module):
    def __init__(self, embed, heads, head_dim, ffn):
        super().__init__()

        def matrix(*shape):
            return torch.nn.Parameter(torch.empty(*shape).normal_(std=0.02))

        def vector(*shape, value=0.0):
            return torch.nn.Parameter(torch.full(shape, value))

        self.head_dim = head_dim
        self.gain1, self.shift1, self.gain2, self.shift2 = vector(embed, value=1.0), vector(embed), vector(embed, value=1.0), vector(embed)
        self.qkv, self.qkv_bias = matrix(heads, 3 * head_dim, embed), vector(heads, 3 * head_dim)  # by head: a slice is one block of rows
        self.out, self.out_bias = matrix(embed, heads * head_dim), vector(embed)
        self.up, self.up_bias = matrix(ffn, embed), vector(ffn)
        self.down, self.down_bias = matrix(embed, ffn), vector(embed)

    def forward(self, x, heads, ffn):
        B, T, C = x.shape
        h = F.layer_norm(x, (C,), part(self.gain1, C), part(self.shift1, C))
        weight = part(self.qkv, heads, C).reshape(heads * 3 * self.head_dim, C)
        qkv = F.linear(h, weight, part(self.qkv_bias, heads).reshape(-1))
        q, k, v = qkv.view(B, T, heads, 3, self.head_dim).permute(3, 0, 2, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, heads * self.head_dim)
        x = x + F.linear(attended, part(self.out, C, heads * self.head_dim), part(self.out_bias, C))
        h = F.layer_norm(x, (C,), part(self.gain2, C), part(self.shift2, C))
        h = F.gelu(F.linear(h, part(self.up, ffn, C), part(self.up_bias, ffn)), approximate="tanh")
        return x + F.linear(h, part(self.down, C, ffn), part(self.down_bias, C))


class Supernet(torch.nn.Module):
    def __init__(self, vocabulary, context, embed, blocks, head_dim):
        super().__init__()
        self.token = torch.nn.Parameter(torch.empty(vocabulary, embed).normal_(std=0.02))
        self.position = torch.nn.Parameter(torch.empty(context, embed).normal_(std=0.02))
        self.blocks = torch.nn.ModuleList(Block(embed, heads, head_dim, ffn) for heads, ffn in blocks)
        self.gain, self.shift = torch.nn.Parameter(torch.ones(embed)), torch.nn.Parameter(torch.zeros(embed))

    def forward(self, tokens, subnet):
        embed, blocks = subnet
        table = part(self.token, self.token.shape[0], embed)
        x = F.embedding(tokens, table) + part(self.position, tokens.shape[1], embed)
        for block, (heads, ffn) in zip(self.blocks, blocks):
            x = block(x, heads, ffn)
        return F.linear(F.layer_norm(x, (embed,), part(self.gain, embed), part(self.shift, embed)), table)


def faster_adamw(net):
    """Fused and foreach AdamW, each timed over five updates of all weights; the faster one, its name, and clean gradients."""
    matrices = [p for p in net.parameters() if p.dim() > 1]
    vectors = [p for p in net.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    best = None
    for kind in ("fused", "foreach"):
        optimizer = torch.optim.AdamW(groups, lr=1e-6, betas=(0.9, 0.95), **{kind: True})
        for p in net.parameters():
            p.grad = torch.full_like(p, 1e-6)
        optimizer.step()
        start = time.perf_counter()
        for _ in range(5):
            optimizer.step()
        seconds = time.perf_counter() - start
        if best is None or seconds < best[0]:
            best = (seconds, kind)
    net.zero_grad(set_to_none=True)
    return torch.optim.AdamW(groups, lr=3e-4, betas=(0.9, 0.95), **{best[1]: True}), best[1]


class Steps:
    """One call of run() is one step of a mode, as bench_step does it."""

    def __init__(self, mode, net, subnets, batch, context, vocabulary):
        self.mode, self.net, self.turn = mode, net, 0
        self.subnets, self.largest, self.smallest = subnets["subnets"], subnets["largest"], subnets["smallest"]
        tokens = torch.randint(0, vocabulary, (batch, context + 1), generator=torch.Generator().manual_seed(0))
        self.inputs, self.targets = tokens[:, :-1].contiguous(), tokens[:, 1:].reshape(-1)
        self.optimizer, self.optimizer_kind = faster_adamw(net) if mode != "eval" else (None, "none")

    def next_subnet(self):
        subnet = self.subnets[self.turn % len(self.subnets)]
        self.turn += 1
        return subnet

    def logits(self, subnet):
        return self.net(self.inputs, subnet).flatten(0, 1)

    def run(self):
        if self.mode == "eval":
            with torch.no_grad():
                F.cross_entropy(self.logits(self.next_subnet()), self.targets)
            return
        self.optimizer.zero_grad(set_to_none=True)
        if self.mode == "sandwich":
            self.sandwich()
        else:
            subnet = self.largest if self.mode == "fixed" else self.next_subnet()
            F.cross_entropy(self.logits(subnet), self.targets).backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()

    def sandwich(self):
        """The largest from labels; the smallest and two of the list half from labels, half from the largest's distribution."""
        logits = self.logits(self.largest)
        (F.cross_entropy(logits, self.targets) / 4).backward()
        teacher = logits.detach().softmax(-1)
        for subnet in (self.smallest, self.next_subnet(), self.next_subnet()):
            logits = self.logits(subnet)
            ((F.cross_entropy(logits, self.targets) + F.cross_entropy(logits, teacher)) / 8).backward()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["fixed", "single", "sandwich", "eval"], required=True)
    parser.add_argument("--subnets", required=True, help="JSON: vocabulary, context, batch, head_dim, largest, smallest, subnets")
    parser.add_argument("--steps", type=int, default=0, help="default: each subnet once; fixed: 8")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with open(options.subnets) as file:
        work = json.load(file)
    for key in ("largest", "smallest"):
        work[key] = parse_subnet(work[key])
    work["subnets"] = [parse_subnet(text) for text in work["subnets"]]
    embed, blocks = work["largest"]
    net = Supernet(work["vocabulary"], work["context"], embed, blocks, work["head_dim"])
    steps = Steps(options.mode, net, work, work["batch"], work["context"], work["vocabulary"])
    default = {"fixed": 8, "sandwich": len(work["subnets"]) // 2}.get(options.mode, len(work["subnets"]))
    steps.run()  # warms caches and allocator; then the list from its start
    steps.turn, seconds = 0, []
    for _ in range(options.steps or default):
        start = time.perf_counter()
        steps.run()
        seconds.append(time.perf_counter() - start)
    step = statistics.median(seconds) if options.mode == "fixed" else statistics.mean(seconds)  # the list's steps differ in size
    print(json.dumps({"program": f"torch {torch.__version__}", "mode": options.mode, "threads": options.threads, "steps": len(seconds),
                      "optimizer": steps.optimizer_kind, "step_ms": 1e3 * step,
                      "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


main()
