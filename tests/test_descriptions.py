"""Descriptions of colour ops, noise, erasing, policies: arguments, errors, draws, what they say of themselves."""

from __future__ import annotations

import inspect
import math
import pickle

import judges
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

import gpuaug as ga
from gpuaug.kernels.torch import dialect as torch_dialect
from gpuaug.lowering import lower
from gpuaug.transforms import policies, policy_tables, timm

SIZE = (24, 30)
SAME_AS_TORCHVISION = (
    *("ColorJitter", "Grayscale", "RandomGrayscale", "RandomPhotometricDistort", "RandomChannelPermutation"),
    *("RandomInvert", "RandomPosterize", "RandomSolarize", "RandomAutocontrast", "RandomEqualize"),
    *("RandomAdjustSharpness", "GaussianBlur", "JPEG", "ElasticTransform", "GaussianNoise", "RandomErasing"),
    *("RandAugment", "TrivialAugmentWide", "AutoAugment"),
)
FLOAT = ga.ToDtype(torch.float32, scale=True)
OPS = {
    "jitter": [ga.ColorJitter(0.4, (0.5, 1.5), 0.4, 0.1)],
    "grey": [ga.RandomGrayscale(0.5)],
    "to one channel": [ga.Grayscale()],
    "to three": [ga.Grayscale(), ga.RandomInvert(), ga.Grayscale(3)],
    "distort": [ga.RandomPhotometricDistort()],
    "permute": [ga.RandomChannelPermutation()],
    "posterize": [ga.RandomPosterize(3)],
    "solarize": [ga.RandomSolarize(0.4), ga.SolarizeAdd(0.1, p=0.0)],
    "statistics": [ga.RandomAutocontrast(), ga.RandomEqualize()],
    "sharpness": [ga.RandomAdjustSharpness(1.7)],
    "blur": [ga.GaussianBlur((5, 3)), ga.GaussianBlur(3, 1.1), ga.GaussianBlur((1, 3), (0.5, 1.0))],
    "jpeg": [ga.JPEG(30), ga.JPEG((10, 90)), ga.JPEG([5, 5])],
    "elastic": [ga.ElasticTransform(30, 1.0), ga.ElasticTransform([9, 5], (1, 2), "nearest", fill=0.5)],
    "gamma": [ga.RandomGamma((0.5, 2.0), 0.9)],
    "erase": [ga.RandomErasing(0.9), ga.RandomErasing(0.5, value="random"), ga.RandomErasing(0.5, value="channel")],
    "holes": [ga.CoarseDropout((1, 4), (3, 6), 5), ga.CoarseDropout(2, 0.2, (0.1, 0.3))],
    "RandAugment": [ga.RandAugment(3, fill=0.5)],
    "TrivialAugmentWide": [ga.TrivialAugmentWide(7)],
    "AutoAugment": [ga.AutoAugment()],
    "AutoAugment, cifar10": [ga.AutoAugment("cifar10")],
    "AutoAugment, svhn": [ga.AutoAugment(v2.AutoAugmentPolicy.SVHN)],
    "3-Augment": [ga.timm_augment("3a")],
}
OURS = [
    ga.GaussianNoise(),
    ga.SaltAndPepper((0.1, 0.2)),
    ga.SolarizeAdd(0.1),
    ga.GridMask((4, 9), 0.4, (0.1, 0.2, 0.3)),
    ga.timm_augment("rand-m9-mstd0.5-inc1"),
    ga.timm_augment("v0r-mstd1", "nearest", 0.5),
]


def sampled(ops: list, dtype: torch.dtype = torch.float32, count: int = 8, size: tuple[int, int] = SIZE):
    """Noise images of three channels, and what is drawn for them without a compiled kernel."""
    images = torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(1))
    images = images if dtype.is_floating_point else images.mul(255.999).to(dtype)
    return images, ga.Compose(ops, seed=6, backend="kornia").sample(images, ids=range(count), epoch=0)


