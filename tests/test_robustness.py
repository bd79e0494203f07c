"""Corruptions: their strengths, draws that are fixed by sample, and what is measured under them."""

from __future__ import annotations

import json

import pytest
import torch

for needed in ("accelerate", "scipy", "sklearn", "timm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

import gpuaug as ga  # noqa: E402
from gpuaug.data import Loader, arrays  # noqa: E402
from gpuaug.finetune import robustness  # noqa: E402
from gpuaug.finetune.metrics import wilson  # noqa: E402
from gpuaug.finetune.robustness import CORRUPTIONS, STRENGTHS, measure, pipelines  # noqa: E402
from gpuaug.gallery import sample_photos  # noqa: E402

PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    return torch.stack(sample_photos())


def corrupted(images: torch.Tensor, name: str, size: int = 96, resize: int | None = 112, ids=(3, 4)) -> torch.Tensor:
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
    y = corrupted(photos, name)
    apart = (y[1:] - y[0]).abs().mean((1, 2, 3, 4)).tolist()
    assert apart[0] > 0.002 and apart == sorted(apart)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_sample_has_its_draw_by_its_id(name, photos):
    y = corrupted(photos, name)
    assert torch.equal(corrupted(photos, name), y)
    assert torch.equal(corrupted(photos.flip(0), name, ids=(4, 3)), y.flip(1))


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
    turned = corrupted(white, "rotation", size=60, resize=120, ids=(0,))
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
