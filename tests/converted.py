"""Pipelines of other libraries as ours, with and without what is told of them."""

from __future__ import annotations

import warnings

import gpuaug as ga


def quiet(source, **keywords):
    return ga.convert(source, differences="ignore", **keywords)


def told(source) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ga.convert(source)
    return [str(one.message) for one in caught]
