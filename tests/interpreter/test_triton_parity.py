"""The Triton kernels, interpreted, against the torch dialect: same table, same plan, same pixels.

Which of the two is right, the judges in `tests/` say (torchvision, closed forms); here the two must agree.
"""

from __future__ import annotations

import pytest
import torch
from engines import draw_and_write, drawn_table

import gpuaug as ga
from gpuaug import backends
from gpuaug.kernels.shared import plan
from gpuaug.keys import new_state
from gpuaug.lowering import lower
from gpuaug.recipe import batch_rows

TO_FLOAT = ga.ToDtype(torch.float32, scale=True)
JITTER = ga.ColorJitter(brightness=0.4, contrast=0.4)
SIZE = (16, 18)  # of every output

LEVEL = 1.02 / 255 / 0.225  # a uint8 level, behind the smallest std


def solarize(white: float, p: float = 0.5) -> ga.RandomSolarize:
    return ga.RandomSolarize(0.4 * white, p)


# name: channels, transforms for a white of 255 or 1, share of the pixels that may differ by more because a nearest snap
# stands at a tie
PIPELINES = {
    "flips": (3, lambda white: [ga.RandomHorizontalFlip(), ga.RandomVerticalFlip(), ga.CenterCrop(SIZE)], 0),
    "pads and crops": (
        4,
        lambda white: [
            ga.Pad((1, 2, 3, 4), fill=(1, 2, 3, 4)),
            ga.RandomCrop((20, 20), padding=3, padding_mode="edge"),
            ga.RandomHorizontalFlip(),
            ga.RandomCrop(SIZE, padding=5, padding_mode="reflect"),
            ga.Pad(9, padding_mode="symmetric"),
            ga.CenterCrop(SIZE),
        ],
        0,
    ),
    "bilinear resize": (3, lambda white: [ga.RandomResizedCrop(SIZE), ga.RandomHorizontalFlip(), TO_FLOAT], 0),
    "bicubic resize": (5, lambda white: [ga.Resize(19, interpolation="bicubic"), ga.CenterCrop(SIZE)], 0),
    "without antialias": (
        1,
        lambda white: [ga.RandomResizedCrop(SIZE, interpolation="bicubic", antialias=False), TO_FLOAT],
        0,
    ),
    "nearest resizes": (
        3,
        lambda white: [
            ga.RandomResizedCrop((30, 31), interpolation="nearest"),
            ga.Resize(SIZE, interpolation="nearest-exact"),
        ],
        0,
    ),
    "nearest warps": (
        3,
        lambda white: [
            ga.RandomAffine(45, (0.2, 0.2), (0.8, 1.2), (-9, 9, -5, 5), fill=(9, 8, 7)),
            ga.RandomInvert(),
            ga.RandomRotation(40, center=(3, 4), fill=200),
            ga.RandomPerspective(0.6, p=1.0, fill=5),
            solarize(white),
            ga.Resize(SIZE, interpolation="nearest"),
        ],
        0.02,
    ),
    "smooth behind nearest": (
        3,
        lambda white: [
            ga.RandomRotation(30, fill=40),
            JITTER,
            ga.RandomCrop((20, 22), padding=4, padding_mode="reflect"),
            solarize(white, 1.0),
            ga.RandomAffine(30, interpolation="bilinear", fill=90),
            ga.RandomInvert(),
            ga.CenterCrop(SIZE),
            TO_FLOAT,
            ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD),
        ],
        0.02,
    ),
    "two smooth ones": (
        1,
        lambda white: [
            ga.RandomResizedCrop((24, 20)),
            JITTER,
            ga.RandomPerspective(0.3, p=1.0, interpolation="bilinear"),
            ga.Resize(SIZE),
        ],
        0,
    ),
    "policy": (
        3,
        lambda white: [
            ga.RandomChoice(
                [ga.RandomErasing(1.0, value=white), ga.RandomEqualize(1.0), ga.GaussianBlur(3), ga.JPEG(60)]
            ),
            ga.RandomChoice([ga.RandomAffine(20), ga.RandomAdjustSharpness(2.0, 1.0), ga.RandomAutocontrast(1.0)]),
            ga.RandomResizedCrop(SIZE),
            ga.ColorJitter(0.4, 0.4, 0.4, 0.1),
            TO_FLOAT,
            ga.GaussianNoise(),
        ],
        0.02,
    ),
    "several statistics": (
        3,
        lambda white: [
            ga.ColorJitter(contrast=0.5),
            ga.RandomAffine(20, interpolation="bilinear"),
            JITTER,
            ga.RandomResizedCrop(SIZE),
            JITTER,
        ],
        0,
    ),
    "choices": (
        3,
        lambda white: [
            ga.RandomApply([ga.RandomRotation(20)], p=0.5),
            ga.RandomChoice([ga.RandomInvert(1.0), solarize(white, 1.0), ga.Identity()], p=[0.2, 0.5, 0.3]),
            ga.RandomOrder([ga.RandomHorizontalFlip(), ga.RandomAffine(30, fill=7), JITTER]),
            ga.CenterCrop(SIZE),
        ],
        0.02,
    ),
    "sixteen channels": (
        16,
        lambda white: [
            ga.RandomResizedCrop(SIZE),
            TO_FLOAT,
            ga.Normalize([i / 16 for i in range(16)], [0.5 + i / 16 for i in range(16)]),
        ],
        0,
    ),
    "nothing": (2, lambda white: [ga.CenterCrop(SIZE)], 0),
}
parametrize = pytest.mark.parametrize("name", PIPELINES)


