"""The shared arithmetic over torch: Python numbers, or tensors with one value a row (or a pixel); conditions are masks.

Used by the torch renderer, by lowering (which asks `geometry` for canvases) and by `describe`. No
value of a tensor is looked at by the host.
"""

import builtins
import functools
import math
import struct
import types

import torch

from ..shared import blend, dialect, draw, elastic, elementary, geometry, jpeg, pixel, plan, points, text, user

xp = types.ModuleType("xp_torch")


def _tensor(x) -> bool:
    return isinstance(x, torch.Tensor)


def _where(condition, a, b):
    if not _tensor(condition):
        return a if condition else b
    if not _tensor(a) and not _tensor(b):
        a = torch.full((), a, dtype=torch.float32 if isinstance(a, float) else torch.int64, device=condition.device)
    return torch.where(condition, a, b)


def _cast(dtype: torch.dtype, python: type):
    return lambda x: x.to(dtype) if _tensor(x) else python(x)


def _unary(of_tensor, of_number):
    return lambda x: of_tensor(x) if _tensor(x) else of_number(x)


def _like(x, other):
    """`x`, a number of the kind of the tensor `other` if it is none itself: filled on the device, not copied to it."""
    return x if _tensor(x) else torch.full((), x, dtype=other.dtype, device=other.device)


@functools.lru_cache(maxsize=64)
def _on_device(memory: tuple, device: torch.device) -> torch.Tensor:
    return torch.tensor(memory, dtype=torch.float32, device=device)


def _binary(of_tensor, of_number):
    def call(a, b):
        if _tensor(a) or _tensor(b):
            return of_tensor(_like(a, b), _like(b, a))
        return of_number(a, b)

    return call


def _load(memory, at):
    """`memory` is a program's list, or a tensor [R, N] of which each row reads its own column."""
    if not _tensor(memory):
        return memory[at]
    return memory.gather(1, at.long().clamp(0, memory.shape[1] - 1)[:, None])[:, 0] if _tensor(at) else memory[:, at]


def _store(memory, at, value, on):
    if _tensor(at):
        at = at.long().clamp(0, memory.shape[1] - 1)[:, None]
        old = memory.gather(1, at)
        memory.scatter_(1, at, _where(on, value, old[:, 0])[:, None].expand_as(old))
    elif at < memory.shape[1]:
        memory[:, at] = _where(on, value, memory[:, at])


def _gather(memory, at, on):
    """`memory[at]` for a program's list and an offset a row; 0 where not `on`."""
    if not _tensor(at):
        return memory[at] if on else 0.0
    values = _on_device((*memory, 0.0), at.device)
    return _where(on, values[at.long().clamp(0, len(memory))], 0.0)


def _wide(x: torch.Tensor) -> torch.Tensor:
    """float64, where the device has it (mps does not)."""
    return x if x.device.type == "mps" else x.double()


def _fma(a, b, c):
    """a b + c, rounded once: float64 holds the product."""
    exact = [_wide(x) if _tensor(x) else struct.unpack("f", struct.pack("f", x))[0] for x in (a, b, c)]
    value = exact[0] * exact[1] + exact[2]
    return value.float() if _tensor(value) else struct.unpack("f", struct.pack("f", value))[0]


def _sqrt(x: torch.Tensor) -> torch.Tensor:
    """The square root, rounded once. torch's own, in float32, can be off by a last place on a CPU."""
    return torch.sqrt(_wide(x)).float()


def _pow(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a ^ b. torch's own, in float32, has other bits at the ends of a tensor than within."""
    return torch.pow(_wide(a), _wide(b)).float()


xp.where = _where
xp.f32 = _cast(torch.float32, float)
xp.f64 = lambda x: _wide(x) if _tensor(x) else float(x)
xp.i32 = _cast(torch.int64, int)
xp.i64 = _cast(torch.int64, int)
xp.floor = _unary(torch.floor, lambda x: float(math.floor(x)) if math.isfinite(x) else x)
xp.ceil = _unary(torch.ceil, lambda x: float(math.ceil(x)))
xp.sqrt_rn = _unary(_sqrt, math.sqrt)
xp.abs = abs
xp.fma = _fma
xp.exp = _unary(torch.exp, math.exp)
xp.pow = _binary(_pow, math.pow)
xp.div_rn = lambda a, b: a / b
xp.hypot = lambda a, b: xp.sqrt_rn(a * a + b * b)
xp.minimum = _binary(torch.minimum, min)
xp.maximum = _binary(torch.maximum, max)
xp.load, xp.store, xp.gather = _load, _store, _gather
xp.some = lambda on: True
xp.pending = lambda found: True
xp.fence = lambda: None
xp.static_range = range
xp.choose = lambda on, a, b: tuple(_where(on, x, y) for x, y in zip(a, b, strict=True))

_scope = {"__name__": __name__, "__builtins__": builtins}  # torch imports modules from C in the caller's globals


def _bind(module, **extra):
    return dialect.bind(
        dialect.shared_functions(module), xp, lambda f: f, {**_scope, **dialect.constants(module), **extra}
    )


def _switch(name, cases, arguments, results, functions):
    scope = {"xp": xp, **functions}
    return dialect.from_source(name, dialect.switch(name, cases, arguments, results), scope)


ELEMENTARY = _bind(elementary)
DRAW = _bind(draw, **ELEMENTARY)
GEOMETRY = _bind(geometry, **ELEMENTARY)
PIXEL = _bind(pixel, **ELEMENTARY, **{name: DRAW[name] for name in ("philox", "unit")})
JPEG = _bind(jpeg, **ELEMENTARY)
ELASTIC = _bind(
    elastic,
    **ELEMENTARY,
    **{name: PIXEL[name] for name in ("noise_words", "blur_weight")},
    unit=DRAW["unit"],
    snap=GEOMETRY["snap"],
    NEAREST=geometry.NEAREST,
    LINEAR=geometry.LINEAR,
)
BLEND = _bind(blend, half_even=ELEMENTARY["half_even"], within=PIXEL["within"])
TEXT = _bind(text, philox=DRAW["philox"])
draw_switch = _switch("draw_switch", draw.CASES, "key, c, h, w", [f"d{i}" for i in range(8)], DRAW)
geometry_switch = _switch("geometry_switch", geometry.CASES, "a, h, w", [f"t{i}" for i in range(17)], GEOMETRY)
_CALLED = {"clamp": ELEMENTARY["clamp"], "position": DRAW["position"], "stays": GEOMETRY["stays"]}
PLAN = _bind(plan, draw_switch=draw_switch, geometry_switch=geometry_switch, **_CALLED)
walk = PLAN["walk"]
_LENGTHS = {name: PLAN[name] for name in ("group_at", "group_words")}
POINTS = _bind(points, **_LENGTHS, **dialect.constants(plan))


@functools.cache
def formula(opcode: int):
    """The pixel formula of an opcode, `pixel`'s or a user's."""
    if opcode in pixel.CASES:
        return PIXEL[pixel.CASES[opcode]]
    return user.FORMULAS[opcode].bind(xp, lambda f: f, {**_scope, "settle": PIXEL["settle"]})
