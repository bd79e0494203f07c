"""The CPU engine: its walk against the torch dialect, odd shapes, rounding, memory, threads, processes, the cache."""

from __future__ import annotations

import gc
import itertools
import re
from concurrent.futures import ThreadPoolExecutor

import judges
import pytest
import torch
from calls import torchs_threads  # noqa: F401, a fixture
from engines import draw_and_write, drawn_table
from literal import Literal
from torch import Tensor

import gpuaug as ga
from gpuaug.backends import cpu, cpu_buffers
from gpuaug.kernels.shared import pixel, plan
from gpuaug.kernels.torch import dialect as torch_dialect
from gpuaug.keys import new_state
from gpuaug.lowering import lower
from gpuaug.recipe import batch_rows

FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def share(white: int, part: float) -> float:
    """A part of white; a whole number for uint8."""
    return part if white == 1 else int(part * white)


PIPELINES = {
    "train": lambda white: [
        ga.RandomResizedCrop((17, 22)),
        ga.RandomHorizontalFlip(),
        ga.RandomAffine(20, (0.1, 0.1), (0.8, 1.2), 5, fill=share(white, 0.3)),
        ga.RandomSolarize(white * 0.5),
    ],
    "every-border": lambda white: [
        ga.Pad(3, padding_mode="reflect"),
        ga.RandomRotation(180, fill=share(white, 0.2)),
        ga.RandomCrop((30, 26), padding=4, pad_if_needed=True, padding_mode="symmetric"),
        ga.RandomInvert(),
        ga.RandomPerspective(0.4, p=0.8, fill=share(white, 0.6)),
        ga.RandomCrop((24, 24), padding=2, padding_mode="edge"),
    ],
    "smooth-behind-steps": lambda white: [
        ga.RandomVerticalFlip(),
        ga.RandomSolarize(white * 0.4, p=0.7),
        ga.RandomAffine(30, fill=share(white, 0.5)),
        ga.Resize((40, 13), interpolation="bicubic"),
        ga.RandomChoice([ga.RandomInvert(1.0), ga.RandomRotation(90), ga.Identity()]),
        ga.CenterCrop((21, 19)),
    ],
    "nearest-resize": lambda white: [
        ga.Resize((41, 11), interpolation="nearest-exact"),
        ga.RandomOrder([ga.RandomHorizontalFlip(), ga.RandomInvert(), ga.RandomSolarize(white * 0.5)]),
    ],
}
TWICE = [
    ga.RandomResizedCrop((17, 22)),
    ga.RandomHorizontalFlip(),
    ga.RandomAffine(20, (0.1, 0.1), (0.8, 1.2), 5, interpolation="bilinear", fill=0.3),
    ga.RandomInvert(),
]
COLOUR = [ga.RandomResizedCrop(20), ga.ColorJitter(0.5, 0.5), ga.RandomAffine(20), ga.ColorJitter(0.5, 0.5)]


