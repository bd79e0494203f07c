"""Corruptions: their strengths, draws that are fixed by sample, and what is measured under them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

for needed in ("accelerate", "matplotlib", "scipy", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

from finetuning import few  # noqa: E402
from PIL import Image  # noqa: E402
from torchvision.transforms.v2 import functional as F  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.data import DataError, Loader, Parts, Source, arrays  # noqa: E402
from gpuaug.finetune import Config, Run, corrupted, finetune, page, page_comparison, recipes, robustness, testing  # noqa: E402
from gpuaug.finetune.feed import Input  # noqa: E402
from gpuaug.finetune.metrics import wilson  # noqa: E402
from gpuaug.finetune.robustness import CORRUPTIONS, STRENGTHS, measure, pipelines  # noqa: E402
from gpuaug.gallery import sample_photos  # noqa: E402

PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    return torch.stack(sample_photos())


def at_each_strength(
    images: torch.Tensor, name: str, size: int = 96, resize: int | None = 112, ids=(3, 4)
) -> torch.Tensor:
    """[6, B, 3, size, size]: clean, and at each strength."""
    made = [p for found, _, p in pipelines(size, resize, *PLAIN, names=[name]) if found in ("clean", name)]
    return torch.stack([p(images, ids=list(ids), epoch=0) for p in made])


def calls(name: str, strength: int, images: torch.Tensor, n: int = 16, size: int = 96) -> list[dict]:
    """What `describe` says of the corruption for `n` samples."""
    (pipeline,) = (p for found, s, p in pipelines(size, None, *PLAIN, names=[name]) if (found, s) == (name, strength))
    some = images[:1].expand(n, -1, -1, -1)
    params = pipeline.sample(some, ids=range(n), epoch=0)
    fixed = ("resize", "center_crop", "to_dtype", "normalize")
    told = [[record for record in params.describe(i) if record["call"] not in fixed] for i in range(n)]
    assert all(len(records) == 1 for records in told)
    return [records[0]["kwargs"] for records in told]


def test_there_are_31_pipelines_clean_first():
    made = list(pipelines(32, None, *PLAIN))
    assert [pair for *pair, _ in made] == [["clean", 0], *([n, s] for n in CORRUPTIONS for s in STRENGTHS)]
    assert len({pipeline.seed for *_, pipeline in made}) == 1


def test_clean_is_what_torchvision_tests_with(photos):
    ((_, _, clean),) = pipelines(96, 112, ga.IMAGENET_MEAN, ga.IMAGENET_STD, names=[])
    expected = ga.presets.imagenet_eval(96, resize=112, seed=0)(photos, ids=[0, 1], epoch=0)
    assert torch.equal(clean(photos, ids=[0, 1], epoch=0), expected)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_strength_is_further_from_the_clean_image(name, photos):
    y = at_each_strength(photos, name)
    apart = (y[1:] - y[0]).abs().mean((1, 2, 3, 4)).tolist()
    assert apart[0] > 0.002 and apart == sorted(apart)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_sample_has_its_draw_by_its_id(name, photos):
    y = at_each_strength(photos, name)
    assert torch.equal(at_each_strength(photos, name), y)
    assert torch.equal(at_each_strength(photos.flip(0), name, ids=(4, 3)), y.flip(1))


@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_units_are_what_is_said(strength, photos):
    angles = [record["angle"] for record in calls("rotation", strength, photos)]
    degrees = CORRUPTIONS["rotation"].value(strength)
    assert {angle % 360 for angle in angles} == {degrees, 360 - degrees}
    factor = CORRUPTIONS["scale"].value(strength)
    zooms = sorted({record["scale"] for record in calls("scale", strength, photos)})
    assert zooms == pytest.approx([1 / factor, factor])
    sigma = CORRUPTIONS["blur"].value(strength) * 96 / 100
    assert calls("blur", strength, photos, 1)[0]["sigma"] == pytest.approx([sigma, sigma])
    assert calls("blur", strength, photos, 1)[0]["kernel_size"][0] >= 6 * sigma
    assert calls("noise", strength, photos, 1)[0]["sigma"] == CORRUPTIONS["noise"].value(strength)
    left = calls("contrast", strength, photos, 1)[0]["contrast_factor"]
    assert left == pytest.approx(CORRUPTIONS["contrast"].value(strength))
    assert calls("jpeg", strength, photos, 1)[0]["quality"] == CORRUPTIONS["jpeg"].value(strength)


def test_a_sample_leans_to_the_same_side_at_every_strength(photos):
    sides = [[record["angle"] % 360 < 180 for record in calls("rotation", s, photos)] for s in STRENGTHS]
    assert sides == [sides[0]] * 5 and len(set(sides[0])) == 2


def test_a_turn_shows_what_lies_outside_of_the_crop(photos):
    white = torch.full((1, 3, 120, 200), 255, dtype=torch.uint8)
    turned = at_each_strength(white, "rotation", size=60, resize=120, ids=(0,))
    assert turned.amin() > 0.999


def test_words_have_units():
    assert [CORRUPTIONS[name].words(3) for name in CORRUPTIONS] == ["30°", "×÷1.5", "1.5%", "0.1", "35%", "quality 20"]


@pytest.mark.parametrize("size", [8, 28])
def test_small_images(size, photos):
    for _, _, pipeline in pipelines(size, None, *PLAIN):
        assert pipeline(photos, ids=[0, 1], epoch=0).shape == (2, 3, size, size)


def test_refusals():
    with pytest.raises(ValueError, match=r"rotation: strength must be a whole number in 1 \.\. 5, got 6"):
        CORRUPTIONS["rotation"](6)
    with pytest.raises(ValueError, match="there is no corruption 'blurr': choose of rotation.*did you mean 'blur'"):
        list(pipelines(32, None, *PLAIN, names=["blurr"]))
    with pytest.raises(ValueError, match="robustness must be at least 0, got -1"):
        Config(robustness=-1)
    with pytest.raises(ValueError, match="gave no batch"):
        measure(lambda x: x, lambda pipeline: [], "ab", 32, None, *PLAIN, names=[])


# Measuring


@pytest.fixture(scope="module")
def light_and_dark():
    """Twenty images: grey of 60 or of 195; a model that reads their mean is right, until they are mixed with grey."""
    labels = torch.arange(20) % 2
    images = (60 + 135 * labels).view(-1, 1, 1, 1).expand(-1, 3, 16, 16).to(torch.uint8)
    return arrays(images.contiguous(), labels.tolist(), classes=("dark", "light"))


def reads_the_mean(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.full((len(x),), 0.5), x.mean((1, 2, 3))], 1)


def test_what_is_measured(light_and_dark):
    seen = []

    def loader_of(pipeline):
        seen.append(pipeline)
        return Loader(light_and_dark, 8, pipeline, workers=0)

    names = ["scale", "contrast"]
    found = measure(reads_the_mean, loader_of, light_and_dark.classes, 16, None, *PLAIN, names=names, progress=list)
    assert len(seen) == 11 and (found["metric"], found["n"]) == ("accuracy", 20)
    assert found["clean"] == {"score": 1.0, "interval": list(wilson(20, 20))}
    assert [(line["name"], line["strength"]) for line in found["corruptions"]] == [
        (n, s) for n in names for s in STRENGTHS
    ]
    last = found["corruptions"][4]  # at half the size three quarters are black: light ones look dark
    assert (last["words"], last["value"], last["unit"]) == ("×÷2", 2, "times larger or smaller")
    drawn = calls("scale", 5, torch.zeros(1, 3, 16, 16, dtype=torch.uint8), n=20, size=16)
    lost = sum(record["scale"] < 1 and i % 2 for i, record in enumerate(drawn))
    assert 0 < lost < 10 and last["score"] == 1 - lost / 20
    assert {line["score"] for line in found["corruptions"][5:]} == {1.0}  # of one colour contrast takes nothing
    assert found["mean"] == pytest.approx(sum(line["score"] for line in found["corruptions"]) / 10)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_several_labels_are_measured_by_map():
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(4, 1)
    batches = [(labels, labels, torch.arange(8))]
    found = measure(lambda x: x, lambda pipeline: batches, "ab", 16, None, *PLAIN, names=["jpeg"])
    assert (found["metric"], found["clean"]["score"], found["mean"]) == ("mAP", 1.0, 1.0)


def test_a_corruption_that_leaves_nothing_to_be_judged_has_no_line(tmp_path):
    """As a detector's, whose objects a zoom may push out of every image. The page keeps strengths in their columns."""
    good = SimpleNamespace(n=3, score=0.5, score_name="mAP", score_interval=(0.4, 0.6))
    every = [("clean", 0, True), *(("scale", strength, strength != 2) for strength in STRENGTHS)]
    found = robustness.collected(every, lambda there: good if there else None)
    assert [line["strength"] for line in found["corruptions"]] == [1, 3, 4, 5] and found["mean"] == 0.5
    run = SimpleNamespace(robustness=found, noun="image", picture=lambda name: tmp_path / f"{name}.png")
    row = page._robustness(run).partition("scale</td>")[2].partition("</tr>")[0]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
    assert [cell.partition(" at ")[2] for cell in cells] == ["×÷1.1", "", "×÷1.5", "×÷1.75", "×÷2"]