# --- arguments --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", SAME_AS_TORCHVISION)
def test_arguments_and_defaults_are_torchvisions(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(module, name)).parameters.values() for module in (ga, v2))
    assert [p.name for p in ours] == [p.name for p in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.default == getattr(other.default, "value", other.default), one


def test_enums_and_strings_mean_the_same() -> None:
    assert ga.AutoAugment(v2.AutoAugmentPolicy.CIFAR10) == ga.AutoAugment("cifar10")
    for mode in v2.InterpolationMode.NEAREST, v2.InterpolationMode.BILINEAR, v2.InterpolationMode.BICUBIC:
        assert ga.RandAugment(interpolation=mode) == ga.RandAugment(interpolation=mode.value)


@pytest.mark.parametrize("op", [*(op for ops in OPS.values() for op in ops), *OURS], ids=repr)
def test_repr_hash_and_pickle(op: ga.Transform) -> None:
    assert eval(repr(op), {**vars(ga), "torch": torch}) == op
    assert hash(pickle.loads(pickle.dumps(op))) == hash(op)


BAD = [
    (lambda: ga.ColorJitter(hue=0.6), "ColorJitter: hue .*0.5"),
    (lambda: ga.ColorJitter(saturation=(-0.1, 1)), "ColorJitter: saturation .*-0.1"),
    (lambda: ga.Grayscale(2), "Grayscale: num_output_channels .* 2"),
    (lambda: ga.RandomPhotometricDistort(hue=(-1, 1)), "RandomPhotometricDistort: hue"),
    (lambda: ga.RandomPosterize(9), "RandomPosterize: bits .* 9"),
    (lambda: ga.RandomPosterize(2.5), "RandomPosterize: bits .* 2.5"),
    (lambda: ga.RandomAdjustSharpness(-1), "RandomAdjustSharpness: sharpness_factor .*-1"),
    (lambda: ga.GaussianBlur(4), "GaussianBlur: kernel_size .* 4"),
    (lambda: ga.GaussianBlur((3, 5, 7)), "GaussianBlur: kernel_size"),
    (lambda: ga.GaussianBlur(3, (0, 1)), "GaussianBlur: sigma .*0"),
    (lambda: ga.ElasticTransform("a"), "ElasticTransform: alpha .*'a'"),
    (lambda: ga.ElasticTransform(sigma=(5, 0)), r"ElasticTransform: sigma .*\(5, 0\)"),
    (lambda: ga.ElasticTransform(sigma=-1), "ElasticTransform: sigma .* -1"),
    (lambda: ga.ElasticTransform(sigma=(1, 2, 3)), r"ElasticTransform: sigma .*\(1, 2, 3\)"),
    (lambda: ga.ElasticTransform(interpolation="lanczos"), "ElasticTransform: interpolation .*lanczos"),
    (lambda: ga.JPEG(0), "JPEG: quality .* 0"),
    (lambda: ga.JPEG((50, 40)), r"JPEG: quality .*\(50, 40\)"),
    (lambda: ga.JPEG(12.5), "JPEG: quality .* 12.5"),
    (lambda: ga.JPEG((1, 2, 3)), r"JPEG: quality .*\(1, 2, 3\)"),
    (lambda: ga.functional.jpeg(torch.zeros(1, 3, 8, 8), 101), "jpeg: quality .*101"),
    (lambda: ga.GaussianNoise(sigma=-0.1), "GaussianNoise: sigma .*-0.1"),
    (lambda: ga.GaussianNoise(mean="a"), "GaussianNoise: mean .*'a'"),
    (lambda: ga.RandomGamma(2.0), "RandomGamma: gamma .* 2.0"),
    (lambda: ga.SaltAndPepper(1.5), "SaltAndPepper: amount .*1.5"),
    (lambda: ga.SaltAndPepper(0.1, salt_vs_pepper=2), "SaltAndPepper: salt_vs_pepper .* 2"),
    (lambda: ga.SolarizeAdd(math.nan), "SolarizeAdd: addition .* nan"),
    (lambda: ga.RandomErasing(scale=(0.5, 1.5)), "RandomErasing: scale .*1.5"),
    (lambda: ga.RandomErasing(value="noise"), "RandomErasing: value .*'noise'"),
    (lambda: ga.CoarseDropout((0, 3)), r"CoarseDropout: holes .*\(0, 3\)"),
    (lambda: ga.CoarseDropout(2, 8, 0.1), "CoarseDropout: height and width .*8 and 0.1"),
    (lambda: ga.CoarseDropout(2, 1.5, 1.5), "CoarseDropout: height .*1.5"),
    (lambda: ga.GridMask((4.5, 9)), "GridMask: period .*4.5"),
    (lambda: ga.GridMask(ratio=1.1), "GridMask: ratio .*1.1"),
    (lambda: ga.RandAugment(-1), "RandAugment: num_ops .*-1"),
    (lambda: ga.RandAugment(magnitude=31), "RandAugment: magnitude .*30, got 31"),
    (lambda: ga.TrivialAugmentWide(1), "TrivialAugmentWide: num_magnitude_bins .*1"),
    (lambda: ga.AutoAugment("imagenet21k"), "AutoAugment: policy .*imagenet21k"),
    (lambda: ga.AutoAugment(interpolation="lanczos"), "AutoAugment: interpolation .*lanczos"),
    (lambda: ga.timm_augment("augmx-m5"), "policy must be one of .*'augmx'.*mean 'augmix'"),
    (lambda: ga.timm_augment("rand-m9-x3"), "section 'x3' of 'rand-m9-x3'"),
    (lambda: ga.timm_augment("rand-m9.5"), "section 'm9.5'"),
    (lambda: ga.timm_augment("rand-m9-tweights"), "section 'tweights' .*without replacement"),
    (lambda: ga.timm_augment("rand-tmine"), "section 'tmine' names no set"),
    (lambda: ga.timm_augment("original-m9"), "section 'm9' .* takes mstd"),
    (lambda: ga.timm_augment("rand-p2"), "p must lie in .* got 2"),
    (lambda: ga.functional.adjust_hue(torch.zeros(1, 3, 8, 8), 0.7), "adjust_hue: hue_factor .*0.7"),
    (lambda: ga.functional.posterize(torch.zeros(1, 3, 8, 8), 9), "posterize: bits .*9"),
    (lambda: ga.functional.permute_channels(torch.zeros(1, 3, 8, 8), [0, 3, 1]), "permutation .*"),
    (lambda: ga.functional.erase(torch.zeros(1, 3, 8, 8), 0, 0, 2, 2, torch.zeros(3, 4, 2)), "erase: v .*3, 4, 2"),
    (lambda: ga.functional.gaussian_noise(torch.zeros(1, 3, 8, 8).byte(), clip=False), "clip=False would wrap"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_wrong_arguments_are_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("op", "channels", "dtype", "error", "message"),
    [
        (ga.ColorJitter(saturation=0.4), 4, torch.uint8, TypeError, "1 or 3 channels but meets 4"),
        (ga.RandomChannelPermutation(), 4, torch.uint8, TypeError, "1 to 3 channels but meets 4"),
        (ga.RandAugment(), 5, torch.uint8, TypeError, "RandAugment: .* 1 or 3 channels but meets 5"),
        (ga.RandomApply([ga.Grayscale()]), 3, torch.uint8, ValueError, "use RandomGrayscale"),
        (ga.GaussianBlur((61, 3)), 3, torch.uint8, ValueError, "kernel of 61x3 .* images of 30x24"),
        (ga.ElasticTransform(9, 6), 3, torch.uint8, ValueError, "kernel of 49x49 .*30x24; take a smaller sigma"),
        (ga.ElasticTransform(1, 1, fill=(1, 2)), 3, torch.uint8, ValueError, "fill has 2 values for images of 3"),
        (ga.JPEG(50), 4, torch.uint8, TypeError, "JPEG: .* 1 or 3 channels but meets 4"),
        (ga.GaussianNoise(clip=False), 3, torch.uint8, ValueError, "clip=False would wrap around"),
        (ga.RandomErasing(value="random"), 3, torch.uint8, TypeError, "floating-point.*ToDtype"),
        (ga.RandomErasing(value=(1, 2)), 3, torch.uint8, ValueError, "value has 2 values for images of 3"),
        (ga.RandomErasing(value=0.5), 3, torch.uint8, ValueError, "value must hold whole numbers"),
        (ga.SolarizeAdd(0.5), 3, torch.uint8, ValueError, "addition must be a whole number .*0.5"),
    ],
)
def test_what_the_images_forbid(op, channels: int, dtype: torch.dtype, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        lower([op], frozenset({SIZE}), channels, dtype)


# --- programs ---------------------------------------------------------------------------------------------------------
def lowered(*ops):
    return lower(ops, frozenset({SIZE}), 3, torch.uint8)


def test_slots_of_a_policy_share_a_column() -> None:
    program = lowered(ga.RandAugment(2))
    assert program.columns == tuple(f"0.{k}.RandAugment.{n}" for k in range(2) for n in ("choice", "magnitude"))
    assert (program.groups, program.steps, program.asks) == (2, 2, 2)
    assert lowered(ga.RandAugment(0)).entries == ()
    pairs = lowered(ga.AutoAugment())
    names = ("applied", "magnitude")
    assert pairs.columns == ("0.AutoAugment.choice", *(f"0.{k}.AutoAugment.{n}" for k in range(2) for n in names))
    assert (pairs.steps, pairs.asks) == (2, 2)


def test_what_acts_once_counts_once() -> None:
    program = lowered(ga.RandomPhotometricDistort())
    assert (program.steps, program.asks) == (5, 1)
    assert len(program.columns) == len(set(program.columns)) == 12
    assert lowered(ga.GaussianBlur(5)).columns == ("0.GaussianBlur.sigma",)
    assert lowered(ga.GaussianBlur(5, 1.5), ga.GaussianBlur(1)).columns == ()
    assert (lowered(ga.GaussianBlur(5)).asks, lowered(ga.GaussianBlur((1, 5))).asks) == (2, 1)
    assert lowered(ga.ColorJitter(0.4, 0.4, 0.4, 0.1)).asks == 1


def test_channels_follow_grayscale() -> None:
    assert (lowered(ga.Grayscale()).channels, lowered(ga.Grayscale()).out_channels) == (3, 1)
    program = lower([ga.Grayscale(3)], frozenset({SIZE}), 1, torch.uint8)
    assert (program.in_channels, program.channels, program.out_channels) == (1, 3, 3)
    assert lower([ga.Grayscale()], frozenset({SIZE}), 1, torch.uint8).entries == ()


# --- describe ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", OPS)
def test_a_record_is_a_call_of_torchvision(name: str) -> None:
    images, params = sampled(OPS[name])
    for i in range(len(images)):
        records = params.describe(i)
        for record in records:
            if record["call"] != "solarize_add":
                names = list(inspect.signature(getattr(F, record["call"])).parameters)[1:]
                assert set(record["kwargs"]) == set(names) - {"inplace"}, record
        judges.replay(images[i], records)


def test_holes_are_as_many_as_drawn() -> None:
    _, params = sampled([ga.CoarseDropout((2, 5), (3, 6), 4, p=1.0)], count=64)
    counts = [len(params.describe(i)) for i in range(64)]
    assert set(counts) == {2, 3, 4, 5}
    assert counts == [int(n) for n in params.table[:, params.columns.index("0.CoarseDropout.holes")]]
    sides = {(r["kwargs"]["h"], r["kwargs"]["w"]) for i in range(64) for r in params.describe(i)}
    assert sides == {(h, 4) for h in range(3, 7)}


def test_an_erasing_that_found_no_place_is_absent() -> None:
    _, params = sampled([ga.RandomErasing(1.0, scale=(1.0, 1.0))])
    assert all(params.describe(i) == [] for i in range(8))


def test_our_own_calls_name_functions_of_ours() -> None:
    ops = [ga.SaltAndPepper(0.2, p=1.0), ga.GridMask((4, 9), fill=0.5, p=1.0), ga.SolarizeAdd(0.1)]
    images, params = sampled(ops)
    calls = {record["call"] for i in range(8) for record in params.describe(i)}
    assert calls == {"salt_and_pepper", "grid_mask", "solarize_add"}
    out = ga.Compose(ops, seed=6, backend="kornia").apply(images, params)
    for i in range(8):
        image = images[i]
        for record in params.describe(i):
            image = getattr(ga.functional, record["call"])(image, **record["kwargs"], backend="kornia")
        assert torch.equal(image, out[i])


# --- magnitudes -------------------------------------------------------------------------------------------------------
def levels(draw: str, configuration, size: tuple[int, int], count: int = 64) -> set[float]:
    """What a draw of magnitudes gives, its configuration in float32 as a program holds it."""
    ids = torch.arange(count)
    key = (ids, ids * 0, ids * 0, ids * 0, torch.tensor(3), torch.tensor(0))
    canvas = (torch.full((count,), float(side)) for side in size)
    c = torch.tensor([float(v) for v in configuration]).tolist()
    return set(torch_dialect.DRAW[draw](key, c, *canvas)[0].tolist())


@pytest.mark.parametrize("size", [(224, 224), (331, 500), (29, 21)])
@pytest.mark.parametrize(
    ("space", "policy", "bins"),
    [
        (policies.NARROW, v2.RandAugment, 31),
        (policies.WIDE, v2.TrivialAugmentWide, 30),
        (policies.NARROW, v2.AutoAugment, 10),
    ],
)
def test_magnitudes_are_torchvisions_to_the_bit(space, policy: type, bins: int, size: tuple[int, int]) -> None:
    for op, (magnitudes, signed) in policy._AUGMENTATION_SPACE.items():
        numbers = magnitudes(bins, *size)
        for i in range(bins if numbers is not None else 0):
            number = float(numbers[i])
            number = float(int(number)) if op.startswith("Translate") else number
            expected = {number, -number} if signed else {number}
            if op in ("Brightness", "Color", "Contrast", "Sharpness"):
                expected = {1.0 + v for v in expected}
            expected = {255 * number} if op == "Solarize" else {2.0**number} if op == "Posterize" else expected
            drawn = levels("draw_level", space.level(op, bins, i, 1, 255), size)
            assert drawn == {float(torch.tensor(v)) for v in expected}, (op, i)


def test_a_drawn_step_is_one_of_the_steps() -> None:
    every = levels("draw_level", policies.WIDE.level("Rotate", 31, 0, 31, 255), SIZE, 2000)
    assert every == {sign * v for v in torch.linspace(0, 135, 31).tolist() for sign in (1, -1)}


def test_pairs_are_torchvisions() -> None:
    for policy in v2.AutoAugmentPolicy:
        theirs = [tuple((op, p, m or 0) for op, p, m in pair) for pair in v2.AutoAugment(policy)._policies]
        assert list(policy_tables.AUTOAUGMENT[policy.value]) == theirs


def test_timms_ops_and_arguments() -> None:
    auto_augment = pytest.importorskip("timm.data.auto_augment", reason="the judge of timm's strings is timm")
    for name, pairs in timm.POLICIES.items():
        theirs = auto_augment.auto_augment_policy(name)
        assert [[(op, p) for op, p, _ in pair] for pair in pairs] == [
            [(op.name.removesuffix("Rel"), op.prob) for op in pair] for pair in theirs
        ]
        for pair, ops in zip(pairs, theirs, strict=True):
            assert all(op.level_fn is None or m == op.magnitude for (_, _, m), op in zip(pair, ops, strict=True))
    for ops, theirs in ((timm.RAND, "_RAND_TRANSFORMS"), (timm.RAND_INCREASING, "_RAND_INCREASING_TRANSFORMS")):
        assert set(ops) == {name.removesuffix("Rel") for name in getattr(auto_augment, theirs)}


@pytest.mark.parametrize("name", [name for name, a in timm.ARGUMENTS.items() if a.scale and a.kind != timm.UNIFORM])
def test_timms_magnitudes(name: str) -> None:
    auto_augment = pytest.importorskip("timm.data.auto_augment", reason="the judge of timm's strings is timm")
    a, moves = timm.ARGUMENTS[name], name.startswith("Translate")
    argument = auto_augment.LEVEL_TO_ARG[f"{name}Rel" if moves else name]
    for magnitude in (*range(11), 0.5, 2.25, 9.75):
        expected = {argument(magnitude, dict(auto_augment._HPARAMS_DEFAULT))[0] for _ in range(64)}
        if moves:
            expected = {v * SIZE[2 - a.side] for v in expected}
        if name == "Desaturate":
            expected = {1.0 - v for v in expected}
        if a.kind == timm.POWER:
            expected = {2.0**v for v in expected}
        drawn = levels("draw_noisy_level", timm.configuration(a, magnitude, 0.0, 10.0, 255.0), SIZE)
        assert sorted(drawn) == pytest.approx(sorted(expected), abs=1e-5), magnitude


# --- functional -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_functional_noise_hangs_on_its_seeds_alone(backend: str) -> None:
    images = torch.full((4, 3, *SIZE), 0.5, device=judges.device_of(backend))
    seeds = torch.tensor([[0.25, 0.5], [0.25, 0.5], [0.75, 0.5], [0.25, 0.125]])
    for name, arguments in (("gaussian_noise", (0.1, 0.2)), ("salt_and_pepper", (0.3,))):
        noisy = getattr(ga.functional, name)(images, *arguments, seeds=seeds.to(images.device), backend=backend)
        assert torch.equal(noisy[0], noisy[1])
        assert len({tuple(image.flatten().tolist()) for image in noisy}) == 3
        fresh = [getattr(ga.functional, name)(images[0], *arguments, backend=backend) for _ in range(2)]
        assert not torch.equal(*fresh)


# --- captions ---------------------------------------------------------------------------------------------------------
def test_captions() -> None:
    preview = pytest.importorskip("gpuaug.preview", reason="contact sheets need matplotlib")
    still = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    for call, kwargs, words in [
        ("adjust_hue", {"hue_factor": -0.1}, "hue -0.1"),
        ("rgb_to_grayscale", {"num_output_channels": 3}, "grey"),
        ("permute_channels", {"permutation": [2, 0, 1]}, "channels 201"),
        ("posterize", {"bits": 4}, "posterize 4"),
        ("equalize", {}, "equalize"),
        ("adjust_gamma", {"gamma": 1.25, "gain": 1.0}, "gamma 1.25"),
        ("solarize_add", {"addition": 40, "threshold": 128.0}, "solarize +40"),
        ("gaussian_blur", {"kernel_size": [5, 5], "sigma": [1.3, 1.3]}, "blur 1.3 px"),
        ("elastic", {"displacement": torch.zeros(1, 2, 2, 2), "interpolation": "bilinear", "fill": 0}, "elastic"),
        ("jpeg", {"quality": 30}, "jpeg 30"),
        ("gaussian_noise", {"mean": 0.0, "sigma": 0.1, "clip": True}, "gaussian noise 0.1"),
        ("salt_and_pepper", {"amount": 0.05, "salt_vs_pepper": 0.5, "seeds": [0.1, 0.2]}, "salt and pepper 5.0%"),
        ("grid_mask", {"period": 32, "offset_x": 1, "offset_y": 2, "side": 16, "fill": 0}, "grid 16 of 32 px"),
        ("erase", {"i": 3, "j": 4, "h": 5, "w": 6, "v": torch.zeros(3, 1, 1)}, "erase 6x5 at 4,3"),
        ("affine", still | {"shear": [-16.7, 0.0]}, "lean -17°,+0°"),
        ("affine", still | {"translate": [-3, 0]}, "-3,+0"),
    ]:
        assert preview.caption([{"op": "op", "call": call, "kwargs": kwargs}]) == words
