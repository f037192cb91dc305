"""pretrained.md from what pretrained.py found."""
from shlex import quote

import numpy as np

RESAMPLES = 10000
SCORED_BLOCK = 1024  # tokens, of what `evaluate` stores
RIVALS = {"b": "(b) one-shot, distilled", "c": "(c) depth, distilled"}  # those that are distilled as ours is


def shared_steps(size):
    """Of the steps behind each of our networks, those that every budget shares."""
    return max(1, size["steps"] // size["shared"])


def passages(size, losses):
    """Means over the blocks that text is dealt in: the blocks of 1,024 tokens that losses are of are neighbours there, so not drawn alone."""
    together = max(1, size["split_block"] // SCORED_BLOCK)
    return np.reshape(losses, (-1, together)).mean(axis=1)


def interval_of(value_at, count):
    """value_at(indices of all), with its 95 % interval over passages drawn again; of fewer than two nothing is known."""
    value = value_at(np.arange(count))
    if count < 2:
        return value, -np.inf, np.inf
    draws = np.random.default_rng(0).integers(0, count, (RESAMPLES, count))
    return value, *np.percentile([value_at(at) for at in draws], [2.5, 97.5])


def recovered(size, losses, first, teacher):
    """(first - losses) / (first - teacher) of mean losses, in percent: passages are drawn again, all three together."""
    l, l0, lt = (passages(size, one) for one in (losses, first, teacher))
    return interval_of(lambda at: 100 * (l0[at].mean() - l[at].mean()) / (l0[at].mean() - lt[at].mean()), len(l))


def difference(size, losses, other):
    """Mean of losses - other, nats a token, over the same draws of passages."""
    each = passages(size, losses) - passages(size, other)
    return interval_of(lambda at: each[at].mean(), len(each))


def interval(triple, form):
    return form.format(triple[0]) + f" ({form.format(triple[1])} to {form.format(triple[2])})"


def minutes(seconds):
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def budget_table(found, budget, tokens):
    rows, teacher = found["budgets"][budget]["rows"], found["teacher"]
    first, ours = rows["(a) one-shot"]["losses"], rows["ours"]["losses"]
    shared = shared_steps(found["size"])
    seen = {"ours, as searched": shared * tokens // found["size"]["steps"], "ours": tokens, **dict.fromkeys(RIVALS.values(), tokens)}
    lines = [f"\n## {budget} % of block_parameters\n", "| network | block_parameters | tokens distilled | loss, nats/token | bits/byte | recovered | ours - this, nats/token |",
             "|---|---|---|---|---|---|---|"]
    for name, row in rows.items():
        lines.append(f"| {name} | {100 * row['block_parameters'] / teacher['block_parameters']:.1f} % | {seen.get(name, 0):,} | {row['loss']:.4f} | "
                     f"{row['bits_per_byte']:.4f} | " + interval(recovered(found["size"], row["losses"], first, teacher["losses"]), "{:.1f} %") + " | "
                     + ("" if name == "ours" else interval(difference(found["size"], ours, row["losses"]), "{:+.4f}")) + " |")
    cut, depth = rows["(a) one-shot"]["subnet"], rows.get("(c) depth, as cut")
    lines.append(f"\nours: `{rows['ours, as searched']['subnet']}`; (a), (b): `{cut}`" + (f"; (c): `{depth['subnet']}`" if depth else ""))
    return lines


def verdict(found):
    """One line a budget: ours beside each rival that had as many tokens."""
    lines = []
    for budget, one in found["budgets"].items():
        said = []
        for name in (name for name in RIVALS.values() if name in one["rows"]):
            ours, rival = one["rows"]["ours"], one["rows"][name]
            triple = difference(found["size"], ours["losses"], rival["losses"])
            word = "better than" if triple[2] < 0 else "worse than" if triple[1] > 0 else "not decided against"
            spent = [100 * row["block_parameters"] / found["teacher"]["block_parameters"] for row in (ours, rival)]
            said.append(f"{word} {name[:3]}, {interval(triple, '{:+.4f}')}, with {spent[0]:.1f} % against {spent[1]:.1f} % of block_parameters")
        if said:
            lines.append(f"- {budget} %: {'; '.join(said)}.")
    return lines


def searches_section(found):
    lines = ["\n## The searches\n", "Losses of the search split, nats/token, of the best that so many evaluations found in the elastic network, before any distillation alone.\n",
             "| budget | evaluations | predictor | evolution | equal blocks |\n|---|---|---|---|---|"]
    for budget, one in found["budgets"].items():
        search, evolution = one["search"], one["evolution"]
        lines.append(f"| {budget} % | {search['evaluations']} | {search['best_of_algorithm']['loss']:.4f} | {evolution['best_of_algorithm']['loss']:.4f} | "
                     f"{search['best_homogeneous']['loss']:.4f} |")
    return lines


def spread(rounds):
    low, middle, high = np.percentile(rounds, [10, 50, 90])
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def faster_by(speed):
    """How many times as fast as the checkpoint: the median over rounds, in each of which both were measured, one right after the other."""
    return float(np.median(np.divide(speed["subnet"], speed["checkpoint"])))


def speed_section(found):
    speed, teacher = found["speed"], found["teacher"]
    final, faster, rows = speed["speeds"], found["size"]["faster"], speed["rows"]
    ratio, candidates = faster_by(final), speed["candidates"]
    enough = "the last of them was" if candidates[-1]["ratio"] >= faster else "none of them was"
    lines = [f"\n## {faster} times the checkpoint's decoding speed in llama.cpp\n",
             f"A line through three measured sizes says that `{speed['budget']}` is that fast and {100 * (found['size']['guard'] - 1):.0f} % more, as rounds scatter. What a search there evaluated was measured, best loss first, at most six until one was fast enough "
             f"(llama.cpp, gguf-q8_0, one token at a time, all threads, {len(final['subnet'])} rounds in turn with the checkpoint); {len(candidates)} tried, {enough}:\n",
             "| candidate | loss, search split | tokens/s | checkpoint | times as fast, median over rounds |\n|---|---|---|---|---|"]
    for one in speed["candidates"]:
        lines.append(f"| `{one['subnet']}` | {one['loss']:.4f} | {spread(one['subnet_rounds'])} | {spread(one['checkpoint_rounds'])} | {one['ratio']:.3f} |")
    lines.append(f"\nAfter its share of distillation: {spread(final['subnet'])} tokens/s, the checkpoint {spread(final['checkpoint'])} (median, 10-90 %), "
                 f"{ratio:.3f} times as fast by the median over rounds: the budget is {'kept' if ratio >= faster else 'missed'}. Loss {rows['ours']['loss']:.4f} nats/token "
                 f"({rows['ours, as searched']['loss']:.4f} as searched, the checkpoint {teacher['loss']:.4f}), "
                 f"{100 * rows['ours']['block_parameters'] / teacher['block_parameters']:.1f} % of block_parameters.")
    return lines


def consumers_section(found):
    lines = ["\n## Loaded by others\n", "| network | logits, llama.cpp against transformers, of the largest | same top token | same greedy tokens |\n|---|---|---|---|"]
    for name, one in found["consumers"].items():
        lines.append(f"| ours, {name} | {one['difference']:.1e} | {100 * one['same_top']:.0f} % of {one['tokens']} | {one['same_greedy']} of {one['greedy']} |")
    return [*lines, "\nGGUF of architecture `deci` in float32, and a folder of `hf-auto`: blocks differ in both."]


def command(found):
    size, asked = found["size"], found["asked"]
    sizes = "--tiny" if asked["tiny"] else f"--steps {size['steps']} --segments {size['segments']}"
    return (f"{sizes} --budgets {','.join(asked['budgets'])} "
            f"--rivals {','.join(asked['rivals']) or quote('')} --page {asked['page']}")


def page(found):
    """Of all that was found, or of what was found so far."""
    size, teacher = found["size"], found["teacher"]
    tokens = size["steps"] * size["sequences"] * size["context"]
    shared = shared_steps(size)
    lines = ["# A pretrained model made smaller\n",
             f"`{teacher['subnet']}` ({teacher['parameters']:,} parameters, {teacher['block_parameters']:,} of them in blocks) imported with KV groups and FFN columns in order of activations, "
             f"elastified, distilled from itself as it was (`objective = \"teacher\"`: soft logits alone), searched, exported. One seed. Made by `./dev experiment pretrained {command(found)}` with its two paths; {found['processor']}, "
             f"commit {found['commit']}, products of {found['precision']}. Text: `{found['text']['name']}`, {found['text']['bytes']:,} bytes, sha256 {found['text']['sha256'][:16]}.\n",
             f"**Recipe.** Context {size['context']}, {size['sequences']} sequences a step, rate {size['rate']} (cosine), AdamW, the same for everybody; no rate was tried. Text is dealt in blocks of "
             f"{size['split_block']} tokens to train, search and report ({size['splits']} %). The elastic network (all KV groups, the FFN columns of each block in steps of {size['widths']}; one subnet a step, a tenth of the steps "
             f"the largest) is distilled for {shared} steps, which serve every budget; what {size['evaluations']} evaluations of `search --algorithm predictor` find for a budget (at most {size['near']} % below it, the equal blocks of that range in its first population) then for {size['steps'] - shared} steps alone: {tokens:,} tokens in all. Rivals: (a) the best network with equal blocks in the same range, one cut of the import, untrained (its FFN in steps of {size['widths']} columns, or the width in steps of 8 that fills a budget); (b) the same distilled on as many tokens; (c) the checkpoint without the blocks that are "
             "missed least (dropped one by one), distilled on as many tokens. All choices are made by losses of "
             f"{size['segments'] * (size['split_block'] - 1):,} tokens of the search split.\n",
             f"**Recovered** is (L0 - L) / (L0 - L_teacher) on the report split ({teacher['tokens']:,} tokens that nobody was distilled or chosen on): L0 is the loss of (a), L_teacher the checkpoint's, "
             f"{teacher['loss']:.4f} nats/token ({teacher['bits_per_byte']:.4f} bits/byte). Intervals are 95 %, over the {len(passages(size, teacher['losses']))} passages of {size['split_block']:,} tokens that text is dealt in, paired; not over seeds.",
             "\nThis recipe was chosen after [another](pretrained_half_shared.md) had lost to (b) on the report split of a text of kernel documentation; "
             "[on that text](pretrained_kernel_docs.md) its numbers are not free of that choice."]
    said = verdict(found)
    if said:
        lines += ["\n**Verdict** on ours, by ours - rival in nats/token:\n", *said]
    for budget in found["budgets"]:
        lines += budget_table(found, budget, tokens)
    if found["budgets"]:
        lines += searches_section(found)
    if "speed" in found:
        lines += speed_section(found)
    if "consumers" in found:
        lines += consumers_section(found)
    missing = [*(f"{name} % of block_parameters" if name.isdigit() else "the decoding speed" for name in found["asked"]["budgets"]
                 if name not in found["budgets"] and not (name == "speed" and "speed" in found)), *([] if "consumers" in found else ["exports"])]
    if missing:
        lines.insert(1, f"**Not run to its end yet**: {', '.join(missing)} to come. The same command goes on where it stood.\n")
    lines += ["\n## Wall times\n", "Of trainings in all sessions, of the rest in the last; whatever else the machine did meanwhile.\n", "| stage | |\n|---|---|"]
    lines += [f"| {name} | {minutes(seconds)} |" for name, seconds in found["seconds"].items() if seconds >= 1]
    return "\n".join(lines) + f"\n| all | {minutes(sum(found['seconds'].values()))} |\n"
