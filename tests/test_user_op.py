"""A user's own pixel op, in a process and a file of its own, on every backend."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import judges
import pytest
import torch

import gpuaug as ga
from gpuaug import xp

MINE = """
import sys

import torch

import gpuaug as ga
from gpuaug import xp

WARM = 0.25


def tone(r, g, b):
    return WARM * r + 0.5 * g + 0.25 * b


@ga.pixel_op
def sepia(r, g, b, amount):
    grey = tone(r, g, b)
    return r + amount * (grey - r), g + amount * (grey * 0.75 - g), b + amount * (grey * 0.5 - b)


@ga.pixel_op
def lift(v, floor, bound):
    return xp.maximum(v, floor * bound)


@ga.pixel_op
def stripes(r, g, b, x, y, period):
    on = (x - period * xp.floor(xp.div_rn(x, period))) < 1.0
    return xp.where(on, 0.0, r), xp.where(on, 0.0, g), xp.where(on, 0.0, b)


def augment(backend):
    return ga.Compose(
        [
            lift(floor=(0.1, 0.3)),
            ga.RandomHorizontalFlip(),
            sepia(amount=(0.2, 0.9), p=0.5),
            stripes(period=4.0),
            ga.RandomRotation((90.0, 90.0)),
            ga.ColorJitter(contrast=0.5),
            ga.ToDtype(torch.float32, scale=True),
        ],
        seed=3,
        backend=backend,
    )


if __name__ == "__main__":
    images, = torch.load(sys.argv[2])
    pipeline = augment(sys.argv[1])
    params = pipeline.sample(images, ids=range(len(images)), epoch=0)
    records = [params.describe(i) for i in range(len(images))]
    torch.save((pipeline.apply(images, params), records), sys.argv[3])
"""


def expected(image: torch.Tensor, records: list[dict]) -> torch.Tensor:
    """The records on one uint8 [3, H, W] image, in float64, truncated after each op."""
    for record in records:
        call, kwargs = record["call"], record["kwargs"]
        value = image.double()
        if call == "lift":
            image = value.clamp(min=torch.tensor(kwargs["floor"] * 255.0)).floor().to(torch.uint8)
        elif call == "sepia":
            r, g, b = value
            grey = 0.25 * r + 0.5 * g + 0.25 * b
            tones = torch.stack([grey, grey * 0.75, grey * 0.5])
            image = (value + kwargs["amount"] * (tones - value)).clamp(0, 255).floor().to(torch.uint8)
        elif call == "stripes":
            value[:, :, :: int(kwargs["period"])] = 0
            image = value.to(torch.uint8)
        else:
            image = judges.replay(image, [record])
    return image


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_in_a_process_of_its_own(backend: str, tmp_path: Path, photos: list[torch.Tensor]) -> None:
    images = judges.patches(judges.thumbnails(photos), 4, 24, 24)
    mine, source, result = tmp_path / "mine.py", tmp_path / "in.pt", tmp_path / "out.pt"
    mine.write_text(MINE)
    torch.save((images.to(judges.device_of(backend)),), source)
    subprocess.run([sys.executable, mine, backend, source, result], check=True, env=dict(os.environ))
    outputs, records = torch.load(result)
    calls = {record["call"] for described in records for record in described}
    assert {"lift", "sepia", "stripes"} <= calls
    for output, image, described in zip(outputs.cpu(), images, records, strict=True):
        difference = (output - expected(image, described)).abs()
        assert (difference > 1.01 / 255).float().mean() == 0, (
            "more than a level, which float32 may lose at a truncation"
        )
        assert (difference > 1e-3).float().mean() < 0.01


@ga.pixel_op
def halve(v):
    return v * 0.5


def test_arguments_repr_and_pickle() -> None:
    import pickle

    op = halve(p=0.25)
    assert repr(op) == "halve(p=0.25)"
    assert pickle.loads(pickle.dumps(ga.Compose([op], seed=0))).transforms == [op]
    with pytest.raises(TypeError, match="halve: takes no argument 'amount'"):
        halve(amount=1.0)


def _outer(scale: float):
    def inside(v):
        return v * scale

    return inside


NAMES = ["not a number"]


def _unread():
    scope = {}
    exec("def unread(v):\n    return v", scope)
    return scope["unread"]


def _listed(v):
    return v + NAMES[0]


def _fails(v):
    return xp.no_such_function(v)


def _five(v, a, b, c, d, e):
    return v


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda image: image, "must begin with v, or with r, g, b"),
        (_outer(0.5), "must not use variables of an enclosing function"),
        (_unread(), "source of unread cannot be read"),
        (_listed, "uses the global NAMES, a list"),
        (_fails, "no_such_function"),
        (_five, "at most 4 can be drawn"),
    ],
)
def test_what_cannot_run_everywhere_is_refused(function, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        ga.pixel_op(function)


def test_colour_op_wants_one_or_three_channels() -> None:
    @ga.pixel_op
    def swap(r, g, b):
        return b, g, r

    with pytest.raises(TypeError, match="1 or 3 channels"):
        ga.Compose([swap()])(torch.zeros(1, 4, 8, 8))
