"""The command that compares two commits' values: its cases, and that it finds what differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

import gpuaug as ga
from gpuaug.benchmarks import commits, same
from gpuaug.benchmarks.random_cases import DTYPES, LARGE, LAYOUTS, TIMM, case_of

TABLE = "torch.float32 (2, 1) (1, 1) 00"


def parts(transforms: Sequence[Any]) -> Iterator[Any]:
    for transform in transforms:
        yield transform
        yield from parts(getattr(transform, "transforms", ()))


def test_a_case_is_a_function_of_its_number() -> None:
    assert [repr(case_of(0, n)) for n in range(20)] == [repr(case_of(0, n)) for n in range(20)]
    assert len({repr(case_of(seed, n, tiny)) for seed in (0, 1) for n in range(5) for tiny in (False, True)}) == 20


def test_cases_have_every_op_and_every_kind_of_input() -> None:
    cases = [case_of(0, number) for number in range(1500)]
    ops = [op for case in cases for op in parts(case.transforms)]
    kinds = [value for value in vars(ga).values() if isinstance(value, type) and issubclass(value, ga.Transform)]
    elsewhere = {
        ga.MixUp,
        ga.CutMix,
        ga.AugMix,
        ga.ScaleJitter,
        ga.RandomResize,
        ga.RandomShortestSize,
    }  # random_batches
    elsewhere |= {ga.RandomTemporalCrop, ga.RandomTemporalFlip, ga.UniformTemporalSubsample}  # clips: batches
    elsewhere |= {ga.Mosaic, ga.CopyPaste, ga.RandomZoomOut, ga.RandomIoUCrop}  # tests of kinds
    elsewhere |= {kind for kind in kinds if kind.__name__.startswith(("Clamp", "Sanitize", "SetClamp", "ConvertBound"))}
    elsewhere |= {ga.PILToTensor, ga.ToPILImage, ga.ToTensor}
    elsewhere |= {kind for kind in kinds if kind.barrier} | {ga.RGB, ga.ConvertImageDtype}  # test_callables
    elsewhere |= {ga.PadIfNeeded}  # test_parity, test_convert
    elsewhere |= {ga.ResizeKeepRatio, ga.CenterCropOrPad, ga.RandomCropOrPad, ga.TrimBorder}  # test_timm_train
    assert {type(op) for op in ops} >= {ga.Compose, *kinds} - {ga.Transform} - elsewhere
    assert {op.config for op in ops if isinstance(op, ga.TimmAugment)} == set(TIMM)
    assert {op.op.__name__ for op in ops if hasattr(op, "op")} == {"fade", "vignette"}
    inputs = [one for case in cases for one in case.inputs]
    assert {(one.dtype, one.layout, one.shape[1] in (1, 3)) for one in inputs} == {
        (dtype, layout, few) for dtype in DTYPES for layout in LAYOUTS for few in (True, False)
    }
    assert {one.single for one in inputs} == {one.counted for one in inputs} == {True, False}


def test_few_cases_raise() -> None:
    raised = 0
    for number in range(80):
        case = case_of(0, number, tiny=number % 2 == 0)
        try:
            augment, one = ga.Compose(case.transforms, seed=0, backend="kornia"), case.inputs[0]
            augment.sample(one.images(), ids=one.ids, epoch=0)
        except (TypeError, ValueError, RuntimeError):
            raised += 1
    assert raised < 8


def test_inputs_lie_in_memory_as_they_are_named() -> None:
    seen = {}
    for number in range(200):
        one = case_of(0, number).inputs[0]
        images = one.images()
        assert images.dtype == one.dtype and images.shape == (one.shape[1:] if one.single else one.shape)
        assert torch.equal(same.canonical(images).view(torch.uint8), same.canonical(one.images()).view(torch.uint8))
        if not one.single and min(one.shape) > 1:
            seen[one.layout] = images
    assert set(seen) == set(LAYOUTS)
    assert seen["contiguous"].is_contiguous() and seen["channels_last"].stride(1) == 1
    assert 0 in seen["expanded"].stride() and seen["sliced"].stride(3) == 2 and not seen["permuted"].is_contiguous()


def test_a_digest_is_of_bits_shape_and_strides() -> None:
    values = torch.tensor([[0.0, 1.0, float("nan")]] * 2)
    nan = values.clone()
    nan.view(torch.int32)[1, 2] ^= 1
    assert same.digest(values) == same.digest(nan)
    ulp, zero = values.clone(), values.clone()
    ulp.view(torch.int32)[0, 1] += 1
    zero[0, 0] = -0.0
    others = [ulp, zero, values.t(), values.half(), values.t().contiguous().t(), values[:1]]
    assert len({same.digest(t) for t in (values, *others)}) == 7
    assert same.digest(torch.zeros(0, 3)) != same.digest(torch.zeros(3, 0))


def test_what_differs_is_named() -> None:
    tally = same.Tally("cpu")
    tally.add(3, {"0.table": TABLE, "0.applied": "a"}, {"0.table": TABLE, "0.applied": "a"})
    tally.add(4, {"0.table": TABLE, "0.applied": "a"}, {"0.table": TABLE, "0.raised": "ValueError: no"})
    tally.add(5, {"0.raised": "ValueError: no"}, {"0.raised": "ValueError: no"})
    tally.add(6, {}, {})
    assert tally.differing == [(4, ["0.applied", "0.raised"])]
    assert str(tally) == "cpu: 3 compared, 2 raise, 1 differ"


def test_places_that_differ_are_shown() -> None:
    old = torch.tensor([[1.0, 2.0], [float("nan"), 4.0]])
    new = old.clone()
    new[0, 1], new[1, 1] = 2.5, -4.0
    assert same.where("0.applied", old, new) == [
        "0.applied: torch.float32 (2, 2), strides (2, 1); 2 of 4 elements differ",
        "    [0, 1]: old 2.0, new 2.5",
        "    [1, 1]: old 4.0, new -4.0",
    ]
    turned = same.where("0.applied", old, old.t().contiguous().t())
    assert turned == [
        "0.applied: old torch.float32 (2, 2), strides (2, 1), new torch.float32 (2, 2), strides (1, 2); "
        "0 of 4 elements differ"
    ]
    assert same.where("x", old, old.half())[0].endswith("new torch.float16 (2, 2), strides (2, 1)")
    assert same.where("x", "a", None) == ["x:", "    old: a", "    new: None"]


def test_large_cases_are_for_the_cpu_engine_alone() -> None:
    case = case_of(0, LARGE - 1)
    assert case.large and case.threads > 1 and same.values_of(case, "kornia") == {}
    assert sum(case_of(0, number).large for number in range(3 * LARGE)) == 3


@pytest.fixture(name="folders")
def planted(tmp_path: Path) -> list[Path]:
    """The files as they are, and a copy in which a formula is rounded otherwise."""
    folders = [tmp_path / "old", tmp_path / "new"]
    for folder in folders:
        commits.unpack(None, folder)
    formula, other = "(r - p[0]) * p[3]", "r * p[3] - p[0] * p[3]"
    found = [path for path in folders[1].rglob("*.py") if formula in path.read_text(encoding="utf-8")]
    assert len(found) == 1, f"{formula} stands in {found}"
    found[0].write_text(found[0].read_text(encoding="utf-8").replace(formula, other), encoding="utf-8")
    for folder in folders:
        same.keep_compiled(folder, tmp_path / "kept")
    return folders


def test_a_planted_change_is_found(folders: list[Path], capsys: pytest.CaptureFixture) -> None:
    assert len(list((folders[0].parent / "kept").iterdir())) == 2
    sides = same.opened([None, None], folders, 0, interpreted=False)
    try:
        (tally,) = same.compare(sides, ["kornia"], 12)
        numbers = [number for number, _ in tally.differing]
        assert tally.compared == 12 and 1 <= len(numbers) <= 10
        assert all(not name.endswith(("table", "images")) for _, names in tally.differing for name in names)
        equal = next(number for number in range(12) if number not in numbers)
        assert same.show(sides, folders, numbers[0], "kornia") and not same.show(sides, folders, equal, "kornia")
        told = capsys.readouterr().out
        assert "Compose, seed" in told and "elements differ" in told and "all are equal" in told
        sides[1].process.kill()
        with pytest.raises(RuntimeError, match=r"ended with status -9, asked for '0 kornia 0'"):
            same.both(sides, 0, "kornia", 0)
    finally:
        for side in sides:
            with suppress(BrokenPipeError):
                side.close()


def test_a_process_knows_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match="instead of the library"):
        same.serve(0)
