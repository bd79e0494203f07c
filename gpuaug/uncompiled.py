"""What torch.compile leaves alone. Imported only while it traces: importing torch._dynamo takes a second."""

from __future__ import annotations

from collections.abc import Callable

import torch


@torch.compiler.disable(reason="a gpuaug pipeline breaks the graph: it is compiled already")
def run(method: Callable, *args, **keywords):
    """Call a method; nothing in it is compiled."""
    return method(*args, **keywords)