def test_measuring_needs_no_gradient(light_and_dark):
    layer = torch.nn.Linear(3 * 16 * 16, 2)
    loader_of = lambda pipeline: Loader(light_and_dark, 20, pipeline, workers=0)  # noqa: E731
    seen = []

    def predict(x):
        seen.append(layer(x.flatten(1)))
        return seen[-1]

    measure(predict, loader_of, light_and_dark.classes, 16, None, *PLAIN, names=[])
    assert not seen[0].requires_grad


def test_every_corruption_has_five_values():
    assert all(len(c.values) == len(STRENGTHS) == len(set(c.values)) for c in robustness.CORRUPTIONS.values())


# As a run has it measured


def parts_of(train: int, test: int) -> Parts:
    def source(n: int) -> Source:
        return Source(tuple(map(str, range(n))), torch.arange(n), torch.arange(n) % 3, tuple("abc"))

    return Parts("some", source(train), None, source(test))


@pytest.mark.parametrize(
    ("asked", "recipe", "epochs", "train", "test", "n"),
    [
        (None, recipes.FULL, 10, 1294, 359, 125),  # 10 x 1294 x 3 / 10 / 31
        (None, recipes.FULL, 1, 50, 359, 40),
        (None, recipes.FULL, 1, 50, 30, 30),
        (None, recipes.FINETUNE, 100, 50_000, 10_000, 1000),
        (None, recipes.PROBE, 100, 50_000, 10_000, 193),  # every image goes through the model once
        (0, recipes.FULL, 10, 1294, 359, 0),
        (7, recipes.PROBE, 10, 1294, 359, 7),
        (500, recipes.FULL, 10, 1294, 359, 359),
    ],
)
def test_how_many_images_are_corrupted(asked, recipe, epochs, train, test, n):
    made, told = corrupted.decided(Config(robustness=asked), replace(recipe, epochs=epochs), parts_of(train, test))
    assert made == n and len(told) == (asked is None)
    if asked is None:
        which = f"all {n}" if n == test else f"{n:,} of the {test:,}"
        assert told[0].startswith(f"robustness: {which} test images under 30 corruptions, ")


