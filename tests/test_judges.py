"""The judges themselves: what they must accept, and engines that are wrong in one way each."""

from __future__ import annotations

from collections.abc import Callable

import judges
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

ERASED = torch.tensor([11, 128, 240], dtype=torch.uint8).view(3, 1, 1)
CALLS = {
    "angle": {"call": "affine", "kwargs": {"angle": 25.0, "translate": [3, -2], "scale": 1.1, "shear": [8.0, 0.0],
              "interpolation": "bilinear", "fill": [11.0, 128.0, 240.0], "center": None}},
    "snap": {"call": "rotate", "kwargs": {"angle": 33.0, "interpolation": "nearest", "expand": False, "center": None,
             "fill": [11.0, 128.0, 240.0]}},
    "window": {"call": "resized_crop", "kwargs": {"top": 5, "left": 7, "height": 31, "width": 29, "size": [20, 24],
               "interpolation": "bilinear", "antialias": True}},
    "bright": {"call": "adjust_brightness", "kwargs": {"brightness_factor": 1.2300000190734863}},
    "contrast": {"call": "adjust_contrast", "kwargs": {"contrast_factor": 0.7099999785423279}},
    "saturation": {"call": "adjust_saturation", "kwargs": {"saturation_factor": 1.3700000047683716}},
    "hue": {"call": "adjust_hue", "kwargs": {"hue_factor": 0.07999999821186066}},
    "gamma": {"call": "adjust_gamma", "kwargs": {"gamma": 1.2999999523162842, "gain": 1.0}},
    "grey": {"call": "rgb_to_grayscale", "kwargs": {"num_output_channels": 3}},
    "permute": {"call": "permute_channels", "kwargs": {"permutation": [2, 0, 1]}},
    "posterize": {"call": "posterize", "kwargs": {"bits": 4}},
    "solarize": {"call": "solarize", "kwargs": {"threshold": 128.0}},
    "solarize add": {"call": "solarize_add", "kwargs": {"addition": 37, "threshold": 128}},
    "autocontrast": {"call": "autocontrast", "kwargs": {}},
    "equalize": {"call": "equalize", "kwargs": {}},
    "sharpness": {"call": "adjust_sharpness", "kwargs": {"sharpness_factor": 1.7000000476837158}},
    "soften": {"call": "adjust_sharpness", "kwargs": {"sharpness_factor": 0.0}},
    "blur": {"call": "gaussian_blur", "kwargs": {"kernel_size": [5, 3], "sigma": [1.25, 0.75]}},
    "erase": {"call": "erase", "kwargs": {"i": 7, "j": 11, "h": 9, "w": 20, "v": ERASED}},
    "grid": {"call": "grid_mask", "kwargs": {"period": 9, "offset_x": 4, "offset_y": 7, "side": 4,
             "fill": [11.0, 128.0, 240.0]}},
    "flip": {"call": "horizontal_flip", "kwargs": {}},
}  # fmt: skip


def changed(name: str, **kwargs: object) -> dict:
    return {"call": CALLS[name]["call"], "kwargs": {**CALLS[name]["kwargs"], **kwargs}}


def named(names: str) -> list[dict]:
    """The records of CALLS named in a text, by commas."""
    return [CALLS[name] for name in names.split(", ")]


# --- wrong engines, as functions ------------------------------------------------------------------------------------
def jointly(call: str) -> Callable:
    """A statistic of all channels together."""
    return lambda image: getattr(F, call)(image.reshape(1, -1, image.shape[-1])).reshape(image.shape)


def bordered(call: str, **kwargs: object) -> Callable:
    """Neighbours beyond the border repeat the edge."""
    return lambda image: F.center_crop(
        getattr(F, call)(F.pad(image, [3], padding_mode="edge"), **kwargs), list(image.shape[-2:])
    )


