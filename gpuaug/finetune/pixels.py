"""What a segmentation is worth: :class:`SegmentEvaluation`, of one confusion matrix of pixels for each image."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .metrics import RESAMPLES, SEED, Interval, around, percent
from .semantic import FOREGROUND, IGNORED

LISTED = 5  # classes
THICKNESS = 0.02  # of a boundary, of the image's diagonal, as Cheng et al. have it


def confusion(answers: Tensor, truth: Tensor, classes: int) -> Tensor:
    """int64 [K, K], rows are true classes, columns answers, of masks [H, W]; pixels that are 255 in ``truth`` do not
    count."""
    counted = truth != IGNORED
    places = truth[counted].long() * classes + answers[counted].long()
    return torch.bincount(places, minlength=classes * classes).view(classes, classes)


def boundaries(answers: Tensor, truth: Tensor, classes: int) -> Tensor:
    """int64 [2, K] of masks [H, W]: how many pixels of each class lie in the boundary of both, and of one of them at
    least (Cheng et al., CVPR 2021, "Boundary IoU").

    The boundary of a class are its pixels that are no further than THICKNESS of the diagonal, along rows and columns,
    from one of another class, or from the outside of the image. Pixels that are 255 in ``truth`` do not count, and make
    no boundary.
    """
    counted, found = truth != IGNORED, torch.zeros(2, classes, dtype=torch.int64, device=truth.device)
    reach = max(1, round(THICKNESS * float(np.hypot(*truth.shape))))
    for k in torch.cat([answers[counted], truth[counted]]).unique().tolist():
        first, second = (_boundary((mask == k) & counted, counted, reach) for mask in (answers, truth))
        found[0, k], found[1, k] = (first & second).sum(), (first | second).sum()
    return found


def _boundary(inside: Tensor, counted: Tensor, reach: int) -> Tensor:
    """Pixels of bool [H, W] with one that counts and is not inside, or the outside of the image, so near."""
    other = F.pad((counted & ~inside)[None].float(), [reach] * 4, value=1.0)
    rows = F.max_pool2d(other, (1, 2 * reach + 1), 1)
    return inside & (F.max_pool2d(rows, (2 * reach + 1, 1), 1)[0] > 0)


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


def shares(counts: np.ndarray) -> np.ndarray:
    """Boundary IoU of each class, [..., K], of :func:`boundaries` [..., 2, K], or of their sums; NaN of what is
    nowhere."""
    counts = np.asarray(counts, np.float64)
    with np.errstate(invalid="ignore"):
        return counts[..., 0, :] / counts[..., 1, :]


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
        boundary_iou: the same mean of the IoU of boundaries alone, see :func:`boundaries`; large objects whose outlines
            are coarse have less of it than of IoU.
        accuracy: of pixels. confusion: int64 [K, K] of pixels, rows are true classes.
        per_class: of each class {"class", "iou", "dice", "boundary_iou", "pixels"}; None of what is nowhere.
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
    boundary_iou: float
    boundary_iou_interval: Interval
    accuracy: float
    confusion: np.ndarray
    per_class: list[dict]
    per_image: list[float | None]

    @classmethod
    def of(
        cls, confusions: np.ndarray, losses: Sequence[float], classes: Sequence[str], edges: np.ndarray
    ) -> SegmentEvaluation:
        """Of confusion matrices int64 [N, K, K], losses [N] and :func:`boundaries` int64 [N, 2, K]. Raises ValueError
        for none, or no pixel that counts."""
        confusions, edges = np.asarray(confusions, np.int64), np.asarray(edges, np.int64)
        if not len(confusions) or not confusions.sum():
            raise ValueError("no image has a pixel of a class; there is nothing to evaluate")
        rng = np.random.default_rng(SEED)
        drawn = rng.multinomial(len(confusions), np.full(len(confusions), 1 / len(confusions)), size=RESAMPLES)
        found: dict[str, Any] = {}
        whole, lines = confusions.sum(0), [{"class": str(name)} for name in classes]
        for name, function, each in (
            ("iou", ious, confusions), ("dice", dices, confusions), ("boundary_iou", shares, edges),
        ):  # fmt: skip
            values = function(each.sum(0))
            found[name] = float(mean_of(values, classes))
            resampled = function(np.tensordot(drawn, each, 1))
            found[f"{name}_interval"] = around(found[name], mean_of(resampled, classes))
            for line, value in zip(lines, values, strict=True):
                line[name] = _number(value)
        for line, row in zip(lines, whole, strict=True):
            line["pixels"] = int(row.sum())
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
            ("boundary IoU", self.boundary_iou, self.boundary_iou_interval),
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
        intervals = ("iou_interval", "dice_interval", "boundary_iou_interval")
        tuples = {name: tuple(facts[name]) for name in ("classes", *intervals)}
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
