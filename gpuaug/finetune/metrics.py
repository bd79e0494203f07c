"""What a classifier's logits are worth: :class:`Evaluation`, figures with intervals, from logits and labels alone.

Intervals are of 95%: Wilson's (Wilson, 1927) where a figure is a share of independent samples; else 1.96 standard
errors to both sides, of a bootstrap over the samples with a fixed seed (Efron, 1979). Percentiles of the resamples are
biased: of F1 of small classes down, of average precision up. Where every answer is right a bootstrap has no width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

BINS = 15  # of confidences, as in Guo et al., 2017
RESAMPLES = 1000
RESAMPLES_OF_MAP = 200  # which costs more, by the classes
SEED = 0
TOP = 5
LEVEL = 0.95
_AT_ONCE = 1 << 22  # numbers of resamples that are held at a time

Interval = tuple[float, float]


# --- intervals --------------------------------------------------------------------------------------------------------
def wilson(right: int, n: int) -> Interval | None:
    """(low, high) of the share right / n, Wilson's score interval of 95%; None of no samples."""
    from scipy.stats import binomtest

    if n == 0:
        return None
    found = binomtest(int(right), int(n)).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def around(value: float, resampled: np.ndarray, least: float = 0.0) -> Interval:
    """Within ``least`` .. 1."""
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * float(np.nanstd(resampled))
    return max(value - half, least), min(value + half, 1.0)


