"""One pixel pass, many uses: what a batch is lies in `rows`, not in the kernels.

Views, ragged batches, masks and gathering from a resident data set are later features; here each runs through the same
`Engine` with other rows. The interpreter process runs this file for triton, an ordinary one for the rest.
"""

import os

import judges
import pytest
import torch
from bounds_geometry import GEOMETRY
from engines import draw_and_write
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as tv

import gpuaug as ga
from gpuaug import backends
from gpuaug.compose import Params
from gpuaug.kernels.shared import plan
from gpuaug.keys import new_state
from gpuaug.lowering import lower
from gpuaug.projection import project_mask
from gpuaug.recipe import batch_rows

BACKENDS = ("triton",) if os.environ.get("TRITON_INTERPRET") == "1" else ("cpu", "kornia")
SIZE = (13, 11)
pytestmark = pytest.mark.parametrize("backend", BACKENDS)


def pipeline(backend, **keywords):
    ops = [
        ga.RandomResizedCrop(SIZE, scale=(0.3, 1.0)),
        ga.RandomHorizontalFlip(),
        ga.RandomAffine(20, translate=(0.1, 0.1), fill=0),
        ga.ColorJitter(brightness=0.4, contrast=0.4),
        ga.ToDtype(torch.float32, scale=True),
    ]
    return ga.Compose(ops, seed=7, backend=backend, **keywords)


def images(b, h, w, seed=0):
    noise = torch.rand((b, 3, h // 4 + 1, w // 4 + 1), generator=torch.Generator().manual_seed(seed))
    return (tv.resize(noise, [h, w], antialias=True) * 255).to(torch.uint8)


def engine_for(program, source, backend):
    return backends.select(program, source, backend).Engine(program, source.device)


def output(program, n):
    return torch.full((n, program.channels, *program.out_size), float("nan"), dtype=program.out_dtype)


def test_two_views_of_each_image(backend):
    x, augment = images(3, 20, 18), pipeline(backend)
    ids = torch.tensor([5, 9, 2])
    program = augment.recipe(x).program
    elements = 3 * SIZE[0] * SIZE[1]
    rows = batch_rows(x, elements).repeat_interleave(2, 0)
    index = torch.arange(6)
    rows[:, plan.ROW_VIEW], rows[:, plan.ROW_TABLE], rows[:, plan.ROW_OUT] = index % 2, index, index * elements
    engine, out = engine_for(program, x, backend), output(program, 6)
    table = draw_and_write(engine, x, rows, 6, ids, 1, new_state(7, 0, 0, x.device), out)
    torch.testing.assert_close(out[::2], augment(x, ids=ids, epoch=1), rtol=0, atol=1e-5)
    assert not torch.equal(table[::2], table[1::2])
    params = Params(table, program.columns, program, ((20, 18),) * 6)
    for i in range(6):
        judges.check(out[i], x[i // 2], params.describe(i))


def test_a_batch_of_two_sizes(backend):
    small, large = images(2, 17, 16), images(1, 24, 31, seed=1)
    augment, ids = pipeline(backend), torch.tensor([0, 1, 2])
    flat = torch.cat([small.flatten(), large.flatten()])
    program = lower(augment.transforms, frozenset({(17, 16), (24, 31)}), 3, torch.uint8)
    elements = 3 * SIZE[0] * SIZE[1]
    rows = torch.cat([batch_rows(small, elements), batch_rows(large, elements)])
    rows[2, plan.ROW_SOURCE] = small.numel()
    for word in (plan.ROW_SAMPLE, plan.ROW_TABLE):
        rows[:, word] = torch.arange(3)
    rows[:, plan.ROW_OUT] = torch.arange(3) * elements
    out = output(program, 3)
    draw_and_write(engine_for(program, flat, backend), flat, rows, 3, ids, 0, new_state(7, 0, 0, flat.device), out)
    expected = torch.cat([augment(small, ids=ids[:2], epoch=0), augment(large, ids=ids[2:], epoch=0)])
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


MASKED = {
    "cut, flip, turn": [ga.RandomResizedCrop(SIZE), ga.RandomHorizontalFlip(), ga.RandomAffine(20, (0.1, 0.1))],
    "turn, smooth": [ga.RandomAffine(20, interpolation="bilinear"), ga.ColorJitter(0.4), ga.Resize(9)],
    "cut, exact": [ga.RandomResizedCrop(SIZE, interpolation="nearest-exact"), ga.RandomVerticalFlip()],
    "resize": [ga.RandomCrop((20, 18), padding=4), ga.Resize((31, 7), "bicubic", antialias=False)],
    "resize, exact": [ga.Pad(2), ga.Resize((31, 7), "nearest-exact")],
}


@pytest.mark.parametrize("name", MASKED)
def test_a_mask_beside_its_image(name, backend):
    """As torchvision moves one; before 0.29 it took no notice of a resize that is nearest-exact."""
    x, augment = images(3, 20, 18), ga.Compose(MASKED[name], seed=7, backend=backend)
    params = augment.sample(x, ids=[1, 2, 3], epoch=0)
    mask = (images(3, 20, 18, seed=4)[:, :1] // 32).contiguous()
    program = project_mask(params.program)
    h, w = program.out_size
    out = torch.full((3, 1, h, w), 99, dtype=torch.uint8)
    engine, rows = engine_for(program, mask, backend), batch_rows(mask, h * w)
    engine.write(mask, rows, engine.plan(rows, params.table), out)
    for i in range(3):
        moves = [record for record in params.describe(i) if record["call"] in GEOMETRY]
        verdict = judges.judge(mask[i], [nearest(**record) for record in moves])
        assert not verdict.complaint(out[i])
        assert verdict.wide().float().mean() <= (0.02 if "turn" in name else 0)
        if name != "resize, exact":
            assert torch.equal(judges.replay(tv_tensors.Mask(mask[i]), moves).as_subclass(torch.Tensor), verdict.ref)


def nearest(op, call, kwargs):
    """What torchvision makes of a call for a mask."""
    keeps = "interpolation" not in kwargs or (call == "resize" and kwargs["interpolation"] == "nearest-exact")
    return {"op": op, "call": call, "kwargs": kwargs if keeps else kwargs | {"interpolation": "nearest"}}


def test_a_gather_from_a_resident_data_set(backend):
    resident, augment = images(10, 20, 18), pipeline(backend)
    index = torch.tensor([7, 7, 0, 3])
    program = augment.recipe(resident[:4]).program
    rows = batch_rows(resident[:4], 3 * SIZE[0] * SIZE[1])
    rows[:, plan.ROW_SOURCE] = index * resident.stride(0)
    out = output(program, 4)
    state = new_state(7, 0, 0, resident.device)
    draw_and_write(engine_for(program, resident, backend), resident, rows, 4, index, 2, state, out)
    with pytest.warns(UserWarning, match="equal ids"):
        expected = augment(resident[index], ids=index, epoch=2)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)
    assert torch.equal(out[0], out[1])
