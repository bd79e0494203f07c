"""The shared arithmetic over Triton: scalars of one row, or tiles of pixels.

`xp` forwards to `triton.language` and adds the primitives of the dialects. Kernels are written as plain functions and
bound as the shared arithmetic is: they import the names they use, and their clones see those names' Triton
counterparts. The globals of a clone must hold `tl` and `__name__`, and numbers must be `tl.constexpr`.
"""

import functools
import inspect
import types

import triton
import triton.language as tl

from ..shared import blend, dialect, draw, elastic, elementary, geometry, jpeg, pixel, plan, points, user

xp = types.ModuleType("xp_triton")
xp.__getattr__ = lambda name: getattr(tl, name)

INTERPRETED = triton.knobs.runtime.interpret  # TRITON_INTERPRET=1, which `triton.jit` heeds when it defines a function


def _primitive(function):
    """Compiled on use; interpreted as it stands, because each call of a jit function costs the interpreter a
    millisecond."""
    return function if INTERPRETED else triton.jit(function)


@_primitive
def _f32(x):
    return tl.cast(x, tl.float32)


@_primitive
def _f64(x):
    return tl.cast(x, tl.float64)


@_primitive
def _i32(x):
    return tl.cast(x, tl.int32)


@_primitive
def _i64(x):
    return tl.cast(x, tl.int64)


@_primitive
def _hypot(a, b):
    return tl.sqrt_rn(a * a + b * b)


@_primitive
def _fma(a, b, c):
    return tl.fma(tl.cast(a, tl.float32), tl.cast(b, tl.float32), tl.cast(c, tl.float32))


def _fma_interpreted(a, b, c):
    """The interpreter's own rounds twice."""
    a, b, c = (tl.cast(v, tl.float64) for v in (a, b, c))
    return tl.cast(a * b + c, tl.float32)


@_primitive
def level_half_even(x):
    """`half_even` where |x| < 2^22: the sum has no room for a fraction."""
    return (x + 12582912.0) - 12582912.0


@_primitive
def _pow(a, b):
    return tl.where(b == 0.0, 1.0, tl.exp2(b * tl.log2(a)))


