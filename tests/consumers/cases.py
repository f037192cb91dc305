"""The cases that consumer_exports wrote, and what a consumer's logits and tokens are held to."""
import json
import pathlib
import sys

import numpy as np


class Case:
    def __init__(self, folder):
        self.folder = folder
        text = json.loads((folder / "case.json").read_text())
        self.name, self.subnet, self.exports = folder.name, text["subnet"], text["exports"]
        self.tokens, self.greedy, self.margins, self.context = text["tokens"], text["greedy"], text["margins"], text["context"]
        self.prompt = self.tokens[:text["prompt"]]
        self.logits = np.fromfile(folder / "logits.bin", np.float32).reshape(len(self.tokens), -1).astype(np.float64)

    def path(self, export):
        return str(self.folder / self.exports[export])


class ImageCase:
    """A classifier: pixels [images, channels, height, width] and a row of logits for each image."""

    def __init__(self, folder):
        self.folder = folder
        text = json.loads((folder / "case.json").read_text())
        self.name, self.subnet, self.exports = folder.name, text["subnet"], text["exports"]
        self.pixels = np.fromfile(folder / "pixels.bin", np.float32).reshape(text["pixels"])
        self.logits = np.fromfile(folder / "logits.bin", np.float32).reshape(len(self.pixels), -1).astype(np.float64)

    path = Case.path


def read_cases(folder, images):
    found = []
    for path in sorted(pathlib.Path(folder).iterdir()):
        if (path / "case.json").exists() and (path / "pixels.bin").exists() == images:
            found.append(ImageCase(path) if images else Case(path))
    if not found:
        sys.exit(f"no cases in {folder}")
    return found


def cases(folder):
    return read_cases(folder, images=False)


def image_cases(folder):
    return read_cases(folder, images=True)


class Report:
    """One line a kind of export, and the exit status."""

    def __init__(self, consumer):
        self.consumer, self.rows, self.failures = consumer, {}, []

    def expect(self, case, kind, condition, message):
        if not condition:
            self.failures.append(f"{case.name} ({case.subnet}) as {kind}: {message}")

    def logits(self, case, kind, found, tolerance, expected=None):
        """Largest difference in parts of the largest logit."""
        expected = case.logits if expected is None else expected
        found = np.asarray(found, np.float64)
        self.expect(case, kind, found.shape == expected.shape, f"logits of shape {found.shape}, not {expected.shape}")
        if found.shape != expected.shape:
            return
        worst = np.abs(found - expected).max() / np.abs(expected).max()
        self.expect(case, kind, worst <= tolerance, f"logits differ by {worst:.2e} of the largest, {tolerance:.0e} is allowed")
        row = self.rows.setdefault(kind, {"cases": set(), "worst": 0.0, "tolerance": tolerance, "tokens": 0})
        row["cases"].add(case.name)
        row["worst"] = max(row["worst"], float(worst))

    def classes(self, case, kind, found, tolerance):
        """Logits of images, and the classes that they name where none is a tie."""
        self.logits(case, kind, found, tolerance)
        first, second = np.sort(case.logits, 1)[:, [-1, -2]].T
        clear = first - second > 2 * tolerance * np.abs(case.logits).max()
        self.expect(case, kind, (np.asarray(found).argmax(1) == case.logits.argmax(1))[clear].all(), "another top-1 class")
        self.rows[kind]["tokens"] += int(clear.sum())

    def greedy(self, case, kind, found, tolerance, expected=None):
        """Equal tokens, up to the first whose margin two right implementations may lose."""
        for i, (ours, margin) in enumerate(zip(case.greedy if expected is None else expected, case.margins)):
            if margin <= 2 * tolerance:
                break
            self.expect(case, kind, i < len(found) and found[i] == ours, f"greedy token {i} is {found[i:i + 1]}, not {ours}")
            self.rows[kind]["tokens"] += 1
            if i >= len(found) or found[i] != ours:
                break

    def close(self):
        for failure in self.failures:
            print(f"FAILED {self.consumer}: {failure}")
        for kind, row in self.rows.items():
            print(f"{'ok' if not self.failures else '--'}: {self.consumer}, {kind}: {len(row['cases'])} subnets, logits within {row['worst']:.1e} of the largest "
                  f"({row['tolerance']:.0e} allowed), {row['tokens']} greedy tokens equal")
        if not self.rows:
            sys.exit(f"{self.consumer}: nothing was checked")
        sys.exit(1 if self.failures else 0)
