"""How a classifier bears what hasty writers do to texts: its test set, corrupted at five strengths.

Words left out, neighbouring words in the wrong order, typing errors: of the text itself, in front of any tokenizer, so
that every model meets the same ones. The draws of a text are those of numpy's Philox with the key (SEED, its id): the
same in every run, and a text has the errors of a strength at each greater one, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from gpuaug.data import Source

from . import corrupted
from .metrics import Evaluation
from .robustness import SEED, STRENGTHS

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SHOWN, SHORTEST = 2, 5  # texts that are kept as examples, and the words that they have at least


def deletion(text: str, rate: float, rng: np.random.Generator) -> str:
    """Each word is left out with this probability; one stays at least."""
    words = text.split()
    drawn = rng.random(len(words))
    kept = [word for word, value in zip(words, drawn, strict=True) if value >= rate]
    return " ".join(kept or [words[int(drawn.argmax())]])


def swap(text: str, rate: float, rng: np.random.Generator) -> str:
    """Each word changes places with the next one with this probability, where it has not moved already."""
    words, i = text.split(), 0
    drawn = rng.random(len(words))
    while i < len(words) - 1:
        if drawn[i] < rate:
            words[i], words[i + 1] = words[i + 1], words[i]
            i += 1
        i += 1
    return " ".join(words)


def typo(text: str, rate: float, rng: np.random.Generator) -> str:
    """Each letter is, with this probability, left out, written twice, written behind the next one, or another one: one
    of the four."""
    drawn, kinds = rng.random(len(text)), rng.integers(0, 4, len(text))
    others, made, i = rng.integers(0, len(LETTERS), len(text)), [], 0
    while i < len(text):
        letter = text[i]
        if drawn[i] >= rate or not letter.isalpha():
            made.append(letter)
        elif kinds[i] == 1:
            made.append(2 * letter)
        elif kinds[i] == 2 and i + 1 < len(text):
            made.append(text[i + 1] + letter)
            i += 1
        elif kinds[i] == 3:
            made.append(LETTERS[others[i]])
        i += 1
    return "".join(made) if "".join(made).strip() else text


CORRUPTIONS: dict[str, tuple[Callable[[str, float, np.random.Generator], str], str, tuple[float, ...]]] = {
    "deletion": (deletion, "of the words are left out", (0.05, 0.1, 0.2, 0.3, 0.5)),
    "swap": (swap, "of the words change places with the next", (0.1, 0.2, 0.3, 0.5, 0.8)),
    "typo": (typo, "of the letters are mistyped", (0.01, 0.02, 0.05, 0.1, 0.15)),
}
PASSES = 1 + len(CORRUPTIONS) * len(STRENGTHS)


def corrupt(name: str, strength: int, texts: Sequence[str], ids: Sequence[int]) -> list[str]:
    """Texts under a corruption of strength 1 to 5. ``ids``: not negative, of the samples, for their draws."""
    function, _, rates = CORRUPTIONS[name]
    draws = (np.random.Generator(np.random.Philox(key=[SEED, id])) for id in ids)
    rate = rates[STRENGTHS.index(strength)]
    return [function(text, rate, rng) for text, rng in zip(texts, draws, strict=True)]


def measure(
    predict: Callable[[list[str]], Tensor],
    source: Source,
    n: int,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, Any]:
    """How good ``predict`` is on ``n`` of the texts and on each corruption of them, as robustness.json keeps it; see
    :func:`gpuaug.finetune.robustness.measure`, beside whose entries stand "images", a mark of which texts these are,
    "of", how many there were, and "shown", a few texts under each corruption.

    ``predict``: texts -> logits [N, K]. ``progress`` wraps the passes.
    """
    some = corrupted.spread(source, n)
    texts, ids = list(some.items), some.ids.tolist()

    def score(of: list[str]) -> tuple[Evaluation, dict[str, Any]]:
        found = Evaluation.of(predict(of), some.labels, some.classes)
        return found, {"score": found.score, "interval": list(found.score_interval)}

    every, lines = [(name, strength) for name in CORRUPTIONS for strength in STRENGTHS], []
    for name, strength in progress([("clean", 0), *every]):
        if name == "clean":
            found, clean = score(texts)
            continue
        _, unit, rates = CORRUPTIONS[name]
        value = rates[STRENGTHS.index(strength)]
        said = {"name": name, "strength": strength, "value": value, "words": f"{value:.0%}", "unit": unit}
        lines.append(said | score(corrupt(name, strength, texts, ids))[1])
    return {
        "metric": found.score_name, "n": len(some), "clean": clean,
        "mean": sum(line["score"] for line in lines) / len(lines), "corruptions": lines,
        "images": corrupted.mark(some), "of": len(source), "shown": _shown(some),
    }  # fmt: skip


def _shown(some: Source) -> list[dict[str, Any]]:
    """A few texts of several words, under each corruption at each strength."""
    places = [i for i, text in enumerate(some.items) if len(text.split()) >= SHORTEST] or range(len(some))
    few = some.subset(list(places)[:: max(1, len(places) // SHOWN)][:SHOWN])
    ids = few.ids.tolist()
    made = {name: [corrupt(name, strength, few.items, ids) for strength in STRENGTHS] for name in CORRUPTIONS}
    return [
        {"text": text} | {name: [one[i] for one in strengths] for name, strengths in made.items()}
        for i, text in enumerate(few.items)
    ]
