"""Which implementation runs a program: triton, cpu or kornia, and why."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import torch

from ..kernels.cpu.engine import lacks
from ..messages import warn

NAMES = ("auto", "triton", "kornia", "cpu")
_found: set[str] = set()
_warned: set[str] = set()


def missing(package: str) -> str | None:
    """None if a package can be imported, else that it is not installed."""
    if package not in _found:
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
        _found.add(package)
    return None


def reason_against(name: str, program, images: torch.Tensor, grad: bool) -> str | None:
    """None if backend `name` can run `program` on `images`, else why not."""
    if grad and name != "kornia":
        return "it is not differentiable, and the images require grad"
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("triton", "kornia"):
            raise
        return f"{error.name} is not installed"
    return module.supports(program, images)


def preference(images: torch.Tensor, grad: bool) -> tuple[str, ...]:
    """Backends in the order in which "auto" asks them."""
    if grad:
        return ("kornia",)
    if images.is_cuda:
        return ("triton", "kornia")
    return ("cpu", "kornia") if images.device.type == "cpu" else ("kornia",)


def select(program, images: torch.Tensor, backend: str = "auto", grad: bool = False) -> ModuleType:
    """The backend module that runs `program` on `images`.

    Raises:
        RuntimeError: the named backend cannot, or with "auto" none can; the message gives each one's reason.
    """
    names = preference(images, grad) if backend == "auto" else (backend,)
    reasons = {}
    for name in names:
        reason = reason_against(name, program, images, grad)
        if reason is None:
            _say(name, reasons)
            return importlib.import_module(f"{__name__}.{name}")
        reasons[name] = reason
    told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise RuntimeError(f"no backend can run this pipeline on {images.device} ({told})")


def on_host() -> ModuleType:
    """The backend module that draws on the host: the CPU's, or where there is no engine, kornia's, which draws
    without it."""
    return importlib.import_module(f"{__name__}.{'kornia' if lacks() else 'cpu'}")


def _say(name: str, reasons: dict[str, str]) -> None:
    if not reasons:
        return
    told = "; ".join(f"{n} cannot run: {r}" for n, r in reasons.items())
    if told not in _warned:
        _warned.add(told)
        warn(f"gpuaug falls back to the {name} backend. {told}")
