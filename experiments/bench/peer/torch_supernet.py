"""The steps of bench_step, in PyTorch: a GPT-2-like weight-sharing network whose subnets use the first rows and columns of each weight.

Written as the supernet papers do it (F.linear on slices of the shared weight), with what makes PyTorch fast on a CPU: one fused QKV
projection whose slice needs no copy, scaled_dot_product_attention, whole weights unsliced. Every step is timed with the fused and with the
foreach AdamW, on the same gradients.
  --engine compile   `fixed` compiles the whole network for its one shape. The other modes compile a block once for all blocks, with dynamic
                     sizes after the first change of one (dynamic=None), no limit of recompilations and no guess that equal sizes stay
                     equal; every subnet runs once before the clock starts.
  --precision bf16   autocast around the forward, weights in float32, or with --bf16 weights a bf16 copy of the weights, refreshed from
                     float32 masters in each update; its gradients are bf16 too.
Prints one JSON document a mode. Both programs read the same work (bench_step --write-work)."""
import argparse
import contextlib
import ctypes
import functools
import json
import math
import pathlib
import re
import statistics
import sys
import time

import torch
import torch.nn.functional as F

KINDS = ("fused", "foreach")


def parse_subnet(text):
    """'e320:2xh5f1280,h4f960' → (320, ((5, 1280), (5, 1280), (4, 960)))"""
    embed, runs = re.fullmatch(r"e(\d+):(.+)", text).groups()
    blocks = []
    for run in runs.split(","):
        count, heads, ffn = re.fullmatch(r"(?:(\d+)x)?h(\d+)f(\d+)", run).groups()
        blocks += [(int(heads), int(ffn))] * int(count or 1)
    return int(embed), tuple(blocks)


def size_of(subnet):
    embed, blocks = subnet
    return sum(embed * (4 * 64 * heads + 2 * ffn) for heads, ffn in blocks)


def part(weight, rows, columns=None):
    """The first rows (and columns) of a shared weight, without a slice node where that is all of it."""
    if columns is not None and columns < weight.shape[-1]:
        weight = weight[..., :columns]
    return weight if rows == weight.shape[0] else weight[:rows]


class Block(torch.nn.Module):
    def __init__(self, embed, heads, head_dim, ffn, eps):
        super().__init__()

        def matrix(*shape):
            return torch.nn.Parameter(torch.empty(*shape).normal_(std=0.02))

        def vector(*shape, value=0.0):
            return torch.nn.Parameter(torch.full(shape, value))

        self.head_dim, self.eps = head_dim, eps
        self.gain1, self.shift1, self.gain2, self.shift2 = vector(embed, value=1.0), vector(embed), vector(embed, value=1.0), vector(embed)
        self.qkv, self.qkv_bias = matrix(heads, 3 * head_dim, embed), vector(heads, 3 * head_dim)  # by head: a slice is one block of rows
        self.out, self.out_bias = matrix(embed, heads * head_dim), vector(embed)
        self.up, self.up_bias = matrix(ffn, embed), vector(ffn)
        self.down, self.down_bias = matrix(embed, ffn), vector(embed)

    def forward(self, x, heads, ffn):
        B, T, C = x.shape
        h = F.layer_norm(x, (C,), part(self.gain1, C), part(self.shift1, C), self.eps)
        weight = part(self.qkv, heads, C).reshape(heads * 3 * self.head_dim, C)
        qkv = F.linear(h, weight, part(self.qkv_bias, heads).reshape(-1))
        q, k, v = qkv.view(B, T, heads, 3, self.head_dim).permute(3, 0, 2, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, heads * self.head_dim)
        x = x + F.linear(attended, part(self.out, C, heads * self.head_dim), part(self.out_bias, C))
        h = F.layer_norm(x, (C,), part(self.gain2, C), part(self.shift2, C), self.eps)
        h = F.gelu(F.linear(h, part(self.up, ffn, C), part(self.up_bias, ffn)), approximate="tanh")
        return x + F.linear(h, part(self.down, C, ffn), part(self.down_bias, C))


