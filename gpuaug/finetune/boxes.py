"""What a detection is worth: :class:`DetectEvaluation`, of the boxes that are there and those that were found.

Average precision is COCO's (Lin et al., 2014), by pycocotools: the mean of the precision at 101 recalls, of at most 100
answers an image; mAP is the mean over the IoUs 0.50, 0.55, ... 0.95 and the classes, mAP@50 that of IoU 0.50 alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .metrics import RESAMPLES, SEED, Interval, around, percent

LISTED = 5  # classes
SAME, NEAR = 0.5, 0.1  # IoU from which a box is found, and from which it is found badly placed
RECALLS = np.linspace(0, 1, 101)
FEWEST_RESAMPLES, AT_ONCE = 100, 1 << 22  # numbers of resamples that are held at a time
KINDS = ("right", "confused", "misplaced", "missed")  # what became of an object
RIGHT, CONFUSED, MISPLACED, MISSED = range(4)
FALSE = MISSED  # of an answer: it belongs to no object


@dataclass(frozen=True, eq=False)
class Boxes:
    """Of one image.

    Attributes:
        boxes: float [N, 4], left, top, right, bottom in pixels of the image. labels: int [N], places of classes.
        scores: float [N], of answers, in falling order; None of what is there.
        crowd: bool [N], of what is there: a box around many objects, of which it is not told where each is (COCO's
            iscrowd); answers inside of it are neither right nor wrong.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    crowd: np.ndarray | None = None

    @classmethod
    def of(cls, boxes: Any, labels: Any, scores: Any = None, crowd: Any = None) -> Boxes:
        """Of anything like arrays; boxes without area are left out, answers sorted."""
        boxes, labels = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(labels, np.int64).reshape(-1)
        kept = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(1))
        if scores is not None:
            scores = np.asarray(scores, np.float64).reshape(-1)
            kept = kept[np.argsort(-scores[kept], kind="stable")]
            scores = scores[kept]
        crowd = None if crowd is None or not np.any(crowd) else np.asarray(crowd, bool)[kept]
        return cls(boxes[kept], labels[kept], scores, crowd)

    def __len__(self) -> int:
        return len(self.boxes)

    def above(self, score: float) -> Boxes:
        """The answers with at least this score."""
        return self.some(self.scores >= score)

    def some(self, kept: np.ndarray) -> Boxes:
        """Those of a mask, bool [N]."""
        scores, crowd = (None if one is None else one[kept] for one in (self.scores, self.crowd))
        return Boxes(self.boxes[kept], self.labels[kept], scores, crowd)

    @property
    def alone(self) -> Boxes:
        """Without crowds."""
        return self if self.crowd is None else replace(self.some(~self.crowd), crowd=None)

    def beside(self, truth: Boxes) -> Boxes:
        """The answers that do not lie, by half of their area or more, in a crowd of their class."""
        if truth.crowd is None:
            return self
        crowds = truth.some(truth.crowd)
        share = common(self.boxes, crowds.boxes) / np.maximum(_areas(self.boxes), 1e-9)[:, None]
        return self.some(~((share >= SAME) & (self.labels[:, None] == crowds.labels[None])).any(1))


def check_installed() -> None:
    """Raises ValueError where the extra is not installed."""
    try:
        import pycocotools.cocoeval  # noqa: F401
    except ModuleNotFoundError:
        raise ValueError("the task detect needs an extra: pip install 'gpuaug[detect]'") from None


