"""As `fuzz_child`, of cases that are faults: what a fuzz of that kind must find."""

from __future__ import annotations

import ctypes
import itertools
import sys

import fuzz_child
import torch
from fuzz_explicit import NAN, Case
from guarded import PAGE, span
from torch import Tensor

import gpuaug as ga

CALLS = itertools.count()


def invert(images: Tensor) -> Tensor:
    return ga.functional.invert(images, backend="cpu")


def bytes_of(images: Tensor) -> int:
    return span(images.shape, images.stride()) * images.element_size()


def reads_beyond(images: Tensor) -> Tensor:
    ctypes.string_at(images.data_ptr() - 1, 1)  # one of them is a guard's
    ctypes.string_at(images.data_ptr() + bytes_of(images), 1)
    return invert(images)


def hangs(images: Tensor) -> Tensor:
    while True:
        pass


def changes_the_input(images: Tensor) -> Tensor:
    out = invert(images)
    images[..., 0, 0] = out[..., 0, 0]
    return out


def writes_beside_the_output(images: Tensor) -> Tensor:
    out = invert(images)
    start, end = out.data_ptr(), out.data_ptr() + bytes_of(out)
    ctypes.memset(start - 1 if start % PAGE else end, 7, 1)
    return out


def leaves_one_out(images: Tensor) -> Tensor:
    out = invert(images)
    beside = out.data_ptr() - 1 if out.data_ptr() % PAGE else out.data_ptr() + bytes_of(out)
    ctypes.memset(out.data_ptr(), ctypes.c_uint8.from_address(beside).value, out.element_size())
    return out


def draws(images: Tensor) -> Tensor:
    out = invert(images)
    out.view(-1)[-1] = next(CALLS)
    return out


def makes_nan(images: Tensor) -> Tensor:
    return invert(images).fill_(NAN)


def raises_what_is_not_its_own(images: Tensor) -> Tensor:
    return invert(images).view(-1)[images.numel()]


def leaves_an_error_to_torch(images: Tensor) -> Tensor:
    return invert(images).view(7, 11)


PLANTED = (
    invert,
    reads_beyond,
    hangs,
    changes_the_input,
    writes_beside_the_output,
    leaves_one_out,
    draws,
    makes_nan,
    raises_what_is_not_its_own,
    leaves_an_error_to_torch,
    invert,
)


def case(number: int) -> Case:
    pixels = torch.linspace(0.25, 0.75, 48).reshape(1, 3, 4, 4)
    return Case(number, PLANTED[number].__name__, pixels, (48, 16, 4, 1), 1, True, True)


def call_of(one: Case, backend: str):
    return lambda images, behind, filler: (PLANTED[one.number](images), None)


if __name__ == "__main__":
    first, end = map(int, sys.argv[2:])
    fuzz_child.case, fuzz_child.call_of = case, call_of
    if PLANTED[first] is hangs:  # by itself, behind a case that ended its process: nothing is compiled here
        fuzz_child.HANGS_AFTER = 3
    fuzz_child.main(sys.argv[1], first, end)