class Supernet(torch.nn.Module):
    def __init__(self, work):
        super().__init__()
        embed, blocks = work["largest"]
        self.eps, self.call_block = work["norm_eps"], Block.forward
        self.token = torch.nn.Parameter(torch.empty(work["vocabulary"], embed).normal_(std=0.02))
        self.position = torch.nn.Parameter(torch.empty(work["context"], embed).normal_(std=0.02))
        self.blocks = torch.nn.ModuleList(Block(embed, heads, work["head_dim"], ffn, self.eps) for heads, ffn in blocks)
        self.gain, self.shift = torch.nn.Parameter(torch.ones(embed)), torch.nn.Parameter(torch.zeros(embed))

    def forward(self, tokens, subnet):
        embed, blocks = subnet
        table = part(self.token, self.token.shape[0], embed)
        x = F.embedding(tokens, table) + part(self.position, tokens.shape[1], embed)
        for block, (heads, ffn) in zip(self.blocks, blocks):
            x = self.call_block(block, x, heads, ffn)
        return F.linear(F.layer_norm(x, (embed,), part(self.gain, embed), part(self.shift, embed), self.eps), table)


@functools.cache
def compiled_block():
    """One for all modes of the process, so that what is compiled for one serves the next."""
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 1024
    torch.fx.experimental._config.use_duck_shape = False
    return torch.compile(Block.forward, dynamic=None)


def compiled(net, mode):
    """The function (tokens, subnet) → logits of a mode; see the head of this file."""
    if mode == "fixed":
        return torch.compile(net)
    net.call_block = compiled_block()
    return net


def memory_mib(field):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


def reset_peak():
    ctypes.CDLL(None).malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")


class Updates:
    """Clipping and AdamW of both kinds; with bf16 weights the masters are float32 and moved to and fro."""

    def __init__(self, net):
        self.parameters = list(net.parameters())
        self.apart = self.parameters[0].dtype != torch.float32
        self.masters = [torch.nn.Parameter(p.detach().float()) for p in self.parameters] if self.apart else self.parameters
        self.optimizers = {}
        self.add("fused")

    def add(self, kind):
        groups = [{"params": [p for p in self.masters if (p.dim() > 1) == matrices], "weight_decay": decay}
                  for matrices, decay in ((True, 0.1), (False, 0.0))]
        self.optimizers[kind] = torch.optim.AdamW(groups, lr=3e-4, betas=(0.9, 0.95), **{kind: True})

    def prepare(self):
        if self.apart:
            for master, p in zip(self.masters, self.parameters):
                master.grad = None if p.grad is None else p.grad.float()
        torch.nn.utils.clip_grad_norm_(self.masters, 1.0)

    def finish(self):
        if self.apart:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, self.masters)


