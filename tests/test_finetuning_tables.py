"""What the benchmarks of fine-tuning make of their runs: draws, tables, repetition."""

from __future__ import annotations

import json
import math

import pytest
import torch

for needed in ("accelerate", "sklearn", "timm", "torchvision"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

from gpuaug.benchmarks import distilling, feature_augment, finetuning, smaller  # noqa: E402
from gpuaug.data import digits  # noqa: E402


def line(arm: str, seed: int, right: int, n: int = 400) -> dict:
    return {"arm": arm, "seed": seed, "options": {}, "tests": {"test": [right, n]}}


def test_a_few_of_each_class_by_seed():
    source = digits(8)
    first, again, other = (finetuning.few(source, 10, seed) for seed in (0, 0, 1))
    assert torch.bincount(first.labels).tolist() == [10] * 10
    assert first.ids.tolist() == again.ids.tolist() != other.ids.tolist()


def test_the_table_has_means_ranges_and_wilsons_interval(tmp_path):
    probe = [line("probe", seed, right) for seed, right in enumerate((240, 260, 280))]
    ours = [line("with augmentation", 0, 320), line("without augmentation", 0, 300)]
    finetuning.write(tmp_path / "a.json", "signs", probe + ours)
    made = json.loads((tmp_path / "a.json").read_text())
    row = made["rows"][0]
    assert (row["arm"], row["seeds"], row["mean"], row["range"]) == ("probe", 3, pytest.approx(0.65), [0.6, 0.7])
    p, n, z = 780 / 1200, 1200, 1.959964
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))  # Wilson, 1927
    assert row["interval"] == pytest.approx([(middle + s * half) / (1 + z * z / n) for s in (-1, 1)], abs=1e-6)
    reached = {name: one["reached"] for name, one in made["targets"].items()}
    assert reached == {
        "points over without augmentation": pytest.approx(5), "points over the probe": pytest.approx(15)
    }  # fmt: skip


def test_nothing_is_said_of_targets_before_all_arms_ran(tmp_path):
    finetuning.write(tmp_path / "a.json", "signs", [line("probe", 0, 240)])
    assert json.loads((tmp_path / "a.json").read_text())["targets"] == {}


def test_a_table_goes_seed_by_seed_and_names_no_place_of_this_machine():
    made = finetuning.trials("signs", 2)
    assert [(one.arm, one.seed) for one in made[:5]] == [(arm, 0) for arm in finetuning.SIGN_ARMS] + [("probe", 1)]
    for table in finetuning.TARGETS:
        for trial in finetuning.trials(table, 1):
            assert str(finetuning.DATA) not in json.dumps(finetuning.told(trial.options))


def test_runs_with_other_options_than_todays_are_made_again(tmp_path):
    today = finetuning.told(finetuning.trials("cifar", 1)[0].options)
    arms = [("fine-tuned", today), ("fine-tuned", today | {"lr": 1.0}), (finetuning.AS_IT_CAME, {})]
    runs = [line(arm, 0, 1) | {"options": options} for arm, options in arms]
    finetuning.write(tmp_path / "a.json", "cifar", runs)
    assert finetuning.kept(tmp_path / "a.json", "cifar") == [runs[0], runs[2]]
    assert finetuning.kept(tmp_path / "b.json", "cifar") == []


def test_feature_augment_pairs_arms_by_seed(tmp_path):
    def line(arm: str, seed: int, accuracy: float) -> dict:
        return {"data": "cifar10", "each": 5, "arm": arm, "seed": seed, "accuracy": accuracy}

    runs = [line("none", seed, 0.5 + 0.1 * seed) for seed in range(3)]
    runs += [line("mix", seed, 0.5 + 0.1 * seed + gain) for seed, gain in enumerate((0.01, 0.02, 0.03))]
    none, mix = feature_augment.rows(runs)
    assert (none["arm"], none["accuracy"], mix["seeds"]) == ("none", pytest.approx(0.6), 3) and "interval" not in none
    assert mix["difference"] == pytest.approx(2)
    half = 4.302653 / math.sqrt(3)  # Student's t of 2 degrees of freedom; the deviation is 1
    assert mix["interval"] == pytest.approx([2 - half, 2 + half], abs=1e-4)
    assert feature_augment.told(mix).endswith("62.0%  +2.0 (-0.5 to +4.5)")
    feature_augment.write(tmp_path / "a.json", [line("mix", 0, 0.5)])
    assert "difference" not in json.loads((tmp_path / "a.json").read_text())["rows"][0]


def test_feature_augment_makes_features_of_an_image_once(monkeypatch, tmp_path):
    source, made = digits(16), []
    parts = feature_augment.Parts("digits", source.subset(range(400)), None, source.subset(range(400, 440)))
    monkeypatch.setitem(feature_augment.SIZES, "digits", 16)
    monkeypatch.setattr(feature_augment, "BASE", feature_augment.BASE | {"model": "test_resnet", "weights": None})
    predict = feature_augment.predict

    def noted(*arguments):
        found = predict(*arguments)
        made.append(len(found.ids))
        return found

    monkeypatch.setattr(feature_augment, "predict", noted)
    with feature_augment.remembered():
        found = [feature_augment.measured("digits", parts, "none", 5, 0, tmp_path) for _ in range(2)]
    assert made == [50, 40]
    monkeypatch.setattr(feature_augment.report, "after", lambda job: None)
    plain = feature_augment.measured("digits", parts, "none", 5, 0, tmp_path)
    assert found[0]["accuracy"] == found[1]["accuracy"] == plain["accuracy"] and made == [50, 40]


# distilling.py


def test_the_share_of_the_gap_that_is_closed():
    right = {distilling.ALONE: 200, distilling.TEACHER: 360, distilling.DISTILLED: 300}
    runs = [line(arm, seed, n + 10 * seed) for seed in (0, 1) for arm, n in right.items()]
    runs[0]["flops"], runs[1]["flops"] = 20, 100
    assert distilling.closed(runs) == pytest.approx(0.625)
    assert [one["reached"] for one in distilling.judged(runs).values()] == pytest.approx([0.2, 0.625])
    assert all(one["reached"] is None for one in distilling.judged(runs[:2]).values())


def test_what_is_smaller_beside_its_parent_and_several_beside_their_mean():
    right = {
        smaller.PARENT: 310, smaller.MEAN: 300, smaller.SOUP: 304, smaller.GREEDY: 306, smaller.ENSEMBLE: 298,
        smaller.PRUNED: 300, smaller.INT8: 309,
    }  # fmt: skip
    runs = [line(arm, 0, n) for arm, n in right.items()]
    found = smaller.judged(runs)
    assert [one["reached"] for one in found.values()] == pytest.approx([-2.5, -0.25, 1.0, 1.5, -0.5])
    assert all(one["reached"] is None for one in smaller.judged(runs[:-1]).values())


def test_draws_with_other_options_than_todays_are_made_again(tmp_path):
    for options in (distilling.today(), [finetuning.told(one) for one in smaller.MEMBER.values()]):
        assert str(distilling.DATA) not in json.dumps(options)
        runs = [line("member", seed, 300) | {"options": options[-1]} for seed in (0, 0, 1)]
        runs[2]["options"] = options[-1] | {"size": 7}
        finetuning.write(tmp_path / "a.json", "a table", runs, {"target": {}})
        assert distilling.kept(tmp_path / "a.json", options) == runs[:2]
