"""The stages and the page of pretrained.sh; run it by that script. Every stage leaves what it found in runs/ and is not repeated."""
import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

import h5py
import numpy as np

from pretrained_page import faster_by, page, shared_steps

HERE = os.path.dirname(os.path.abspath(__file__))
# To be raised with whatever else decides the results: the spaces, the settings, the order of the stages. Kept stages of another are not read.
RECIPE = 4
# Fixed token counts: chosen for an hour of two cores with bf16 products (--tiny: for a minute).
FULL = {"context": 256, "sequences": 4, "steps": 200, "rate": 2e-4, "split_block": 2048, "splits": "96,2,2", "segments": 4, "evaluations": 48,
        "neighbours": 10, "widths": 64, "shared": 8, "faster": 1.25, "guard": 1.04, "near": 4, "rounds": 25, "recipe": RECIPE}
TINY = {"context": 32, "sequences": 4, "steps": 8, "rate": 1e-3, "split_block": 512, "splits": "80,10,10", "segments": 1, "evaluations": 6,
        "neighbours": 3, "widths": 32, "shared": 8, "faster": 1.02, "guard": 1, "near": 15, "rounds": 1, "recipe": RECIPE}
BUDGETS, RIVALS = ["85", "70", "speed"], ["b", "c"]


class Stages:
    """Runs the program and remembers, in a folder named by everything that decides the results."""

    def __init__(self, options, size):
        self.options, self.size, self.seconds = options, size, {}
        decides = json.dumps([size, options.code, fast_products(), options.processor, digest(options.checkpoint), digest(options.text)])
        self.folder = f"runs/pretrained-{hashlib.sha256(decides.encode()).hexdigest()[:8]}"
        os.makedirs(self.folder, exist_ok=True)

    def at(self, name):
        return f"{self.folder}/{name}"

    def program(self, *arguments):
        done = subprocess.run([self.options.program, *map(str, arguments), "--json"], stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"pretrained: elastiform {' '.join(map(str, arguments))}: status {done.returncode}")
        return json.loads(done.stdout)

    def consumer(self, *arguments):
        done = subprocess.run([sys.executable, f"{HERE}/pretrained_consumers.py", *arguments], stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    def kept(self, name, make):
        """What make() returned, now or in an earlier session, and its seconds."""
        path = self.at(name + ".json")
        if not os.path.exists(path):
            print(f"-- {name}", file=sys.stderr, flush=True)
            begin = time.time()
            found = {"found": make(), "seconds": time.time() - begin}
            with open(path + ".part", "w") as file:
                json.dump(found, file)
            os.rename(path + ".part", path)
        with open(path) as file:
            found = json.load(file)
        self.seconds[name] = found["seconds"]
        return found["found"]

    def train(self, name, begin):
        """The run of that name trained to its end; begin(): makes it and trains, where nothing stands there to be resumed."""
        folder = self.at(name)

        def make():
            if os.path.exists(folder + "/recipe.toml"):
                self.program("train", "--resume", folder)
            else:
                shutil.rmtree(folder, ignore_errors=True)
                begin(folder)
            shutil.rmtree(folder + "/checkpoints", ignore_errors=True)
            with open(folder + "/training.jsonl") as file:
                return json.loads(file.readlines()[-1])
        row = self.kept("train-" + name, make)
        self.seconds["train-" + name] = row["seconds"]  # of all sessions
        return folder

    def report(self, name, run, subnet="largest"):
        """Losses of the report split, block by block, nats a token."""
        def make():
            found = self.program("evaluate", run, "--subnet", subnet, "--split", "report")
            with h5py.File(run + "/results.h5") as file:
                row = file["evaluations"][found["id"] - 1]
                losses = file["block_losses"][found["id"] - 1][: row["block_count"]]
            keys = ("subnet", "loss", "bits_per_byte", "accuracy", "parameters", "block_parameters", "tokens")
            return {**{key: found[key] for key in keys}, "losses": [float(loss) for loss in losses]}
        return self.kept("report-" + name, make)


def digest(path):
    """Of a file, or of the files of a folder."""
    total = hashlib.sha256()
    files = sorted(os.path.join(path, name) for name in os.listdir(path)) if os.path.isdir(path) else [path]
    for name in files:
        with open(name, "rb") as file:
            for chunk in iter(lambda: file.read(1 << 22), b""):
                total.update(chunk)
    return total.hexdigest()


def shape_of(subnet):
    """(embed, depth, genes of a block as text, query heads of a third, of two thirds and of all KV groups, FFN width) of a network whose
    blocks are alike."""
    embed, depth, genes, heads, groups, ffn = re.fullmatch(r"e(\d+):(?:(\d+)x)?(h(\d+)(?:k(\d+))?f(\d+))", subnet).groups()
    queries = int(heads) // int(groups or heads)
    cut = [max(1, round(int(groups or heads) * share)) * queries for share in (1 / 3, 2 / 3, 1)]
    return int(embed), int(depth or 1), genes, cut, int(ffn)


def fast_products():
    with open("/proc/cpuinfo") as file:
        return "bf16" if "avx512_bf16" in file.read() else "f32"


def settings(stages, steps):
    size, dtype = stages.size, fast_products()
    values = {"data.split_block": size["split_block"], "data.splits": size["splits"], "train.sequences": size["sequences"],
              "train.steps": steps, "train.rate": size["rate"], "train.schedule": "cosine", "train.warmup": 0.05, "train.precision": dtype,
              "deploy.dtype": dtype, "train.log_every": steps, "train.checkpoint_every": max(1, steps // 2),
              "stage.0.sampler": "balanced", "stage.0.objective": "teacher", "search.segments": size["segments"],
              "search.evaluations": size["evaluations"], "search.algorithm": "predictor", "search.round_size": 8,
              "search.population": 8, "search.tournament": 4, "search.founders": 4,
              "search.budgets": "block_parameters=..100%"}
    return [argument for key, value in values.items() for argument in ("--set", f"{key}={value}")]


def import_run(stages, name, space, steps, more=()):
    folder = stages.at(name)

    def make():
        shutil.rmtree(folder, ignore_errors=True)
        return stages.program("import", stages.options.checkpoint, "--run", folder, "--text", stages.options.text, "--context",
                              stages.size["context"], "--importance", "activations",
                              *[argument for one in space for argument in ("--space", one)], *settings(stages, steps), *more)
    return folder, stages.kept("import-" + name, make)


def listed(values):
    return ",".join(map(str, sorted(set(values))))


def import_both(stages):
    """The checkpoint as an elastic network, and once more with every size that a rival may have; nothing of the second is trained."""
    checkpoint = stages.kept("checkpoint", lambda: probe(stages))
    embed, depth, _, heads, ffn = shape_of(checkpoint)
    widths = listed([*range(max(32, ffn // 3 // 32 * 32), ffn + 1, stages.size["widths"]), ffn])
    elastic, made = import_run(stages, "elastic", [f"embed={embed}", f"depth={depth}", f"heads={heads[-1]}", f"ffn={widths}"],
                               shared_steps(stages.size), ["--set", "stage.0.largest=0.1"])
    original, _ = import_run(stages, "original", [f"embed={embed}", f"depth={listed(range(depth * 2 // 3, depth + 1))}", f"heads={listed(heads)}",
                                                  f"ffn={widths},{listed(filling_widths(stages, elastic))}"], stages.size["steps"])
    return elastic, original, made


def filling_widths(stages, elastic):
    """For each share of block_parameters the widest FFN of equal blocks with all heads, in steps of 8: ours fills a budget block by block, so the
    rival shall not lose what the steps between its widths leave unspent."""
    space = stages.program("space", elastic)
    (narrow, least), (wide, most) = ((shape_of(space[name]["subnet"])[4], space[name]["block_parameters"]) for name in ("smallest", "largest"))
    column = (most - least) // (wide - narrow)  # parameters of one FFN column in every block
    return [(narrow + (most * int(name) // 100 - least) // column) // 8 * 8 for name in BUDGETS if name.isdigit()]


def probe(stages):
    """The checkpoint's own shape: what an import without a space says."""
    folder = stages.at("probe")
    shutil.rmtree(folder, ignore_errors=True)
    made = stages.program("import", stages.options.checkpoint, "--run", folder, "--text", stages.options.text, "--context",
                          stages.size["context"], "--set", "stage.0.objective=labels")
    shutil.rmtree(folder)
    return made["subnet"]


def depth_cuts(stages, original, least):
    """Blocks dropped one after the other, each time the one whose loss is felt least on the search split; {depth: subnet text}. After the first
    round only the blocks that it found most dispensable are tried."""
    embed, depth, genes, _, _ = shape_of(stages.kept("checkpoint", None))
    text = lambda kept: f"e{embed}:{len(kept)}x{genes}@{','.join(map(str, kept))}"
    kept, tried, found = list(range(depth)), list(range(depth)), {}
    least_of_all = depth * min(int(name) for name in BUDGETS if name.isdigit()) // 100  # so that no kept stage depends on the budgets asked for
    while len(kept) > least:
        cuts = [[block for block in kept if block != out] for out in tried if out in kept]

        def score():
            path = stages.at("cuts.txt")
            with open(path, "w") as file:
                file.write("\n".join(map(text, cuts)) + "\n")
            return [(one["loss"], one["subnet"]) for one in stages.program("evaluate", original, "--subnets", path)]
        scored = stages.kept(f"depth-{len(kept) - 1}", score)
        order = sorted(range(len(cuts)), key=lambda i: scored[i][0])
        if len(kept) == depth:
            tried = [tried[i] for i in order[: max(stages.size["neighbours"], 2 * (depth - least_of_all))]]
        kept = cuts[order[0]]
        found[len(kept)] = scored[order[0]][1]
    return found


def tune(stages, name, run, subnet, steps):
    return stages.train(name, lambda folder: stages.program("finetune", run, "--subnet", subnet, "--method", "full", "--distill", "--steps",
                                                            steps, "--rate", stages.size["rate"], "--run", folder, "--set",
                                                            "stage.0.objective=teacher", "--set", f"train.checkpoint_every={max(1, steps // 2)}",
                                                            "--set", f"train.log_every={steps}"))


def under_budget(stages, elastic, original, name):
    """Our network and its rivals under one budget of block_parameters: {row: report}."""
    steps, percent, asked = stages.size["steps"], int(name), stages.options.rivals
    near = f"block_parameters={percent - stages.size['near']}%..{percent}%"
    search = stages.kept(f"search-{name}", lambda: stages.program("search", elastic, "--budget", near, "--deployable", "gguf-q8_0"))[0]
    evolution = stages.kept(f"evolution-{name}", lambda: stages.program("search", elastic, "--budget", near, "--deployable", "gguf-q8_0", "--algorithm",
                                                                        "evolution"))[0]
    ours = search["best"]["subnet"]
    rows = {"ours, as searched": stages.report(f"searched-{name}", elastic, ours)}
    rows["ours"] = stages.report(f"ours-{name}", tune(stages, f"ours-{name}", elastic, ours, steps - shared_steps(stages.size)))
    cut = stages.kept(f"homogeneous-{name}", lambda: stages.program("search", original, "--budget", near, "--algorithm", "homogeneous"))[0]["best"]
    rows["(a) one-shot"] = stages.report(f"cut-{name}", original, cut["subnet"])
    if "b" in asked:
        rows["(b) one-shot, distilled"] = stages.report(f"b-{name}", tune(stages, f"b-{name}", original, cut["subnet"], steps))
    if "c" in asked:
        depth = percent * shape_of(stages.kept("checkpoint", None))[1] // 100
        cut = depth_cuts(stages, original, depth)[depth]
        rows["(c) depth, as cut"] = stages.report(f"depth-cut-{name}", original, cut)
        rows["(c) depth, distilled"] = stages.report(f"c-{name}", tune(stages, f"c-{name}", original, cut, steps))
    return {"search": search, "evolution": evolution, "rows": rows}


def gguf(stages, run, subnet, kind="gguf-q8_0"):
    path = stages.at(f"{hashlib.sha256((run + subnet + kind).encode()).hexdigest()[:12]}.{kind}")
    if not os.path.exists(path):
        stages.program("export", run, "--subnet", subnet, "--format", kind, "--no-scores", "--to", path)
    return path


def decode_speeds(stages, named):
    """{name: tokens/s of each round} by llama.cpp, of files measured in turn."""
    found = stages.consumer("speed", str(stages.size["rounds"]), *named.values())
    return {name: found["tokens_per_second"][path] for name, path in named.items()}


def under_speed(stages, elastic):
    """Our network that decodes `faster` times as fast as the checkpoint, in llama.cpp. Candidates come from a search under the block_parameters
    that a line through a few measured sizes gives, less a guard band, and are measured themselves until one is fast enough."""
    embed, depth, _, _, _ = shape_of(stages.kept("checkpoint", None))
    space = stages.program("space", elastic)
    sizes = [space[name]["subnet"] for name in ("largest", "middle", "smallest")]
    speeds = stages.kept("speed-sizes", lambda: decode_speeds(stages, {one: gguf(stages, elastic, one) for one in sizes}))
    parameters = np.array([space[name]["block_parameters"] for name in ("largest", "middle", "smallest")], float)
    milliseconds = np.array([1e3 / np.median(speeds[one]) for one in sizes])
    slope, base = np.polyfit(parameters, milliseconds, 1)
    limit = milliseconds[0] / stages.size["faster"] / stages.size["guard"]
    share = min(0.97, max(parameters[2] / parameters[0] * 1.05, (limit - base) / slope / parameters[0]))
    budget = f"block_parameters={100 * share - stages.size['near']:.1f}%..{100 * share:.1f}%"
    search = stages.kept("search-speed", lambda: stages.program("search", elastic, "--budget", budget, "--deployable", "gguf-q8_0"))[0]

    def measured():
        with h5py.File(elastic + "/results.h5") as file:
            members = [int(one) for row in file["rounds"][:] if row["search"].decode() == search["search"]
                       for one in file["round_members"][row["first_member"]: row["first_member"] + row["members"]]]
            rows = [file["evaluations"][one - 1] for one in set(members)]
        seen = []
        for loss, subnet in sorted((float(row["loss"]), row["subnet"].decode()) for row in rows)[:6]:
            speed = decode_speeds(stages, {"checkpoint": gguf(stages, elastic, sizes[0]), "subnet": gguf(stages, elastic, subnet)})
            seen.append({"subnet": subnet, "loss": loss, "ratio": faster_by(speed),
                         "subnet_rounds": speed["subnet"], "checkpoint_rounds": speed["checkpoint"]})
            if seen[-1]["ratio"] >= stages.size["faster"]:
                break
        return seen
    seen = stages.kept("speed-candidates", measured)
    chosen = max(seen, key=lambda one: (one["ratio"] >= stages.size["faster"], one["ratio"]))
    run = tune(stages, "ours-speed", elastic, chosen["subnet"], stages.size["steps"] - shared_steps(stages.size))
    final = stages.kept("speed-final", lambda: decode_speeds(
        stages, {"checkpoint": gguf(stages, elastic, sizes[0]), "subnet": gguf(stages, run, "largest")}))
    return {"budget": budget, "candidates": seen, "speeds": final, "sizes": speeds,
            "rows": {"ours, as searched": stages.report("searched-speed", elastic, chosen["subnet"]),
                     "ours": stages.report("ours-speed", run)}}


def exported(stages, name, run):
    """A finished network as GGUF and as a folder of transformers, each asked for the same logits."""
    folder, whole = stages.at(f"{name}-hf"), stages.at(f"{name}.gguf")

    def make():
        shutil.rmtree(folder, ignore_errors=True)
        if os.path.exists(whole):
            os.remove(whole)
        stages.program("export", run, "--subnet", "largest", "--format", "hf-auto", "--no-scores", "--to", folder)
        stages.program("export", run, "--subnet", "largest", "--format", "gguf", "--no-scores", "--to", whole)
        ids = stages.at("ids.json")
        with open(ids, "w") as file:
            json.dump([int(token) for token in np.random.default_rng(0).integers(1, 255, min(48, stages.size["context"] // 2))], file)
        return stages.consumer("agree", whole, folder, ids)
    return stages.kept("consumers-" + name, make)


def listed_of(known, least):
    def parse(text):
        names = [name for name in text.split(",") if name]
        if len(names) < least:
            raise argparse.ArgumentTypeError(f"names none of {', '.join(known)}")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names
    return parse


def page_name(text):
    if not re.fullmatch(r"pretrained\w*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of letters, digits and _ that begins with pretrained")
    return text


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("program", "checkpoint", "text", "code", "commit", "processor"):
        parser.add_argument("--" + name, default="")
    parser.add_argument("--tiny", action="store_true")
    for name in ("steps", "segments"):
        parser.add_argument("--" + name, type=int, default=FULL[name])
    parser.add_argument("--budgets", type=listed_of(BUDGETS, 1), default=BUDGETS)
    parser.add_argument("--rivals", type=listed_of(RIVALS, 0), default=RIVALS)
    parser.add_argument("--page", type=page_name, default="pretrained")
    options = parser.parse_args()
    part = set(options.budgets) != set(BUDGETS) or set(options.rivals) != set(RIVALS)
    if part and options.page == "pretrained" and not options.tiny:
        parser.error("a part of the budgets and rivals does not replace the whole page; say --page pretrained_SOMETHING")
    return options


def main():
    options = arguments()
    size = TINY if options.tiny else {**FULL, "steps": options.steps, "segments": options.segments}
    if options.tiny:
        options.text = options.text or "experiments/recipes/kjv.txt"
        options.checkpoint = "runs/pretrained-tiny-checkpoint"
        if not os.path.exists(options.checkpoint + "/tokenizer.json"):
            subprocess.run([sys.executable, f"{HERE}/pretrained_consumers.py", "tiny", options.checkpoint, options.text], check=True)
    stages = Stages(options, size)
    elastic, original, made = import_both(stages)
    teacher = stages.report("teacher", original)
    stages.train("elastic", lambda folder: sys.exit("pretrained: the import is lost"))
    found = {"size": size, "import": made, "teacher": teacher, "commit": options.commit, "processor": options.processor,
             "precision": fast_products(), "asked": {"budgets": options.budgets, "rivals": options.rivals, "page": options.page, "tiny": options.tiny},
             "text": {"name": os.path.basename(options.text), "bytes": os.path.getsize(options.text), "sha256": digest(options.text)}, "budgets": {}, "seconds": stages.seconds}
    for name in options.budgets:
        if name == "speed":
            found["speed"] = under_speed(stages, elastic)
        else:
            found["budgets"][name] = under_budget(stages, elastic, original, name)
        write(options, stages, found)
    found["consumers"] = {name: exported(stages, name, stages.at(f"ours-{name}")) for name in options.budgets}
    write(options, stages, found)


def write(options, stages, found):
    """The page and its numbers: the whole beside this file, what is found so far in the run's folder; with --tiny, the whole to stdout."""
    whole = "consumers" in found
    if options.tiny:
        if whole:
            print(page(found))
        return
    folder = HERE if whole else stages.folder
    for path, content in ((options.page + ".json", json.dumps(found, indent=1) + "\n"), (options.page + ".md", page(found))):
        with open(f"{folder}/{path}.part", "w") as file:
            file.write(content)
        os.rename(f"{folder}/{path}.part", f"{folder}/{path}")
    print(f"-- page: {folder}/{options.page}.md", file=sys.stderr, flush=True)


main()
