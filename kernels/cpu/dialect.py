"""The shared arithmetic over Numba: scalars of one row or one pixel, compiled by `numba.njit`.

`xp` is made of intrinsics, which cost no compilation of their own; whole numbers are int64 throughout, so that no clone
is compiled twice; memory is a pointer. Clones are never cached on disk by themselves (Numba's key knows neither globals
nor callees): they are part of the outermost kernels, which are.
"""

import types

import numpy as np
from llvmlite import ir
from numba import njit
from numba import types as nt
from numba.extending import intrinsic

from ..shared import blend, dialect, draw, elastic, elementary, geometry, jpeg, pixel, plan, points, text
from . import frame as F
from .records import on_stack, pointer_to

__all__ = ["pointer_to"]

LANES = 8  # lines that are resampled at once, in the lanes of a vector
FAST = ("contract", "nsz", "reassoc", "arcp")
INNER = {"error_model": "numpy", "nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

xp = types.ModuleType("xp_numba")


def exact(function):
    """Compile as written, for decisions and formulas: float32 literals, no fastmath (which a callee would inherit)."""
    return njit(**INNER, fastmath=False)(dialect.float32_literals(function))


def inlined(function):
    """As `exact`, into every caller: what a loop over pixels calls, which a call left in it would keep from vectors."""
    return njit(**INNER, fastmath=False, forceinline=True)(dialect.float32_literals(function))


def fast(function):
    """Compile for sums over pixels: float32 literals; contraction and reassociation allowed, NaN and infinity kept."""
    return njit(**INNER, fastmath=set(FAST))(dialect.float32_literals(function))


def specialised(wrap, template, **scope):
    """A compiled template with the names that it lacks, compiled by `wrap`."""
    function = template.py_func
    return wrap(types.FunctionType(function.__code__, {**function.__globals__, **scope}, function.__name__))


def _common(context, a, b):
    """The type of a choice between values of types a and b: the narrower literal gives way, int meets int as int64."""
    unified = context.unify_types(nt.unliteral(a), nt.unliteral(b))
    if unified is None or unified == nt.float64 and nt.float64 not in (a, b):
        raise TypeError(f"a choice between {a} and {b}")
    return unified


@intrinsic
def _where(typingctx, condition, a, b):
    kind = _common(typingctx, a, b)

    def codegen(context, builder, signature, args):
        on = context.cast(builder, args[0], signature.args[0], nt.boolean)
        values = [context.cast(builder, v, t, kind) for v, t in zip(args[1:], signature.args[1:], strict=True)]
        return builder.select(on, *values)

    return kind(condition, a, b), codegen


@intrinsic
def _choose(typingctx, condition, a, b):
    def codegen(context, builder, signature, args):
        result = args[1]
        for i in range(len(a)):
            pair = [builder.extract_value(v, i) for v in args[1:]]
            result = builder.insert_value(result, builder.select(args[0], *pair), i)
        return result

    if a != b:
        raise TypeError(f"a choice between {a} and {b}")
    return a(condition, a, b), codegen


def _cast(kind):
    @intrinsic
    def cast(typingctx, x):
        def codegen(context, builder, signature, args):
            return context.cast(builder, args[0], signature.args[0], kind)

        return kind(x), codegen

    return cast


def _unary(name):
    """An LLVM intrinsic of one float."""

    @intrinsic
    def call(typingctx, x):
        def codegen(context, builder, signature, args):
            function = builder.module.declare_intrinsic(name, [args[0].type])
            return builder.call(function, args)

        return x(x), codegen

    return call


def _of_floats(name, count):
    """An LLVM intrinsic of `count` float32s."""

    def codegen(context, builder, signature, args):
        values = [context.cast(builder, v, t, nt.float32) for v, t in zip(args, signature.args, strict=True)]
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()] * count)
        function = builder.module.declare_intrinsic(name, [ir.FloatType()], kind)
        return builder.call(function, values)

    if count == 2:

        @intrinsic
        def call(typingctx, a, b):
            return nt.float32(a, b), codegen

    else:

        @intrinsic
        def call(typingctx, a, b, c):
            return nt.float32(a, b, c), codegen

    return call


