"""The CPU engine's pixel steps: statistics, neighbours, places, channels; judged by torchvision and by closed forms."""

from __future__ import annotations

from dataclasses import dataclass

import judges
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

import gpuaug as ga
from gpuaug.kernels.shared import pixel
from gpuaug.transforms.base import Transform
from gpuaug.transforms.user import pixel_op

SIZE = (37, 53)
MORE, LESS, TURN = torch.tensor([1.7, 0.4, -0.21]).tolist()  # exact in float32, as what a table holds


@dataclass(frozen=True)
class Step(Transform):
    """A pixel slot by the name of its formula."""

    op: str
    arguments: tuple[float, ...] = ()
    needs: str = "pixel"

    def lower(self, build) -> None:
        build.pixel(self.op, self.arguments, needs=self.needs, call=lambda values, canvas: [])


@dataclass(frozen=True)
class Grey(Transform):
    """To one channel."""

    def lower(self, build) -> None:
        build.pixel("grayscale", call=lambda values, canvas: [])
        build.become(1)


@dataclass(frozen=True)
class Colour(Transform):
    """From one channel to three equal ones."""

    def lower(self, build) -> None:
        build.become(3)


def photos(b: int = 3, c: int = 3, size: tuple[int, int] = SIZE, seed: int = 0) -> Tensor:
    """Uint8 with smooth parts, edges and noise, none of which fills all levels."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand((b, c, size[0] // 6 + 2, size[1] // 6 + 2), generator=generator)
    noise = torch.nn.functional.interpolate(noise, size, mode="bicubic").clamp(0, 1) * 200 + 20
    return (noise + 10 * torch.rand((b, c, *size), generator=generator)).to(torch.uint8)


def run(x: Tensor, *transforms: Transform, **keywords) -> Tensor:
    """The CPU engine's result, written into a poisoned buffer."""
    augment = ga.Compose(list(transforms), seed=3, backend="cpu", **keywords)
    params = augment.sample(x, ids=range(len(x)), epoch=0)
    program = params.program
    out = torch.empty((len(x), program.out_channels, *program.out_size), dtype=program.out_dtype)
    return augment.apply(x, params, out=out.fill_(float("nan") if out.is_floating_point() else 99))


def assert_near(ours: Tensor, theirs: Tensor, levels: float = 0.0) -> None:
    """Equal to the bit for uint8, or within levels; 1e-3 for floats."""
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    far = (ours.double() - theirs.double()).abs() > (levels if ours.dtype == torch.uint8 else 1e-3)
    assert not (far | ours.isnan()).any(), (ours.double() - theirs.double()).abs().max()


# --- neighbours -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Blur(Transform):
    """A blur along x, then along y."""

    radius: int
    sigma: float

    def lower(self, build) -> None:
        for op, last in (("blur_x", 0.0), ("blur_y", 1.0)):
            arguments = (self.sigma, float(self.radius), last)
            build.pixel(op, arguments, needs="neighbours", call=lambda values, canvas: [])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("size", [SIZE, (12, 13), (130, 9), (12, 900)])
def test_blur(size: tuple[int, int], channels: int, dtype: torch.dtype) -> None:
    x = photos(2, channels, size)
    x = x if dtype == torch.uint8 else (x / 255).to(dtype)
    theirs = tv.gaussian_blur(x.float() if dtype == torch.float16 else x, [17, 17], [2.5, 2.5])
    ours = run(x, Blur(8, 2.5))
    assert ours.dtype == x.dtype
    if dtype == torch.float16:
        assert (ours.float() - theirs).abs().max() < 1e-3
    else:
        assert_near(ours, theirs, levels=1.0)