def saturated(weights: tuple[float, float, float], rounded: bool = False) -> Callable:
    """Saturation with a grey of other weights, or rounded where torchvision truncates."""

    def wrong(image: Tensor) -> Tensor:
        factor = CALLS["saturation"]["kwargs"]["saturation_factor"]
        grey = (torch.tensor(weights).view(3, 1, 1) * image).sum(0).floor()
        value = (factor * image + (1 - factor) * grey).clamp(0, 255)
        return (value.round() if rounded else value).to(torch.uint8)

    return wrong


def equalized_by_the_next_channel(image: Tensor) -> Tensor:
    tables = torch.zeros(3, 256, dtype=torch.uint8)
    tables.scatter_(1, image.flatten(1).long(), F.equalize(image).flatten(1))
    return tables.roll(1, 0).gather(1, image.flatten(1).long()).reshape(image.shape)


def sharpened_without_rounding(image: Tensor) -> Tensor:
    return (F.adjust_sharpness(image / 255, **CALLS["sharpness"]["kwargs"]) * 255).to(torch.uint8)


def solarized_without_clamp(image: Tensor) -> Tensor:
    return torch.where(image < 255, image + CALLS["solarize add"]["kwargs"]["addition"], image)


REC_601, REC_709 = (0.2989, 0.587, 0.114), (0.2126, 0.7152, 0.0722)
BLUR, SHARPNESS = CALLS["blur"]["kwargs"], CALLS["sharpness"]["kwargs"]

WRONG: dict[str, tuple[list[dict], list[dict] | Callable]] = {
    "angle's sign": (named("angle"), [changed("angle", angle=-25.0)]),
    "angle by 0.3 degrees": (named("angle"), [changed("angle", angle=25.3)]),
    "shift by a pixel": (named("angle"), [changed("angle", translate=[3, -1])]),
    "shear ignored": (named("angle"), [changed("angle", shear=[0.0, 0.0])]),
    "centre by half a pixel": (named("snap"), [changed("snap", center=[28.5, 23.0])]),
    "black fill": (named("snap"), [changed("snap", fill=0)]),
    "fill of the wrong channel": (named("snap"), [changed("snap", fill=[240.0, 128.0, 11.0])]),
    "nearest for bilinear": (named("angle"), [changed("angle", interpolation="nearest")]),
    "crop off by one": (named("window"), [changed("window", top=6)]),
    "no antialias": (named("window"), [changed("window", antialias=False)]),
    "bicubic for bilinear": (named("window"), [changed("window", interpolation="bicubic")]),
    "factor by 0.005": (named("bright"), [changed("bright", brightness_factor=1.235)]),
    "no solarize": (named("window, solarize"), named("window")),
    "threshold by 2": (named("solarize"), [changed("solarize", threshold=126.0)]),
    "order": (named("bright, contrast"), named("contrast, bright")),
    "pixel op before its fill": (named("snap, solarize"), named("solarize, snap")),
    "flip at the wrong end": (named("flip, snap"), named("snap, flip")),
    "grey of Rec. 709": (named("saturation"), saturated(REC_709)),
    "saturation rounded": (named("saturation"), saturated(REC_601, rounded=True)),
    "saturation by 0.01": (named("saturation"), [changed("saturation", saturation_factor=1.36)]),
    "hue's sign": (named("hue"), [changed("hue", hue_factor=-0.08)]),
    "hue by a degree": (named("hue"), [changed("hue", hue_factor=0.08 + 1 / 360)]),
    "hue before brightness": (named("bright, hue"), named("hue, bright")),
    "gamma's inverse": (named("gamma"), [changed("gamma", gamma=1 / 1.3)]),
    "gamma by 0.01": (named("gamma"), [changed("gamma", gamma=1.31)]),
    "gamma rounded": (named("gamma"), lambda image: ((image / 255) ** 1.3 * 255).round().to(torch.uint8)),
    "grey ignored": (named("grey"), []),
    "the green channel for grey": (named("grey"), lambda image: image[1:2].expand(3, -1, -1)),
    "the inverse permutation": (named("permute"), [changed("permute", permutation=[1, 2, 0])]),
    "a bit too many": (named("posterize"), [changed("posterize", bits=5)]),
    "posterize after the contrast": (named("posterize, contrast"), named("contrast, posterize")),
    "solarize add of half": (named("solarize add"), [changed("solarize add", addition=18)]),
    "solarize add everywhere": (named("solarize add"), solarized_without_clamp),
    "solarize for solarize add": (named("solarize add"), named("solarize")),
    "extremes of all channels": (named("erase, autocontrast"), jointly("autocontrast")),
    "extremes before the brightness": (named("bright, autocontrast"), named("autocontrast, bright")),
    "histogram of all channels": (named("equalize"), jointly("equalize")),
    "histogram of the next channel": (named("equalize"), equalized_by_the_next_channel),
    "histogram before the crop": (named("window, equalize"), named("equalize, window")),
    "histogram before the fill": (named("snap, equalize"), named("equalize, snap")),
    "sharpened border": (named("sharpness"), bordered("adjust_sharpness", **SHARPNESS)),
    "softened border": (named("soften"), bordered("adjust_sharpness", sharpness_factor=0.0)),
    "sharpness by 0.05": (named("sharpness"), [changed("sharpness", sharpness_factor=1.75)]),
    "sharpness without rounding": (named("sharpness"), sharpened_without_rounding),
    "sharpness before the warp": (named("snap, sharpness"), named("sharpness, snap")),
    "edge for reflection": (named("blur"), bordered("gaussian_blur", **BLUR)),
    "blur's axes exchanged": (named("blur"), [changed("blur", sigma=BLUR["sigma"][::-1])]),
    "blur's width by 5 %": (named("blur"), [changed("blur", sigma=[1.3125, 0.75])]),
    "a shorter kernel": (named("blur"), [changed("blur", kernel_size=[3, 3])]),
    "erase off by a row": (named("erase"), [changed("erase", i=8)]),
    "erase a column too wide": (named("erase"), [changed("erase", w=21)]),
    "erase in one colour": (named("erase"), [changed("erase", v=ERASED[:1])]),
    "erase before the solarize": (named("solarize, erase"), named("erase, solarize")),
    "grid shifted the other way": (named("grid"), [changed("grid", offset_x=5, offset_y=2)]),
    "grid's squares too large": (named("grid"), [changed("grid", side=5)]),
    "erase before the warp": (named("snap, erase"), named("erase, snap")),
}


