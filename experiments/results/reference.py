"""Prints docs/methods.md: methods from stdin (`elastiform methods --json`), results from experiments/results/survey/*.json beside this file."""
import json
import pathlib
import sys
import tomllib

HERE = pathlib.Path(__file__).parent
RECIPES = HERE.parent / "recipes" / "survey"
NOT_MEASURED = ["", "", "", ""]


def measured():
    """{"train.optimizer=lion": [(experiment, arm, baseline), ...]}: arms that set this and nothing else."""
    found = {}
    for result in sorted((HERE / "survey").glob("*.json")):
        experiment = json.loads(result.read_text())
        arms = {arm["arm"]: arm for arm in experiment["arms"]}
        with open(RECIPES / f"{result.stem}.toml", "rb") as file:
            described = tomllib.load(file)["arm"]
        baseline = arms[described[0]["name"]]
        for arm in described[1:]:
            if arm.get("set") and arm["name"] in arms:  # an arm that is newer than the results has none
                found.setdefault(arm["set"][0], []).append((result.stem, arms[arm["name"]], baseline, arm["set"][1:]))
    return found


def percent(part, whole):
    return f"{100 * (part / whole - 1):+.0f} %"


def cells(result):
    name, arm, baseline, _ = result
    per_step = (arm["flops"] / arm["steps"]) / (baseline["flops"] / baseline["steps"]) - 1
    seconds = arm["time_ratio"] * baseline["steps"] / arm["steps"]
    effects = []
    for subnet in arm["subnets"]:
        seeds = subnet.get("over_seeds")
        if seeds and seeds["mean"] is not None:
            effects.append(f"{subnet['subnet']} {seeds['mean']:+.4f} ({seeds['low']:+.4f} to {seeds['high']:+.4f}): {subnet['verdict']}")
        else:
            effects.append(f"{subnet['subnet']}: diverged with {subnet['diverged']} seeds")
    return [f"{percent(arm['planned_bytes'], baseline['planned_bytes'])}, {100 * per_step:+.0f} %", f"{seconds:.2f}", "<br>".join(effects),
            f"[{name}](../experiments/results/survey/{name}.md)"]


def main():
    results = measured()
    methods = json.load(sys.stdin)
    print("# Methods: what to write, and what it did here\n")
    print("Made by `./dev experiment reference` from `elastiform methods` and the results under `experiments/results/survey`, whose pages name machine,")
    print("commit, and protocol. *Bytes, FLOPs*: of the trainer's plan, which its use equals (tests assert it), and of a step's expected FLOPs, beside the")
    print("experiment's baseline. *Time*: of a step, median of pairs; pages say which were taken beside other work, as `deep` was. *Effect*: bits/byte against the baseline, mean over seeds, with its 95 % interval and")
    print("the verdict. Empty: a baseline, or not measured. docs/survey.md says what there is beside these.\n")
    print("| recipe line | is | bytes, FLOPs | time | effect | experiment | source |\n|---|---|---|---|---|---|---|")
    keys = [f"{method['key']}={method['value']}" for method in methods]
    for method, key in zip(methods, keys):
        for result in results.get(key, [None]):
            line = f"`{method['key']} = \"{method['value']}\"`"
            if result and result[3]:
                line += ", " + ", ".join(f"`{one}`" for one in result[3])
            row = cells(result) if result else NOT_MEASURED
            print(f"| {line} | {method['help']} | {' | '.join(row)} | {method['source']} |")
    for key, found in results.items():
        if key in keys:
            continue
        for result in found:
            print(f"| {', '.join(f'`{one}`' for one in [key, *result[3]])} | | {' | '.join(cells(result))} | |")


main()