def test_the_images_are_spread_over_the_classes_and_the_same_in_any_order():
    rng = np.random.default_rng(0)
    labels = torch.tensor([0] * 100 + [1] * 60 + [2] * 40)
    ids = torch.from_numpy(rng.permutation(10_000)[:200])
    source = Source(tuple(map(str, range(200))), ids, labels, tuple("abc"))
    some = corrupted.spread(source, 20)
    assert torch.bincount(some.labels).tolist() == [10, 6, 4]
    order = rng.permutation(200).tolist()
    other = corrupted.spread(source.subset(order), 20)
    assert set(other.ids.tolist()) == set(some.ids.tolist()) and corrupted.mark(other) == corrupted.mark(some)
    assert corrupted.mark(corrupted.spread(source, 21)) != corrupted.mark(some)
    assert corrupted.spread(source, 200) is source and corrupted.spread(source, 900) is source
    hot = Source(source.items, ids, torch.nn.functional.one_hot(labels).float(), source.classes)
    assert set(corrupted.spread(hot, 20).ids.tolist()) == set(some.ids.tolist())


def test_files_are_read_once_and_damaged_ones_left_out(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for i, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (30 + i, 40, 3), np.uint8)).save(path)
    pixels = [np.array(Image.open(path)) for path in paths]
    paths[2].write_bytes(paths[2].read_bytes()[:60])
    source = Source(tuple(paths), torch.arange(6) + 7, torch.arange(6) % 2, tuple("ab"))
    input = Input(16, 20, (0.5,) * 3, (0.5,) * 3, "bilinear", torch.float32, {})
    whole = corrupted.read_once(source, input, 0)
    assert whole.ids.tolist() == [7, 8, 10, 11, 12] and whole.labels.tolist() == [0, 1, 1, 0, 1]
    for item, i in zip(whole.items, (0, 1, 3, 4, 5), strict=True):
        assert np.array_equal(item, pixels[i])
    small = corrupted.read_once(source, input, 0, whole=False)
    for item, i in zip(small.items, (0, 1, 3, 4, 5), strict=True):
        expected = F.resize(torch.from_numpy(pixels[i]).permute(2, 0, 1), 20, antialias=True)
        assert item.shape[:2] == tuple(expected.shape[1:])
        assert np.abs(item.transpose(2, 0, 1).astype(int) - expected.numpy()).max() <= 1
    for path in paths:
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="robustness: none of 6 images can be read, "):
        corrupted.read_once(source, input, 0)


