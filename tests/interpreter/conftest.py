"""Triton's interpreter takes a process of its own: TRITON_INTERPRET is read when a kernel is defined."""

from __future__ import annotations

import os

import pytest

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if INTERPRETED:
        return
    skip = pytest.mark.skip(reason="Triton's interpreter has a process of its own: TRITON_INTERPRET=1 is not set here")
    for item in items:
        if "interpreter" in item.path.parts:
            item.add_marker(skip)
