"""``augment=auto``: the budget, what judges, who stays; and that nothing of the search is left in the run."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

from PIL import Image  # noqa: E402

from gpuaug import presets  # noqa: E402
from gpuaug.data import Loader, Parts, digits  # noqa: E402
from gpuaug.finetune import Config, Interrupted, auto, feed, finetune, page, resume, runs  # noqa: E402
from gpuaug.finetune.auto import Rung, planned, rungs  # noqa: E402
from gpuaug.finetune.demo import moved  # noqa: E402
from gpuaug.finetune.loop import Trainer  # noqa: E402
from gpuaug.finetune.opening import open_job  # noqa: E402

SIZE = 16
BASE = {"epochs": 3, "batch_size": 40, "lr": 0.02, "optimizer": "adamw", "schedule": "cosine", "recipe": "full"}
BASE |= {"augment": "auto", "device": "cpu", "workers": 0, "quiet": True}
TURNED = (("none",), ("rotate_shift:degrees=45,translate=0.1", "rotate_shift:degrees=0,translate=0.1"))


class Few(nn.Module):
    """A model that learns in a second."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten()
        )
        self.last = nn.Linear(32 * (SIZE // 4) ** 2, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.body(x))


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch) -> None:
    monkeypatch.setattr("gpuaug.finetune.report.after", lambda *arguments: None)


def turned() -> Parts:
    """200 upright digits to learn from; 120 to validate and 120 to test, each rotated by up to 45 degrees."""
    every = digits(32)
    train, val, test = (every.subset(range(*ends)) for ends in ((0, 200), (200, 320), (320, 440)))
    val, test = moved(val, 1), moved(test, 2)

    def halved(part):
        return replace(part, items=F.avg_pool2d(part.images.float(), 2).to(torch.uint8), size=SIZE)

    return Parts("turned", *map(halved, (train, val, test)))


@pytest.fixture(scope="module")
def parts() -> Parts:
    return turned()


def opened(parts: Parts | None, loss=None, **options):
    model = Few() if parts is not None else None
    return open_job(Config(**BASE | options), parts, model, None, loss, None)


class Counts:
    """The cross entropy, which counts the batches of training; and Ctrl-C in the n-th of these."""

    def __init__(self, at: int | None = None):
        self.at, self.calls, self.images = at, 0, 0

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.calls += logits.requires_grad
        self.images += len(logits) * logits.requires_grad
        if logits.requires_grad and self.calls == self.at:
            signal.raise_signal(signal.SIGINT)
        return F.cross_entropy(logits, labels)


# The budget


def test_the_last_rung_gets_half_of_the_budget_and_the_others_share_the_rest():
    assert rungs([4, 4, 4], 720) == [Rung(12, 15), Rung(6, 30), Rung(3, 120)]
    assert rungs([3, 3, 3], 720) == [Rung(9, 20), Rung(6, 30), Rung(3, 120)]
    assert rungs([2, 2, 2], 720) == [Rung(6, 60), Rung(3, 120)] and rungs([1, 1, 1], 720) == [Rung(3, 240)]
    assert rungs([1, 2], 100) == [Rung(3, 16), Rung(2, 25)] and rungs([4], 100) == [Rung(4, 12), Rung(2, 25)]
    assert rungs([4, 4, 4], 2160, folds=3) == rungs([4, 4, 4], 720)
    assert rungs([2, 2], 100, every=4) == [Rung(4, 12), Rung(2, 24)]


@pytest.mark.parametrize("times", [None, 0.5, 1.0, 2.7, 40.0])
@pytest.mark.parametrize("run", [10, 161, 60_000])
@pytest.mark.parametrize(("folds", "every"), [(1, 1), (3, 1), (3, 4)])
def test_no_search_takes_more_than_its_budget(times, run, folds, every):
    groups = [list("abcd"), list("efgh"), list("ijk")]
    try:
        arms, plan = planned(groups, run, times, folds, every)
    except ValueError as error:
        enough = float(str(error).split()[-1])
        assert enough > times and len(planned(groups, run, enough, folds, every)[0][0]) == 1
        return
    cost = sum(rung.arms * rung.batches * folds for rung in plan)
    assert cost <= (times * run if times is not None else max(3 * folds * run, 2 * 6 * folds * 20 * every))
    assert all(rung.batches % every == 0 and rung.batches >= 20 * every for rung in plan)
    assert [arms[k] for k in range(3)] == [group[: len(arms[0])] for group in groups]
    assert plan[0].arms == sum(map(len, arms)) and plan[-1].arms == 3
    assert len(arms[0]) == 4 or run < 1000
    assert times is not None or len(arms[0]) >= 2


def test_what_is_trained_is_what_was_planned(parts):
    loss = Counts()
    job = opened(parts, loss, auto_budget=9.0)
    assert (len(job.train), job.recipe.epochs) == (5, 3)
    found = auto.search(job, TURNED, trainer=Trainer)
    plan = rungs([1, 2], 9 * 15)  # [(3, 22), (2, 34)]
    assert loss.calls == found["batches"] == 3 * plan[0].batches + 2 * plan[1].batches == 134
    assert loss.images == 134 * 40 and loss.images <= 9.0 * 3 * 200
    assert [rung["batches"] for rung in found["rungs"]] == [22, 34]


# The search


def test_digits_that_are_rotated_want_rotation(parts):
    found = auto.search(opened(parts, auto_budget=20.0), TURNED, trainer=Trainer)
    assert found["chosen"] == TURNED[1][0] and found["runner_up"] == "none"
    last, n = found["rungs"][-1]["arms"], 120
    assert last[0]["accuracy"] > last[1]["accuracy"] and found["images"] == n
    p, z = last[0]["accuracy"], 1.959964  # Wilson, 1927
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    assert found["interval"] == pytest.approx((middle - half, middle + half), abs=1e-4)
    assert found["uncertain"] == (last[1]["accuracy"] >= middle - half)
    assert ("uncertain" in auto.chosen_words(found)) == found["uncertain"]


def test_each_group_keeps_its_better_half_ties_go_by_the_loss_and_a_nan_is_last(parts, monkeypatch):
    told = {"a": (0.5, 1.0), "b": (0.9, 3.0), "c": (0.9, 2.0), "d": (float("nan"),) * 2, "e": (0.6, 1.0)}
    seen = []

    def scripted(arm, job, pair, fold, begin, batches, interrupt):
        seen.append((arm.spec, begin, batches))
        torch.save(job.model.state_dict(), arm.path(fold))
        return dict(zip(("accuracy", "loss"), told[arm.spec], strict=True))

    monkeypatch.setattr(auto.Arm, "train", scripted)
    found = auto.search(opened(parts, auto_budget=30.0), (("a", "b", "c"), ("d", "e")), trainer=Trainer)
    order = [[(row["augment"], row["stays"]) for row in rung["arms"]] for rung in found["rungs"]]
    assert order[0] == [("c", True), ("b", True), ("e", True), ("a", False), ("d", False)]
    assert order[1] == [("c", True), ("b", False), ("e", True)] and order[2] == [("c", True), ("e", False)]
    assert found["chosen"] == "c" and found["runner_up"] == "e" and not found["uncertain"]
    plan = rungs([3, 2], 450)  # an arm goes on where it was
    ends = [sum(rung.batches for rung in plan[:k]) for k in range(3)]
    assert [one for one in seen if one[0] == "c"] == [("c", ends[k], plan[k].batches) for k in range(3)]


class Diverges(Counts):
    """The cross entropy; infinite in training from the ``first`` batch to before the ``last``."""

    def __init__(self, first: float = 0, last: float = math.inf):
        super().__init__()
        self.first, self.last = first, last

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = super().__call__(logits, labels)
        return loss * math.inf if logits.requires_grad and self.first < self.calls <= self.last else loss


def test_a_candidate_that_diverges_is_out_and_the_others_go_on(parts, tmp_path):
    plan = rungs([1, 2], 240)
    loss = Diverges(plan[0].batches, 2 * plan[0].batches)  # the second arm's batches
    found = auto.search(opened(parts, loss, auto_budget=16.0), TURNED, trainer=Trainer)
    rows = found["rungs"][0]["arms"]
    assert [(row["augment"], row["stays"]) for row in rows[2:]] == [(TURNED[1][0], False)]
    assert math.isnan(rows[2]["loss"]) and len(found["rungs"]) == 2
    assert {found["chosen"], found["runner_up"]} == {"none", TURNED[1][1]}

    loss = Diverges(plan[0].batches)  # all but the first
    found = auto.search(opened(parts, loss, auto_budget=16.0), TURNED, trainer=Trainer)
    assert found["chosen"] == "none" and len(found["rungs"]) == 1
    kept = runs.Run(tmp_path)
    kept.write_json("auto.json", found)
    for one in (found, kept.json("auto.json")):  # as a run that goes on reads it
        assert auto.chosen_words(one).startswith("augment auto chose none")
        assert "accuracy not finite" in auto.chosen_words(one)

    with pytest.raises(ValueError, match=r"the loss is finite with no candidate: lower lr \(now 0.02\)"):
        auto.search(opened(parts, Diverges(), auto_budget=16.0), TURNED, trainer=Trainer)


def test_arms_see_the_images_of_the_run_in_its_order(parts):
    job = opened(parts)
    wanted = [ids.tolist() for epoch in range(3) for _, _, ids in with_epoch(job.train.loader, epoch)]
    part, seen = auto.Part(job.train, job.input.augmented("none"), 3), []
    for part.length in (1, 2, 6):
        seen += [(ids.tolist(), x) for x, _, ids in part]
    assert [ids for ids, _ in seen] == wanted[3:12]
    place = {id: i for i, id in enumerate(parts.train.ids.tolist())}
    plain = presets.none(mean=job.input.mean, std=job.input.std)
    torch.testing.assert_close(seen[0][1], plain(parts.train.images[[place[id] for id in seen[0][0]]]))


def with_epoch(loader: Loader, epoch: int) -> Loader:
    loader.set_epoch(epoch)
    return loader


def test_a_loader_behind_another_pipeline_keeps_the_images_once(parts):
    one = Loader(parts.train, 50, presets.none(), resident=True, shuffle=True, seed=3)
    other = one.behind(presets.rotate_shift(seed=1))
    assert other.keep().images is one.keep().images
    fresh = Loader(parts.train, 50, presets.rotate_shift(seed=1), resident=True, shuffle=True, seed=3)
    for a, b in zip(other, fresh, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert (one.epoch, other.epoch) == (0, 1)


# What judges


def test_what_judges_hangs_on_how_much_there_is(parts):
    def judged(**fields):
        judge = auto.judge_of(opened(replace(parts, **fields)))
        return judge.metric, judge.images, len(judge.pairs)

    assert judged() == ("accuracy", 120, 1)
    assert judged(val=parts.val.subset(range(60))) == ("-loss", 60, 1)  # it was given: it may be of other images
    assert judged(val=None) == ("accuracy", 200, 3)
    assert judged(val=None, train=parts.train.subset(range(60))) == ("-loss", 60, 3)
    with pytest.raises(ValueError, match="5 training images are too few to judge by"):
        judged(val=None, train=parts.train.subset(range(5)))


def test_a_small_validation_that_was_set_aside_joins_the_folds():
    job = opened(None, model="test_resnet", size=32, val_fraction=0.05)
    assert len(job.parts.val) < auto.ENOUGH
    judge = auto.judge_of(job)
    whole = {*job.parts.train.ids.tolist(), *job.parts.val.ids.tolist()}
    assert judge.images == len(whole)
    folds = [judging.loader.source.ids.tolist() for _, judging in judge.pairs]
    assert sorted(id for fold in folds for id in fold) == sorted(whole)
    for (learned, _), fold in zip(judge.pairs, folds, strict=True):
        assert {*learned.loader.source.ids.tolist()} == whole - {*fold}
    assert not whole & {*job.parts.test.ids.tolist()}


def test_an_image_that_cannot_be_read_is_in_no_fold(tmp_path):
    some = digits(32)
    for i in range(100):
        place = tmp_path / some.classes[int(some.labels[i]) % 2] / f"{i}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(some.images[i].permute(1, 2, 0).numpy()).save(place)
    options = {"data": str(tmp_path), "model": "test_resnet", "size": 32, "val_fraction": 0.2}
    lost = opened(None, **options).parts.train.items[0]
    lost.write_bytes(b"")
    job = opened(None, **options, max_bad=0.1)
    judge = auto.judge_of(job)
    assert judge.images == len(job.parts.train) + len(job.parts.val)
    assert lost not in [one for pair in judge.pairs for part in pair for one in part.loader.source.items]


# The run


def test_nothing_of_the_search_is_left_in_the_run(parts, tmp_path):
    options = BASE | {"auto_budget": 9.0, "out": tmp_path}
    found = finetune(Config(**options), parts=parts, model=Few())
    resolved = runs.Run(found.run).resolved
    chosen = resolved["auto"]["chosen"]
    assert runs.Run(found.run).config.augment == "auto" and chosen in sum(auto.CANDIDATES[feed.PHOTOS], ())
    assert resolved["decisions"][-1].startswith(f"augment auto chose {chosen} (validation: accuracy ")
    plain = finetune(Config(**options | {"augment": chosen, "auto_budget": None}), parts=parts, model=Few())
    assert resolved["augment"] == runs.Run(plain.run).resolved["augment"]
    for a, b in zip(found.history, plain.history, strict=True):
        assert [a[k] for k in ("train_loss", "val_loss", "lr")] == [b[k] for k in ("train_loss", "val_loss", "lr")]
    assert found.metrics == plain.metrics
    again = auto.search(opened(parts, auto_budget=9.0), trainer=Trainer)
    assert again["rungs"] == resolved["auto"]["rungs"]
    text = page.write(found.run).read_text()
    assert "The search for it: accuracy on validation, n=120" in text and "<th>rung 1, 45 batches</th>" in text
    rows = resolved["auto"]["rungs"][0]["arms"]
    assert len(rows) == 3  # those that the budget has room for
    for row in rows:
        assert f'<td class="left">{row["augment"]}</td><td>{row["accuracy"]:.4g}</td>' in text


def test_a_run_that_goes_on_does_not_search_again(parts, tmp_path, monkeypatch):
    config = Config(**BASE, auto_budget=9.0, out=tmp_path)
    whole = finetune(config, parts=parts, model=Few(), loss=Counts())
    searched = runs.Run(whole.run).resolved["auto"]
    with pytest.raises(Interrupted) as stopped:
        finetune(config, parts=parts, model=Few(), loss=Counts(searched["batches"] + 7))
    monkeypatch.setattr(auto, "search", lambda *arguments: pytest.fail("it searches again"))
    result = resume(stopped.value.run, parts=parts, model=Few(), loss=Counts())
    assert runs.Run(result.run).resolved["auto"] == searched
    assert result.metrics == whole.metrics


def test_ctrl_c_in_the_search_leaves_nothing(parts, tmp_path):
    model = Few()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(KeyboardInterrupt, match="stopped in the search for an augmentation") as stopped:
        finetune(Config(**BASE, auto_budget=9.0, out=tmp_path), parts=parts, model=model, loss=Counts(30))
    assert not isinstance(stopped.value, Interrupted) and not list(tmp_path.iterdir())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_first_part_of_an_arm_is_the_classifier_alone_where_the_run_has_such(parts):
    job = opened(parts, recipe="finetune", head_epochs=1, auto_budget=9.0, warmup_epochs=0)
    moved_ = []
    hook = job.model.body[0].weight.register_hook(lambda gradient: moved_.append(1))
    found = auto.search(job, (TURNED[0], TURNED[1][:1]), trainer=Trainer)
    hook.remove()
    batches = found["rungs"][0]["batches"]
    assert len(found["rungs"]) == 1 and len(moved_) == 2 * (batches - round(batches / 3))


def test_what_cannot_be_said_together(parts):
    with pytest.raises(ValueError, match="augment has no effect with recipe=probe"):
        open_job(Config(**BASE | {"recipe": "probe"}), parts, Few(), None, None, None)
    with pytest.raises(ValueError, match="augment has no effect with augment=: leave it out"):
        open_job(Config(**BASE), parts, Few(), presets.none(), None, None)
    with pytest.raises(ValueError, match="auto_budget is of augment=auto, and augment is 'none'"):
        Config(augment="none", auto_budget=2.0)
    with pytest.raises(ValueError, match="auto_budget must be above 0, got 0"):
        Config(augment="auto", auto_budget=0)
    with pytest.raises(ValueError, match="auto_budget=1: 15 batches are too few to compare 3 .* at least 4$"):
        auto.search(opened(parts, auto_budget=1), trainer=Trainer)


@pytest.mark.parametrize(("usual", "groups"), auto.CANDIDATES.items())
def test_every_candidate_is_a_preset(usual, groups):
    specs = [spec for group in groups for spec in group]
    assert usual in {group[0] for group in groups} and groups[0][0] == "none" and 8 <= len({*specs}) == len(specs) <= 16
    for spec in specs:
        presets.get(spec, size=SIZE)
        name, arguments = presets.parse(spec)
        assert usual == feed.PHOTOS or name in ("none", "rotate_shift") or arguments["flip"] == 0


def test_arms_are_mixed_as_the_run_is(parts):
    job = opened(parts, mixup=0.2, auto_budget=9.0)
    loss = job.loss
    job.loss = lambda logits, labels: (labels.ndim == 2 or pytest.fail("labels are not mixed")) and loss(logits, labels)
    assert auto.search(job, TURNED, trainer=Trainer)["chosen"] in (*TURNED[0], *TURNED[1])


CHILD = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from test_auto import TURNED, Trainer, auto, opened, turned
found = auto.search(opened(turned(), batch_size=20, auto_budget=9.0), TURNED, trainer=Trainer)
open(f"{sys.argv[2]}/{os.environ['RANK']}.json", "w").write(json.dumps(found))
"""


@pytest.mark.slow
def test_two_processes_choose_the_same(tmp_path):
    child = tmp_path / "child.py"
    child.write_text(CHILD)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(child)]
    subprocess.run([*launch, str(Path(__file__).parent), str(tmp_path)], check=True, timeout=300)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second and first["batches"] <= 9 * 15
    assert first["chosen"] in sum(TURNED, ())
