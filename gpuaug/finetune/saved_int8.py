"""A classifier in int8, as ``gpuaug quantize`` leaves it: :class:`Int8`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import fast, unused
from .programs import Program
from .saved import About, Classifier, Saved

TOLD = "int8"  # what it is called in About.details


def compile(model: Saved) -> None:
    """:meth:`Int8.compile`. Raises ValueError for another model, too."""
    if not isinstance(model, Int8):
        unused.refuse("compile", f"a model of {model.about.recipe}", "it is for int8 runs")
    model.compile()


class Int8(Classifier):
    """A fine-tuned classifier whose layers have int8 weights, and inputs that are rounded to int8: called, predicting,
    evaluated and exported as any. It computes in floats of the same values, slower than the run it was made of, until
    :meth:`compile`. Attributes as :class:`gpuaug.finetune.saved.Saved`."""

    @classmethod
    def network(cls, about: About, path: Path, given: nn.Module | None) -> nn.Module:
        from safetensors.torch import load_file

        if given is not None:
            raise ValueError(f"{path}: an int8 run, which has its network in its file; leave model= out")
        try:
            made = Program.filled(load_file(path))
            with torch.no_grad():
                made(torch.zeros(1, 3, about.size, about.size))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"{path}: damaged, or not of gpuaug quantize: {reason}; quantize again") from error
        return made

    @staticmethod
    def by_hand(about: About) -> bool:
        return False

    def compile(self, *nothing: Any, **neither: Any) -> None:
        """From now on the network computes in int8, by Inductor: its next call takes a minute or so, and those after it
        are fast, where the processor has VNNI instructions. Images go through it in batches as large as that call's.

        Raises ValueError on another device than the CPU, and where there is no C++ compiler. ModuleNotFoundError: the
        extra ``gpuaug[quantize]`` is not installed.
        """
        if self.device.type != "cpu":
            raise ValueError(f"compile: int8 is fast on a CPU, and this model is on {self.device}; device='cpu'")
        self.model.fast = fast.compiled(self.model.graph)