def test_a_blur_wider_than_the_image_goes_on_reflecting() -> None:
    x = photos(1, 1, (4, 5)) / 255
    wide = x
    while min(wide.shape[2:]) < 40:
        h, w = wide.shape[2:]
        wide = torch.nn.functional.pad(wide, (w - 1, w - 1, h - 1, h - 1), mode="reflect")
    top, left = (wide.shape[2] - 4) // 2, (wide.shape[3] - 5) // 2
    theirs = tv.gaussian_blur(wide, [19, 19], [4.0, 4.0])[:, :, top : top + 4, left : left + 5]
    assert_near(run(x, Blur(9, 4.0)), theirs)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (9, 2), (3, 3), (1, 40)])
def test_sharpness_of_small_images(size: tuple[int, int]) -> None:
    x = photos(2, 3, size)
    assert_near(run(x, Step("sharpness", (MORE,), "neighbours")), tv.adjust_sharpness(x, MORE))


# --- the schedule: what must be known, and what stands in front -------------------------------------------------------
def record(call: str, **kwargs) -> dict:
    return {"call": call, "kwargs": kwargs}


def erased(*colour: float) -> dict:
    return record("erase", i=5, j=7, h=11, w=20, v=torch.tensor(colour)[:, None, None])


STEPS: dict[str, tuple[Transform, dict]] = {
    "mean": (Step("contrast", (LESS,), "mean"), record("adjust_contrast", contrast_factor=LESS)),
    "extremes": (Step("autocontrast", (), "extremes"), record("autocontrast")),
    "histogram": (Step("equalize", (), "histogram"), record("equalize")),
    "sharpness": (Step("sharpness", (MORE,), "neighbours"), record("adjust_sharpness", sharpness_factor=MORE)),
    "solarize": (Step("solarize", (130.0,)), record("solarize", threshold=130)),
    "flip": (ga.RandomHorizontalFlip(1.0), record("horizontal_flip")),
    "crop": (ga.CenterCrop((31, 41)), record("center_crop", output_size=[31, 41])),
    "turn": (ga.RandomRotation((90, 90), fill=9), record("rotate", angle=90.0, fill=[9.0])),
    "erase": (Step("erase", (5.0, 7.0, 11.0, 20.0, 1.0, 2.0, 3.0), "place"), erased(1, 2, 3)),
    "resize": (ga.Resize((33, 45)), record("resize", size=[33, 45], antialias=True)),
}
CHAINS = [
    "mean histogram extremes sharpness mean",
    "sharpness sharpness solarize histogram",
    "flip sharpness flip crop mean",
    "crop mean flip histogram turn extremes sharpness turn",
    "turn sharpness solarize turn histogram",
    "erase flip turn mean erase crop sharpness erase",
    "solarize turn erase sharpness erase turn histogram erase",
    "flip erase crop erase turn erase flip",
]


def told(chain: str, steps: dict = STEPS) -> tuple[tuple[Transform, ...], tuple[dict, ...]]:
    """A chain's transforms, and its calls of torchvision."""
    return tuple(zip(*(steps[name] for name in chain.split()), strict=True))


@pytest.mark.parametrize("chain", CHAINS)
def test_chains(chain: str) -> None:
    """Nothing but exact ops: equal to the bit to torchvision one after the other, whatever the passes."""
    x, (transforms, calls) = photos(2), told(chain)
    assert_near(run(x, *transforms), judges.replay(x, calls))


@pytest.mark.parametrize(
    "chain", ["mean resize", "sharpness resize", "erase resize sharpness", "resize erase turn mean"]
)
@pytest.mark.parametrize("behind", ["", "turn", "histogram", "sharpness flip erase"])
def test_chains_with_a_resize(chain: str, behind: str) -> None:
    """In float32, where a smooth result is not rounded."""
    steps = STEPS | {
        "turn": (ga.RandomRotation((90, 90)), record("rotate", angle=90.0)),
        "erase": (Step("erase", (5.0, 7.0, 11.0, 20.0, 0.1, 0.2, 0.3), "place"), erased(0.1, 0.2, 0.3)),
    }
    x, (transforms, calls) = photos(2) / 255, told(f"{chain} {behind}", steps)
    for ours, image in zip(run(x, *transforms), x, strict=True):
        judges.check(ours, image, calls)