class Steps:
    """The steps of a mode, as bench_step does them."""

    def __init__(self, mode, net, work, options):
        self.mode, self.net, self.options, self.turn = mode, net, options, 0
        self.subnets, self.largest, self.smallest = work["subnets"], work["largest"], work["smallest"]
        self.call = compiled(net, mode) if options.engine == "compile" else net
        tokens = torch.randint(0, work["vocabulary"], (work["batch"], work["context"] + 1), generator=torch.Generator().manual_seed(0),
                               device="cpu").to(options.device)
        self.inputs, self.targets = tokens[:, :-1].contiguous(), tokens[:, 1:].reshape(-1)
        self.updates = Updates(net) if mode != "eval" else None
        self.autocast = options.precision == "bf16" and options.bf16 == "autocast"

    def next_subnet(self):
        subnet = self.subnets[self.turn % len(self.subnets)]
        self.turn += 1
        return subnet

    def logits(self, subnet):
        with torch.autocast(self.options.device, torch.bfloat16) if self.autocast else contextlib.nullcontext():
            return self.call(self.inputs, subnet).flatten(0, 1).float()

    def evaluate(self, subnet):
        with torch.no_grad():
            F.cross_entropy(self.logits(subnet), self.targets)

    def sandwich(self, others):
        """The largest from labels; the smallest and two of the list half from labels, half from the largest's distribution."""
        logits = self.logits(self.largest)
        (F.cross_entropy(logits, self.targets) / 4).backward()
        teacher = logits.detach().softmax(-1)
        for subnet in (self.smallest, *others):
            logits = self.logits(subnet)
            ((F.cross_entropy(logits, self.targets) + F.cross_entropy(logits, teacher)) / 8).backward()

    def gradients(self, subnets):
        self.net.zero_grad(set_to_none=True)
        if self.mode == "sandwich":
            self.sandwich(subnets)
        else:
            F.cross_entropy(self.logits(subnets[0]), self.targets).backward()
        self.updates.prepare()

    def draw(self):
        if self.mode == "fixed":
            return [self.largest]
        return [self.next_subnet() for _ in range(2 if self.mode == "sandwich" else 1)]

    def now(self):
        """Seconds, when all that was asked of a GPU is done."""
        if self.options.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def run(self, subnets):
        """One step; seconds of what is common to both optimizers, and of each."""
        begin = self.now()
        seconds = {}
        if self.mode == "eval":
            self.evaluate(subnets[0])
            return self.now() - begin, {kind: 0.0 for kind in KINDS}
        self.gradients(subnets)
        common = self.now() - begin
        for kind, optimizer in self.updates.optimizers.items():
            start = self.now()
            optimizer.step()
            self.updates.finish()
            seconds[kind] = self.now() - start
        return common, seconds

    def warm(self):
        """Once before the clock starts; where shapes are compiled, with every subnet."""
        if self.options.engine == "compile" and self.mode != "fixed":
            for subnet in dict.fromkeys([self.largest, self.smallest, *self.subnets]):
                if self.mode == "eval":
                    self.evaluate(subnet)
                else:
                    F.cross_entropy(self.logits(subnet), self.targets).backward()
        self.run(self.draw())
        self.turn = 0

    def peak_mib(self):
        """Of one step with the fused AdamW alone: the largest subnet, or of the list the one with the most weights."""
        subnets = [max(self.subnets, key=size_of)] if self.mode in ("single", "eval") else self.draw()
        reset_peak()
        self.run(subnets)
        self.turn = 0
        return memory_mib("VmHWM")

    def timed(self, count):
        if self.updates:
            self.updates.add("foreach")
            self.run(self.draw())  # makes its state
            self.turn = 0
        runs = [self.run(self.draw()) for _ in range(count)]
        # Steps of a list differ in size, so their mean counts; equal steps have a median that a busy moment does not move.
        middle = statistics.median if self.mode == "fixed" else statistics.mean
        return {kind: 1e3 * (middle(common for common, _ in runs) + middle(seconds[kind] for _, seconds in runs)) for kind in KINDS}


def bench(mode, work, options, start_mib):
    torch.manual_seed(0)
    net = Supernet(work)
    if options.precision == "bf16" and options.bf16 == "weights":
        net = net.to(torch.bfloat16)
    steps = Steps(mode, net, work, options)
    count = options.steps or {"fixed": work["fixed_steps"], "sandwich": work["sandwich_steps"]}.get(mode, len(work["subnets"]))
    start = time.perf_counter()
    steps.warm()
    warm, peak = time.perf_counter() - start, steps.peak_mib()
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"] if options.engine == "compile" else 0
    times = steps.timed(count)
    print(json.dumps({"program": f"torch {torch.__version__}", "shape": work["shape"], "mode": mode, "precision": options.precision,
                      "engine": options.engine, "bf16": options.bf16 if options.precision == "bf16" else "", "threads": options.threads,
                      "steps": count, "step_ms": times, "warm_s": warm, "graphs": graphs, "start_mib": start_mib, "peak_mib": peak}),
          flush=True)


