"""ga.convert on torchvision's pipelines, and what holds for all libraries."""

from __future__ import annotations

import re
import warnings

import judges
import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("torchvision", reason="the judge is not installed: torchvision")

from convert_arguments import SPECIAL, TORCHVISION, TORCHVISION_OTHER, varied  # noqa: E402
from convert_torchvision import CALLED, MERGED, MISSING, NO_REPLAY, PIPELINES  # noqa: E402
from converted import quiet  # noqa: E402
from torchvision import transforms as v1  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

import gpuaug as ga  # noqa: E402

NOT_OPS = ("AutoAugmentPolicy", "InterpolationMode", "Compose", "Transform", "RandomApply", "RandomChoice")
NOT_OPS += ("RandomOrder", "Lambda", "LinearTransformation")
OPS = [
    pytest.param(getattr(module, name), id=f"{module.__name__.rpartition('.')[2]}.{name}")
    for module in (v1, v2)
    for name in dir(module)
    if isinstance(getattr(module, name), type) and name not in NOT_OPS
]


@pytest.fixture(scope="module")
def batch(photos: list[Tensor]) -> Tensor:
    return judges.patches(judges.thumbnails(photos), 3, 80, 96, seed=12)


def places(error: pytest.ExceptionInfo) -> list[str]:
    """Of an error, the places and ops."""
    told = str(error.value).partition(" no counterpart: ")[2]
    return re.findall(r"(?:^|; )(\d[\d.]*\.\w+)", told)


def remade(pipeline):
    """What the printed code makes."""
    names = {**vars(ga), "torch": torch, "np": np}
    return eval(repr(pipeline), {"__builtins__": {}}, names)


def programs(augment: ga.Compose) -> list:
    """What images of both kinds go through."""
    images = torch.zeros(1, 3, 48, 48)
    return [augment.recipe(images.to(dtype)).program for dtype in (torch.uint8, torch.float32)]


def same(one, other) -> bool:
    one, other = (getattr(x, "pipeline", x) for x in (one, other))
    return one.transforms == other.transforms and one.seed == other.seed


# --- torchvision ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_of_torchvision_become_ours_and_replay_in_torchvision(name: str, batch: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error" if name not in CALLED else "ignore")
        augment = ga.convert(PIPELINES[name], seed=3, backend="cpu")
    assert isinstance(augment, ga.Compose) and augment.backend == "cpu"
    if name in CALLED:
        assert augment(batch, ids=range(3), epoch=1).dtype == torch.float32
        return
    assert same(remade(augment), augment)
    images = batch[:, :1] if name == "MNIST" else batch
    if name in NO_REPLAY:
        labels = torch.arange(3)
        out, soft = augment(images, labels, ids=range(3), epoch=1)
        assert out.shape == images.shape and soft.shape == (3, 10)
        assert len({tuple(sorted(row[row > 0].tolist())) for row in soft}) == 1  # one lambda for the batch, as there
        return
    if name == "nn.Sequential, scripted":
        assert [type(op).__name__ for op in augment.transforms] == [type(op).__name__ for op in PIPELINES[name]]
    params = augment.sample(images, ids=range(3), epoch=1)
    if name in MERGED:
        for out, image, i in zip(augment.apply(images, params), images, range(3), strict=True):
            assert (out - judges.replay(image, params.describe(i))).abs().mean() < 0.05
    elif name != "AugMix":  # whose mixture is not a list of calls
        judges.check_batch(augment.apply(images, params), images, params)
    assert torch.equal(augment(images, ids=range(3), epoch=1), augment.apply(images, params))


@pytest.mark.parametrize("name", MISSING)
def test_what_torchvision_has_and_we_do_not_is_named_at_once(name: str) -> None:
    source, expected = MISSING[name]
    with pytest.raises(ValueError, match=r"convert: \d+ things? ha(s|ve) no counterpart") as error:
        ga.convert(source)
    assert places(error) == expected


@pytest.mark.parametrize("kind", OPS)
def test_no_argument_of_torchvisions_ops_is_dropped(kind: type) -> None:
    for argument, base, changed in varied(kind, TORCHVISION, TORCHVISION_OTHER, SPECIAL):
        if kind.__name__ == "AutoAugment" and argument == "policy":
            changed["policy"] = v2.AutoAugmentPolicy.SVHN
        plain = quiet(kind(**base))
        try:
            other = quiet(kind(**changed), backend="kornia")
        except ValueError as error:  # named, then
            assert argument in str(error)
            continue
        assert len(other.transforms) == 1
        assert other.transforms != plain.transforms, argument
        if kind.__name__ not in ("MixUp", "CutMix"):
            wanted = ga.Compose([getattr(ga, kind.__name__)(**changed)], seed=0, backend="kornia")
            assert other.transforms == wanted.transforms or programs(other) == programs(wanted), argument
        else:
            assert getattr(other.transforms[0], argument) == changed[argument]


