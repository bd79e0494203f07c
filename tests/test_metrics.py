"""Evaluations, judged by closed forms, by cases made by hand, and by scikit-learn."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

for needed in ("accelerate", "scipy", "sklearn", "timm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

from sklearn import metrics as judge  # noqa: E402

from gpuaug.finetune import metrics  # noqa: E402
from gpuaug.finetune.metrics import Evaluation, confusions, mistakes, percent, wilson  # noqa: E402

CLASSES = ("ant", "bee", "cat")


def answers(true: list[int], said: list[int], k: int, margin: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """(logits, labels) of a model that says so, each with the same confidence."""
    return margin * torch.nn.functional.one_hot(torch.tensor(said), k).float(), torch.tensor(true)


def drawn(n: int, k: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(k, (n,), generator=rng)
    return torch.randn(n, k, generator=rng) + 2.0 * torch.nn.functional.one_hot(labels, k), labels


def several(n: int, k: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    labels = (torch.rand(n, k, generator=rng) < 0.3).float()
    return torch.randn(n, k, generator=rng) + 2 * labels - 1, labels


# One label a sample


def test_a_case_made_by_hand():
    found = Evaluation.of(*answers([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 0], 3), CLASSES)
    assert found.confusion.tolist() == [[2, 1, 0], [0, 2, 0], [1, 0, 0]] and found.confusion.dtype == np.int64
    assert (found.n, found.top1, found.top5, found.top5_interval) == (6, 4 / 6, None, None)
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found.f1 == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)
    ant, bee, cat = found.per_class
    assert (ant["class"], ant["n"], ant["recall"], ant["precision"]) == ("ant", 3, 2 / 3, 2 / 3)
    assert (bee["recall"], bee["precision"], bee["f1"]) == (1.0, pytest.approx(2 / 3), 0.8)
    assert (cat["recall"], cat["precision"], cat["f1"]) == (0.0, None, 0.0)  # it was never said
    confidence = math.exp(2) / (math.exp(2) + 2)
    assert found.ece == pytest.approx(confidence - 4 / 6)
    assert found.loss == pytest.approx(-(4 * math.log(confidence) + 2 * math.log((1 - confidence) / 2)) / 6)
    assert (found.score, found.score_interval, found.score_name) == (found.top1, found.top1_interval, "accuracy")


@pytest.mark.parametrize(("n", "k"), [(200, 3), (300, 10), (50, 40)])
def test_scikit_learn_says_the_same(n, k):
    logits, labels = drawn(n, k)
    said, found = logits.argmax(1), Evaluation.of(logits, labels, map(str, range(k)))
    with_samples = labels.unique()
    assert found.top1 == judge.accuracy_score(labels, said)
    assert np.array_equal(found.confusion, judge.confusion_matrix(labels, said, labels=range(k)))
    assert (
        found.top5 is None if k <= 5 else found.top5 == judge.top_k_accuracy_score(labels, logits, k=5, labels=range(k))
    )
    keywords = {"labels": with_samples, "average": "macro", "zero_division": 0}
    assert found.balanced_accuracy == pytest.approx(judge.recall_score(labels, said, **keywords))
    assert found.f1 == pytest.approx(judge.f1_score(labels, said, **keywords))
    assert found.loss == pytest.approx(judge.log_loss(labels, logits.double().softmax(1), labels=range(k)))
    figures = judge.precision_recall_fscore_support(labels, said, labels=range(k), zero_division=np.nan)
    for name, expected in zip(("precision", "recall", "f1", "n"), figures, strict=True):
        values = [math.nan if line[name] is None else line[name] for line in found.per_class]
        assert values == pytest.approx(expected, nan_ok=True)


def test_calibration_of_confidences_in_known_bins():
    confidence = torch.tensor([0.62, 0.64, 0.95, 0.95, 0.95, 0.95])
    logits = torch.stack([(confidence / (1 - confidence)).log(), torch.zeros(6)], 1).double()
    found = Evaluation.of(logits, torch.tensor([0, 1, 0, 0, 0, 1]), "ab")
    full = [(line["low"], line["high"], line["n"]) for line in found.calibration if line["n"]]
    assert full == [(9 / 15, 10 / 15, 2), (14 / 15, 15 / 15, 4)] and len(found.calibration) == 15
    low, high = (line for line in found.calibration if line["n"])
    assert (low["confidence"], low["accuracy"]) == (pytest.approx(0.63), 0.5)
    assert (high["confidence"], high["accuracy"]) == (pytest.approx(0.95), 0.75)
    assert found.ece == pytest.approx((2 * 0.13 + 4 * 0.20) / 6)
    assert {line["accuracy"] for line in found.calibration if not line["n"]} == {None}


def test_a_bin_has_its_upper_edge_and_not_its_lower():
    found = Evaluation.of(torch.zeros(4, 3), torch.tensor([0, 0, 1, 2]), CLASSES)  # confidence 1/3 is an edge
    assert [line["n"] for line in found.calibration].index(4) == 4
    assert Evaluation.of(torch.tensor([[999.0, 0.0]]), torch.tensor([0]), "ab").calibration[-1]["n"] == 1


def test_of_equal_logits_the_first_class_is_the_answer():
    found = Evaluation.of(torch.zeros(7, 7), torch.arange(7), "abcdefg")
    assert (found.top1, found.top5) == (1 / 7, 5 / 7)
    assert found.confusion[:, 0].tolist() == [1] * 7


def test_a_class_without_samples_counts_in_no_mean():
    logits, labels = answers([0, 0, 1, 1], [0, 2, 1, 1], 4)
    found = Evaluation.of(logits, labels, "abcd")
    assert found.balanced_accuracy == (1 / 2 + 1) / 2 and found.f1 == pytest.approx((2 / 3 + 1) / 2)
    c, d = found.per_class[2:]
    assert (c["n"], c["recall"], c["recall_interval"], c["precision"]) == (0, None, None, 0.0)  # said, and never true
    assert (d["n"], d["recall"], d["precision"], d["f1"]) == (0, None, None, None)
    assert all(math.isfinite(v) for v in found.balanced_accuracy_interval + found.f1_interval)


def test_one_class_and_one_sample():
    one = Evaluation.of(torch.tensor([[-3.0], [4.0]]), torch.tensor([0, 0]), ["only"])
    assert (one.top1, one.balanced_accuracy, one.f1, one.loss, one.ece) == (1.0, 1.0, 1.0, 0.0, 0.0)
    assert one.confusion.tolist() == [[2]]
    single = Evaluation.of(torch.tensor([[0.0, 9.0]]), torch.tensor([0]), "ab")
    assert (single.n, single.top1, single.balanced_accuracy, single.f1) == (1, 0.0, 0.0, 0.0)
    assert single.top1_interval == pytest.approx((0.0, 0.79345), abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_logits_of_any_float(dtype):
    logits, labels = drawn(100, 6)
    kept = logits.to(dtype)
    assert Evaluation.of(kept, labels, "abcdef").as_dict() == Evaluation.of(kept.double(), labels, "abcdef").as_dict()


# Intervals


@pytest.mark.parametrize(("right", "n"), [(0, 10), (3, 10), (10, 10), (427, 500)])
def test_wilson_is_the_closed_form(right, n):
    z, p = 1.959963984540054, right / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n))
    assert wilson(right, n) == pytest.approx((low, high), abs=1e-12)


def test_wilson_of_no_samples():
    assert wilson(0, 0) is None


def test_the_bootstrap_has_the_width_of_theory_and_is_the_same_again():
    """Of equally many samples of each class balanced accuracy is nearly the accuracy, whose interval is known."""
    labels = torch.arange(2).repeat(500)
    said = torch.where(torch.arange(1000) % 10 < 8, labels, 1 - labels)
    logits, _ = answers([0], [0], 2)
    logits = 2.0 * torch.nn.functional.one_hot(said, 2).float()
    found, again = (Evaluation.of(logits, labels, "ab") for _ in range(2))
    assert found.balanced_accuracy_interval == again.balanced_accuracy_interval
    low, high = found.balanced_accuracy_interval
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.8 * 0.2 / 1000), rel=0.1)
    assert low < found.balanced_accuracy == 0.8 < high
    assert found.f1_interval == pytest.approx(found.balanced_accuracy_interval, abs=0.002)


def test_an_interval_lies_about_its_figure_where_classes_are_small():
    """Where percentiles of resamples would lie beside it, or nearly so."""
    logits, labels = drawn(400, 100)
    one = Evaluation.of(logits, labels, map(str, range(100)))
    low, high = one.f1_interval
    assert (low + high) / 2 == pytest.approx(one.f1) and 0.02 < high - low < 0.12
    none = Evaluation.of(*answers([0, 1], [0, 1], 2), "ab")
    assert none.f1_interval == none.balanced_accuracy_interval == (1.0, 1.0)


def test_the_bootstrap_in_parts(monkeypatch):
    logits, labels = drawn(60, 8)
    whole = Evaluation.of(logits, labels, "abcdefgh")
    monkeypatch.setattr(metrics, "_AT_ONCE", 500)
    parts = Evaluation.of(logits, labels, "abcdefgh")
    assert parts.f1_interval == whole.f1_interval
    assert parts.balanced_accuracy_interval == whole.balanced_accuracy_interval


def test_average_precision_under_weights_is_scikit_learns():
    rng = np.random.default_rng(0)
    labels, scores = (rng.random(40) < 0.4).astype(int), rng.integers(0, 12, 40) / 4  # many are equal
    weights = rng.integers(0, 3, (5, 40)).astype(float)
    weights[:, 0] = labels[0] = 1
    expected = [judge.average_precision_score(labels, scores, sample_weight=w) for w in weights]
    assert metrics._average_precision(labels, scores, weights) == pytest.approx(expected)


# Several labels a sample


def test_several_labels():
    logits, labels = several(120, 4)
    labels[:, 3] = 0
    found = Evaluation.of(logits, labels, "abcd")
    aps = [judge.average_precision_score(labels[:, c], logits[:, c]) for c in range(3)]
    assert found.map == pytest.approx(np.mean(aps)) and found.map_interval[0] < found.map < found.map_interval[1]
    assert found.f1 == pytest.approx(judge.f1_score(labels[:, :3], logits[:, :3] > 0, average="macro"))
    figures = judge.precision_recall_fscore_support(labels, logits > 0, zero_division=np.nan)
    for name, expected in zip(("precision", "recall", "f1", "n"), figures, strict=True):
        values = [math.nan if line[name] is None else line[name] for line in found.per_class]
        assert values[:3] == pytest.approx(expected[:3])
    assert found.per_class[3]["average_precision"] is None and found.per_class[3]["recall"] is None
    assert found.loss == pytest.approx(judge.log_loss(labels.ravel(), logits.double().sigmoid().ravel()))
    assert (found.top1, found.top5, found.confusion, found.balanced_accuracy) == (None, None, None, None)
    assert (found.score, found.score_interval, found.score_name) == (found.map, found.map_interval, "mAP")
    assert sum(line["n"] for line in found.calibration) == 480


def test_several_labels_made_by_hand():
    logits, labels = torch.tensor([[3.0], [2.0], [1.0], [-1.0]]), torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    found = Evaluation.of(logits, labels, ["cat"])
    assert found.map == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert (found.per_class[0]["precision"], found.per_class[0]["recall"]) == (pytest.approx(2 / 3), 1.0)


# Plain JSON and back


@pytest.mark.parametrize("made", [drawn, several])
def test_json_and_back(made):
    found = Evaluation.of(*made(80, 7), "abcdefg")
    again = Evaluation.from_dict(json.loads(json.dumps(found.as_dict(), allow_nan=False)))
    assert again.as_dict() == found.as_dict() and again.classes == tuple("abcdefg")
    assert again.score_interval == found.score_interval
    assert made is several or np.array_equal(again.confusion, found.confusion)


def test_another_versions_json_is_refused():
    facts = Evaluation.of(*drawn(5, 2), "ab").as_dict()
    del facts["ece"]
    with pytest.raises(ValueError, match="missing or unknown ece, new; evaluate again"):
        Evaluation.from_dict({**facts, "new": 1})


# Refusals


def test_logits_that_are_not_finite_are_one_clear_error():
    logits, labels = drawn(100, 3)
    logits[7, 1], logits[9, 0] = math.nan, math.inf
    with pytest.raises(
        ValueError, match=r"logits have NaN or infinity in 2 of 100 samples, first in sample 7: .*lower"
    ):
        Evaluation.of(logits, labels, CLASSES)


@pytest.mark.parametrize(
    ("logits", "labels", "words"),
    [
        (torch.zeros(4), torch.zeros(4).long(), r"logits must be floating point \[N, K\], got torch.float32 \[4\]"),
        (torch.zeros(4, 3).long(), torch.zeros(4).long(), "logits must be floating point"),
        (torch.zeros(4, 2), torch.zeros(4).long(), "logits are of 2 classes and 3 are named"),
        (torch.zeros(0, 3), torch.zeros(0).long(), "logits are empty, 0 samples of 3 classes"),
        (
            torch.zeros(4, 3),
            torch.zeros(5).long(),
            r"labels must be int64 \[4\] or float \[4, 3\], got torch.int64 \[5\]",
        ),
        (torch.zeros(4, 3), torch.zeros(4), r"labels must be int64 \[4\] or float \[4, 3\], got torch.float32 \[4\]"),
        (torch.zeros(4, 3), torch.tensor([0, 1, 3, 2]), r"labels must be in 0 \.\. 2, got 3"),
        (torch.zeros(4, 3), torch.full((4, 3), 0.5), "labels must be 0 or 1, got 0.5"),
        (torch.zeros(4, 3), torch.zeros(4, 3), "labels are 0 throughout"),
    ],
)
def test_what_does_not_fit_is_refused(logits, labels, words):
    with pytest.raises(ValueError, match=words):
        Evaluation.of(logits, labels, CLASSES)


# Mistakes


def test_the_surest_mistakes_come_first():
    logits = torch.tensor([[9.0, 0.0, 0.0], [0.0, 4.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 6.0], [0.0, 5.0, 0.0]])
    labels = torch.tensor([0, 2, 1, 0, 0])
    found = mistakes(logits, labels, CLASSES)
    assert [line["index"] for line in found] == [3, 4, 1, 2]
    assert (found[0]["true"], found[0]["predicted"]) == ("ant", "cat")
    assert found[0]["confidence"] == pytest.approx(math.exp(6) / (math.exp(6) + 2))
    assert mistakes(logits, labels, CLASSES, most=1) == found[:1]
    assert mistakes(*answers([0, 1], [0, 1], 3), CLASSES) == []


def test_mistakes_among_several_labels():
    logits = torch.tensor([[3.0, -1.0], [-4.0, 2.0], [1.0, -1.0]])
    labels = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    found = mistakes(logits, labels, ["cat", "dog"])
    assert [(line["index"], line["true"], line["predicted"]) for line in found] == [
        (1, "cat", "no cat"),
        (0, "no cat", "cat"),
    ]
    assert found[0]["confidence"] == pytest.approx(1 / (1 + math.exp(-4)))


def test_the_most_frequent_confusions():
    found = confusions(Evaluation.of(*answers([0, 0, 0, 1, 1, 2], [1, 1, 0, 1, 2, 2], 3), CLASSES))
    assert found == [
        {"true": "ant", "predicted": "bee", "n": 2, "share": 2 / 3},
        {"true": "bee", "predicted": "cat", "n": 1, "share": 1 / 2},
    ]
    assert confusions(Evaluation.of(*several(9, 3), CLASSES)) == []


def test_percent():
    assert percent(0.858, (0.8242, 0.886)) == "85.8% (82.4 to 88.6)"
    assert (percent(0.5), percent(None)) == ("50.0%", "–")
