"""Texts to learn from, planted; and a run on them in a process of its own, as `finetuning.py` has one of images."""

from __future__ import annotations

import csv
import json
import os
import random
from pathlib import Path

from gpuaug.finetune import Config, finetune, report, tokens

WORDS = {
    "card": ["card", "plastic", "chip", "pin"],
    "money": ["money", "transfer", "euro", "bank"],
    "trip": ["flight", "hotel", "train", "visa"],
}
FILL = ["the", "a", "my", "please", "when", "where", "is", "it", "has", "not", "come", "now", "today", "still", "again"]
HEAVY = ["gpuaug.finetune.loop", "timm.optim", "matplotlib.figure", "tokenizers"]  # imports
seen: dict[str, list[int]] = {}


def planted(n: int, seed: int) -> list[tuple[str, str]]:
    """(text, class): a class is told by one of its words among others."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        name = list(WORDS)[i % len(WORDS)]
        words = [*rng.choices(FILL, k=rng.randint(2, 7)), rng.choice(WORDS[name])]
        rng.shuffle(words)
        rows.append((" ".join(words), name))
    return rows


def write(path: Path, rows: list[tuple[str, str]], head: tuple[str, str] = ("text", "label")) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def folder(root: Path, train: int = 90, test: int = 30) -> Path:
    """A folder with train.csv and test.csv."""
    root.mkdir(parents=True, exist_ok=True)
    write(root / "train.csv", planted(train, 0))
    write(root / "test.csv", planted(test, 1))
    return root


def member(environment: dict[str, str], data: str, out: str, options: dict) -> None:
    """A launched process: it leaves what its model saw, by epoch and id, and what came out, as OUT/rank.json."""
    os.environ.update(environment)
    original = tokens.TokenFeed.__iter__

    def noted(self):
        for x, labels, ids in original(self):
            if self.augment is not None:
                rows = zip(x["input_ids"], x["attention_mask"], strict=True)
                kept = [row[mask.bool()].tolist() for row, mask in rows]
                seen.update({f"{self.epoch} {i}": row for i, row in zip(ids.tolist(), kept, strict=True)})
            yield x, labels, ids

    tokens.TokenFeed.__iter__ = noted
    report.after = lambda job: None
    result = finetune(Config(data=data, out=Path(out), device="cpu", quiet=True, robustness=0, **options))
    found = {"seen": seen, "history": result.history, "metrics": result.metrics}
    Path(out, f"{os.environ.get('RANK', 0)}.json").write_text(json.dumps(found))
