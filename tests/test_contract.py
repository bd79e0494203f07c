"""What holds for every pipeline, backend and input: metamorphic laws, layouts, buffers, descriptions, errors."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
from collections.abc import Callable

import judges
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

import gpuaug as ga

backends = pytest.mark.parametrize("backend", judges.BACKENDS)
HEIGHT, WIDTH = 32, 40
DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)
CHANNELS, HALF = (1, 2, 3, 4, 5, 7, 8, 13, 16), torch.bfloat16
MODE, PARTS = "bilinear", {"brightness": 0.4, "contrast": 0.4}
if judges.INTERPRETED:  # it cuts bfloat16 where the compiler rounds, and taps and statistics take it seconds
    HEIGHT, WIDTH, MODE, PARTS = 12, 16, "nearest", {"brightness": 0.4}
    DTYPES, CHANNELS, HALF = (torch.uint8, torch.float32), (1, 4, 16), torch.float32
PIPELINE = (
    ga.RandomCrop((HEIGHT, WIDTH), padding=3, padding_mode="reflect"),
    ga.RandomHorizontalFlip(),
    ga.RandomAffine(30, (0.1, 0.1), (0.8, 1.2), 10, interpolation=MODE, fill=0),
    ga.RandomVerticalFlip(),
    ga.ColorJitter(**PARTS),
)


@pytest.fixture(scope="session")
def batch(photos: list[Tensor]) -> Tensor:
    """Crops of real photos, uint8 [4, 3, HEIGHT, WIDTH]."""
    return judges.patches(judges.thumbnails(photos), 4, HEIGHT, WIDTH, seed=4)


def run(transforms, images: Tensor, backend: str, **keywords) -> Tensor:
    augment = ga.Compose(list(transforms), seed=6, backend=backend, **keywords)
    return augment(images.to(judges.device_of(backend)), ids=range(len(images)), epoch=1)


def assert_same(one: Tensor, other: Tensor) -> None:
    """Equal, but for the order in which another memory layout lets a compiler add."""
    if one.dtype == torch.uint8:
        assert (one.int() - other.int()).abs().max() <= 1 and (one != other).float().mean() < 1e-3
    else:
        torch.testing.assert_close(one, other, rtol=0, atol=torch.finfo(one.dtype).eps)


def always(kind: type, *arguments) -> list:
    return [kind(*arguments, 1.0), kind(*arguments, 1.0)]


# --- laws -------------------------------------------------------------------------------------------------------------
@backends
@pytest.mark.parametrize(
    "twice",
    [
        always(ga.RandomHorizontalFlip),
        always(ga.RandomVerticalFlip),
        always(ga.RandomInvert),
        [ga.Pad(4, padding_mode="symmetric"), ga.CenterCrop((HEIGHT, WIDTH))],
        [ga.CenterCrop(HEIGHT + WIDTH), ga.CenterCrop((HEIGHT, WIDTH))],
        [ga.RandomRotation((180, 180)), ga.RandomRotation((-180, -180), interpolation="bilinear")],
    ],
)
def test_twice_is_identity(twice: list, backend: str, batch: Tensor) -> None:
    assert torch.equal(run(twice, batch, backend).cpu(), batch)


@backends
def test_four_quarter_turns_are_identity(backend: str, batch: Tensor) -> None:
    square = batch[..., :HEIGHT]
    assert torch.equal(run([ga.RandomRotation((90, 90))] * 4, square, backend).cpu(), square)
    once = run([ga.RandomRotation((90, 90), interpolation="bilinear")], square, backend).cpu()
    assert torch.equal(once, square.rot90(1, (-2, -1))), "counter-clockwise"


@backends
def test_a_whole_shift_moves_pixels(backend: str, batch: Tensor) -> None:
    for mode in ("nearest", "bilinear"):
        images = batch.to(judges.device_of(backend))
        moved = ga.functional.affine(images, 0.0, [3, -2], 1.0, [0.0, 0.0], mode, fill=99, backend=backend).cpu()
        assert torch.equal(moved[:, :, :-2, 3:], batch[:, :, 2:, :-3])
        assert (moved[:, :, -2:] == 99).all() and (moved[:, :, :, :3] == 99).all()


@backends
@pytest.mark.parametrize("merged", [False, True])
def test_a_warp_and_its_inverse(merged: bool, backend: str) -> None:
    """Inside, a smooth image comes back: nearly from two resamplings, exactly where one pipeline merges them."""
    y, x = torch.meshgrid(torch.arange(40) / 40, torch.arange(48) / 48, indexing="ij")
    image = (0.5 + 0.2 * torch.sin(5 * x + 2 * y) + 0.2 * torch.cos(4 * y)).expand(1, 3, 40, 48)
    turns = [ga.RandomRotation((a, a), interpolation="bilinear") for a in (25, -25)]
    back = run(turns, image, backend) if merged else run(turns[1:], run(turns[:1], image, backend), backend)
    inside = (..., slice(14, 26), slice(14, 34))
    torch.testing.assert_close(back.cpu()[inside], image[inside], rtol=0, atol=1e-4 if merged else 5e-3)


@backends
@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_empty_and_single_batches(count: int, dtype: torch.dtype, backend: str, batch: Tensor) -> None:
    images = F.to_dtype(batch[:count], dtype, scale=True)
    out = run([*PIPELINE, ga.Resize((7, 9), MODE)], images, backend)
    assert out.shape == (count, 3, 7, 9) and out.dtype == dtype
    out = run([*PIPELINE, ga.ToDtype(torch.float32, scale=True)], images, backend)
    assert out.shape == (count, 3, HEIGHT, WIDTH) and out.dtype == torch.float32
    if count:
        whole = run(PIPELINE, F.to_dtype(batch, dtype, scale=True), backend)
        assert torch.equal(run(PIPELINE, images, backend), whole[:count])


# --- inputs and outputs -----------------------------------------------------------------------------------------------
@backends
@pytest.mark.parametrize("dtype", [t for t in DTYPES if t.itemsize == 2])
def test_half_precision_is_float32_until_the_store(dtype: torch.dtype, backend: str, batch: Tensor) -> None:
    images = F.to_dtype(batch, dtype, scale=True)
    augment = ga.Compose(PIPELINE, seed=6, backend=backend)
    params = augment.sample(images.to(judges.device_of(backend)), ids=range(4), epoch=0)
    out = augment.apply(images.to(judges.device_of(backend)), params).cpu()
    assert out.dtype == dtype
    for i in range(4):
        verdict = judges.judge(images[i].float(), params.describe(i), exact=True)
        slack = judges.FLOAT_TOLERANCE + torch.finfo(dtype).eps / 2
        got = out[i].double()
        assert ((got >= verdict.lo - slack) & (got <= verdict.hi + slack)).all()


@backends
@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_to_dtype_and_normalize_round_once(dtype: torch.dtype, backend: str, batch: Tensor) -> None:
    transforms = [ga.ToDtype(dtype, scale=True), ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD)]
    out = run(transforms, batch, backend).cpu()
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (ga.IMAGENET_MEAN, ga.IMAGENET_STD))
    exact = (batch.double() / 255 - mean) / std
    assert out.dtype == dtype
    error = (out.double() - exact).abs()
    assert (error <= exact.abs() * torch.finfo(dtype).eps / 2 + 1e-6).all()


@backends
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", CHANNELS)
def test_any_number_of_channels(channels: int, dtype: torch.dtype, backend: str, batch: Tensor) -> None:
    images = F.to_dtype(batch.repeat(1, 6, 1, 1)[:2, :channels], dtype, scale=True)
    fill = [(20 * c) % 256 if dtype == torch.uint8 else c / 20 for c in range(channels)]
    transforms = [
        ga.RandomAffine(40, interpolation=MODE, fill=fill),
        ga.RandomSolarize(140 if dtype == torch.uint8 else 0.56, 1.0),
        ga.Pad((1, 2, 3, 4), fill=fill),
        ga.ToDtype(torch.float32, scale=True),
        ga.Normalize([0.1 * c for c in range(channels)], [0.5 + 0.1 * c for c in range(channels)]),
    ]
    augment = ga.Compose(transforms, seed=6, backend=backend)
    params = augment.sample(images.to(judges.device_of(backend)), ids=range(2), epoch=0)
    judges.check_batch(augment.apply(images.to(judges.device_of(backend)), params).cpu(), images, params)


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "window": lambda x: torch.nn.functional.pad(x.float(), (3, 5, 1, 2)).to(x.dtype)[..., 1:-2, 3:-5],
    "every second": lambda x: (
        x.repeat_interleave(2, 0).repeat_interleave(2, 2).repeat_interleave(2, 3)[::2, :, ::2, ::2]
    ),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "channels first of all": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "from HWC": lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    "fourth channel skipped": lambda x: (
        torch.cat([x, x[:, :1]], 1).permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)[:, :3]
    ),
}


@backends
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", ["window", "from HWC"] if judges.INTERPRETED else VIEWS)
def test_any_strides(view: str, dtype: torch.dtype, backend: str, batch: Tensor) -> None:
    images = F.to_dtype(batch, dtype, scale=True)
    strided = VIEWS[view](images)
    assert torch.equal(strided, images) and strided.stride() != images.stride()
    for transforms in (PIPELINE, [ga.RandomResizedCrop(9), ga.ColorJitter(**PARTS)]):
        assert_same(run(transforms, strided, backend), run(transforms, images, backend))


@backends
def test_expanded_images(backend: str, batch: Tensor) -> None:
    for expanded in (batch[:1].expand(4, -1, -1, -1), batch[:, :1].expand(-1, 3, -1, -1)):
        assert_same(run(PIPELINE, expanded, backend), run(PIPELINE, expanded.contiguous(), backend))


@backends
def test_single_images(backend: str, batch: Tensor) -> None:
    augment = ga.Compose(PIPELINE, seed=6, backend=backend)
    image = batch[2].to(judges.device_of(backend))
    out = augment(image, ids=[2], epoch=1)
    assert out.shape == image.shape and torch.equal(out, run(PIPELINE, batch, backend)[2])
    assert torch.equal(augment.apply(image, augment.sample(image, ids=[2], epoch=1)), out)


@backends
@pytest.mark.parametrize("given", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("wanted", [torch.preserve_format, torch.contiguous_format, torch.channels_last])
def test_memory_format(wanted: torch.memory_format, given: torch.memory_format, backend: str, batch: Tensor) -> None:
    images = batch.contiguous(memory_format=given)
    transforms = [*PIPELINE, ga.Resize((9, 16), MODE), ga.ToDtype(HALF, scale=True)]
    out = run(transforms, images, backend, memory_format=wanted)
    expected = given if wanted == torch.preserve_format else wanted
    assert out.is_contiguous(memory_format=expected)
    assert_same(out, run(transforms, batch, backend))


@backends
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", DTYPES)
def test_out_is_fully_written_and_no_further(dtype, memory_format, backend: str, batch: Tensor) -> None:
    device = judges.device_of(backend)
    images = F.to_dtype(batch, dtype, scale=True).to(device)
    augment = ga.Compose([*PIPELINE, ga.Resize((11, 13), MODE)], seed=6, backend=backend)
    params = augment.sample(images, ids=range(4), epoch=0)
    kept, table = images.clone(), params.table.clone()
    expected = augment.apply(images, params)
    for poison in (255, 1) if dtype == torch.uint8 else (math.nan, 7.0):
        out = torch.full((4, 3, 11, 13), poison, dtype=dtype, device=device).to(memory_format=memory_format)
        assert augment.apply(images, params, out=out).data_ptr() == out.data_ptr()
        assert torch.equal(out, expected)
        wide = torch.full((4, 3, 15, 20), poison, dtype=dtype, device=device).to(memory_format=memory_format)
        augment.apply(images, params, out=wide[..., 2:13, 3:16])
        assert torch.equal(wide[..., 2:13, 3:16], expected)
        wide[..., 2:13, 3:16] = poison
        assert torch.equal(wide.nan_to_num(5), torch.full_like(wide, poison).nan_to_num(5)), "written outside of out"
    assert torch.equal(images, kept) and torch.equal(params.table, table), "apply is pure"
    for wrong in (expected[:2], expected.double(), expected[..., :-1]):
        with pytest.raises(ValueError, match="out must be"):
            augment.apply(images, params, out=wrong.clone())


@backends
def test_an_identity_hands_out_a_copy(backend: str, batch: Tensor) -> None:
    run([ga.Identity()], batch, backend).zero_()
    assert batch.any()


# --- the face ---------------------------------------------------------------------------------------------------------
def test_copies_are_equal(batch: Tensor) -> None:
    transforms = [
        *PIPELINE,
        ga.RandomApply([ga.RandomInvert(1.0), ga.RandomRotation((5, 9), "bilinear", center=(1, 2))], p=0.5),
        ga.RandomChoice([ga.RandomSolarize(99), ga.Identity()], p=[0.3, 0.7]),
        ga.RandomOrder([ga.RandomPerspective(0.3, fill=[1, 2, 3]), ga.RandomInvert()]),
        ga.Pad((1, 2), padding_mode="edge"),
        ga.ToDtype(torch.bfloat16, scale=True),
        ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD),
    ]
    augment = ga.Compose(transforms, seed=31, memory_format=torch.channels_last)
    expected = augment(batch, ids=range(4), epoch=3)
    by_repr = eval(repr(augment), {**vars(ga), "torch": torch})
    for other in (by_repr, pickle.loads(pickle.dumps(augment)), copy.deepcopy(augment)):
        assert repr(other) == repr(augment) and list(other.transforms) == list(augment.transforms)
        assert torch.equal(other(batch, ids=range(4), epoch=3), expected)


def test_labels_pass_through_and_eval_changes_nothing(batch: Tensor) -> None:
    augment = ga.Compose(PIPELINE, seed=6)
    labels = torch.tensor([3, 1, 4, 1])
    images, out = augment(batch, labels, ids=range(4), epoch=0)
    assert out is labels and torch.equal(images, augment.eval()(batch, ids=range(4), epoch=0))
    assert isinstance(torch.nn.Sequential(augment, torch.nn.Flatten())(batch), Tensor)


def test_records_hold_every_argument_of_their_call(batch: Tensor) -> None:
    transforms = [
        ga.Resize(30, InterpolationMode.BILINEAR),
        ga.CenterCrop(28),
        ga.RandomCrop(24, padding=2, fill=(1, 2, 3)),
        ga.Pad(1),
        ga.RandomResizedCrop(20, interpolation="nearest"),
        ga.RandomHorizontalFlip(1.0),
        ga.RandomVerticalFlip(1.0),
        ga.RandomRotation(9),
        ga.RandomAffine(9),
        ga.RandomPerspective(p=1.0),
        ga.ColorJitter(brightness=0.1, contrast=0.1),
        ga.RandomSolarize(3, 1.0),
        ga.RandomInvert(1.0),
        ga.Identity(),
        ga.ToDtype(torch.float32, scale=True),
        ga.Normalize([0.5], [0.5]),
    ]
    params = ga.Compose(transforms, seed=6).sample(batch, ids=range(4), epoch=0)
    assert params.table.dtype == torch.float32 and params.table.shape == (4, len(params.columns))
    assert all(isinstance(name, str) for name in params.columns) and len(set(params.columns)) == len(params.columns)
    records = params.describe(1)
    by_class = [name for name in (type(t).__name__ for t in transforms) if name != "Identity"]
    assert list(dict.fromkeys(r["op"] for r in records)) == by_class
    for record in records:
        assert set(record) == {"op", "call", "kwargs"}
        names = set(list(inspect.signature(getattr(F, record["call"])).parameters)[1:])
        names -= {"inplace"} | ({"coefficients"} if "endpoints" in record["kwargs"] else set())
        assert set(record["kwargs"]) == names, record
        assert type(record["kwargs"].get("interpolation", "")) is str
    judges.replay(batch[1], records)


FUNCTIONAL = {
    "rotate": {"angle": torch.tensor([10.0, -33.0, 90.0, 171.5]), "interpolation": "bilinear", "fill": [9.0, 8.0, 7.0]},
    "affine": {
        "angle": torch.tensor([10.0, -33.0, 90.0, 171.5]),
        "translate": torch.tensor([[1.0, 2.0], [0.0, -3.0], [4.0, 0.0], [-2.0, -2.0]]),
        "scale": torch.tensor([1.0, 0.7, 1.3, 2.0]),
        "shear": torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, -8.0], [5.0, 5.0]]),
        "fill": 77.0,
    },
    "resized_crop": {
        "top": torch.tensor([0, 3, 5, 1]),
        "left": torch.tensor([2, 0, 4, 1]),
        "height": torch.tensor([HEIGHT, 9, 7, 1]),
        "width": torch.tensor([8, 5, 6, 1]),
        "size": [9, 12],
    },
    "crop": {"top": torch.tensor([0, 3, 5, 1]), "left": torch.tensor([2, 0, 4, 1]), "height": 7, "width": 11},
    "adjust_brightness": {"brightness_factor": torch.tensor([0.0, 0.5, 1.0, 2.5])},
    "adjust_contrast": {"contrast_factor": torch.tensor([0.0, 0.5, 1.0, 2.5])},
    "solarize": {"threshold": torch.tensor([0.0, 100.0, 128.0, 255.0])},
    "invert": {},
    "horizontal_flip": {},
    "vertical_flip": {},
    "pad": {"padding": [1, 2, 3, 4], "fill": [5.0, 6.0, 7.0]},
    "center_crop": {"output_size": [11, 50]},
    "resize": {"size": [11, 50], "interpolation": "bicubic"},
    "to_dtype": {"dtype": torch.float32, "scale": True},
    "adjust_saturation": {"saturation_factor": torch.tensor([0.0, 0.7, 1.5, 3.0])},
    "adjust_hue": {"hue_factor": torch.tensor([-0.5, -0.1, 0.2, 0.5])},
    "adjust_sharpness": {"sharpness_factor": torch.tensor([0.0, 0.5, 1.0, 2.5])},
    "adjust_gamma": {"gamma": torch.tensor([0.4, 1.0, 1.5, 2.5]), "gain": 0.9},
    "posterize": {"bits": torch.tensor([0, 2, 5, 8])},
    "permute_channels": {"permutation": torch.tensor([[2, 0, 1], [0, 1, 2], [1, 0, 2], [2, 1, 0]])},
    "rgb_to_grayscale": {"num_output_channels": 3},
    "autocontrast": {},
    "equalize": {},
    "gaussian_blur": {"kernel_size": [5, 3], "sigma": torch.tensor([[0.4, 1.0], [2.0, 0.7], [1.0, 1.0], [3.0, 3.0]])},
    "jpeg": {"quality": torch.tensor([1, 30, 75, 100])},
    "solarize_add": {"addition": torch.tensor([0, 20, -30, 110]), "threshold": torch.tensor([128, 60, 200, 128])},
    "erase": {
        "i": torch.tensor([0, 3, 10, 5]),
        "j": torch.tensor([2, 0, 7, 5]),
        "h": torch.tensor([24, 9, 7, 0]),
        "w": torch.tensor([8, 5, 23, 3]),
        "v": torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [255.0, 0.0, 7.0], [9.0, 9.0, 9.0]]),
    },
}


def one_sample(kwargs: dict, i: int) -> dict:
    own = {k: v[i].tolist() if isinstance(v, Tensor) else v for k, v in kwargs.items()}
    return own | ({"v": kwargs["v"][i].view(-1, 1, 1)} if "v" in kwargs else {})


@backends
@pytest.mark.parametrize("name", FUNCTIONAL)
def test_functional(name: str, backend: str, batch: Tensor) -> None:
    """The same names and arguments as torchvision's, with one value for all or one for each sample."""
    device, kwargs = judges.device_of(backend), FUNCTIONAL[name]
    placed = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in kwargs.items()}
    out = getattr(ga.functional, name)(batch.to(device), **placed, backend=backend).cpu()
    for i in range(4):
        judges.check(out[i], batch[i], [{"call": name, "kwargs": one_sample(kwargs, i)}])
    single = getattr(ga.functional, name)(batch[2].to(device), **one_sample(kwargs, 2), backend=backend).cpu()
    assert torch.equal(single, out[2]), "numbers, on one [C, H, W] image"


@backends
def test_functional_perspective(backend: str, batch: Tensor) -> None:
    h, w = HEIGHT - 1, WIDTH - 1
    start = [[0, 0], [w, 0], [w, h], [0, h]]
    ends = torch.tensor(start)[None] + torch.tensor([[[3, 2], [-5, 1], [-1, -4], [2, 0]], [[0, 0]] * 4])
    images = batch[:2].to(judges.device_of(backend))
    out = ga.functional.perspective(images, start, ends.float().to(images.device), "bilinear", 50, backend=backend)
    for i in range(2):
        kwargs = {"startpoints": start, "endpoints": ends[i].tolist(), "interpolation": "bilinear", "fill": 50}
        judges.check(out[i].cpu(), batch[i], [{"call": "perspective", "kwargs": kwargs}])
