"""Augmentation of tokens [256, 128] against a plain Python loop doing the same, and nlpaug.

    python -m gpuaug.benchmarks.text [--threads 2] [--rounds 15] [--nlpaug PYTHON] [--out benchmarks/results/text.json]

Per case the median time of a call, in rounds of all providers in turn: the pipeline; a loop in Python over lists with
`random.Random`, from tensors to tensors, which for the same promise seeds each row by (seed, epoch, id); and the same
loop with one generator for all rows. nlpaug is asked in an interpreter that has it, on the same number of
threads, for what it has too: it works on strings, of as many words as the rows have tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from gpuaug import text

from .run import commit, cpu_name, versions

B, T, V, RATE = 256, 128, 30000, 0.1
CLS, SEP, PAD, FIRST = 101, 102, 0, 1000
EDA = ("replacement", "insertion", "swap", "deletion")
CASES = {**{name: (name,) for name in EDA}, "all four": EDA}
NLPAUG = """
import json, sys, time
import nlpaug.augmenter.word as naw
b, t, rate, threads, rounds = json.loads(sys.argv[1])
texts = [" ".join(f"w{(i * 7919 + j * 104729) % 29000}" for j in range(t)) for i in range(b)]
found = {}
for name, action in (("swap", "swap"), ("deletion", "delete")):
    augment = naw.RandomWordAug(action=action, aug_p=rate, aug_min=1, aug_max=None)
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter(), time.process_time()
        out = augment.augment(texts, num_thread=threads)
        seconds.append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
        assert len(out) == b
    found[name] = [sorted(kind)[rounds // 2] for kind in zip(*seconds)]
print(json.dumps(found))
"""


def batch() -> tuple[torch.Tensor, torch.Tensor, dict[int, list[int]]]:
    """Full rows of random tokens between two special ones, their mask, and a table of synonyms for all."""
    numbers = np.random.default_rng(0)
    rows = torch.from_numpy(numbers.integers(FIRST, V, (B, T)))
    rows[:, 0], rows[:, -1] = CLS, SEP
    table = {
        token: others.tolist()
        for token, others in zip(range(FIRST, V), numbers.integers(FIRST, V, (V, 3)), strict=False)
    }
    return rows, torch.ones_like(rows), table


def pipeline(names: tuple[str, ...], table: dict[int, list[int]]) -> text.Compose:
    synonyms = text.Synonyms(table)
    ops = {
        "replacement": text.RandomReplacement(RATE, synonyms),
        "insertion": text.RandomInsertion(RATE, synonyms),
        "swap": text.RandomSwap(RATE),
        "deletion": text.RandomDeletion(RATE),
    }
    return text.Compose([ops[name] for name in names], special_tokens=[PAD, CLS, SEP], pad_token_id=PAD, seed=0)


# --- the loop in Python: rows of one segment, without their special tokens --------------------------------------------
def replaced(tokens: list[int], table: dict, rng: random.Random) -> list[int]:
    return [rng.choice(table[t]) if rng.random() < RATE and t in table else t for t in tokens]


def inserted(tokens: list[int], table: dict, rng: random.Random) -> list[int]:
    out = []
    for token in tokens:
        out.append(token)
        if rng.random() < RATE:
            others = table.get(rng.choice(tokens))
            if others:
                out.append(rng.choice(others))
    return out[: T - 2]


def swapped(tokens: list[int], table: dict, rng: random.Random) -> list[int]:
    tokens = list(tokens)
    for _ in range(int(RATE * len(tokens) + rng.random()) if len(tokens) > 1 else 0):
        i, j = rng.sample(range(len(tokens)), 2)
        tokens[i], tokens[j] = tokens[j], tokens[i]
    return tokens


def deleted(tokens: list[int], table: dict, rng: random.Random) -> list[int]:
    return [t for t in tokens if rng.random() >= RATE] or [rng.choice(tokens)]


LOOPS = dict(zip(EDA, (replaced, inserted, swapped, deleted), strict=True))


def looped(rows: torch.Tensor, mask: torch.Tensor, names: tuple[str, ...], table: dict, keyed: bool, epoch: int):
    """The loop, from tensors to tensors."""
    out, out_mask, rng = [], [], random.Random(epoch)
    for number, (row, length) in enumerate(zip(rows.tolist(), mask.sum(1).tolist(), strict=True)):
        if keyed:
            rng = random.Random(hash((0, epoch, number)))
        tokens = row[1 : length - 1]
        for name in names:
            tokens = LOOPS[name](tokens, table, rng)
        n = len(tokens) + 2
        out.append([CLS, *tokens, SEP] + [PAD] * (T - n))
        out_mask.append([1] * n + [0] * (T - n))
    return torch.tensor(out), torch.tensor(out_mask)


# --- measuring --------------------------------------------------------------------------------------------------------
def medians(calls: dict[str, Callable[[int], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Seconds of a call, by the clock and of the calling thread, in rounds of all in turn; what is short is called
    several times in each."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for call in calls.values():
        call(0)
    for i in range(rounds):
        for name, call in calls.items():
            for k in range(5 if name == "gpuaug" else 1):
                begun, used = time.perf_counter(), time.thread_time()
                call(5 * i + k)
                seconds[name].append((time.perf_counter() - begun, time.thread_time() - used))
    return {name: tuple(np.median(values, axis=0).tolist()) for name, values in seconds.items()}


def measured(names: tuple[str, ...], rounds: int, peer: list[float] | None) -> dict[str, float]:
    """Milliseconds a call of each provider, by the clock and of its own processor time, and how many times as long as
    ours by the clock they are. On a machine that others use, the processor's time of a loop is what counts."""
    rows, mask, table = batch()
    augment, ids = pipeline(names, table), torch.arange(B)
    calls = {
        "gpuaug": lambda epoch: augment(rows, mask, ids=ids, epoch=epoch),
        "python": lambda epoch: looped(rows, mask, names, table, True, epoch),
        "python_one_generator": lambda epoch: looped(rows, mask, names, table, False, epoch),
    }
    found = medians(calls, rounds)
    ours, _ = found.pop("gpuaug")
    row = {"gpuaug_ms": round(1e3 * ours, 4)}
    for name, (clock, used) in (found | ({"nlpaug": tuple(peer)} if peer else {})).items():
        row |= {f"{name}_ms": round(1e3 * clock, 2), f"{name}_cpu_ms": round(1e3 * used, 2)}
        row |= {f"{name}_ratio": round(clock / ours, 1), f"{name}_cpu_ratio": round(used / ours, 1)}
    return row


def by_nlpaug(python: str, threads: int, rounds: int) -> dict[str, list[float]]:
    """Seconds a call of nlpaug by the clock and of its process, by case."""
    given = json.dumps([B, T - 2, RATE, threads, rounds])
    done = subprocess.run([python, "-c", NLPAUG, given], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{python} cannot run nlpaug:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--nlpaug", metavar="PYTHON", help="an interpreter that has nlpaug")
    parser.add_argument("--out", type=Path, help="a JSON file")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    result: dict = {"cpu": cpu_name(), "cores": os.cpu_count(), "threads": given.threads, "versions": versions()}
    result |= {"commit": commit(), "shape": [B, T], "rate": RATE, "load_before": os.getloadavg(), "cases": {}}
    peer = by_nlpaug(given.nlpaug, given.threads, max(given.rounds // 3, 3)) if given.nlpaug else {}
    for case, names in CASES.items():
        result["cases"][case] = row = measured(names, given.rounds, peer.get(case))
        print(f"{case}: " + ", ".join(f"{name} {value}" for name, value in row.items()))
    if given.out is not None:
        given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