def _compared(sign):
    """a or b, whichever the comparison `b sign a` picks; NaN in a stays."""

    @intrinsic
    def pick(typingctx, a, b):
        kind = _common(typingctx, a, b)

        def codegen(context, builder, signature, args):
            u, v = (context.cast(builder, x, t, kind) for x, t in zip(args, signature.args, strict=True))
            whole = isinstance(kind, nt.Integer)
            less = builder.icmp_signed(sign, v, u) if whole else builder.fcmp_ordered(sign, v, u)
            return builder.select(less, v, u)

        return kind(a, b), codegen

    return pick


@intrinsic
def _load(typingctx, memory, at):
    kind = nt.int64 if isinstance(memory.dtype, nt.Integer) else memory.dtype

    def codegen(context, builder, signature, args):
        index = context.cast(builder, args[1], signature.args[1], nt.int64)
        value = builder.load(builder.gep(args[0], [index]))
        return context.cast(builder, value, memory.dtype, kind)

    return kind(memory, at), codegen


@intrinsic
def _store(typingctx, memory, at, value, on):
    def codegen(context, builder, signature, args):
        index = context.cast(builder, args[1], signature.args[1], nt.int64)
        with builder.if_then(args[3]):
            stored = context.cast(builder, args[2], signature.args[2], memory.dtype)
            builder.store(stored, builder.gep(args[0], [index]))
        return context.get_dummy_value()

    return nt.none(memory, at, value, on), codegen


@intrinsic
def _gather(typingctx, memory, at, on):
    """memory[at], or 0 where not on, which is then not read."""

    def codegen(context, builder, signature, args):
        index = context.cast(builder, args[1], signature.args[1], nt.int64)
        safe = builder.select(args[2], index, ir.Constant(index.type, 0))
        value = builder.load(builder.gep(args[0], [safe]))
        return builder.select(args[2], value, ir.Constant(value.type, 0.0))

    return memory.dtype(memory, at, on), codegen


@intrinsic
def _same(typingctx, on):
    return on(on), lambda context, builder, signature, args: args[0]


@intrinsic
def _fence(typingctx):
    return nt.none(), lambda context, builder, signature, args: context.get_dummy_value()


@intrinsic
def _divide(typingctx, a, b):
    def codegen(context, builder, signature, args):
        return builder.fdiv(*args)

    return a(a, b), codegen


def pointer(kind):
    """An intrinsic that takes an address (int64) to a pointer to `kind`."""

    @intrinsic
    def cast(typingctx, address):
        def codegen(context, builder, signature, args):
            return builder.inttoptr(args[0], context.get_value_type(nt.CPointer(kind)))

        return nt.CPointer(kind)(nt.int64), codegen

    return cast


int32 = _cast(nt.int32)
u8, u16, i32, i64 = pointer(nt.uint8), pointer(nt.uint16), pointer(nt.int32), pointer(nt.int64)
f32, f64 = pointer(nt.float32), pointer(nt.float64)


@intrinsic
def widest(typingctx):
    """Have the caller, which is not inlined, use vectors of 512 bits where the CPU has them: LLVM prefers 256."""

    def codegen(context, builder, signature, args):
        attributes = builder.function.attributes
        attributes.add("noinline")
        set.add(attributes, '"prefer-vector-width"="512"')  # llvmlite has no names for attributes with values
        return context.get_dummy_value()

    return nt.none(), codegen


