"""The kornia backend: gradients, no look at the device's values, rows of many kinds, and a literal walk beside it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import judges
import pytest
import torch
from engines import draw_and_write
from literal import Literal
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms.v2 import functional as F

import gpuaug as ga
from gpuaug.backends import kornia as backend
from gpuaug.kernels.shared import plan
from gpuaug.kernels.torch import dialect as torch_dialect
from gpuaug.kernels.torch.asks import halving_sum
from gpuaug.kernels.torch.layout import Ask, Layout
from gpuaug.keys import new_state
from gpuaug.lowering import lower
from gpuaug.recipe import batch_rows

JITTER = ga.ColorJitter(brightness=0.4, contrast=0.6)
TURN = {"degrees": 35, "translate": (0.2, 0.1), "scale": (0.7, 1.3), "shear": 10}
FLOAT = [ga.ToDtype(torch.float32, scale=True)]
NORMALIZE = [*FLOAT, ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD)]

# each takes uint8 of 3 channels and reaches another branch of the writer
PIPELINES: dict[str, list] = {
    "imagenet": [ga.RandomResizedCrop((15, 17)), ga.RandomHorizontalFlip(), JITTER, *NORMALIZE],
    "warp": [ga.RandomVerticalFlip(), ga.RandomAffine(**TURN, interpolation="bilinear", fill=(9, 99, 200)), JITTER],
    "perhaps-warp": [JITTER, ga.RandomPerspective(0.4, p=0.5, fill=70), ga.RandomSolarize(90), *FLOAT],
    "bicubic-warp": [ga.RandomInvert(), ga.RandomAffine(**TURN, interpolation="bicubic", fill=30), ga.Pad(2, fill=8)],
    "nearest": [ga.RandomAffine(**TURN, fill=33), JITTER, ga.Pad(3, padding_mode="reflect"), ga.RandomRotation(30)],
    "pad-resize-crop": [
        ga.Pad((2, 5), fill=200),
        JITTER,
        ga.Resize((13, 19), interpolation="bicubic"),
        ga.RandomCrop((16, 14), padding=4, padding_mode="symmetric"),
        ga.ColorJitter(contrast=0.9),
    ],
    "merged": [
        ga.RandomResizedCrop((19, 16)),
        JITTER,
        ga.RandomAffine(30, interpolation="bilinear", fill=128),
        *FLOAT,
    ],
    "merged-wide": [
        ga.RandomRotation(25, interpolation="bilinear", fill=(0, 60, 255)),
        ga.Resize((9, 10)),
        ga.RandomSolarize(120),
        ga.RandomAffine(20, translate=(0.2, 0.2), fill=17),
    ],
    "merged-zoom": [
        ga.RandomAffine(30, scale=(0.3, 0.6), shear=20, interpolation="bilinear", fill=128),
        ga.RandomInvert(),
        ga.Resize((8, 7)),
        *FLOAT,
    ],
    "choice": [
        ga.RandomChoice([ga.RandomAffine(**TURN), ga.RandomRotation(60, interpolation="bilinear", fill=4), JITTER]),
        ga.RandomOrder([ga.RandomInvert(), ga.RandomHorizontalFlip(), ga.RandomSolarize(100)]),
    ],
    "statistics-behind": [
        ga.RandomAffine(**TURN, fill=(9, 99, 200)),
        ga.RandomOrder([ga.RandomEqualize(), ga.RandomAutocontrast(), ga.RandomAdjustSharpness(0.3), JITTER]),
        ga.RandomErasing(0.7, value=(90, 0, 255)),
    ],
    "statistics-between": [
        ga.RandomResizedCrop((16, 18), interpolation="nearest"),
        ga.RandomEqualize(0.6),
        ga.RandomRotation(30, fill=20),
        ga.RandomAutocontrast(0.6),
        ga.RandomHorizontalFlip(),
        ga.ColorJitter(contrast=0.5, hue=0.2),
    ],
    "policy-behind-smooth": [
        ga.RandomResizedCrop((18, 16)),
        ga.RandomChoice([ga.RandomEqualize(1), ga.RandomRotation(40, fill=5), ga.RandomAdjustSharpness(2, p=1)]),
        ga.RandomChoice([ga.RandomAutocontrast(1), ga.RandomAffine(**TURN), ga.RandomAdjustSharpness(0, p=1)]),
    ],
    "neighbours-before-smooth": [
        ga.RandomAdjustSharpness(1.8, p=0.7),
        ga.RandomAffine(**TURN, interpolation="bilinear", fill=60),
        ga.RandomApply([ga.GaussianBlur((3, 5), (0.5, 1.5))], 0.7),
        ga.RandomApply([ga.RandomAutocontrast(1), ga.RandomRotation(20, interpolation="bilinear")], 0.7),
        ga.ColorJitter(contrast=0.4),
    ],
    "places": [
        ga.RandomErasing(0.8, value=(90, 0, 255)),
        ga.RandomRotation(30, fill=40),
        ga.GridMask((5, 9), fill=77, p=0.8),
        ga.RandomResizedCrop((17, 14)),
        ga.SaltAndPepper(0.1, p=0.7),
        *FLOAT,
        ga.RandomErasing(0.8, value="random"),
    ],
    "grey": [ga.RandomAffine(**TURN, fill=(9, 99, 200)), ga.Grayscale(1), JITTER, ga.RandomRotation(20, fill=30)],
}


@pytest.fixture(scope="session")
def batch(photos: list[Tensor]) -> Tensor:
    """Crops of real photos, uint8 [4, 3, 22, 20]."""
    return judges.patches(judges.thumbnails(photos, 64), 4, 22, 20, seed=3)


def compose(transforms: list, **keywords) -> ga.Compose:
    return ga.Compose(transforms, seed=11, backend="kornia", **keywords)


def run(transforms: list, images: Tensor, **keywords) -> Tensor:
    return compose(transforms, **keywords)(images, ids=range(len(images)), epoch=1)


# --- a literal walk ---------------------------------------------------------------------------------------------------
def literal(augment: ga.Compose, images: Tensor, table: Tensor) -> Tensor:
    recipe = augment.recipe(images)
    plans = recipe.engine.plan(recipe.rows, table).words
    program = recipe.program
    outputs = [
        Literal(program, words, image).write(program.out_size) for words, image in zip(plans, images, strict=True)
    ]
    return torch.stack(outputs)


def share_of_wrong(output: Tensor, expected: Tensor) -> float:
    tolerance = 1.001 if output.dtype == torch.uint8 else 1e-3
    return float(((output.double() - expected).abs() > tolerance).double().mean())


@pytest.mark.parametrize("name", PIPELINES)
def test_literal_walk(name: str, batch: Tensor) -> None:
    """A snap on a tie may fall otherwise in float64, and takes a pixel with it: one in a hundred at most."""
    augment, images = compose(PIPELINES[name]), batch[:3]
    params = augment.sample(images, ids=[4, 5, 6], epoch=0)
    expected = literal(augment, images, params.table)
    output = augment.apply(images, params)
    if name == "imagenet":
        expected, output = (F.normalize(v, [0, 0, 0], [1 / 0.229] * 3) for v in (expected, output))  # steps of 1/255
    assert share_of_wrong(output, expected) <= 0.01
    assert share_of_wrong(output.roll(1, -1), expected) > 0.3, "a shifted image would have passed"


BEHIND = [ga.Resize((9, 7)), ga.Resize((40, 20), interpolation="bicubic"), ga.RandomResizedCrop(8)]


@pytest.mark.parametrize("behind", BEHIND, ids=lambda op: type(op).__name__)
@pytest.mark.parametrize("name", ["warp", "merged", "merged-wide", "zoom", "perspective", "rotated"])
def test_no_row_needs_more_taps_than_bounded(name: str, behind: ga.Transform) -> None:
    """The loop over taps has a length that the host knows; a wider filter than that would be cut off."""
    extra = {
        "zoom": PIPELINES["merged-zoom"][:2],
        "perspective": [ga.RandomPerspective(0.9, p=0.9), ga.RandomHorizontalFlip()],
        "rotated": [ga.Resize((25, 40), antialias=False), ga.RandomRotation(90, "bilinear"), ga.RandomRotation(9)],
    }
    augment = compose([*(extra | PIPELINES)[name], behind])
    images = torch.zeros((256, 3, 60, 44), dtype=torch.uint8)
    recipe, params = augment.recipe(images), augment.sample(images, ids=range(256), epoch=0)
    plans = recipe.engine.plan(recipe.rows, params.table).words
    words = plan.G_FILL + 3
    groups = plans[:, plan.HEADER :][:, : recipe.program.groups * words].view(256, -1, words)
    first = groups.gather(1, plans[:, plan.SMOOTH].long()[:, None, None].expand(-1, 1, words))[:, 0]
    support = torch_dialect.GEOMETRY["reach"](first[:, plan.G_FILTER, None]) * first[:, plan.G_WIDTH : plan.G_WIDTH + 2]
    assert torch.isfinite(support).all() and support.min() >= 1
    assert (2 * support - 1e-4).ceil().max() <= layout_of(recipe.engine).taps <= 64


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_literal_walk_of_other_channels(channels: int, batch: Tensor) -> None:
    images = batch.flatten(0, 1)[: 2 * channels].reshape(2, channels, *batch.shape[2:])
    mean, std = ([0.1 * (c + k) for c in range(channels)] for k in (1, 4))
    fill = [40 * c for c in range(channels)]
    turned = ga.RandomRotation(40, interpolation="bilinear", fill=fill)
    augment = compose([ga.RandomSolarize(100), turned, *FLOAT, ga.Normalize(mean, std)])
    params = augment.sample(images, ids=[0, 1], epoch=0)
    assert share_of_wrong(augment.apply(images, params), literal(augment, images, params.table)) <= 0.01


# --- the shortcuts change nothing -------------------------------------------------------------------------------------
def layout_of(engine: backend.Engine) -> Layout:
    """That of an engine for inputs of one size."""
    return engine.layout_of(engine.canvas)


def pedestrian(layout: Layout) -> Layout:
    """The layout without what the host may know to save work."""
    every = {op: None for ops in layout.step_ops for op in ops}
    asks = {key: None for ask in layout.asks for key in ask.ops}
    asks = (Ask(asks, layout.groups, layout.steps),) * len(layout.asks)
    no, yes = (False,) * layout.steps, (True,) * layout.steps
    steps = {"step_ops": (every,) * layout.steps, "fixed_steps": no, "moved_steps": yes, "asks": asks}
    walk = {"separable": False, "projective": True, "folds": True, "front": layout.smooth, "bilinear": False}
    rounds = layout.rounds if layout.rounds == "none" else "some"
    return replace(layout, **steps, **walk, inline=False, resumes=False, rounds=rounds)


@pytest.mark.parametrize("name", PIPELINES)
def test_shortcuts(name: str, batch: Tensor) -> None:
    augment = compose(PIPELINES[name])
    params = augment.sample(batch, ids=range(4), epoch=5)
    engine = augment.recipe(batch).engine
    short = augment.apply(batch, params)
    assert pedestrian(layout_of(engine)) != layout_of(engine)
    engine.layouts[engine.canvas] = pedestrian(layout_of(engine))
    long = augment.apply(batch, params)
    levels = 1 if short.dtype == torch.uint8 else 255 * 0.229 if name == "imagenet" else 255
    error = (short.double() - long.double()).abs() * levels
    assert error.max() < 1.2 and (error > 0.03).double().mean() < 0.02, "more than ties of the lattice, and their mean"


@pytest.mark.parametrize("height, width", [(2, 2), (64, 48), (400, 1024)])
def test_remap_is_the_literal_bilinear(height: int, width: int) -> None:
    """kornia's remap against the taps, to 1e-4 of white noise in [0, 1], the hardest image there is."""
    noise = torch.rand((2, 3, height, width), generator=torch.Generator().manual_seed(0))
    augment = compose([ga.RandomHorizontalFlip(), ga.RandomAffine(**TURN, interpolation="bilinear", fill=0.3)])
    params, engine = augment.sample(noise, ids=[1, 2], epoch=0), augment.recipe(noise).engine
    assert layout_of(engine).bilinear
    by_remap = augment.apply(noise, params)
    engine.layouts[engine.canvas] = replace(layout_of(engine), bilinear=False)
    assert (by_remap - augment.apply(noise, params)).abs().max() < 1e-4