def _rates(right: np.ndarray, support: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(precision, recall, F1) of counts of any shape; NaN where there is nothing to count."""
    with np.errstate(invalid="ignore"):
        return right / predicted, right / support, 2 * right / (support + predicted)


def _averages(right: np.ndarray, support: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(balanced accuracy, macro F1), each [R], of counts [R, K]: over the classes that have samples."""
    has = support > 0
    _, recall, f1 = _rates(right, support, predicted)
    return tuple(np.where(has, values, 0.0).sum(1) / has.sum(1) for values in (recall, f1))


def _resampled_averages(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Balanced accuracy and macro F1, each [RESAMPLES], of confusion matrices whose cells are drawn."""
    from scipy.sparse import csr_array

    true, answer = confusion.nonzero()
    counts, places, n = confusion[true, answer], np.arange(len(true)), int(confusion.sum())
    rows, columns = (csr_array((np.ones(len(c)), (places, c)), (len(c), len(confusion))) for c in (true, answer))
    hits = csr_array(((true == answer).astype(float), (places, true)), rows.shape)
    rng, found, at_once = np.random.default_rng(SEED), [], max(1, _AT_ONCE // max(rows.shape))
    for begin in range(0, RESAMPLES, at_once):
        drawn = rng.multinomial(n, counts / n, size=min(at_once, RESAMPLES - begin)).astype(float)
        found.append(_averages(drawn @ hits, drawn @ rows, drawn @ columns))
    balanced, f1 = (np.concatenate(values) for values in zip(*found, strict=True))
    return balanced, f1


def _average_precision(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[R], of labels and scores [N] under weights [R, N]; NaN where no weight is on a positive."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # of those with one score: they are found together
    found = weights[:, order].cumsum(1)[:, last]
    right = (weights[:, order] * labels[order]).cumsum(1)[:, last]
    precision = np.divide(right, found, out=np.zeros(right.shape), where=found > 0)
    gained = np.diff(right, axis=1, prepend=0.0)
    with np.errstate(invalid="ignore"):
        return (precision * gained).sum(1) / right[:, -1]


def _resampled_map(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """mAP, [RESAMPLES_OF_MAP]."""
    n, k = labels.shape
    rng, found = np.random.default_rng(SEED), []
    at_once = max(1, _AT_ONCE // n)
    with_samples = [c for c in range(k) if labels[:, c].any()]
    for begin in range(0, RESAMPLES_OF_MAP, at_once):
        weights = rng.multinomial(n, np.full(n, 1 / n), size=min(at_once, RESAMPLES_OF_MAP - begin)).astype(float)
        each = np.stack([_average_precision(labels[:, c], scores[:, c], weights) for c in with_samples])
        has = ~np.isnan(each)
        found.append(np.where(has, each, 0.0).sum(0) / np.where(has.any(0), has.sum(0), np.nan))
    return np.concatenate(found)


# --- the evaluation ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Evaluation:
    """What N samples of K classes say of a classifier. Shares are 0 to 1, intervals (low, high) of 95%.

    A model of one label a sample answers with the class of its largest logit, the first of equal ones. One of several
    labels says of each class on its own whether it is there, where the logit is above 0; its accuracies and its
    confusion matrix are None.

    Attributes:
        n: samples. classes: names, in the order of the logits.
        loss: mean cross entropy, of several labels the mean binary one. In nats.
        top1, top5: how often the label is the first answer, or among the first five; top5 is None of five classes or
            fewer. With Wilson's intervals.
        balanced_accuracy, f1: the means of recall and of F1 over the classes that have samples, so that each counts the
            same. With bootstrap intervals. f1 of several labels has none.
        ece: expected calibration error, over 15 bins of equal width: how far confidence and accuracy are apart, mean.
        confusion: int64 [K, K], rows are true classes, columns answers.
        per_class: of each class {"class", "precision", "recall", "recall_interval", "f1", "n"}; of several labels
            {"average_precision"} too. n counts its samples; what cannot be said, as the recall of no samples, is None.
        calibration: of each bin {"low", "high", "confidence", "accuracy", "n"}: low < confidence <= high, means.
            Of several labels each sample counts once for each class: confidence is the probability that it is there.
        map: of several labels the mean average precision over the classes that have samples, with a bootstrap interval.
    """

    n: int
    classes: tuple[str, ...]
    loss: float
    ece: float
    calibration: list[dict]
    per_class: list[dict]
    f1: float
    f1_interval: Interval | None = None
    top1: float | None = None
    top1_interval: Interval | None = None
    top5: float | None = None
    top5_interval: Interval | None = None
    balanced_accuracy: float | None = None
    balanced_accuracy_interval: Interval | None = None
    confusion: np.ndarray | None = None
    map: float | None = None
    map_interval: Interval | None = None

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor, classes: Sequence[str]) -> Evaluation:
        """Of logits [N, K], of any floating dtype and device, and labels int64 [N], or float [N, K] of 0 and 1.

        Raises ValueError for shapes that do not fit, labels out of range, no samples, and NaN or infinity in logits.
        """
        logits, labels, names = checked(logits, labels, classes)
        return cls(**(_single if labels.ndim == 1 else _several)(logits, labels, names))

    @property
    def score(self) -> float:
        """The one figure by which models are compared: top1, or map of several labels."""
        return self.map if self.top1 is None else self.top1

    @property
    def score_interval(self) -> Interval:
        """Of :attr:`score`."""
        return self.map_interval if self.top1 is None else self.top1_interval

    @property
    def score_name(self) -> str:
        """``accuracy`` or ``mAP``: what :attr:`score` is."""
        return "mAP" if self.top1 is None else "accuracy"

    @property
    def shares(self) -> list[tuple[str, float | None, Interval | None]]:
        """(name, value, interval) of all that are of 0 to 1."""
        return [
            ("top-1 accuracy", self.top1, self.top1_interval),
            ("top-5 accuracy", self.top5, self.top5_interval),
            ("mAP", self.map, self.map_interval),
            ("balanced accuracy", self.balanced_accuracy, self.balanced_accuracy_interval),
            ("macro F1", self.f1, self.f1_interval),
            ("expected calibration error", self.ece, None),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, from which :meth:`from_dict` makes the same again."""
        facts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        facts["confusion"] = None if self.confusion is None else self.confusion.tolist()
        return {name: list(value) if isinstance(value, tuple) else value for name, value in facts.items()}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Evaluation:
        """Of :meth:`as_dict`. Raises ValueError where a field is missing or unknown."""
        names = {field.name for field in dataclasses.fields(cls)}
        if odd := sorted(names ^ set(facts)):
            raise ValueError(f"not an evaluation of this version: missing or unknown {', '.join(odd)}; evaluate again")
        tuples = {name: tuple(v) for name, v in facts.items() if name == "classes" or (v and name.endswith("interval"))}
        confusion = None if facts["confusion"] is None else np.array(facts["confusion"], dtype=np.int64)
        return cls(**{**facts, **tuples, "confusion": confusion})


def checked(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """(logits float64 [N, K], labels int64 [N] or [N, K], names), on the CPU. Raises ValueError as `Evaluation.of`."""
    names = tuple(map(str, classes))
    if logits.ndim != 2 or not logits.is_floating_point():
        raise ValueError(f"logits must be floating point [N, K], got {logits.dtype} {list(logits.shape)}")
    n, k = logits.shape
    if k != len(names):
        raise ValueError(f"logits are of {k} classes and {len(names)} are named; give a name for each column")
    if n == 0 or k == 0:
        raise ValueError(f"logits are empty, {n} samples of {k} classes; there is nothing to evaluate")
    logits, labels = logits.detach().double().cpu(), labels.detach().cpu()
    bad = (~logits.isfinite()).any(1).nonzero().flatten()
    if len(bad):
        raise ValueError(
            f"logits have NaN or infinity in {len(bad)} of {n} samples, first in sample {int(bad[0])}: the model "
            "diverged, or has images that are not finite; train with a lower learning rate, or in float32"
        )
    several = labels.is_floating_point()
    if labels.shape != ((n, k) if several else (n,)):
        raise ValueError(f"labels must be int64 [{n}] or float [{n}, {k}], got {labels.dtype} {list(labels.shape)}")
    wrong = (labels != 0) & (labels != 1) if several else (labels < 0) | (labels >= k)
    if wrong.any():
        allowed = "0 or 1" if several else f"in 0 .. {k - 1}"
        raise ValueError(f"labels must be {allowed}, got {labels[wrong][0].item()}")
    return logits, labels.long(), names


def ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """int64 [N]: how many classes come before each sample's label; of equal logits the first class does."""
    own = logits.gather(1, labels[:, None])
    before = (logits == own) & (torch.arange(logits.shape[1]) < labels[:, None])
    return ((logits > own) | before).sum(1)


def averages(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """{"balanced_accuracy", "f1"} as :class:`Evaluation` has them, without intervals; f1 alone of several labels.

    Of logits [N, K], and labels int64 [N], or [N, K] of 0 and 1, on the CPU.
    """
    (balanced,), (f1,) = _averages(*(of_classes[None] for of_classes in _counts(logits, labels)))
    return ({"balanced_accuracy": float(balanced)} if labels.ndim == 1 else {}) | {"f1": float(f1)}


def _counts(logits: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(right answers, samples, answers) of each class, [K] each."""
    if labels.ndim == 1:
        confusion = _confused(logits, labels)
        return confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    truth, answers = labels.numpy() > 0, logits.numpy() > 0
    return (truth & answers).sum(0), truth.sum(0), answers.sum(0)


def _confused(logits: Tensor, labels: Tensor) -> np.ndarray:
    """int64 [K, K]: rows are true classes, columns answers."""
    k = logits.shape[1]
    return np.bincount((labels * k + logits.argmax(1)).numpy(), minlength=k * k).reshape(k, k)


def _single(logits: Tensor, labels: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    n, k = logits.shape
    rank = ranks(logits, labels)
    confusion = _confused(logits, labels)
    counts, means = _counts(logits, labels), averages(logits, labels)
    resampled = _resampled_averages(confusion)
    right = {top: int((rank < top).sum()) for top in (1, TOP)}
    return {
        "n": n,
        "classes": classes,
        "loss": F.cross_entropy(logits, labels).item(),
        **_calibration(logits.softmax(1).amax(1).numpy(), (rank == 0).numpy()),
        "per_class": _report(classes, *counts),
        "f1": means["f1"],
        "f1_interval": around(means["f1"], resampled[1]),
        "top1": right[1] / n,
        "top1_interval": wilson(right[1], n),
        "top5": right[TOP] / n if k > TOP else None,
        "top5_interval": wilson(right[TOP], n) if k > TOP else None,
        "balanced_accuracy": means["balanced_accuracy"],
        "balanced_accuracy_interval": around(means["balanced_accuracy"], resampled[0]),
        "confusion": confusion,
    }


def _several(logits: Tensor, labels: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    from sklearn.metrics import average_precision_score

    truth, scores, probabilities = labels.numpy(), logits.numpy(), logits.sigmoid().numpy()
    has = truth.any(0)
    if not has.any():
        raise ValueError("labels are 0 throughout; mAP needs a sample of at least one class")
    report = _report(classes, *_counts(logits, labels))
    for c, line in enumerate(report):
        line["average_precision"] = float(average_precision_score(truth[:, c], scores[:, c])) if has[c] else None
    some = [line for line in report if line["n"]]
    mean = float(np.mean([line["average_precision"] for line in some]))
    return {
        "n": len(labels),
        "classes": classes,
        "loss": F.binary_cross_entropy_with_logits(logits, labels.double()).item(),
        **_calibration(probabilities.ravel(), truth.ravel()),
        "per_class": report,
        **averages(logits, labels),
        "map": mean,
        "map_interval": around(mean, _resampled_map(truth, scores)),
    }


def _report(classes: tuple[str, ...], right: np.ndarray, support: np.ndarray, predicted: np.ndarray) -> list[dict]:
    """What `Evaluation.per_class` has, of counts [K]."""
    lines = []
    for c, name in enumerate(classes):
        rates = _rates(right[c], support[c], predicted[c])
        precision, recall, f1 = (None if np.isnan(value) else float(value) for value in rates)
        interval = wilson(right[c], support[c])
        line = {"class": name, "precision": precision, "recall": recall, "recall_interval": interval and list(interval)}
        lines.append(line | {"f1": f1, "n": int(support[c])})
    return lines


def _calibration(confidence: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """{"ece", "calibration"} of confidences and of what came true, both [N]."""
    edges = np.arange(BINS + 1) / BINS
    places = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1)  # low < confidence <= high
    counts, sums, hits = (np.bincount(places, weights=w, minlength=BINS) for w in (None, confidence, right))
    bins = []
    for low, high, n, total, hit in zip(edges, edges[1:], counts, sums, hits, strict=False):
        means = {"confidence": float(total / n) if n else None, "accuracy": float(hit / n) if n else None}
        bins.append({"low": float(low), "high": float(high), **means, "n": int(n)})
    return {"ece": float(np.abs(sums - hits).sum() / len(confidence)), "calibration": bins}


# --- two models -------------------------------------------------------------------------------------------------------
def paired(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """How much more often ``second`` is right than ``first``, on the same samples: bool [N] each, whether an answer is.

    Returns {"difference", "interval": of 95%, by bootstrap over the samples, "only_first", "only_second": samples that
    one alone has right, "p": of McNemar's exact test that neither is better}. Raises ValueError for unequal lengths.
    """
    from scipy.stats import binomtest

    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"paired: answers to the same samples are wanted, got {first.shape} and {second.shape}")
    n, lost, won = len(first), int((first & ~second).sum()), int((second & ~first).sum())
    drawn = np.random.default_rng(SEED).multinomial(n, np.array([lost, won, n - lost - won]) / n, size=RESAMPLES)
    p = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    difference = (won - lost) / n
    interval = around(difference, (drawn[:, 1] - drawn[:, 0]) / n, least=-1.0)
    return {"difference": difference, "interval": interval, "only_first": lost, "only_second": won, "p": p}


# --- mistakes ---------------------------------------------------------------------------------------------------------
def mistakes(logits: Tensor, labels: Tensor, classes: Sequence[str], most: int = 24) -> list[dict]:
    """The wrong answers that the model was surest of, first, at most ``most`` of them, one a sample.

    Each is {"index": place in the logits, "true", "predicted": names, "confidence": 0 to 1 in what was predicted}. Of
    several labels the one of a sample that is furthest off; the names are then as ``cat`` and ``no cat``.
    Raises ValueError as :meth:`Evaluation.of`.
    """
    logits, labels, names = checked(logits, labels, classes)
    if labels.ndim == 1:
        confidence, wrong = logits.softmax(1).max(1).values, ranks(logits, labels) > 0
        answers = logits.argmax(1)
        words = [(names[a], names[b]) for a, b in zip(labels.tolist(), answers.tolist(), strict=True)]
    else:
        sure = torch.where(labels == 1, -logits, logits).sigmoid()  # in the opposite of each label
        wrong = ((logits > 0) != (labels == 1)).any(1)
        confidence, place = sure.max(1)
        there = labels.gather(1, place[:, None])[:, 0].bool().tolist()
        both = [(names[c], f"no {names[c]}") for c in place.tolist()]
        words = [pair if yes else pair[::-1] for pair, yes in zip(both, there, strict=True)]
    order = torch.argsort(torch.where(wrong, confidence, -1.0), descending=True, stable=True)[: int(wrong.sum())]
    return [
        {"index": i, "true": words[i][0], "predicted": words[i][1], "confidence": float(confidence[i])}
        for i in order[:most].tolist()
    ]


def confusions(evaluation: Evaluation, most: int = 10) -> list[dict]:
    """The pairs of classes that are taken for one another most often: {"true", "predicted", "n", "share"} of the true
    class's samples, 0 to 1. Empty of several labels."""
    if evaluation.confusion is None:
        return []
    wrong = evaluation.confusion - np.diag(evaluation.confusion.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    found = []
    for true, answer in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if n := int(wrong[true, answer]):
            names = {"true": evaluation.classes[true], "predicted": evaluation.classes[answer]}
            found.append({**names, "n": n, "share": n / int(evaluation.confusion[true].sum())})
    return found


def weakest(evaluation: Evaluation) -> list[dict]:
    """``per_class``, the class of the least recall first, of several labels of the least average precision; those
    without samples last."""
    figure = "recall" if evaluation.top1 is not None else "average_precision"
    return sorted(evaluation.per_class, key=lambda line: (line[figure] is None, line[figure] or 0.0))


def percent(value: float | None, interval: Interval | None = None) -> str:
    """A share in words: ``85.8% (82.4 to 88.6)``; a dash of None."""
    if value is None:
        return "–"
    return f"{value:.1%}" + (f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else "")