@_primitive
def _minimum(a, b):
    """NaN where a or b is: left alone, a GPU takes the other one, and a clamp makes a colour of what is none."""
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@_primitive
def _maximum(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@_primitive
def _load(memory, i_at):
    return tl.load(memory + i_at)


@_primitive
def _store(memory, i_at, value, on):
    tl.store(memory + i_at, value, mask=on)


@_primitive
def _gather(memory, i_at, on):
    return tl.load(memory + i_at, mask=on, other=0.0)


@_primitive
def _some(on):
    return on


@_primitive
def _pending(found):
    return found == 0


@_primitive
def _fence():
    tl.debug_barrier()


@_primitive
def _choose(on, a, b):
    chosen = b
    if on:
        chosen = a
    return chosen


xp.f32, xp.f64, xp.i32, xp.i64 = _f32, _f64, _i32, _i64
xp.hypot, xp.pow = _hypot, _pow
xp.minimum, xp.maximum = _minimum, _maximum
xp.fma = _fma_interpreted if INTERPRETED else _fma
xp.load, xp.store, xp.gather = _load, _store, _gather
xp.some, xp.pending, xp.choose, xp.fence = _some, _pending, _choose, _fence

_SHARED = (blend, draw, elastic, elementary, geometry, jpeg, pixel, plan)
_NUMBERS = {n: tl.constexpr(v) for module in _SHARED for n, v in dialect.constants(module).items()}


_bound: dict = {}  # plain functions, as they were bound first


def bind_module(module, **extra) -> dict:
    """What `module` defines, compiled on use; it sees the constants of all shared modules and its own, what was bound
    of the functions that it imports, and the names in `extra`."""
    own, numbers = dialect.shared_functions(module), dialect.constants(module)
    scope = {"__name__": __name__, "tl": tl, **_NUMBERS, **{n: tl.constexpr(v) for n, v in numbers.items()}}
    scope |= {n: _bound[f] for n, f in vars(module).items() if inspect.isfunction(f) and f in _bound}
    bound = dialect.bind(own, xp, triton.jit, scope | extra)
    for name, function in own.items():
        _bound.setdefault(function, bound[name])
    return bound


ELEMENTARY = bind_module(elementary)
DRAW = bind_module(draw, **ELEMENTARY)
GEOMETRY = bind_module(geometry, **ELEMENTARY)
bind_module(plan)  # its lengths; what draws and maps is bound by `walk`
bind_module(points, **{name: _bound[getattr(plan, name)] for name in ("group_at", "group_words")})
bind_module(jpeg, **ELEMENTARY)
PIXEL = bind_module(pixel, **ELEMENTARY, **{name: DRAW[name] for name in ("philox", "unit")})
bind_module(
    elastic,
    **ELEMENTARY,
    **{name: PIXEL[name] for name in ("noise_words", "blur_weight")},
    unit=DRAW["unit"],
    snap=GEOMETRY["snap"],
)

BLEND = bind_module(blend, half_even=ELEMENTARY["half_even"], within=PIXEL["within"])


def define(name: str, source: str, functions: dict):
    """A generated function that calls `functions`, compiled on use."""
    return triton.jit(dialect.from_source(name, source, {"__name__": __name__, "tl": tl, "xp": xp, **functions}))


def bits(opcodes) -> int:
    """A set of opcodes as the bits of one integer."""
    return sum(1 << opcode for opcode in set(opcodes))


def _switch(name, module, functions, opcodes, arguments, results):
    cases = {k: f for k, f in module.CASES.items() if k in opcodes}
    return define(name, dialect.switch(name, cases, arguments, results), functions)


@functools.cache
def walk(draw_ops: frozenset, geometry_ops: frozenset):
    """`plan.walk` for programs that use no opcodes but these, so that no others are compiled."""
    draws = _switch("draw_switch", draw, DRAW, draw_ops, "key, c, h, w", [f"d{i}" for i in range(8)])
    maps = _switch("geometry_switch", geometry, GEOMETRY, geometry_ops, "a, h, w", [f"t{i}" for i in range(17)])
    called = {"clamp": ELEMENTARY["clamp"], "position": DRAW["position"], "stays": GEOMETRY["stays"]}
    return bind_module(plan, draw_switch=draws, geometry_switch=maps, **called)["walk"]


def _pixel_switch(formulas: dict) -> str:
    """Source of `pixel_switch`: one pixel step on the colour (r, g, b) at (x, y); a formula over one channel is applied
    to each."""
    rest = "p, bound, lattice, channels"
    lines = [f"def pixel_switch(op, r, g, b, x, y, {rest}, OPS: tl.constexpr):"]
    for opcode, (name, formula) in formulas.items():
        names = inspect.signature(formula).parameters
        lines += [f"    if (OPS >> {opcode}) & 1:", f"        if op == {opcode}:"]
        if next(iter(names)) == "v":
            lines += [f"            {v} = {name}({v}, {rest})" for v in "rgb"]
        else:
            place = "x, y, " if "x" in names else ""
            lines.append(f"            r, g, b = {name}(r, g, b, {place}{rest})")
    return "\n".join([*lines, "    return r, g, b"]) + "\n"


@functools.cache
def pixel_switch(users: tuple[int, ...] = ()):
    """One pixel step: the formulas of `pixel`, and users' formulas by their opcodes."""
    formulas = {opcode: (name, getattr(pixel, name)) for opcode, name in pixel.CASES.items()}
    functions, scope = dict(PIXEL), {"__name__": __name__, "tl": tl, "settle": PIXEL["settle"]}
    for opcode in users:
        bound = user.FORMULAS[opcode].bind(xp, triton.jit, scope, tl.constexpr)
        functions[f"user_{opcode}"], formulas[opcode] = bound, (f"user_{opcode}", bound.fn)
    return define("pixel_switch", _pixel_switch(formulas), functions)


def _blend_switch() -> str:
    """Source of `blend_switch`: the blend of three channels with those of layer k."""
    lines = ["def blend_switch(op, k, r, g, b, nr, ng, nb, x, y, p, OPS: tl.constexpr):", "    fr, fg, fb = nr, ng, nb"]
    for opcode, name in blend.CASES.items():
        lines += [f"    if (OPS >> {opcode}) & 1:", f"        if op == {opcode}:"]
        lines += [f"            f{c} = {name}(k, {c}, n{c}, x, y, p)" for c in "rgb"]
    return "\n".join([*lines, "    return fr, fg, fb"]) + "\n"


blend_switch = define("blend_switch", _blend_switch(), BLEND)