def images(b: int, channels: int, h: int, w: int, seed: int = 0) -> torch.Tensor:
    """Smooth noise, uint8 [b, channels, h, w]."""
    noise = torch.rand((b, channels, 6, 6), generator=torch.Generator().manual_seed(seed))
    noise = torch.nn.functional.interpolate(noise, (h, w), mode="bicubic", align_corners=False)
    return (noise.clamp(0, 1) * 255).round().to(torch.uint8)


def source(name: str, dtype: torch.dtype) -> torch.Tensor:
    x = images(2, PIPELINES[name][0], 24, 20)
    return x if dtype == torch.uint8 else x.to(torch.float32).div(255).to(dtype)


def pair(name: str, x: torch.Tensor) -> tuple[ga.Compose, ga.Compose]:
    transforms = PIPELINES[name][1](255 if x.dtype == torch.uint8 else 1)
    return tuple(ga.Compose(transforms, seed=11, backend=backend) for backend in ("triton", "kornia"))


def close(found: torch.Tensor, expected: torch.Tensor, lattice: bool, ties: float = 0.0) -> None:
    """Within 1e-3 for floats; where pixels pass through uint8, a percent may be a level apart. More only at `ties`."""
    assert found.dtype == expected.dtype and found.shape == expected.shape
    apart = (found.float() - expected.float()).abs()
    level = (1.0 if found.dtype == torch.uint8 else LEVEL) if lattice else 1e-3
    assert (apart > level).float().mean() <= ties, f"up to {float(apart.max())} apart"
    assert (apart > 1e-3).float().mean() <= ties + 0.01 * lattice


@parametrize
def test_tables_are_equal_to_the_bit(name):
    x, ids = source(name, torch.uint8), [5, 2**40 + 3]
    triton, torch_dialect = (augment.sample(x, ids=ids, epoch=2) for augment in pair(name, x))
    assert triton.columns == torch_dialect.columns
    assert torch.equal(triton.table, torch_dialect.table)


def test_a_key_without_an_epoch_takes_the_states():
    x, ids = source("flips", torch.uint8), torch.tensor([5, 2**40 + 3])
    for augment in pair("flips", x):
        recipe = augment.recipe(x)
        tables = [
            drawn_table(recipe.engine, recipe.rows, 2, ids, epoch, new_state(1, 2, 0, x.device, epoch=2**32 - 5))
            for epoch in (-1, 2**32 - 5, 0)
        ]
        assert torch.equal(tables[0], tables[1]) and not torch.equal(tables[0], tables[2])


@parametrize
def test_plans_are_equal(name):
    x = source(name, torch.uint8)
    triton, torch_dialect = (augment.recipe(x) for augment in pair(name, x))
    state = new_state(1, 2, 0, x.device)
    table = drawn_table(torch_dialect.engine, torch_dialect.rows, 2, torch.arange(2), 0, state)
    mine = triton.engine.plan(triton.rows, table).words
    theirs = torch_dialect.engine.plan(torch_dialect.rows, table).words
    used = plan_words_in_use(theirs, triton.program)
    torch.testing.assert_close(mine[used], theirs[used], rtol=1e-6, atol=1e-6 * 24)


def plan_words_in_use(plans: torch.Tensor, program) -> torch.Tensor:
    """A mask of the words that a plan's header says are there."""
    used = torch.zeros_like(plans, dtype=torch.bool)
    unset = {plan.SPARE} if program.mix else {plan.SPARE, plan.FRONT}
    used[:, [i for i in range(plan.HEADER) if i not in unset]] = True
    triples = (program.channels + 2) // 3
    group = list(range(plan.G_FILL + program.channels))
    step = [*range(plan.S_TRAIT + 1), *range(plan.S_ARGUMENTS, plan.S_ARGUMENTS + 8 * triples)]
    layout = (
        (plan.N_GROUPS, group, len(group), program.groups),
        (plan.N_STEPS, step, plan.S_ARGUMENTS + 8 * triples, program.steps),
        (plan.N_ASKS, range(plan.A_BASE + 1), plan.ASK, program.asks),
    )
    for row in range(len(plans)):
        start = plan.HEADER
        for header, words, length, most in layout:
            for i in range(int(plans[row, header])):
                used[row, [start + i * length + word for word in words]] = True
            start += most * length
    return used


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=["uint8", "float32"])
@parametrize
def test_pixels_agree_for_the_same_table(name, dtype):
    x = source(name, dtype)
    triton, torch_dialect = pair(name, x)
    params = torch_dialect.sample(x, ids=[3, 4], epoch=0)
    out = torch.full_like(torch_dialect.apply(x, params), 77)
    close(triton.apply(x, params, out=out), torch_dialect.apply(x, params), dtype == torch.uint8, PIPELINES[name][2])