def images(b: int, c: int, h: int, w: int, dtype: torch.dtype = torch.uint8, seed: int = 0) -> Tensor:
    """Smooth noise, so that a coordinate's last bits do not show."""
    noise = torch.rand((b, c, h // 5 + 2, w // 5 + 2), generator=torch.Generator().manual_seed(seed))
    noise = torch.nn.functional.interpolate(noise, (h, w), mode="bilinear")
    return (noise * 255).round().to(torch.uint8) if dtype == torch.uint8 else noise.to(dtype)


def poisoned(augment: ga.Compose, x: Tensor) -> Tensor:
    """A buffer for the result that no right one looks like."""
    program = augment.recipe(x).program
    out = torch.empty((x.shape[0], x.shape[1], *program.out_size), dtype=program.out_dtype)
    return out.fill_(float("nan") if out.is_floating_point() else 99)


# --- the walk ---------------------------------------------------------------------------------------------------------
def walked(program, rows: Tensor, table: Tensor, epoch: int | None = None) -> tuple[Tensor, Tensor]:
    """The (table, plans) of the torch dialect: drawn for sample ids = row numbers, or read."""
    r = len(rows)
    plans = torch.zeros((r, program.plan_words))
    zero = torch.zeros(r, dtype=torch.int64)
    key = None if epoch is None else (torch.arange(r), zero, zero + epoch, zero, zero + 7, zero + 11, zero, zero)
    h, w = rows[:, plan.ROW_H].float(), rows[:, plan.ROW_W].float()
    what = (program.code, len(program.entries), program.config, table, table.shape[1], plans)
    sizes = (program.channels, program.groups, program.steps)
    torch_dialect.walk(*what, h, w, key, key is not None, *sizes, zero, False)
    return table, plans


def engine_plans(engine: cpu.Engine, rows: Tensor, table: Tensor) -> Tensor:
    """The plans of the engine's own walk."""
    return engine.plan(rows, table).words


@pytest.mark.parametrize("name", [*PIPELINES, "twice", "colour"])
def test_walk_is_the_torch_dialects(name: str) -> None:
    """What is drawn and every count of the plan to the bit, matrices and arguments to the last places."""
    transforms = {"twice": [ga.ToDtype(torch.float32), *TWICE], "colour": COLOUR}.get(name) or PIPELINES[name](255)
    x = torch.zeros(1, dtype=torch.uint8).expand(512, 3, 33, 47)
    program = lower(transforms, frozenset({(33, 47)}), 3, torch.uint8)
    rows = batch_rows(x, 3 * program.out_size[0] * program.out_size[1])
    theirs, plans = walked(program, rows, torch.zeros((512, len(program.columns))), epoch=3)
    engine = cpu.Engine(program, x.device)
    ours = drawn_table(engine, rows, 512, torch.arange(512), 3, new_state(7, 11, 0, x.device))
    whole = (theirs == theirs.round()).all(0)
    assert torch.equal(ours[:, whole], theirs[:, whole])
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    ours = engine_plans(engine, rows, theirs)
    assert torch.equal(ours[:, : plan.HEADER], plans[:, : plan.HEADER])
    torch.testing.assert_close(ours, plans, rtol=2e-5, atol=2e-4)


def test_counting_moves_the_counter_by_samples() -> None:
    x = images(4, 3, 9, 9)
    program = lower([ga.RandomRotation(30)], frozenset({(9, 9)}), 3, torch.uint8)
    rows, state = batch_rows(x, 243).repeat_interleave(2, 0), new_state(1, 2, 40, x.device)
    rows[:, plan.ROW_VIEW], rows[:, plan.ROW_TABLE] = torch.arange(8) % 2, torch.arange(8)
    engine = cpu.Engine(program, x.device)
    table = drawn_table(engine, rows, 8, None, 0, state)
    assert state[plan.STATE_COUNTER] == 44
    by_id = drawn_table(engine, rows, 8, torch.arange(40, 44), 0, state)
    assert torch.equal(table, by_id) and state[plan.STATE_COUNTER] == 44


# --- pixels of any shape, stride and dtype ----------------------------------------------------------------------------
def strided(x: Tensor, layout: str) -> Tensor:
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "gaps":
        return torch.stack([x, x.flip(3)], -1).flatten(3)[..., ::2]
    return x.transpose(2, 3).contiguous().transpose(2, 3) if layout == "columns" else x


def drawn(transforms: list, x: Tensor) -> tuple[Tensor, ga.compose.Params]:
    """What the engine writes into a poisoned buffer, and of what."""
    augment = ga.Compose(transforms, seed=5, backend="cpu", memory_format=torch.channels_last)
    params = augment.sample(x, ids=range(len(x)), epoch=1)
    return augment.apply(x, params, out=poisoned(augment, x)), params


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("name", PIPELINES)
def test_pixels(name: str, dtype: torch.dtype) -> None:
    x = images(5, 3, 37, 29, dtype)
    ours, params = drawn(PIPELINES[name](255 if dtype == torch.uint8 else 1), x)
    judges.check_batch(ours, x, params)


def test_two_resamplings_that_become_one() -> None:
    """Followed literally: torchvision, one after the other, sees less of the image."""
    x = images(2, 3, 37, 29, torch.float32)
    ours, params = drawn(TWICE, x)
    _, plans = walked(params.program, batch_rows(x, ours[0].numel()), params.table)
    for image, words, found in zip(x, plans, ours, strict=True):
        expected = Literal(params.program, words, image).write(params.program.out_size)
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("layout", ["channels_last", "gaps", "columns"])
@pytest.mark.parametrize("dtype", [torch.uint8, *FLOATS])
@pytest.mark.parametrize("name", PIPELINES)
def test_strides_and_dtypes(name: str, dtype: torch.dtype, layout: str) -> None:
    """As of a contiguous batch; 16 bits are float32 until the store."""
    transforms, x = PIPELINES[name](255 if dtype == torch.uint8 else 1), images(5, 3, 37, 29, dtype)
    expected, _ = drawn(transforms, x if dtype == torch.uint8 else x.float())
    found, _ = drawn(transforms, strided(x, layout))
    order = 16 * 2.0**-24 if dtype == torch.float32 else 0  # of adding taps, where they are gathered
    torch.testing.assert_close(found, expected.to(dtype), rtol=0, atol=order)


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 16])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 5), (3, 120)])
def test_channels_and_small_images(channels: int, size: tuple[int, int]) -> None:
    x = images(2, channels, *size)
    to_float = [ga.ToDtype(torch.float32, scale=True), ga.Normalize([0.5] * channels, [0.25] * channels)]
    for first in (
        ga.RandomResizedCrop((5, 9)),
        ga.Resize((3, 2)),
        ga.Resize((30, 4), interpolation="bicubic"),
        ga.Pad(2, fill=7),
    ):
        ours, params = drawn([first, ga.RandomHorizontalFlip(), *to_float], x)
        judges.check_batch(ours, x, params)
        assert torch.equal(drawn([first, ga.RandomHorizontalFlip(), *to_float], strided(x, "channels_last"))[0], ours)


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, *FLOATS])
def test_outputs_of_any_strides(dtype: torch.dtype, streams: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A buffer with gaps: what is between the pixels stays as it was. Streamed past the caches or not."""
    monkeypatch.setattr(cpu, "STREAMED_BYTES", 0 if streams else 1 << 60)
    x = images(4, 3, 31, 23)
    last = [] if dtype == torch.uint8 else [ga.ToDtype(dtype, scale=True)]
    augment = ga.Compose([ga.RandomResizedCrop((19, 13)), *last], seed=2, backend="cpu")
    params = augment.sample(x, ids=range(4), epoch=0)
    expected = augment.apply(x, params)
    memory = torch.full((4 * 3 * 40 * 40,), 7, dtype=dtype)
    for strides in [(4800, 1600, 40, 1), (4800, 1, 120, 3), (3 * 247, 247, 13, 1), (4800, 1, 117, 9), (1, 4, 160, 12)]:
        out = memory.fill_(7).as_strided((4, 3, 19, 13), strides, 5)
        assert torch.equal(augment.apply(x, params, out=out), expected)
        assert int((memory != 7).sum()) == int((expected != 7).sum()), strides


def test_statistics_do_not_depend_on_the_batch() -> None:
    x = images(9, 3, 50, 61, torch.float32)
    augment = ga.Compose(COLOUR, seed=3, backend="cpu")
    whole = augment(x, ids=range(9), epoch=0)
    assert torch.equal(torch.cat([augment(x[i : i + 1], ids=[i], epoch=0) for i in range(9)]), whole)


# --- rounding ---------------------------------------------------------------------------------------------------------
def all_floats() -> Tensor:
    """Floats of every exponent, ties and neighbours of ties of both 16-bit types, infinities and NaN; [1, 1, H, 64]."""
    bits = torch.arange(0, 1 << 32, 1 << 13, dtype=torch.int64)
    bits = torch.cat([bits, bits + 1, bits + 0xFFF, bits + 0x1000, bits + 0x1001])
    bits = torch.where(bits >= 1 << 31, bits - (1 << 32), bits).to(torch.int32)
    return bits.view(torch.float32).view(1, 1, -1, 64)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_to_16_bits(dtype: torch.dtype) -> None:
    """Every float32 is stored as torch casts it, to the bit; NaN stays NaN."""
    x = all_floats()
    ours, theirs = ga.Compose([ga.ToDtype(dtype)], seed=0, backend="cpu")(x), x.to(dtype)
    assert torch.equal(ours.isnan(), theirs.isnan())
    number = ~theirs.isnan()
    assert torch.equal(ours[number].view(torch.int16), theirs[number].view(torch.int16))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reading_16_bits(dtype: torch.dtype) -> None:
    """All 65,536 values, through a flip and back to float32."""
    x = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype).view(1, 1, 256, 256)
    out = ga.Compose([ga.RandomHorizontalFlip(1.0), ga.ToDtype(torch.float32)], seed=0, backend="cpu")(x)
    expected = x.float().flip(3)
    assert torch.equal(out.isnan(), expected.isnan())
    assert torch.equal(out.nan_to_num(0.0), expected.nan_to_num(0.0))


def test_to_uint8_truncates_and_clamps() -> None:
    x = torch.tensor([-1.0, 0.0, 0.25, 0.5, 0.999, 1.0, 7.0, float("inf")]).view(1, 1, 2, 4)
    ours = ga.Compose([ga.ToDtype(torch.uint8, scale=True)], seed=0, backend="cpu")(x)
    assert ours.flatten().tolist() == [0, 0, 63, 127, 255, 255, 255, 255]


# --- more than 2^31 elements: memory that is reserved, but touched in few places only ---------------------------------
FAR = (1 << 31) + 12345


def test_a_source_beyond_2_31() -> None:
    source = torch.empty(FAR + 4096, dtype=torch.uint8)
    x = images(1, 3, 16, 16)
    source[FAR : FAR + 768] = x.flatten()
    program = lower([ga.RandomVerticalFlip(1.0), ga.Resize((16, 12))], frozenset({(16, 16)}), 3, torch.uint8)
    rows = batch_rows(x, 3 * 16 * 12)
    rows[:, plan.ROW_SOURCE] = FAR
    out = torch.zeros((1, 3, 16, 12), dtype=torch.uint8)
    engine = cpu.Engine(program, x.device)
    draw_and_write(engine, source, rows, 1, None, 0, new_state(0, 0, 0, x.device), out)
    assert torch.equal(out, ga.Compose([ga.RandomVerticalFlip(1.0), ga.Resize((16, 12))], seed=0, backend="cpu")(x))


@pytest.mark.parametrize("spec", [[ga.RandomRotation((90, 90))], [ga.Resize((9, 9))], [ga.RandomVerticalFlip(1.0)]])
def test_strides_beyond_2_31(spec: list) -> None:
    """One image whose rows lie 2^28 elements apart, in and out."""
    memory, x = torch.empty((9 << 28) + 64, dtype=torch.uint8), images(1, 3, 9, 9)
    wide = memory.as_strided((1, 3, 9, 9), (0, 16, 1 << 28, 1))
    wide.copy_(x)
    augment = ga.Compose(spec, seed=0, backend="cpu")
    expected = augment(x)
    assert torch.equal(augment(wide), expected)
    params, out = augment.sample(x, ids=[0], epoch=0), torch.empty_like(memory).as_strided(wide.shape, wide.stride())
    assert torch.equal(augment.apply(x, params, out=out), expected)


def test_an_output_beyond_2_31() -> None:
    elements, x = 1 << 24, images(1, 1, 1 << 12, 1 << 12)
    program = lower([ga.RandomHorizontalFlip(1.0)], frozenset({(1 << 12, 1 << 12)}), 1, torch.uint8)
    rows = batch_rows(x, elements)
    rows[:, plan.ROW_OUT] = 130 * elements
    out = torch.empty((131, 1, 1 << 12, 1 << 12), dtype=torch.uint8)
    engine = cpu.Engine(program, x.device)
    draw_and_write(engine, x, rows, 1, None, 0, new_state(0, 0, 0, x.device), out)
    assert torch.equal(out[130], x[0].flip(2))


# --- output buffers ---------------------------------------------------------------------------------------------------
LARGE = images(16, 3, 64, 64)
TO_FLOAT = [ga.RandomResizedCrop(96), ga.ToDtype(torch.float32, scale=True)]


def test_a_held_output_is_never_written_again() -> None:
    """Whatever holds it: a view, numpy, a detached alias, the autograd graph."""
    augment = ga.Compose(TO_FLOAT, seed=1, backend="cpu")
    y = augment(LARGE)
    assert y.nbytes >= cpu_buffers.LARGE
    weight = torch.ones((), requires_grad=True)
    kept = {"view": y[3:5], "numpy": y[7].numpy(), "product": (y[2] * weight).sum(), "storage": y.untyped_storage()}
    place, before = y.data_ptr(), y.clone()
    for name in ("storage", "view", "numpy", "product"):
        y = None
        gc.collect()
        for _ in range(4):
            assert augment(LARGE).data_ptr() != place, kept.keys()
        if name == "view":
            assert torch.equal(kept["view"], before[3:5])
        if name == "numpy":
            assert (kept["numpy"] == before[7].numpy()).all()
        if name == "product":
            kept["product"].backward()
            torch.testing.assert_close(weight.grad, before[2].sum())
        del kept[name]
    places = set()
    for _ in range(4):
        y = None
        y = augment(LARGE)
        places.add(y.data_ptr())
    assert len(places) <= 2, "a buffer that nobody holds is used again"


# --- threads and processes --------------------------------------------------------------------------------------------
def test_many_python_threads_at_once(threads) -> None:
    threads(2)
    augment = ga.Compose(TO_FLOAT, seed=1, backend="cpu")
    expected = augment(LARGE, ids=range(16), epoch=0)
    with ThreadPoolExecutor(6) as pool:
        outputs = list(pool.map(lambda _: augment(LARGE, ids=range(16), epoch=0), range(48)))
    assert all(torch.equal(y, expected) for y in outputs)
    turns = ga.Compose([ga.RandomRotation(90)], seed=1, backend="cpu")
    with ThreadPoolExecutor(6) as pool:  # counted samples: no two calls take the same ones
        tables = list(pool.map(lambda _: turns.sample(LARGE).table, range(48)))
    assert len({tuple(row) for table in tables for row in table.tolist()}) == 48 * 16


class Batches(torch.utils.data.Dataset):
    """Augments a batch in the worker."""

    def __init__(self, augment: ga.Compose, threads: int):
        self.augment, self.threads = augment, threads

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> Tensor:
        torch.set_num_threads(self.threads)
        return self.augment(LARGE, ids=range(16), epoch=i)


def test_forked_workers_after_the_parent_used_its_threads(threads) -> None:
    """Spawned ones: tests/test_draws.py."""
    threads(2)
    augment = ga.Compose(TO_FLOAT, seed=1, backend="cpu")
    expected = [augment(LARGE, ids=range(16), epoch=i) for i in range(4)]
    loader = torch.utils.data.DataLoader(
        Batches(augment, 2), batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    for _ in range(2):
        assert all(torch.equal(y, e) for y, e in zip(loader, expected, strict=True))
    assert torch.equal(augment(LARGE, ids=range(16), epoch=0), expected[0]), "the parent's threads still work"


# --- compilation ------------------------------------------------------------------------------------------------------
def test_pixel_loops_are_vectors_of_float32() -> None:
    """No float64 but the sum of a statistic, which is a scalar, and JPEG's DCT, whose sums float32 cannot hold."""
    from gpuaug.kernels.cpu import compile as cpu_compile
    from gpuaug.kernels.cpu import kernels, names

    keys = [key for key in (*names.PHASES.values(), names.EQUALIZE) if isinstance(key, str)]
    keys += [
        ("store", *key) for key in itertools.product(names.KINDS, (False, True), (names.TAILS[0], names.TAILS[-1]))
    ]
    keys += [(op, True, False) for op in pixel.CASES]
    for key in keys:
        name = names.symbol(key)
        code = cpu_compile.bitcode(*kernels.made(key), name)
        text = cpu_compile.optimised(code, cpu_compile.here()).get_llvm_str()
        assert key == "prepare_phase" or re.search(r"<\d+ x float>", text), f"{name} is not vectorised"
        assert key == "jpeg_phase" or not re.search(r"<\d+ x double>", text), name
        assert key in ("mean_phase", "jpeg_phase") or "double" not in text, name
