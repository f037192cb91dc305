"""The trainings and the page of vision.sh: rows (a), (b) and (c) of three networks on MNIST 5k."""
import json
import os
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from runs import Runs

PROGRAM, RUNS, COMMIT, PROCESSOR, PYTHON = sys.argv[1:6]
FURTHER = sys.argv[6:]
RECIPE = "experiments/recipes/vit_small.toml"
SEEDS = range(3)
SUPERNET = ["--set", "search.evaluations=24"]
IMAGES = "experiments/recipes/mnist_5k.csv.gz"
BUDGETS = ["macs=..35%", "macs=..60%"]
MARGIN = 0.3  # points of accuracy, fixed before


# Small networks: a core each is faster than one after the other on all, and nothing that is kept depends on threads.
RUN = Runs(PROGRAM, RUNS, at_once=os.cpu_count())


def alone(name, subnet):
    """A recipe like the supernet's whose space is this subnet."""
    embed, blocks = re.fullmatch(r"e(\d+):([^@]*)", subnet).groups()
    genes = []
    for part in blocks.split(","):
        times, heads, ffn = re.fullmatch(r"(?:(\d+)x)?h(\d+)f(\d+)", part).groups()
        genes += [(int(heads), int(ffn))] * int(times or 1)
    pins = [f"{block}.{gene}={value}" for block, pair in enumerate(genes) for gene, value in zip(("heads", "ffn"), pair)]
    with open(RECIPE) as file:
        recipe = file.read()
    recipe = recipe.replace("mnist_5k.csv.gz", os.path.relpath(IMAGES, RUNS))
    space = f"[space]\nembed = [{embed}]\ndepth = [{len(genes)}]\nheads = {sorted({pair[0] for pair in genes})}\n"
    space += f"ffn = {sorted({pair[1] for pair in genes})}\npin = {json.dumps(pins)}\n\n"
    recipe = recipe[: recipe.index("[space]")] + space + recipe[recipe.index("[train]") : recipe.index("[[stage]]")]
    path = f"{RUNS}/{name}.toml"
    with open(path, "w") as file:
        file.write(recipe + '[[stage]]\nsampler = "largest"\n')
    return path


def flops(recipe, settings):
    return RUN.plan(recipe, settings)["flops"]


def trained_alone(name, recipe, seed, compute):
    """The evaluation of a recipe's only subnet after training with that many FLOPs."""
    settings = [*FURTHER, "--set", f"train.seed={seed}"]
    a_step = RUN.kept(f"{name}.flops", lambda: flops(recipe, [*settings, "--set", "train.steps=100"]) / 100)
    steps = max(1, round(compute / a_step))
    own = RUN.train(name, recipe, [*settings, "--set", f"train.steps={steps}"])
    return {**RUN.kept(f"{name}/report", lambda: RUN.measure(own, "largest")), "steps": steps}


def seed_rows(seed):
    """{budget: {row: evaluation}} and the FLOPs spent."""
    settings = [*SUPERNET, *FURTHER, "--set", f"train.seed={seed}"]
    name = f"supernet-{seed}"
    total = RUN.kept(f"{name}.flops", lambda: flops(RECIPE, settings))
    folder = RUN.train(name, RECIPE, settings)
    rows, searched = {}, 0.0
    images = RUN.kept(f"{name}/search-images", lambda: RUN.document("evaluate", folder, "--subnet", "largest", "--split", "search")["images"])
    found = {}
    for budget in BUDGETS:
        search = RUN.kept(f"{name}/search-{BUDGETS.index(budget)}", lambda: RUN.document("search", folder, "--budget", budget))[0]
        searched += (search["evaluations"] + search["homogeneous"]) * images * 2.0 * search["best"]["macs"]
        found[budget] = search["best"]["subnet"]
    compute = total + searched
    tasks = []
    for number, budget in enumerate(BUDGETS):
        rows[budget] = {"a": RUN.kept(f"{name}/report-{number}", lambda: RUN.measure(folder, found[budget]))}
        recipe = alone(f"{seed}-{number}", found[budget])
        for row, share in (("b", compute / len(BUDGETS)), ("c", compute)):
            tasks.append((budget, row, (f"{row}-{seed}-{number}", recipe, seed, share)))
    with ThreadPoolExecutor(len(tasks)) as pool:
        for (budget, row, _), evaluation in zip(tasks, pool.map(lambda task: trained_alone(*task[2]), tasks)):
            rows[budget][row] = evaluation
    return rows, compute, searched, images


def exported(seed, rows):
    """What the exports of (a) are called by their programs: a row a budget of parameters' file size, images and how many of them have our class."""
    folder = f"{RUNS}/supernet-{seed}"
    folders, ours = [], []
    for number, budget in enumerate(BUDGETS):
        subnet = rows[budget]["a"]["subnet"]
        to = f"{RUNS}/onnx-{seed}-{number}"
        if not os.path.exists(to):
            RUN.document("export", folder, "--subnet", subnet, "--format", "onnx", "--to", to)
        folders.append(to)
        shown = RUN.kept(f"classes-{seed}-{number}", lambda: RUN.document("classify", folder, IMAGES, "--subnet", subnet))
        ours.append([image["classes"][0]["class"] for image in shown["images"]])
    mean, deviation = (re.search(rf"^{key} = \[([0-9.]+)\]", open(RECIPE).read(), re.M).group(1) for key in ("mean", "deviation"))
    theirs = json.loads(subprocess.run([PYTHON, "experiments/results/vision_consumers.py", IMAGES, mean, deviation, *folders],
                                       stdout=subprocess.PIPE, text=True, check=True).stdout)
    lines = []
    for budget, to, own in zip(BUDGETS, folders, ours):
        for name, version in theirs["versions"].items():
            same = sum(a == b for a, b in zip(own, theirs[to][name]))
            lines.append(f"| `{budget}` | {seed} | {name} {version} | {os.path.getsize(to + '/model.onnx'):,} | {same:,} of {len(own):,} |")
    return lines