# --- COCO -------------------------------------------------------------------------------------------------------------
def as_coco(
    every: Sequence[Boxes], classes: Sequence[str], images: Sequence[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """COCO's JSON of boxes, one an image: ids of images, classes and boxes count from 1; answers have a "score".

    ``images``: what is to be said of each, such as file_name, width, height.
    """
    listed, lines = images or [{} for _ in every], []
    for number, one in enumerate(every, start=1):
        sides = one.boxes[:, 2:] - one.boxes[:, :2]
        rows = np.concatenate([one.boxes[:, :2], sides], 1).round(3).tolist()
        for i, (box, label) in enumerate(zip(rows, one.labels.tolist(), strict=True)):
            line = {"id": len(lines) + 1, "image_id": number, "category_id": label + 1, "bbox": box}
            line |= {"area": round(box[2] * box[3], 3), "iscrowd": int(one.crowd is not None and one.crowd[i])}
            lines.append(line if one.scores is None else line | {"score": round(float(one.scores[i]), 6)})
    return {
        "images": [{"id": number, **said} for number, said in enumerate(listed, start=1)],
        "annotations": lines,
        "categories": [{"id": number, "name": str(name)} for number, name in enumerate(classes, start=1)],
    }


def matched(truths: Sequence[Boxes], found: Sequence[Boxes], classes: Sequence[str]) -> Any:
    """pycocotools' COCOeval of all sizes together, evaluated and accumulated."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it tells what it does
        sides = []
        for every in (truths, found):
            side = COCO()
            side.dataset = as_coco(every, classes)
            side.createIndex()
            sides.append(side)
        judge = COCOeval(*sides, "bbox")
        judge.params.areaRng, judge.params.areaRngLbl = judge.params.areaRng[:1], ["all"]
        judge.evaluate()
        judge.accumulate()
    return judge


def precisions(judge: Any) -> np.ndarray:
    """Average precision [T, K] at each IoU, of each class; NaN of a class that is nowhere."""
    table = judge.eval["precision"][:, :, :, 0, -1]
    return np.where(table > -1, table, np.nan).mean(1)


@dataclass(frozen=True)
class _Ranked:
    """The answers of one class, the surest first: hits, and which count at all, bool [T, D], image int [D]; objects int
    [I]."""

    hits: np.ndarray
    counted: np.ndarray
    image: np.ndarray
    objects: np.ndarray


def _ranked(judge: Any, k: int) -> _Ranked:
    n = len(judge.params.imgIds)
    lines = judge.evalImgs[k * n : (k + 1) * n]
    there = [(i, line) for i, line in enumerate(lines) if line is not None]
    objects, steps = np.zeros(n, np.int64), len(judge.params.iouThrs)
    scores = np.concatenate([np.zeros(0), *(line["dtScores"] for _, line in there)])
    none = np.zeros((steps, 0), bool)
    hits = np.concatenate([none, *(line["dtMatches"] > 0 for _, line in there)], 1)
    aside = np.concatenate([none, *(line["dtIgnore"] > 0 for _, line in there)], 1)  # inside of a crowd
    image = np.concatenate([np.zeros(0, int), *(np.full(len(line["dtScores"]), i) for i, line in there)]).astype(int)
    for i, line in there:
        objects[i] = (np.asarray(line["gtIgnore"]) == 0).sum()
    order = np.argsort(-scores, kind="mergesort")  # as pycocotools has it
    return _Ranked(hits[:, order], ~aside[:, order], image[order], objects)


def average_precision(hits: np.ndarray, image: np.ndarray, objects: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[R]: of answers in falling order, hits bool [D], of images int [D] that have so many ``objects`` [I], where the
    image i counts ``weights[r, i]`` times; NaN where no object counts."""
    weighed = weights[:, image].astype(float)
    right, all = (weighed * hits).cumsum(1), weighed.cumsum(1)
    total = weights @ objects
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = right / total[:, None]
    precision = np.divide(right, all, out=np.zeros(right.shape), where=all > 0)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precision = np.concatenate([precision, np.zeros((len(weights), 1))], 1)
    places = np.stack([np.searchsorted(row, RECALLS, side="left") for row in recall])
    return np.where(total > 0, np.take_along_axis(precision, places, 1).mean(1), np.nan)


def of_class(one: _Ranked, t: int, weights: np.ndarray) -> np.ndarray:
    """:func:`average_precision` at one IoU."""
    counted = one.counted[t]
    return average_precision(one.hits[t, counted], one.image[counted], one.objects, weights)


def resampled(judge: Any) -> tuple[np.ndarray, np.ndarray]:
    """(mAP, mAP@50), each [R], of images that are drawn with repetition; the more answers, the fewer times, at least
    100."""
    n = len(judge.params.imgIds)
    ranked = [_ranked(judge, k) for k in range(len(judge.params.catIds))]
    ranked = [one for one in ranked if one.objects.any()]
    answers = max(sum(len(one.image) for one in ranked) * len(judge.params.iouThrs), 1)
    times = int(np.clip(1e9 // answers, FEWEST_RESAMPLES, RESAMPLES))
    rng, rows = np.random.default_rng(SEED), []
    at_once = max(1, AT_ONCE // max([n, *(len(one.image) for one in ranked)]))
    for begin in range(0, times, at_once):
        drawn = rng.multinomial(n, np.full(n, 1 / n), size=min(at_once, times - begin))
        each = [[of_class(one, t, drawn) for t in range(len(one.hits))] for one in ranked]
        rows.append(np.array(each))  # [K, T, R]
    found = np.concatenate(rows, 2)
    has = ~np.isnan(found)
    means = np.where(has, found, 0.0).sum(0) / np.maximum(has.sum(0), 1)  # [T, R]
    return means.mean(0), means[0]


# --- errors -----------------------------------------------------------------------------------------------------------
def ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[N, M] of boxes [N, 4] and [M, 4]."""
    both = common(first, second)
    return both / np.maximum(_areas(first)[:, None] + _areas(second)[None] - both, 1e-9)


def common(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Areas that boxes [N, 4] and [M, 4] have in common, [N, M]."""
    low, high = np.maximum(first[:, None, :2], second[None, :, :2]), np.minimum(first[:, None, 2:], second[None, :, 2:])
    return (high - low).clip(min=0).prod(2)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)


def kinds(truth: Boxes, answers: Boxes) -> tuple[np.ndarray, np.ndarray]:
    """What became of each object, and what each answer is, int in RIGHT, CONFUSED, MISPLACED, MISSED; the last of an
    answer is FALSE.

    The surest answer takes the object of its class with the largest IoU, from 0.5 on; then what is left, the object of
    another class (confused); then, from 0.1 on, the object of its class (misplaced). An object that nothing took was
    missed, an answer that took nothing is false: nothing is there, or it was found already.
    """
    of_object, of_answer = np.full(len(truth), MISSED), np.full(len(answers), FALSE)
    overlap = ious(answers.boxes, truth.boxes)
    same = answers.labels[:, None] == truth.labels[None]
    for kind, pairs, least in ((RIGHT, same, SAME), (CONFUSED, ~same, SAME), (MISPLACED, same, NEAR)):
        for i in np.flatnonzero(of_answer == FALSE):
            free = np.where(pairs[i] & (of_object == MISSED), overlap[i], -1.0)
            if len(free) and free.max() >= least:
                of_object[free.argmax()] = of_answer[i] = kind
    return of_object, of_answer


def best_score(truths: Sequence[Boxes], found: Sequence[Boxes]) -> float:
    """The score from which answers are counted so that F1 of all classes together is greatest, at IoU 0.5."""
    hits = [kinds(truth, answers)[1] == RIGHT for truth, answers in zip(truths, found, strict=True)]
    scores = np.concatenate([np.zeros(0), *(answers.scores for answers in found)])
    if not len(scores):
        return 0.5
    order = np.argsort(-scores, kind="stable")
    right = np.concatenate(hits)[order].cumsum()
    last = np.append(np.diff(scores[order]) != 0, True)
    f1 = 2 * right / (sum(map(len, truths)) + np.arange(1, len(order) + 1))
    return float(scores[order][np.where(last, f1, -1).argmax()])


# --- the evaluation ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class DetectEvaluation:
    """What N images say of a detector. Shares are 0 to 1; intervals (low, high) of 95% are 1.96 standard errors to both
    sides, of a bootstrap over the images with a fixed seed.

    Attributes:
        n: images. objects: boxes that are there. answers: those that count, of at least ``threshold``, the score with
            the greatest F1. classes: names. loss: mean over the images.
        map, map50, map75: mean average precision. precision, recall: of the answers that count, at IoU 0.5.
        per_class: of each class {"class", "ap", "ap50", "objects", "right", "confused", "misplaced", "missed",
            "false"}; average precision is None of what is nowhere. See :func:`kinds`.
        per_image: F1 of each image on its own, in the order of the images; None where nothing is and was found.
    """

    n: int
    objects: int
    answers: int
    threshold: float
    classes: tuple[str, ...]
    loss: float | None
    map: float
    map_interval: Interval
    map50: float
    map50_interval: Interval
    map75: float
    precision: float
    recall: float
    per_class: list[dict]
    per_image: list[float | None]

    confusion = None
    score_name = "mAP"

    @classmethod
    def of(
        cls, truths: Sequence[Boxes], found: Sequence[Boxes], classes: Sequence[str], loss: float | None = None
    ) -> DetectEvaluation:
        """Of what is there and what was found, an image each. Raises ValueError where nothing is there."""
        whole, truths = truths, [one.alone for one in truths]
        if not any(map(len, truths)):
            raise ValueError("no image has a box; there is nothing to evaluate")
        judge = matched(whole, found, classes)
        table = precisions(judge)
        values = {"map": float(np.nanmean(table)), "map50": float(np.nanmean(table[0]))}
        for name, drawn in zip(("map", "map50"), resampled(judge), strict=True):
            values[f"{name}_interval"] = around(values[name], drawn)
        found = [answers.beside(truth) for answers, truth in zip(found, whole, strict=True)]
        threshold = best_score(truths, found)
        counted = [one.above(threshold) for one in found]
        lines, f1 = _counts(truths, counted, classes)
        for k, line in enumerate(lines):
            line |= {"ap": _number(table[:, k].mean()), "ap50": _number(table[0, k])}
        right, objects, answers = (sum(v) for v in ([x["right"] for x in lines], map(len, truths), map(len, counted)))
        return cls(
            len(truths), objects, answers, threshold, tuple(map(str, classes)), loss, map75=float(np.nanmean(table[5])),
            precision=right / max(answers, 1), recall=right / objects, per_class=lines, per_image=f1, **values,
        )  # fmt: skip

    @property
    def score(self) -> float:
        """The one figure by which models are compared."""
        return self.map

    @property
    def score_interval(self) -> Interval:
        """Of :attr:`score`."""
        return self.map_interval

    @property
    def shares(self) -> list[tuple[str, float | None, Interval | None]]:
        """(name, value, interval) of all that are of 0 to 1."""
        return [
            ("mAP", self.map, self.map_interval), ("mAP@50", self.map50, self.map50_interval),
            ("mAP@75", self.map75, None), ("precision at the greatest F1", self.precision, None),
            ("recall at the greatest F1", self.recall, None),
        ]  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, from which :meth:`from_dict` makes the same again."""
        facts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in facts.items()}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> DetectEvaluation:
        """Of :meth:`as_dict`. Raises ValueError where a field is missing or unknown."""
        names = {field.name for field in dataclasses.fields(cls)}
        if odd := sorted(names ^ set(facts)):
            raise ValueError(f"not an evaluation of this version: missing or unknown {', '.join(odd)}; evaluate again")
        tuples = {name: tuple(facts[name]) for name in ("classes", "map_interval", "map50_interval")}
        return cls(**{**facts, **tuples})


def quick(truths: Sequence[Boxes], found: Sequence[Boxes], classes: Sequence[str]) -> tuple[float, float]:
    """(mAP, mAP@50) alone, as each epoch wants them; 0 where nothing is there."""
    if not any(len(one.alone) for one in truths):
        return 0.0, 0.0
    table = precisions(matched(truths, found, classes))
    return float(np.nanmean(table)), float(np.nanmean(table[0]))


def _counts(truths: Sequence[Boxes], counted: Sequence[Boxes], classes: Sequence[str]) -> tuple[list, list]:
    """(a line a class, F1 of each image)."""
    table, false, f1 = np.zeros((len(classes), len(KINDS)), int), np.zeros(len(classes), int), []
    for truth, answers in zip(truths, counted, strict=True):
        of_object, of_answer = kinds(truth, answers)
        np.add.at(table, (truth.labels, of_object), 1)
        np.add.at(false, answers.labels[of_answer == FALSE], 1)
        whole = len(truth) + len(answers)
        f1.append(2 * float((of_object == RIGHT).sum()) / whole if whole else None)
    lines = []
    for name, row, wrong in zip(classes, table.tolist(), false.tolist(), strict=True):
        found = dict(zip(KINDS, row, strict=True))
        lines.append({"class": str(name), "objects": sum(row), **found, "false": wrong})
    return lines, f1


def words(found: DetectEvaluation) -> str:
    """All figures with their intervals, and each class, the weakest first, for the screen."""
    lines = [f"{f'{found.n:,} images':34}│{'':>8} │ interval of 95%", f"{'─' * 34}┼{'─' * 9}┼{'─' * 16}"]
    for name, value, interval in found.shares:
        ends = f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}" if interval else ""
        lines.append(f"{name:34}│{percent(value):>8} │ {ends}".rstrip())
    lines.append(f"{'score of the greatest F1':34}│{found.threshold:>8.2f} │")
    if found.loss is not None:
        lines.append(f"{'loss':34}│{found.loss:>8.3f} │")
    lines += ["", f"{'weakest classes, by AP':24} {'AP':>6} {'AP@50':>6} {'objects':>8} {'missed':>7} {'false':>6}"]
    there = [line for line in found.per_class if line["ap"] is not None]
    for line in sorted(there, key=lambda line: line["ap"])[:LISTED]:
        shown = f"{percent(line['ap']):>6} {percent(line['ap50']):>6} {line['objects']:>8,}"
        lines.append(f"  {line['class'][:22]:22} {shown} {line['missed']:>7,} {line['false']:>6,}")
    return "\n".join(lines)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