SMALL = [ga.RandomInvert(), ga.RandomCrop((8, 8)), ga.RandomOrder([ga.RandomHorizontalFlip(), ga.RandomVerticalFlip()])]


def test_the_fused_call_equals_sample_then_apply_and_counts():
    x = images(3, 1, 12, 12)
    fused, parts = (ga.Compose(SMALL, seed=3, backend="triton") for _ in range(2))
    for _ in range(2):
        assert torch.equal(fused(x), parts.apply(x, parts.sample(x)))
    assert fused.get_extra_state()[2] == 6
    state = next(iter(fused._keys._states.values()))
    assert state[plan.STATE_TICKET :].eq(0).all(), "the tickets are ready for the next launch"


def test_draws_without_ids_are_those_of_the_other_backend():
    x, tables = images(3, 1, 12, 12), []
    for backend in ("triton", "kornia"):
        augment = ga.Compose(SMALL, seed=3, backend=backend)
        augment.sample(x)
        tables.append(augment.sample(x).table)
    assert torch.equal(*tables)


@pytest.mark.parametrize("b", [0, 1])
def test_small_batches(b):
    x = images(3, 3, 24, 20)[:b]
    augment = ga.Compose([ga.RandomResizedCrop(SIZE), TO_FLOAT], seed=2, backend="triton")
    y = augment(x, ids=range(b), epoch=0)
    assert y.shape == (b, 3, *SIZE) and y.isfinite().all()
    if b:
        assert torch.equal(augment(x[0], ids=[0], epoch=0), y[0])


@pytest.mark.parametrize("layout", ["channels_last", "sliced", "every second image"])
def test_input_and_output_strides(layout):
    x = images(4, 3, 24, 40)
    views = {
        "channels_last": x.contiguous(memory_format=torch.channels_last),
        "sliced": x[:, :, ::2, 3:37:2],
        "every second image": x[1::2],
    }
    x = views[layout]
    augment = ga.Compose([ga.RandomResizedCrop(SIZE), TO_FLOAT], seed=2, backend="triton")
    params = augment.sample(x, ids=range(len(x)), epoch=0)
    expected = augment.apply(x.contiguous(), params)
    room = torch.full((len(x), 2, *SIZE, 3), float("nan"))
    out = augment.apply(x, params, out=room[:, 1].permute(0, 3, 1, 2))
    assert torch.equal(out, expected) and torch.equal(augment.apply(x, params), expected)
    assert room[:, 0].isnan().all(), "nothing else is written"


def test_rows_of_two_sizes_and_views_share_a_table_row():
    small, large = images(1, 3, 17, 16), images(1, 3, 24, 31, seed=1)
    flat = torch.cat([small.flatten(), large.flatten()])
    transforms = [ga.RandomResizedCrop(SIZE), JITTER]
    program = lower(transforms, frozenset({(17, 16), (24, 31)}), 3, torch.uint8)
    elements = 3 * SIZE[0] * SIZE[1]
    rows = torch.cat([batch_rows(small, elements), batch_rows(large, elements), batch_rows(small, elements)])
    rows[1, plan.ROW_SOURCE] = small.numel()
    rows[:, plan.ROW_OUT] = torch.tensor([0, 1, 2]) * elements
    rows[:, plan.ROW_TABLE] = torch.tensor([0, 1, 0])
    rows[:, plan.ROW_SAMPLE] = torch.tensor([0, 1, 0])
    results = []
    for name in ("triton", "kornia"):
        engine = backends.select(program, flat, name).Engine(program, flat.device)
        out = torch.full((3, 3, *SIZE), 77, dtype=torch.uint8)
        table = draw_and_write(engine, flat, rows, 2, torch.tensor([8, 9]), 1, new_state(4, 5, 0, flat.device), out)
        assert torch.equal(out[0], out[2])
        results.append((table, out))
    assert torch.equal(results[0][0], results[1][0])
    close(results[0][1], results[1][1], True, 0.01)  # the jitter behind a resize widens a level
