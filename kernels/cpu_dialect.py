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

from . import dialect, draw, geometry, pixel, plan

LANES = 8  # rows that are resampled at once, in the lanes of a vector
FAST = ("contract", "nsz", "reassoc", "arcp")
INNER = {"error_model": "numpy", "nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

xp = types.ModuleType("xp_numba")


def exact(function):
    """Compile as written, for decisions and formulas: float32 literals, no fastmath (which a callee would inherit)."""
    return njit(**INNER, fastmath=False)(dialect.float32_literals(function))


def fast(function):
    """Compile for sums over pixels: float32 literals; contraction and reassociation allowed, NaN and infinity kept."""
    return njit(**INNER, fastmath=set(FAST))(dialect.float32_literals(function))


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
def call(typingctx, function, argument):
    """Call the compiled C function `void (int64)` at an address."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return context.get_dummy_value()

    return nt.none(nt.int64, nt.int64), codegen


xp.where, xp.choose = _where, _choose
xp.f32, xp.f64, xp.i32, xp.i64 = _cast(nt.float32), _cast(nt.float64), _cast(nt.int64), _cast(nt.int64)
xp.floor, xp.abs, xp.sqrt_rn, xp.div_rn = _unary("llvm.floor"), _unary("llvm.fabs"), _unary("llvm.sqrt"), _divide
xp.rint = _unary("llvm.rint")
xp.minimum, xp.maximum = _compared("<"), _compared(">")
xp.load, xp.store, xp.gather, xp.some, xp.fence = _load, _store, _gather, _same, _fence
xp.static_range = range


def _hypot(a, b):
    return xp.sqrt_rn(a * a + b * b)


def _pending(found):
    return found == 0


xp.hypot, xp.pending = exact(_hypot), exact(_pending)


def _bind(module, wrap, **extra):
    numbers = {n: np.float32(v) if isinstance(v, float) else v for n, v in dialect.constants(module).items()}
    return dialect.bind(dialect.shared_functions(module), xp, wrap, {"__name__": __name__, **numbers, **extra})


def _switch(name, cases, arguments, functions):
    """`dialect.switch` as a chain of returns, which Numba compiles several times as fast."""
    lines = [f"def {name}(op, {arguments}):"]
    for opcode, function in cases.items():
        lines += [f"    if op == {opcode}:", f"        return {function}({arguments})"]
    lines += [f"    return {function}({arguments})"]
    return exact(dialect.from_source(name, "\n".join(lines) + "\n", {"__name__": __name__, **functions}))


DRAW = _bind(draw, exact)
GEOMETRY = _bind(geometry, exact, half_even=DRAW["half_even"])
PIXEL = _bind(pixel, exact)
draw_switch = _switch("draw_switch", draw.CASES, "key, c, h, w", DRAW)
geometry_switch = _switch("geometry_switch", geometry.CASES, "a, h, w", GEOMETRY)
PLAN = _bind(plan, exact, draw_switch=draw_switch, geometry_switch=geometry_switch, position=DRAW["position"])
walk = PLAN["walk"]
