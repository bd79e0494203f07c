"""What a segmentation is worth: :class:`SegmentEvaluation`, of one confusion matrix of pixels for each image."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .metrics import RESAMPLES, SEED, Interval, around, percent
from .semantic import FOREGROUND, IGNORED

LISTED = 5  # classes


def confusion(answers: Tensor, truth: Tensor, classes: int) -> Tensor:
    """int64 [K, K], rows are true classes, columns answers, of masks [H, W]; pixels that are 255 in ``truth`` do not
    count."""
    counted = truth != IGNORED
    places = truth[counted].long() * classes + answers[counted].long()
    return torch.bincount(places, minlength=classes * classes).view(classes, classes)


def ious(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, [..., K], of confusion matrices [..., K, K]; NaN of what is nowhere."""
    right, truth, answers = parts_of(matrix)
    with np.errstate(invalid="ignore"):
        return right / (truth + answers - right)


def dices(matrix: np.ndarray) -> np.ndarray:
    """2 |A and B| / (|A| + |B|) of each class, as :func:`ious`."""
    right, truth, answers = parts_of(matrix)
    with np.errstate(invalid="ignore"):
        return 2 * right / (truth + answers)


def parts_of(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    matrix = np.asarray(matrix, np.float64)
    return np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1), matrix.sum(-2)


def mean_of(values: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """The mean over the classes that are there; of background and foreground alone that of foreground."""
    if tuple(classes) == FOREGROUND:
        return values[..., 1]
    has = ~np.isnan(values)
    return np.where(has, values, 0.0).sum(-1) / np.maximum(has.sum(-1), 1)


@dataclass(frozen=True, eq=False)
class SegmentEvaluation:
    """What N images of K classes of pixels say of a model. Shares are 0 to 1; intervals (low, high) of 95% are 1.96
    standard errors to both sides, of a bootstrap over the images with a fixed seed.

    Attributes:
        n: images. pixels: those that count. classes: names. loss: mean over the images.
        iou, dice: means over the classes that are there, of the sum of all images' pixels; of background and foreground
            alone those of foreground.
        accuracy: of pixels. confusion: int64 [K, K] of pixels, rows are true classes.
        per_class: of each class {"class", "iou", "dice", "pixels"}; None of what is nowhere.
        per_image: the iou of each image on its own, in the order of the predictions.
    """

    n: int
    pixels: int
    classes: tuple[str, ...]
    loss: float
    iou: float
    iou_interval: Interval
    dice: float
    dice_interval: Interval
    accuracy: float
    confusion: np.ndarray
    per_class: list[dict]
    per_image: list[float | None]

    @classmethod
    def of(cls, confusions: np.ndarray, losses: Sequence[float], classes: Sequence[str]) -> SegmentEvaluation:
        """Of confusion matrices int64 [N, K, K] and losses [N]. Raises ValueError for none, or no pixel that counts."""
        confusions = np.asarray(confusions, np.int64)
        if not len(confusions) or not confusions.sum():
            raise ValueError("no image has a pixel of a class; there is nothing to evaluate")
        whole, rng = confusions.sum(0), np.random.default_rng(SEED)
        drawn = rng.multinomial(len(confusions), np.full(len(confusions), 1 / len(confusions)), size=RESAMPLES)
        resampled = np.tensordot(drawn, confusions, 1)
        found: dict[str, Any] = {}
        for name, function in (("iou", ious), ("dice", dices)):
            found[name] = float(mean_of(function(whole), classes))
            found[f"{name}_interval"] = around(found[name], mean_of(function(resampled), classes))
        iou, dice = ious(whole), dices(whole)
        lines = [
            {"class": str(name), "iou": _number(iou[k]), "dice": _number(dice[k]), "pixels": int(whole[k].sum())}
            for k, name in enumerate(classes)
        ]
        each = [_number(value) for value in mean_of(ious(confusions), classes)]
        accuracy = float(np.trace(whole) / whole.sum())
        return cls(
            len(confusions), int(whole.sum()), tuple(classes), float(np.mean(losses)), accuracy=accuracy,
            confusion=whole, per_class=lines, per_image=each, **found,
        )  # fmt: skip

    score_name = "IoU"

    @property
    def score(self) -> float:
        """The one figure by which models are compared."""
        return self.iou

    @property
    def score_interval(self) -> Interval:
        """Of :attr:`score`."""
        return self.iou_interval

    @property
    def shares(self) -> list[tuple[str, float | None, Interval | None]]:
        """(name, value, interval) of all that are of 0 to 1."""
        return [
            ("IoU", self.iou, self.iou_interval),
            ("Dice", self.dice, self.dice_interval),
            ("pixel accuracy", self.accuracy, None),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, from which :meth:`from_dict` makes the same again."""
        facts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        facts["confusion"] = self.confusion.tolist()
        return {name: list(value) if isinstance(value, tuple) else value for name, value in facts.items()}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> SegmentEvaluation:
        """Of :meth:`as_dict`. Raises ValueError where a field is missing or unknown."""
        names = {field.name for field in dataclasses.fields(cls)}
        if odd := sorted(names ^ set(facts)):
            raise ValueError(f"not an evaluation of this version: missing or unknown {', '.join(odd)}; evaluate again")
        tuples = {name: tuple(facts[name]) for name in ("classes", "iou_interval", "dice_interval")}
        return cls(**{**facts, **tuples, "confusion": np.array(facts["confusion"], np.int64)})


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def words(found: SegmentEvaluation) -> str:
    """All figures with their intervals, and each class, the weakest first, for the screen."""
    lines = [f"{f'{found.n:,} images':28}│{'':>8} │ interval of 95%", f"{'─' * 28}┼{'─' * 9}┼{'─' * 16}"]
    for name, value, interval in found.shares:
        ends = f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}" if interval else ""
        lines.append(f"{name:28}│{percent(value):>8} │ {ends}".rstrip())
    lines += [f"{'loss':28}│{found.loss:>8.3f} │", "", "weakest classes, by IoU"]
    there = [line for line in found.per_class if line["iou"] is not None]
    for line in sorted(there, key=lambda line: line["iou"])[:LISTED]:
        lines.append(f"  {line['class']:28} {percent(line['iou']):>6} of {line['pixels']:,} pixels")
    return "\n".join(lines)
