"""The trainings and the page of masked.sh."""
import math
import statistics
import sys

from runs import Runs

PROGRAM, RUNS, COMMIT, PROCESSOR = sys.argv[1:5]
RUN = Runs(PROGRAM, RUNS)
RECIPE = "experiments/recipes/digits_masked.toml"
SEEDS = range(5)
T_95 = 2.776  # Student's, 4 degrees of freedom
SUBNETS = ["smallest", "middle", "largest"]
EVERY_LABEL = "experiments/recipes/digits.toml"
ROUNDS = 5


def scores(name, recipe, settings):
    """{subnet: evaluation} of every seed."""
    found = []
    for seed in SEEDS:
        own = f"{name}-{seed}"
        folder = RUN.train(own, recipe, [*settings, "--set", f"train.seed={seed}"])
        found.append({subnet: RUN.kept(f"{own}/report-{subnet}", lambda: RUN.measure(folder, subnet)) for subnet in SUBNETS})
    return found


def step_costs(sampled):
    """FLOPs and seconds of steps of an end of vit_small: from labels, and with hidden patches, in turns."""
    common = ["--set", "train.steps=100"]
    if sampled == "smallest":
        common += ["--set", "stage.0.sampler=balanced", "--set", "stage.0.smallest=1"]
    decoder = []
    for key, value in (("embed", 48), ("depth", 1), ("heads", 3)):
        decoder += ["--set", f"model.decoder_{key}={value}"]
    stages = {"labels": ["--set", "stage.0.share=1", "--set", "stage.1.share=0"]}
    for ratio in (0.5, 0.75):
        hides = ["--set", "stage.0.objective=masked_patches", "--set", f"stage.0.mask_ratio={ratio}"]
        stages[f"{ratio}"] = [*stages["labels"], *hides, *decoder]
    plans = {name: [] for name in stages}
    for _ in range(ROUNDS):
        for name, settings in stages.items():
            plans[name].append(RUN.plan("experiments/recipes/vit_small.toml", [*common, *settings]))
    return {name: {"flops": many[0]["flops"], "seconds": [one["seconds"] for one in many]} for name, many in plans.items()}


costs = {sampled: RUN.kept(f"step-costs-{sampled}", lambda: step_costs(sampled)) for sampled in ("largest", "smallest")}
masked_flops = RUN.kept("masked.flops", lambda: RUN.plan(RECIPE, [])["flops"])
a_step = RUN.kept("labels.flops", lambda: RUN.plan(EVERY_LABEL, ["--set", "train.steps=1000"])["flops"] / 1000)
steps = round(masked_flops / a_step)
masked = scores("masked", RECIPE, [])
labels = scores("labels", EVERY_LABEL, ["--set", f"train.steps={steps}"])

print("# Hidden patches first?\n")
print("Recipe `digits_masked` (40 % of its steps guess hidden patches, the others learn labels) beside `digits` (labels alone, "
      f"{steps:,} steps) at equal FLOPs, {masked_flops / 1e12:.2f} TFLOP each; {len(SEEDS)} seeds, top-1 accuracy on the report split of "
      f"{masked[0]['largest']['images']} images; intervals are Student's over the paired seeds, not adjusted for three rows. "
      f"{PROCESSOR}, commit {COMMIT}. Made by `./dev experiment masked`.\n")
print("| subnet | hidden patches first | labels alone | difference, points | 95 % over seeds |\n|---|---|---|---|---|")
for subnet in SUBNETS:
    pairs = [(100 * a[subnet]["accuracy"], 100 * b[subnet]["accuracy"]) for a, b in zip(masked, labels)]
    differences = [a - b for a, b in pairs]
    mean, half = statistics.mean(differences), T_95 * statistics.stdev(differences) / math.sqrt(len(SEEDS))
    verdict = "better" if mean - half > 0 else "worse" if mean + half < 0 else "undecided"
    print(f"| {subnet} | {statistics.mean(a for a, _ in pairs):.2f} % | {statistics.mean(b for _, b in pairs):.2f} % | {mean:+.2f} | "
          f"{mean - half:+.2f} to {mean + half:+.2f}: {verdict} |")
print("\n## A step\n")
print("Of the ends of `vit_small` (49 patches) with a decoder of one block of 48 channels, beside a step from labels: the plan's FLOPs, "
      f"and seconds of the plan's five steps, median (least to most) of {ROUNDS} rounds in turns. The decoder processes all 49 whatever "
      "the subnet.\n")
print("| subnet | hidden | FLOPs | time |\n|---|---|---|---|")
for sampled, of in costs.items():
    base = of["labels"]
    for name, cost in of.items():
        ratios = [a / b for a, b in zip(cost["seconds"], base["seconds"])]
        label = "none: labels" if name == "labels" else f"{100 * float(name):.0f} %"
        time = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {sampled} | {label} | {cost['flops'] / base['flops']:.2f} | {time} |")