@pytest.fixture(scope="session")
def crops(photos: list[Tensor]) -> Tensor:
    return judges.patches(judges.thumbnails(photos), 6, 45, 56, seed=2)


@pytest.mark.parametrize("wrong", WRONG)
def test_judge_refuses(wrong: str, crops: Tensor) -> None:
    right, mistaken = WRONG[wrong]
    for image in crops:
        judges.check(judges.judge(image, right, exact=True).ref, image, right)
        output = mistaken(image) if callable(mistaken) else judges.replay(image, mistaken)
        assert not judges.judge(image, right).accepts(output), wrong


def in_floats(record: dict) -> dict:
    """The record with its levels on [0, 1]."""
    kwargs = dict(record["kwargs"])
    for name in kwargs.keys() & {"fill", "threshold", "addition", "v"}:
        kwargs[name] = [v / 255 for v in kwargs[name]] if isinstance(kwargs[name], list) else kwargs[name] / 255
    return {"call": record["call"], "kwargs": kwargs}


def without_lattice(image: Tensor, records: list[dict]) -> Tensor:
    """A wrong engine: floats through and through, rounded at the store only."""
    return (judges.replay(image / 255, [in_floats(record) for record in records]) * 255).round().to(torch.uint8)


@pytest.mark.parametrize(
    "records", ["bright", "contrast", "bright, contrast", "window, bright, contrast", "saturation", "hue, saturation"]
)
def test_judge_refuses_a_missing_truncation(records: str, crops: Tensor) -> None:
    calls = named(records)
    refused = [not judges.judge(image, calls).accepts(without_lattice(image, calls)) for image in crops]
    assert all(refused) if "window" not in records else any(refused)


