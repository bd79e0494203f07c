"""What token augmentation is worth in fine-tuning on few texts, over seeds, each arm against the same runs without it.

banking: Banking77 with ten texts of each of its 77 intents; polarity: sentence polarity with 500 sentences of both
classes together, 250 of each. The seed draws these texts, and is the run's; tested on the whole test part. The small
model ``subwords`` with all else at its default, and with ``--encoder FOLDER``, a sentence encoder of Hugging Face's.

    python -m benchmarks.finetuning_text banking|polarity [--seeds 5] [--arm ARM] [--encoder FOLDER] [--out FILE.json]

Differences are of the same seed, so of the same texts to learn from, and of the same test texts. Two intervals of 95%:
Student's over the seeds; and by bootstrap, in which seeds and test texts are drawn anew, both with replacement.

The file, by default results/finetuning_text-TABLE.json, is written after each run, and a run whose options are in it
already is not repeated. Data: $GPUAUG_DATA, by default ../shared/data beside the checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

import gpuaug as ga
from gpuaug.data import Parts
from gpuaug.finetune import Config, Run, finetune
from gpuaug.finetune.report import device_name
from gpuaug.finetune.text import opened, source_of
from gpuaug.text.reading import Texts

from . import RESULTS, ROOT

DATA = Path(os.environ.get("GPUAUG_DATA", ROOT.parent / "shared" / "data")) / "text"
TABLES = {"banking": ("banking77", 10), "polarity": ("sentence_polarity", 250)}  # and texts of each class
WITHOUT = "none"
ARMS = {name: {"augment": name} for name in (WITHOUT, "text_light", "text_medium", "text_strong")}
ENCODER = {
    "encoder, probe": {"recipe": "probe"},
    "encoder, none": {"recipe": "finetune", "augment": WITHOUT},
    "encoder, text_light": {"recipe": "finetune", "augment": "text_light"},
    "encoder, text_strong": {"recipe": "finetune", "augment": "text_strong"},
}
QUIET = {"quiet": True, "keep": 0, "robustness": 0}
RESAMPLES, SEED = 10_000, 0
LEVEL = 0.95


def few(parts: Parts, each: int, seed: int) -> Parts:
    """The parts with ``each`` training texts of a class, drawn by ``seed``, and no validation."""
    train = parts.train
    texts = Texts(tuple(train.items), train.ids, train.labels, train.classes).each(each, seed)
    return Parts(parts.name, source_of(texts), None, parts.test)


def measured(arm: str, options: dict[str, Any], seed: int, parts: Parts, each: int, out: Path) -> dict[str, Any]:
    """Train once and test: one line of the results. "right" has a 1 for each test text that was, in their order."""
    start = time.perf_counter()
    done = Run(finetune(Config(**options, **QUIET, task="text", seed=seed, out=out), parts=few(parts, each, seed)).run)
    stored = done.predictions
    right = stored["logits"].argmax(1) == stored["labels"]
    return {
        "arm": arm, "seed": seed, "options": told(options), "resolved": done.resolved["options"],
        "augment": done.resolved["augment"], "decisions": done.resolved["decisions"], "accuracy": float(right.mean()),
        "right": "".join("01"[int(one)] for one in right), "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip


def told(options: dict[str, Any]) -> dict[str, Any]:
    """Options without where the files lie on this machine."""
    return {k: f"hf:{Path(v).name}" if k == "model" else v for k, v in options.items()}


def compared(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """How much more often ``second`` is right than ``first``: bool [seeds, texts] each, the same seeds and texts.

    Returns the mean difference of accuracy, those of the seeds, and the two intervals; Student's is None of one seed.
    """
    gains = second.astype(float) - first
    each = gains.mean(1)
    rng, drawn = np.random.default_rng(SEED), []
    for _ in range(RESAMPLES):
        seeds, texts = rng.integers(0, len(gains), len(gains)), rng.integers(0, gains.shape[1], gains.shape[1])
        drawn.append(gains[seeds][:, texts].mean())
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    half = stats.t.ppf((1 + LEVEL) / 2, len(each) - 1) * each.std(ddof=1) / len(each) ** 0.5 if len(each) > 1 else None
    return {
        "difference": float(each.mean()), "each": each.tolist(), "bootstrap": [float(low), float(high)],
        "student": None if half is None else [float(each.mean() - half), float(each.mean() + half)],
    }  # fmt: skip


def rows(runs: list[dict]) -> list[dict[str, Any]]:
    """For each arm the mean accuracy, and the difference to the arm without augmentation, of the seeds of both."""
    right = {}
    for run in runs:
        right.setdefault(run["arm"], {})[run["seed"]] = np.array(list(run["right"])) == "1"
    found = []
    for arm, mine in right.items():
        values = [one.mean() for _, one in sorted(mine.items())]
        row = {"arm": arm, "seeds": len(values), "mean": float(np.mean(values)), "range": [min(values), max(values)]}
        base = f"encoder, {WITHOUT}" if arm.startswith("encoder") else WITHOUT
        seeds = sorted(mine.keys() & right.get(base, {}).keys())
        if arm != base and seeds:
            row |= compared(*(np.stack([of[seed] for seed in seeds]) for of in (right[base], mine)))
        found.append(row)
    return found


def write(path: Path, table: str, runs: list[dict]) -> None:
    """The whole file."""
    name, each = TABLES[table]
    result = {
        "table": table, "data": name, "texts_of_a_class": each, "rows": rows(runs), "runs": runs,
        "hardware": device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "versions": {"python": platform.python_version(), "gpuaug": ga.__version__, "torch": torch.__version__},
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def words(row: dict[str, Any]) -> str:
    """A row for the screen."""
    line = (
        f"{row['arm']:22} {row['mean']:6.1%}  seeds {row['range'][0]:.1%} to {row['range'][1]:.1%} (n={row['seeds']})"
    )
    if "difference" not in row:
        return line
    ends = {
        name: row[name] and " to ".join(f"{100 * end:+.1f}" for end in row[name]) for name in ("student", "bootstrap")
    }
    return f"{line}  {100 * row['difference']:+.1f} points, 95% {ends['student']} (t), {ends['bootstrap']} (bootstrap)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arm", help="only this row of the table")
    parser.add_argument("--encoder", type=Path, help="a folder of Hugging Face's with an encoder, for its rows")
    parser.add_argument("--epochs", type=int, help="of the encoder's rows with augmentation and without")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    name, each = TABLES[args.table]
    if not (DATA / name).is_dir():
        raise SystemExit(f"{DATA / name} is missing: set GPUAUG_DATA to the folder that holds text/{name}/")
    path = args.out or RESULTS / f"finetuning_text-{args.table}.json"
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
    parts, _ = opened(Config(data=str(DATA / name), task="text", val_fraction=0.0))
    arms = ARMS
    if args.encoder:
        own = {"model": f"hf:{args.encoder}"}
        epochs = {"epochs": args.epochs} if args.epochs else {}
        arms = {arm: own | options | (epochs if "augment" in options else {}) for arm, options in ENCODER.items()}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(args.seeds):
            for arm, options in arms.items():
                there = (arm, seed, told(options)) in [(run["arm"], run["seed"], run["options"]) for run in runs]
                if not there and args.arm in (None, arm):
                    runs.append(measured(arm, options, seed, parts, each, Path(scratch)))
                    write(path, args.table, runs)
                    print(f"{arm}, seed {seed}: {runs[-1]['accuracy']:.1%}  {runs[-1]['seconds']:.0f} s", flush=True)
    write(path, args.table, runs)
    for row in rows(runs):
        print(words(row))
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