def test_turned_nearest_behind_antialias_reads_the_resized_image() -> None:
    """Resampled by rows and columns, then turned: what a pipeline in one walk would read, pixel for pixel."""
    x = photos(2, 3, (64, 80))
    turn = ga.RandomAffine((25, 25), scale=(0.8, 0.8), fill=(7, 8, 9))
    resized = run(x, ga.Resize((40, 48)), Step("solarize", (99.0,)))
    assert_near(run(x, ga.Resize((40, 48)), Step("solarize", (99.0,)), turn), run(resized, turn))


# --- places -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("window", [(0, 0, 37, 53), (36, 52, 1, 1), (3, 0, 9, 53), (10, 20, 0, 0), (8, 4, 16, 9)])
def test_erase(window: tuple[int, int, int, int], channels: int) -> None:
    x = photos(2, channels)
    step = Step("erase", (*window, 5.0, 5.0, 5.0), "place")
    assert_near(run(x, step), tv.erase(x, *window, torch.full((channels, 1, 1), 5, dtype=torch.uint8)))


PLACED = {
    "erase": (8.0, 4.0, 16.0, 19.0, 0.1, 0.2, 0.3),
    "erase_noise": (8.0, 4.0, 16.0, 19.0, 0.25, 0.75, 1.0),
    "grid_mask": (13.0, 3.0, 5.0, 6.0, 0.1, 0.2, 0.3),
    "gaussian_noise": (0.25, 0.75, 0.0, 0.1, 1.0),
    "salt_and_pepper": (0.25, 0.75, 0.2, 0.5),
}


@pytest.mark.parametrize("op", PLACED)
def test_a_placed_step_does_not_see_what_follows(op: str) -> None:
    """In front of crops, flips, turns and resizes it is as if the image had come with it."""
    x = photos(2) / 255
    step = Step(op, PLACED[op], "place")
    alone = run(x, step)
    assert not torch.equal(alone, x)
    for behind in (
        [ga.CenterCrop((20, 31)), ga.RandomHorizontalFlip(1.0)],
        [ga.RandomRotation((33, 33), fill=0.5), ga.Pad(3, padding_mode="reflect")],
        [ga.RandomRotation((20, 20)), ga.Resize((21, 30))],
        [ga.Resize((50, 30), interpolation="bicubic"), ga.RandomAffine((10, 10))],
    ):
        assert_near(run(x, step, *behind), run(alone, *behind))
        assert_near(run(x, *behind[:1], step, *behind[1:]), run(run(run(x, *behind[:1]), step), *behind[1:]))


def test_noise_is_normal_and_its_own_in_each_pixel_and_channel() -> None:
    x = torch.full((1, 3, 200, 300), 0.5)
    noise = (run(x, Step("gaussian_noise", (0.25, 0.75, 0.0, 0.1, 0.0), "place")) - 0.5) * 10
    values = noise.flatten().sort().values
    normal = torch.distributions.Normal(0.0, 1.0).cdf(values)
    place = (torch.arange(len(values)) + 0.5) / len(values)
    assert (normal - place).abs().max() < 1.63 / len(values) ** 0.5  # Kolmogorov-Smirnov at 1%
    correlation = torch.corrcoef(noise[0].flatten(1))
    assert (correlation - torch.eye(3)).abs().max() < 4 / 60000**0.5


# --- channels ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("last", [torch.contiguous_format, torch.channels_last])
def test_three_channels_become_one(last: torch.memory_format) -> None:
    x = photos(2)
    ours = run(x, Grey(), ga.RandomHorizontalFlip(1.0), Step("sharpness", (MORE,), "neighbours"), memory_format=last)
    theirs = tv.adjust_sharpness(tv.horizontal_flip(tv.rgb_to_grayscale(x)), MORE)
    assert_near(ours, theirs)
    augment = ga.Compose([Grey()], seed=0, backend="cpu", memory_format=last)
    assert_near(augment(x), tv.rgb_to_grayscale(x))