# --- all libraries ----------------------------------------------------------------------------------------------------
def test_ours_is_handed_back() -> None:
    pipeline = ga.Compose([ga.RandomHorizontalFlip()], seed=5)
    keys, targets = ga.DataKeys(pipeline, ["input", "mask"]), ga.Targets(pipeline)
    crops = ga.MultiCrop([(pipeline, 2)])
    for source in (pipeline, keys, targets, crops):
        assert ga.convert(source) is source
    assert ga.convert(ga.RandomInvert(), seed=1).transforms == [ga.RandomInvert()]
    mixed = ga.convert([v2.CenterCrop((9, 9)), ga.RandomInvert(), pipeline], seed=1)
    assert mixed.transforms == [ga.CenterCrop((9, 9)), ga.RandomInvert(), ga.RandomHorizontalFlip()]


def test_what_is_no_pipeline_is_refused() -> None:
    for source in (None, 3, "RandomInvert", v2.RandomInvert, ga.RandomInvert):
        with pytest.raises(TypeError, match="convert: takes a pipeline or an op of torchvision, kornia or album"):
            ga.convert(source)
    with pytest.raises(ValueError, match="differences must be one of warn, raise, ignore, got 'maybe'"):
        ga.convert(v2.RandomInvert(), differences="maybe")
    with pytest.raises(ValueError, match=r"convert: 1 thing has no counterpart: 0\.RandomInvert: is no op"):
        ga.convert([v2.RandomInvert])


def test_errors_name_the_place_the_argument_and_its_value() -> None:
    inner = v2.RandomApply(
        [
            v2.Identity(),
            v2.Compose(
                [v2.RandomAffine(10, shear=(80, 100)), v2.Resize(4, interpolation=v2.InterpolationMode.HAMMING)]
            ),
        ]
    )
    with pytest.raises(ValueError) as error:
        ga.convert(v2.Compose([v2.Resize(9), inner]))
    told = str(error.value)
    assert told.startswith("convert: 2 things have no counterpart: 1.1.0.RandomAffine(shear=[80.0, 100.0]): shear must")
    assert "1.1.1.Resize(interpolation=<InterpolationMode.HAMMING: 'hamming'>): interpolation must be one of" in told


def test_subclasses_of_a_users_own_are_not_taken_for_their_bases() -> None:
    class Flip(v2.RandomHorizontalFlip):
        pass

    flip = Flip()
    with pytest.warns(UserWarning, match=r"not the same here: Flip: is called on what comes to it"):
        assert ga.convert(flip).transforms == [flip]


def test_callables_go_over_as_they_are_and_are_told(batch: Tensor) -> None:
    def darker(image: Tensor) -> Tensor:
        return image // 2

    source = v1.Compose(
        [v1.CenterCrop(40), darker, v1.Lambda(lambda image: 255 - image), v1.RandomHorizontalFlip(p=1.0)]
    )
    with pytest.warns(UserWarning, match=r"1\.darker: is called on what .*; 2\.Lambda: is called on what"):
        augment = ga.convert(source, backend="cpu")
    assert augment.transforms[1] is darker and isinstance(augment.transforms[2], ga.Lambda)
    assert torch.equal(augment(batch), source(batch))
    crops = ga.convert(v1.Compose([v1.TenCrop(30), v1.ConvertImageDtype(torch.float32)]), backend="cpu")
    for one, other in zip(crops(batch), v1.TenCrop(30)(batch), strict=True):
        torch.testing.assert_close(one, other.float() / 255)


def test_keywords_go_to_compose() -> None:
    augment = ga.convert(v2.RandomInvert(), seed=7, backend="kornia", memory_format=torch.channels_last, check=True)
    assert (augment.seed, augment.backend, augment.check) == (7, "kornia", True)
    assert augment.memory_format == torch.channels_last


def test_padding_if_needed_pads_as_a_centre_crop_and_keeps_what_is_larger(batch: Tensor) -> None:
    image = batch[:1, :, :50, :60]
    for size in ((57, 40), (64, 75), (50, 60), 61):
        h, w = (size, size) if isinstance(size, int) else size
        target = max(h, 50), max(w, 60)
        out = ga.Compose([ga.PadIfNeeded(size)], seed=0, backend="cpu")(image)
        assert torch.equal(out, v2.functional.center_crop(image, list(target)))
    mirrored = ga.Compose([ga.PadIfNeeded((56, 60), padding_mode="reflect")], seed=0, backend="cpu")(image)
    assert torch.equal(mirrored, v2.functional.pad(image, [0, 3, 0, 3], padding_mode="reflect"))
    filled = ga.Compose([ga.PadIfNeeded(61, fill=9)], seed=0, backend="cpu")
    assert torch.equal(filled(image), v2.functional.pad(image, [0, 5, 1, 6], fill=9))
    params = filled.sample(image)
    judges.check_batch(filled.apply(image, params), image, params)
    with pytest.raises(ValueError, match="PadIfNeeded: padding_mode must be one of"):
        ga.PadIfNeeded(3, padding_mode="wrap")