def load_weights(net, check, path):
    """Copies bench_step's weights ([in, out], query, key and value apart, columns by head) into the layout here."""
    numbers = torch.from_file(path + ".weights", size=pathlib.Path(path + ".weights").stat().st_size // 4, dtype=torch.float32)

    def tensor(name):
        offset, rows, columns = check["tensors"][name]
        return numbers[offset:offset + rows * columns].view(rows, columns)

    with torch.no_grad():
        net.token.copy_(tensor("embedding.token"))
        net.position.copy_(tensor("embedding.position"))
        net.gain.copy_(tensor("final.norm.gain")[0])
        net.shift.copy_(tensor("final.norm.bias")[0])
        for index, block in enumerate(net.blocks):
            attention, ffn = f"block.{index}.attention.", f"block.{index}.ffn."
            heads, three, embed = block.qkv.shape
            parts = [tensor(attention + name).T.reshape(heads, three // 3, embed) for name in ("query", "key", "value")]
            block.qkv.copy_(torch.cat(parts, 1))
            block.qkv_bias.copy_(torch.cat([tensor(attention + name + ".bias").reshape(heads, -1) for name in ("query", "key", "value")], 1))
            for target, name in ((block.out, attention + "out"), (block.up, ffn + "up"), (block.down, ffn + "down")):
                target.copy_(tensor(name).T)
            for target, name in ((block.out_bias, attention + "out.bias"), (block.up_bias, ffn + "up.bias"),
                                 (block.down_bias, ffn + "down.bias"), (block.gain1, attention + "norm.gain"),
                                 (block.shift1, attention + "norm.bias"), (block.gain2, ffn + "norm.gain"),
                                 (block.shift2, ffn + "norm.bias")):
                target.copy_(tensor(name)[0])


def check_results(path):
    """Same weights, same tokens: are losses and gradients those of bench_step? Ends with status 1 where they are not."""
    with open(path) as file:
        check = json.load(file)
    work = prepared(check["work"])
    net = Supernet(work)
    load_weights(net, check, path)
    inputs = torch.tensor(check["inputs"]).view(work["batch"], work["context"])
    worst_loss = worst_norm = 0.0
    for text, loss, norm in check["results"]:
        net.zero_grad(set_to_none=True)
        ours = F.cross_entropy(net(inputs, parse_subnet(text)).flatten(0, 1), torch.tensor(check["targets"]))
        ours.backward()
        ours_norm = math.sqrt(sum(float(p.grad.double().square().sum()) for p in net.parameters() if p.grad is not None))
        worst_loss, worst_norm = max(worst_loss, abs(float(ours.detach()) / loss - 1)), max(worst_norm, abs(ours_norm / norm - 1))
    print(json.dumps({"shape": work["shape"], "subnets": len(check["results"]), "loss": worst_loss, "gradient_norm": worst_norm}))
    # Sums in another order leave 1e-7; GELU by erf instead of tanh, the smallest slip that was tried, moves gradients by 1e-5.
    if not (worst_loss < 2e-6 and worst_norm < 2e-6):
        sys.exit("torch_supernet.py: the two programs do not compute the same function")


def prepared(work):
    if work["branch_scale"] != 1:
        sys.exit("torch_supernet.py: branch_scale is expected to be 1")
    return {**work, "largest": parse_subnet(work["largest"]), "smallest": parse_subnet(work["smallest"]),
            "subnets": [parse_subnet(text) for text in work["subnets"]]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", help="JSON of bench_step --write-work")
    parser.add_argument("--check", help="JSON of bench_step --write-check: compare losses and gradients with it, and nothing else")
    parser.add_argument("--modes", default="eval,fixed,single,sandwich")
    parser.add_argument("--engine", choices=["eager", "compile"], default="eager")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--bf16", choices=["autocast", "weights"], default="autocast")
    parser.add_argument("--steps", type=int, default=0, help="default: those of the work, or each subnet once")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_default_device(options.device)
    if options.check:
        return check_results(options.check)
    with open(options.work) as file:
        work = prepared(json.load(file))
    start_mib = memory_mib("VmHWM")
    for mode in options.modes.split(","):
        bench(mode, work, options, start_mib)


main()