def test_one_channel_becomes_three() -> None:
    x = photos(2, 1)
    for name in ("mean", "extremes", "histogram", "sharpness", "solarize", "erase"):
        step, call = STEPS[name]
        assert_near(run(x, Colour(), step), judges.replay(x.expand(-1, 3, -1, -1), [call]))
        if name != "erase":  # of three colours
            assert_near(run(x, step, Colour()), judges.replay(x, [call]).expand(-1, 3, -1, -1))


@pytest.mark.parametrize("name", ["mean", "extremes", "histogram", "sharpness"])
def test_one_channel(name: str) -> None:
    x = photos(2, 1)
    step, call = STEPS[name]
    assert_near(run(x, step), judges.replay(x, [call]))


# --- the loops --------------------------------------------------------------------------------------------------------
def test_every_opcode_has_a_loop_or_a_stage() -> None:
    from gpuaug.backends import cpu

    near = {pixel.SHARPNESS, pixel.BLUR_X, pixel.BLUR_Y, pixel.JPEG, pixel.ELASTIC_NOISE, pixel.ELASTIC}
    assert set(pixel.CASES) | set(pixel.LOOPS) == set(pixel.CASES) | near | {pixel.EQUALIZE}
    x = photos(1)
    steps = [Step("invert"), ga.ToDtype(torch.float32, scale=True)]  # the last one runs in the store
    engine = ga.Compose(steps, seed=0, backend="cpu").recipe(x).engine
    assert isinstance(engine, cpu.Engine)
    assert [k for k in range(cpu.F.LOOPS, len(engine.phases)) if engine.phases[k]] == [cpu.F.loop_index(6, True, False)]


@pixel_op
def sepia(r, g, b, amount):
    grey = 0.3 * r + 0.6 * g + 0.1 * b
    return r + amount * (grey - r), g + amount * (grey * 0.8 - g), b + amount * (grey * 0.6 - b)


@pixel_op
def shade(r, g, b, x, y, slope, bound):
    fall = (x + y) * slope * bound
    return r - fall, g - fall, b - fall


def test_a_users_op() -> None:
    x = photos(2) / 255
    grey = 0.3 * x[:, 0] + 0.6 * x[:, 1] + 0.1 * x[:, 2]
    target = torch.stack([grey, grey * 0.8, grey * 0.6], 1)
    assert_near(run(x, sepia(amount=0.5)), (x + 0.5 * (target - x)).clamp(0, 1))
    place = torch.arange(SIZE[0])[:, None] + torch.arange(SIZE[1])
    assert_near(run(x, shade(slope=0.01)), (x - place * 0.01).clamp(0, 1))


# --- what lies between passes -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("turn", [ga.RandomRotation((20, 20), fill=7), ga.RandomAffine(0, shear=(9, 9, 5, 5))])
@pytest.mark.parametrize("between", [(), (ga.RandomPosterize(3, p=1.0),), (ga.ToDtype(torch.float32, scale=True),)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_turn_of_a_resized_image(channels: int, between: tuple, turn: Transform) -> None:
    """As if the resized image had been stored, whichever way the engine keeps it: packed bytes or floats."""
    x, resize = photos(2, channels), ga.Resize((40, 61))
    together = ga.Compose([resize, *between, turn], seed=0, backend="cpu")
    kept = ga.Compose([resize, *between], seed=0, backend="cpu")(x)
    assert together.recipe(x).engine.packs == (channels == 3)
    assert torch.equal(together(x), ga.Compose([turn], seed=0, backend="cpu")(kept))


def test_a_turn_of_more_pixels_than_float32_counts() -> None:
    x, resize, turn = photos(1), ga.Resize((4100, 4104)), ga.RandomRotation((20, 20))
    together = ga.Compose([resize, turn], seed=0, backend="cpu")
    kept = ga.Compose([resize], seed=0, backend="cpu")(x)
    assert together.recipe(x).engine.packs
    assert torch.equal(together(x), ga.Compose([turn], seed=0, backend="cpu")(kept))