def test_judge_accepts_a_double_blend_unless_exact(crops: Tensor) -> None:
    for image in crops:
        plain, exact = (judges.judge(image, named("angle"), exact) for exact in (False, True))
        assert plain.accepts(plain.ref) and plain.accepts(exact.ref) and exact.accepts(exact.ref)
        assert not exact.accepts(plain.ref), "torchvision's double blend is an edge effect of some levels"
        differ = (plain.ref.int() - exact.ref.int()).abs() > 1
        unfilled = {"call": "affine", "kwargs": CALLS["angle"]["kwargs"] | {"fill": None}}
        cover = judges.replay(torch.ones(1, *crops.shape[-2:]), [unfilled])
        assert not (differ & (cover == 1)).any() and not (differ & (cover == 0)).any()


def test_judge_allows_either_side_of_a_tie() -> None:
    ramp = torch.arange(10, 170, 10, dtype=torch.uint8).expand(1, 16, 16)
    half = {"call": "affine", "kwargs": {"angle": 0.0, "translate": [0.5, 0.0], "scale": 1.0, "shear": [0.0, 0.0],
            "interpolation": "nearest", "fill": 0, "center": None}}  # fmt: skip
    verdict = judges.judge(ramp, [half])
    assert verdict.wide().all()
    left, right = ramp.roll(1, -1), ramp.clone()
    left[..., 0] = 0
    assert verdict.accepts(left) and verdict.accepts(right)
    assert not verdict.accepts(ramp.roll(-1, -1))


def test_judge_closed_forms_match_torch_in_float64(crops: Tensor) -> None:
    image = crops[0].double()
    for mode in judges.SMOOTH:
        for antialias in (True, False):
            for size in ((9, 100), (100, 9), (46, 55), (1, 1)):
                pairs = zip(image.shape[-2:], size, strict=True)
                rows, columns = (judges.resample_matrix(a, b, mode, antialias) for a, b in pairs)
                expected = F.resize(image, list(size), interpolation=F.InterpolationMode(mode), antialias=antialias)
                torch.testing.assert_close(rows @ image @ columns.T, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("first", CALLS)
def test_judge_accepts_torchvision_itself(first: str, dtype: torch.dtype, crops: Tensor) -> None:
    """Each call, then each other one."""
    for image in crops[:2] if dtype == torch.uint8 else F.to_dtype(crops[:2], dtype, scale=True):
        for second in CALLS:
            calls = named(f"{first}, {second}")
            records = calls if dtype == torch.uint8 else [in_floats(record) for record in calls]
            judges.check(judges.judge(image, records, exact=True).ref, image, records)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("call", sorted(set(CALLS) - {"angle", "snap", "window"}))
def test_bounds_hold_what_lies_within(call: str, dtype: torch.dtype, crops: Tensor) -> None:
    """Every image between the bounds before a call lies between the bounds after it."""
    generator = torch.Generator().manual_seed(0)
    record, unit = (CALLS[call], 1) if dtype == torch.uint8 else (in_floats(CALLS[call]), 1 / 255)
    for image in crops[:3].double():
        spread = torch.randint(0, 4, image.shape, generator=generator) * (
            torch.rand(image.shape[1:], generator=generator) < 0.2
        )
        lo, hi = (((image + sign * spread).clamp(0, 255) * unit).to(dtype).double() for sign in (-1, 1))
        state = judges.Verdict(ref=(image * unit).to(dtype), lo=lo, hi=hi)
        low, high, _ = judges.BOUNDS[record["call"]](state, dict(record["kwargs"]), judges.replay(state.ref, [record]))
        for _ in range(5):
            between = lo + (hi - lo) * torch.rand(image.shape, generator=generator)
            output = judges.replay((between.round() if unit == 1 else between).to(dtype), [record]).double()
            assert (output >= low - judges.VALUE_ERROR).all() and (output <= high + judges.VALUE_ERROR).all()