@pytest.mark.parametrize("name", PIPELINES)
def test_same_bits_in_any_batch_and_chunk(name: str, batch: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    output = run(PIPELINES[name], batch)
    augment = compose(PIPELINES[name])
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(augment(batch[order], ids=order, epoch=1), output[order])
    for i in range(4):
        assert torch.equal(augment(batch[i], ids=[i], epoch=1), output[i])
    monkeypatch.setattr(backend, "CHUNK_BYTES", dict.fromkeys(backend.CHUNK_BYTES, 1))
    assert torch.equal(run(PIPELINES[name], batch), output)


def test_powers_have_the_same_bits_anywhere() -> None:
    """torch's float32 power does not: its last elements take another path than those in front."""
    v, p = torch.rand(1001, generator=torch.Generator().manual_seed(0)), torch.full((1,), 0.7371)
    power = torch_dialect.xp.pow
    assert torch.equal(torch.cat([power(part.clone(), p) for part in v.split(7)]), power(v, p))


def test_halving_sum_ignores_padding_and_batch() -> None:
    v = torch.rand((5, 37, 70), generator=torch.Generator().manual_seed(0)) * 255
    total = halving_sum(v)
    torch.testing.assert_close(total.double(), v.double().sum((1, 2)), rtol=1e-6, atol=0)
    for height, width in ((37, 128), (64, 70), (300, 129)):
        padded = torch.zeros((5, height, width))
        padded[:, :37, :70] = v
        assert torch.equal(halving_sum(padded), total)
    assert torch.equal(halving_sum(v[3:4]), total[3:4])


# --- rows -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", PIPELINES)
def test_two_sizes_two_views_one_memory(name: str, batch: Tensor) -> None:
    """Images of two sizes, one channels last, two views each, outputs in another order: as each by itself."""
    small, large = batch[:2], F.resize(batch[2:], [27, 25]).to(memory_format=torch.channels_last)
    transforms = [*PIPELINES[name], ga.Resize((12, 12), interpolation="nearest-exact")]
    program = lower(transforms, frozenset({(22, 20), (27, 25)}), 3, torch.uint8)
    source = torch.cat([small.flatten(), large.permute(0, 2, 3, 1).flatten()])
    channels = program.out_channels
    elements = channels * 12 * 12
    rows = torch.cat([batch_rows(small, elements), batch_rows(large, elements)]).repeat_interleave(2, 0)
    n = torch.arange(8)
    rows[4:, plan.ROW_SOURCE] += small.numel()
    rows[:, plan.ROW_SAMPLE], rows[:, plan.ROW_VIEW], rows[:, plan.ROW_TABLE] = n // 2, n % 2, n
    rows[:, plan.ROW_OUT] = (7 - n) * elements
    out = torch.full((8, channels, 12, 12), float("nan")).to(program.out_dtype)
    ids, state = torch.tensor([3, 1, 4, 1 << 40]), new_state(11, 0, 0, torch.device("cpu"))
    table = draw_and_write(backend.Engine(program, source.device), source, rows, 8, ids, 2, state, out)
    assert state[plan.STATE_COUNTER] == 0
    augment = compose(transforms)
    for i in range(8):
        image = (small[i // 2] if i < 4 else large[i // 2 - 2])[None]
        params = replace(augment.sample(image, ids=ids[i // 2][None], epoch=2), table=table[i][None])
        if i % 2 == 0:
            assert torch.equal(augment.sample(image, ids=ids[i // 2][None], epoch=2).table[0], table[i])
        assert torch.equal(out[7 - i], augment.apply(image, params)[0])


def test_rows_that_share_a_table_row(batch: Tensor) -> None:
    augment = compose(PIPELINES["merged"])
    recipe = augment.recipe(batch)
    rows = recipe.rows.clone()
    rows[:, plan.ROW_TABLE] = rows[:, plan.ROW_SAMPLE] = torch.tensor([0, 1, 0, 1])
    out, state = recipe.module.allocate((4, 3, 19, 16), torch.float32, rows.device, torch.contiguous_format), None
    state = new_state(11, 0, 100, rows.device)
    table = draw_and_write(recipe.engine, batch, rows, 2, None, 0, state, out)
    assert table.shape[0] == 2 and state[plan.STATE_COUNTER] == 102
    params = replace(augment.sample(batch, ids=range(4), epoch=0), table=table[torch.tensor([0, 1, 0, 1])])
    assert torch.equal(out, augment.apply(batch, params))


def test_any_strides_in_and_out(batch: Tensor) -> None:
    augment = compose(PIPELINES["imagenet"])
    params = augment.sample(batch, ids=range(4), epoch=0)
    output = augment.apply(batch, params)
    wide = torch.zeros((4, 6, 44, 40), dtype=torch.uint8)
    wide[:, 1::2, ::2, ::2] = batch
    for view in (wide[:, 1::2, ::2, ::2], batch.to(memory_format=torch.channels_last)):
        assert torch.equal(augment.apply(view, params), output)
    tight = batch[:1].expand(4, -1, -1, -1)
    assert torch.equal(augment.apply(tight, params), augment.apply(tight.contiguous(), params))
    buffer = torch.full((4, 3, 17, 45), float("nan"))
    out = buffer.transpose(2, 3)[:, :, ::3]
    assert augment.apply(batch, params, out=out) is out and torch.equal(out, output)
    assert buffer.isnan().float().mean() == pytest.approx(2 / 3)


def test_more_than_two_to_the_31_elements(batch: Tensor) -> None:
    """An image beyond what 32 bits index; the memory in front of it is never touched, so it costs nothing."""
    source = torch.empty(2**31 + batch.numel(), dtype=torch.uint8)
    source[2**31 :] = batch.flatten()
    augment = compose(PIPELINES["imagenet"])
    recipe, params = augment.recipe(batch), augment.sample(batch, ids=range(4), epoch=0)
    rows = recipe.rows.clone()
    rows[:, plan.ROW_SOURCE] += 2**31
    expected = augment.apply(batch, params)
    out = torch.full_like(expected, float("nan"))
    recipe.engine.write(source, rows, recipe.engine.plan(rows, params.table), out)
    assert torch.equal(out, expected)


def test_settings_of_the_process_change_nothing(batch: Tensor) -> None:
    """Autocast, matmul precision, the default dtype and the thread count are the model's, not ours."""
    expected, dtype, threads = run(PIPELINES["imagenet"], batch), torch.get_default_dtype(), torch.get_num_threads()
    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_float32_matmul_precision("medium")
        torch.set_num_threads(threads + 1)
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            output = run(PIPELINES["imagenet"], batch)
    finally:
        torch.set_default_dtype(dtype)
        torch.set_float32_matmul_precision(precision)
        torch.set_num_threads(threads)
    assert torch.equal(output, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_stored_once(dtype: torch.dtype, batch: Tensor) -> None:
    transforms = [ga.RandomResizedCrop(14), ga.ColorJitter(brightness=0.3), ga.ToDtype(torch.float32)]
    images = F.to_dtype(batch, dtype, scale=True)
    full = run(transforms, images)
    assert torch.equal(run([*transforms, ga.ToDtype(dtype)], images), full.to(dtype))
    assert torch.equal(run(transforms, images.float()), full)


# --- the host looks at nothing ----------------------------------------------------------------------------------------
class NoLook(TorchDispatchMode):
    """Fails where a value or a count that depends on values reaches the host."""

    LOOKS = ("_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "equal", "is_nonzero")

    def __torch_dispatch__(self, func: Callable, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert not name.startswith(self.LOOKS), f"the host looked: {func}"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", PIPELINES)
def test_no_value_is_looked_at(name: str, batch: Tensor) -> None:
    augment, ids = compose(PIPELINES[name]), torch.arange(4)
    augment.recipe(batch)
    with NoLook():
        augment(batch)
        params = augment.sample(batch, ids=ids, epoch=0)
        augment.apply(batch, params)
    with NoLook(), pytest.raises(AssertionError, match="looked"):
        params.table.sum().item()


@pytest.mark.parametrize("name", ["imagenet", "perhaps-warp", "choice"])
def test_runs_where_there_are_no_values(name: str, batch: Tensor) -> None:
    """The meta device has shapes alone: whatever asks for a value, or for another device, raises there."""
    augment = ga.Compose(PIPELINES[name], seed=0)
    images = batch.to("meta")
    assert augment.recipe(images).module is backend
    output = augment(images, ids=range(4), epoch=0)
    assert output.is_meta and output.shape == run(PIPELINES[name], batch).shape
    assert augment(images).dtype == output.dtype


# --- what is not installed --------------------------------------------------------------------------------------------
def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_numba_falls_back_with_one_warning() -> None:
    told = python(
        "import os, sys, warnings\n"
        "os.environ['GPUAUG_ENGINE'] = 'jit'\n"
        "sys.modules['numba'] = None\n"
        "import torch, gpuaug as ga\n"
        "warnings.simplefilter('always')\n"
        "x = torch.arange(2 * 3 * 9 * 9, dtype=torch.uint8).reshape(2, 3, 9, 9)\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    for size in (4, 5):\n"
        "        augment = ga.Compose([ga.RandomResizedCrop(size), ga.RandomHorizontalFlip()], seed=0)\n"
        "        y = augment(x)\n"
        "        assert y.shape == (2, 3, size, size)\n"
        "    assert torch.equal(y, ga.Compose(augment.transforms, seed=0, backend='kornia')(x))\n"
        "mine = [str(w.message) for w in caught if 'gpuaug' in str(w.message)]\n"
        "print(len(mine), mine[0])\n"
        "try:\n"
        "    ga.Compose([ga.RandomResizedCrop(4)], backend='cpu')(x)\n"
        "except RuntimeError as error:\n"
        "    print(error)\n"
    )
    warning, error = told.strip().splitlines()
    assert warning.startswith("1 ") and "kornia" in warning and "numba is not installed" in warning
    assert "numba is not installed" in error


def test_without_kornia_says_so() -> None:
    told = python(
        "import sys\n"
        "sys.modules['kornia'] = None\n"
        "import torch, gpuaug as ga\n"
        "try:\n"
        "    ga.Compose([ga.RandomHorizontalFlip()], backend='kornia')(torch.zeros(1, 3, 4, 4))\n"
        "except RuntimeError as error:\n"
        "    print(error)\n"
    )
    assert "kornia is not installed" in told


def test_too_many_taps_are_refused() -> None:
    """No filter is cut off silently; an axis-aligned chain, whose taps are counted by axis, is never refused."""
    zoom = ga.RandomPerspective(0.5, interpolation="bicubic")
    with pytest.raises(RuntimeError, match=r"kornia: .*96 x 96 taps a pixel"):
        compose([zoom, ga.Resize((8, 8))])(torch.zeros((1, 3, 48, 48), dtype=torch.uint8))
    assert compose([ga.Resize((4, 4))])(torch.zeros((1, 3, 300, 48), dtype=torch.uint8)).shape == (1, 3, 4, 4)


def test_mps_lacks_float64() -> None:
    class OnMps:
        device = torch.device("mps")

    program = lower([ga.RandomPerspective()], frozenset({(8, 8)}), 3, torch.uint8)
    assert "float64" in backend.supports(program, OnMps())
    assert backend.supports(lower([ga.RandomRotation(9)], frozenset({(8, 8)}), 3, torch.uint8), OnMps()) is None