@intrinsic
def call(typingctx, function, argument):
    """Call the compiled C function at an address, `void (void *)` or `void (int64)`."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [args[1].type])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return context.get_dummy_value()

    return nt.none(nt.int64, argument), codegen


xp.where, xp.choose = _where, _choose
xp.f32, xp.f64, xp.i32, xp.i64 = _cast(nt.float32), _cast(nt.float64), _cast(nt.int64), _cast(nt.int64)
xp.floor, xp.ceil, xp.rint = _unary("llvm.floor"), _unary("llvm.ceil"), _unary("llvm.rint")
xp.abs, xp.exp, xp.sqrt_rn, xp.div_rn = _unary("llvm.fabs"), _unary("llvm.exp"), _unary("llvm.sqrt"), _divide
xp.fma, xp.pow = _of_floats("llvm.fma", 3), _of_floats("llvm.pow", 2)
xp.minimum, xp.maximum = _compared("<"), _compared(">")
xp.load, xp.store, xp.gather, xp.some, xp.fence = _load, _store, _gather, _same, _fence
xp.static_range = range


def _hypot(a, b):
    return xp.sqrt_rn(a * a + b * b)


def _pending(found):
    return found == 0


xp.hypot, xp.pending = exact(_hypot), exact(_pending)


def _numbers(module):
    return {n: np.float32(v) if isinstance(v, float) else v for n, v in dialect.constants(module).items()}


def _bind(module, wrap, **extra):
    scope = {"__name__": __name__, **_numbers(module), **extra}
    return dialect.bind(dialect.shared_functions(module), xp, wrap, scope)


ELEMENTARY = _bind(elementary, exact)
DRAW = _bind(draw, exact, **ELEMENTARY)
GEOMETRY = _bind(geometry, exact, **ELEMENTARY)
_words = dialect.bind(
    {name: getattr(draw, name) for name in ("philox", "unit")}, xp, inlined, {"__name__": __name__, **_numbers(draw)}
)
_elementary = _bind(elementary, inlined)
PIXEL = _bind(pixel, inlined, **_elementary, **_words)
BLEND = _bind(blend, inlined, within=PIXEL["within"], half_even=_elementary["half_even"])
JPEG = _bind(jpeg, inlined, **_elementary)
ELASTIC = _bind(
    elastic,
    inlined,
    **_elementary,
    **{name: PIXEL[name] for name in ("noise_words", "blur_weight")},
    unit=_words["unit"],
    snap=GEOMETRY["snap"],
    NEAREST=geometry.NEAREST,
    LINEAR=geometry.LINEAR,
)
draw_memory, map_memory = on_stack(F.Draw), on_stack(F.Map)


@exact
def draw_switch(function, key, c, h, w):
    """The draw at an address, 0 for none, a C function of its own: programs have those that they need."""
    d = draw_memory()
    k, a, r = d.key, d.config, d.result
    k[0], k[1], k[2], k[3], k[4], k[5] = key
    for i in range(8):
        r[i] = xp.f32(0.0)
    a[0], a[1], a[2], a[3], a[4], a[5] = c[0], c[1], c[2], c[3], c[4], c[5]
    a[6], a[7], a[8], a[9], a[10], a[11] = c[6], c[7], c[8], c[9], c[10], c[11]
    d.h, d.w = h, w
    if function != 0:
        call(function, d)
    return r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]


@exact
def geometry_switch(function, a, h, w):
    """The geometry function at an address, as `draw_switch`."""
    m = map_memory()
    f, t = m.arguments, m.result
    f[0], f[1], f[2], f[3], f[4], f[5] = a[0], a[1], a[2], a[3], a[4], a[5]
    f[6], f[7], f[8], f[9], f[10], f[11] = a[6], a[7], a[8], a[9], a[10], a[11]
    m.h, m.w = h, w
    call(function, m)
    return (t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8], t[9], t[10], t[11], t[12], t[13], t[14], t[15], t[16])


def over_memory(name):
    """The draw or the geometry function of that name, over memory as `draw_switch` or `geometry_switch` fills it, and
    the structure of that."""
    if name in GEOMETRY:
        return specialised(exact, _map, FUNCTION=GEOMETRY[name]), F.Map
    return specialised(exact, _draw, FUNCTION=DRAW[name]), F.Draw


@exact
def _draw(d):
    k, c, r = d.key, d.config, d.result
    given = (c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9], c[10], c[11])
    r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7] = FUNCTION((k[0], k[1], k[2], k[3], k[4], k[5]), given, d.h, d.w)


@exact
def _map(d):
    f, t = d.arguments, d.result
    m = FUNCTION((f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9], f[10], f[11]), d.h, d.w)
    t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8] = m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], m[8]
    t[9], t[10], t[11], t[12], t[13], t[14], t[15], t[16] = m[9], m[10], m[11], m[12], m[13], m[14], m[15], m[16]


PLAN = _bind(
    plan,
    exact,
    clamp=ELEMENTARY["clamp"],
    draw_switch=draw_switch,
    geometry_switch=geometry_switch,
    position=DRAW["position"],
    stays=GEOMETRY["stays"],
)
_lengths = {name: PLAN[name] for name in ("group_at", "group_words")}
POINTS = _bind(points, exact, **_lengths, **_numbers(plan))
TEXT = _bind(text, exact, philox=DRAW["philox"])
word_block = _words["philox"]