def test_clean_images_are_scaled_as_the_model_wants_it(photos):
    ((_, _, clean),) = pipelines(96, 112, *PLAIN, names=[], interpolation="bicubic")
    made, apart = clean(photos, ids=[0, 1], epoch=0), {}
    for mode in (F.InterpolationMode.BICUBIC, F.InterpolationMode.BILINEAR):
        expected = F.center_crop(F.resize(photos, 112, mode, antialias=True), 96).float() / 255
        apart[mode.value] = (made - expected).abs().mean().item()
    assert apart["bicubic"] < 0.5 / 255 and 4 * apart["bicubic"] < apart["bilinear"], apart


RUNS = {
    "full": {"epochs": 2},
    "probe": {"recipe": "probe", "epochs": 5},
    "averaged weights, flipped": {"ema": 0.9, "recipe": "finetune", "tta": "flip"},
}


@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)
def test_a_run_measures_its_best_weights(tmp_path, options, capsys):
    quick = {"model": "test_resnet", "epochs": 1, "batch_size": 20, "lr": 0.02, "device": "cpu", "workers": 0}
    run = Run(finetune(Config(**quick | options, out=tmp_path, robustness=30), parts=few()).run)
    measured, stored, test = run.robustness, run.predictions, few().test
    some = corrupted.spread(test, 30)
    places = [stored["ids"].tolist().index(id) for id in some.ids.tolist()]
    right = stored["logits"][places].argmax(1) == stored["labels"][places]
    assert measured["clean"]["score"] == pytest.approx(right.mean()) and (measured["n"], measured["of"]) == (30, 51)
    shown = capsys.readouterr().out
    assert f"{right.mean():.1%}" in shown and f"{measured['mean']:.1%} on corrupted ones (mean of 30)" in shown

    pale = F.normalize(F.adjust_contrast(some.images, 0.2).float() / 255, [0.5] * 3, [0.5] * 3)
    model = ga.load(run.folder, device="cpu").model
    with torch.no_grad():
        logits = model(pale) + (model(pale.flip(-1)) if "tta" in options else 0)
    (told,) = (line for line in measured["corruptions"] if (line["name"], line["strength"]) == ("contrast", 4))
    assert told["score"] == pytest.approx((logits.argmax(1) == some.labels).float().mean().item(), abs=1.01 / 30)
    if "recipe" not in options:
        how = {"precision": "no", "tta": "none", "batch_size": 20, "workers": 0}
        assert testing.robustness_of(ga.load(run.folder, device="cpu"), test, 30, how, iter)[0] == measured
    assert run.picture("robustness").exists() and run.picture("corruptions").exists()
    content = run.path("report.html").read_text()
    assert "What these strengths look like" in content and "on corrupted test images, mean" in content


def test_a_run_decides_and_says_so(tmp_path):
    quick = {"model": "test_resnet", "epochs": 1, "batch_size": 50, "device": "cpu", "workers": 0, "quiet": True}
    run = Run(finetune(Config(**quick, out=tmp_path), parts=few()).run)
    assert run.resolved["robustness"] == run.robustness["n"] == 40
    assert (
        "robustness: 40 of the 51 test images under 30 corruptions, 413% more work; fewer would say nothing, "
        "and 0 leaves it out" in run.resolved["decisions"]
    )
    none = Run(finetune(Config(**quick, robustness=0, out=tmp_path), parts=few()).run)
    assert none.robustness is None and "it was not measured" in none.path("report.html").read_text()
    other = Run(finetune(Config(**quick, robustness=20, out=tmp_path), parts=few()).run)
    again = Run(finetune(Config(**quick, seed=1, out=tmp_path), parts=few()).run)
    said = f"These were not measured on the same images ({run.folder.name} on 40, {other.folder.name} on 20)"
    path = tmp_path / "both.html"
    assert said in page_comparison.write_comparison([run.folder, other.folder, none.folder], path).read_text()
    assert f"Without a robustness.json: {none.folder.name}." in path.read_text()
    assert (
        "not measured on the same" not in page_comparison.write_comparison([run.folder, again.folder], path).read_text()
    )