def interval(first, second):
    """Mean difference of hits in points, over seeds and images, its 95 % and 90 % intervals and the two-sided p-value that it is 0: images are
    drawn again, each with all its seeds."""
    images = len(first[0])
    per_image = [sum(int(a[i]) - int(b[i]) for a, b in zip(first, second)) * 100 / len(first) for i in range(images)]
    draw = random.Random(0)
    means = sorted(sum(draw.choices(per_image, k=images)) / images for _ in range(4000))
    beyond = min(sum(mean <= 0 for mean in means), sum(mean >= 0 for mean in means))
    return sum(per_image) / images, means[100], means[3899], means[200], means[3799], min(1.0, 2 * (beyond + 1) / (len(means) + 1))


def verdicts(differences):
    """Of a whole table: Holm's step-down at 5 % says which differ; of the others that are not equivalent, the smallest effect that would show."""
    differ, left = set(), len(differences)
    for number in sorted(range(len(differences)), key=lambda n: differences[n][5]):
        if differences[number][5] * left >= 0.05:
            break
        differ.add(number)
        left -= 1
    texts = []
    for number, (mean, low, high, low90, high90, _) in enumerate(differences):
        if number in differ:
            texts.append("better" if mean > 0 else "worse")
        elif -MARGIN < low90 and high90 < MARGIN:
            texts.append("equivalent")
        else:
            texts.append(f"undecided (below {(high - low) / 2:.2f} points nothing shows)")
    return texts


with ThreadPoolExecutor(len(SEEDS)) as seeds:
    results = list(seeds.map(seed_rows, SEEDS))
print("# Two classifiers from one supernet, or trained alone\n")
print(f"Recipe `vit_small` on MNIST 5k ({results[0][3]} images to search on, {len(results[0][0][BUDGETS[0]]['a']['hits'])} to report on), {len(SEEDS)} seeds; top-1 accuracy on the report")
print("split. C is what the supernet's training and its searches cost. (a): the best subnet of each budget")
print("that 24 evaluations of evolution and all homogeneous subnets found, as it stands in the supernet. (b): the same two architectures, each")
print("trained alone with C/2; (c): with C. Intervals are over images, each with its three seeds. Margin ±0.3 points, fixed before;")
print("verdicts are Holm's over the table. No rate was tried for (b) and (c): they train with the recipe's.")
mean_c = sum(result[1] for result in results) / len(results)
mean_search = sum(result[2] for result in results) / len(results)
print(f"C is {mean_c / 1e12:.1f} TFLOP on average, of which the searches {100 * mean_search / mean_c:.0f} %. {PROCESSOR}, commit {COMMIT}. Made by `./dev experiment vision`.\n")
print("| budget | seed | subnet | parameters | macs/image | (a) one supernet | (b) alone, C/2 | (c) alone, C |\n|---|---|---|---|---|---|---|---|")
for budget in BUDGETS:
    for seed in SEEDS:
        row = results[seed][0][budget]
        cells = " | ".join(f"{100 * row[name]['accuracy']:.2f} %" for name in "abc")
        print(f"| `{budget}` | {seed} | `{row['a']['subnet']}` | {row['a']['parameters']:,} | {row['a']['macs']:,} | {cells} |")
print("\n| budget | (a) | (b) | (c) | (a) - (b), points | | (a) - (c), points | |\n|---|---|---|---|---|---|---|---|")
table = []
for budget in [*BUDGETS, "both"]:
    of = BUDGETS if budget == "both" else [budget]
    means = [sum(results[s][0][b][name]["accuracy"] for s in SEEDS for b in of) / len(SEEDS) / len(of) * 100 for name in "abc"]
    hits = {name: [results[s][0][b][name]["hits"] for s in SEEDS for b in of] for name in "abc"}
    table.append((budget, means, [interval(hits["a"], hits[other]) for other in "bc"]))
judged = iter(verdicts([difference for _, _, differences in table for difference in differences]))
for budget, means, differences in table:
    cells = [f"{mean:+.2f} ({low:+.2f} to {high:+.2f}) | {next(judged)}" for mean, low, high, *_ in differences]
    print(f"| `{budget}` | " + " | ".join(f"{mean:.2f} %" for mean in means) + " | " + " | ".join(cells) + " |")
print("\n## Exported\n")
print("The subnets of (a) as ONNX folders, run over all images, those of training too; how many are given the class that the subnet inside its")
print("supernet gives them.\n")
print("| budget | seed | program | bytes | same top-1 class |\n|---|---|---|---|---|")
for seed in SEEDS:
    print("\n".join(exported(seed, results[seed][0])))
