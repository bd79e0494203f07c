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
from numba.core import cgutils
from numba.extending import intrinsic

from . import cpu_frame as F
from . import dialect, draw, elementary, geometry, pixel, plan

LANES = 8  # rows that are resampled at once, in the lanes of a vector
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
def call(typingctx, function, argument):
    """Call the compiled C function `void (int64)` at an address."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return context.get_dummy_value()

    return nt.none(nt.int64, nt.int64), codegen


def stack(words):
    """An intrinsic that gives the address of `words` words of 8 bytes on the stack."""

    @intrinsic
    def address(typingctx):
        def codegen(context, builder, signature, args):
            memory = cgutils.alloca_once(builder, ir.ArrayType(ir.IntType(64), words))
            return builder.ptrtoint(memory, ir.IntType(64))

        return nt.int64(), codegen

    return address


xp.where, xp.choose = _where, _choose
xp.f32, xp.f64, xp.i32, xp.i64 = _cast(nt.float32), _cast(nt.float64), _cast(nt.int64), _cast(nt.int64)
xp.floor, xp.abs, xp.sqrt_rn, xp.div_rn = _unary("llvm.floor"), _unary("llvm.fabs"), _unary("llvm.sqrt"), _divide
xp.rint, xp.exp = _unary("llvm.rint"), _unary("llvm.exp")
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


def _switch(name, cases, arguments, functions):
    """`dialect.switch` as a chain of returns, which Numba compiles several times as fast."""
    lines = [f"def {name}(op, {arguments}):"]
    for opcode, function in cases.items():
        lines += [f"    if op == {opcode}:", f"        return {function}({arguments})"]
    lines += [f"    return {function}({arguments})"]
    return exact(dialect.from_source(name, "\n".join(lines) + "\n", {"__name__": __name__, **functions}))


ELEMENTARY = _bind(elementary, exact)
DRAW = _bind(draw, exact, **ELEMENTARY)
GEOMETRY = _bind(geometry, exact, **ELEMENTARY)
_words = dialect.bind(
    {name: getattr(draw, name) for name in ("philox", "unit")}, xp, inlined, {"__name__": __name__, **_numbers(draw)}
)
PIXEL = _bind(pixel, inlined, **_bind(elementary, inlined), **_words)
draw_memory = stack(F.DRAW_WORDS)


@exact
def draw_switch(op, key, c, h, w):
    """The draw of an opcode, a C function of its own: programs compile those that they need.

    The last word of `key` is the address of the job, which holds the seed's high word and the draws' addresses.
    """
    address, job = draw_memory(), i64(key[5])
    words, floats, function = i64(address + 8 * F.DRAW_KEY), f32(address + 8 * F.DRAW_FLOATS), i64(job[F.JOB_DRAWS])[op]
    words[0], words[1], words[2], words[3] = key[0], key[1], key[2], key[3]
    words[4], words[5] = key[4], job[F.JOB_SEED_HIGH]
    for i in range(8):
        floats[14 + i] = xp.f32(0.0)
    floats[0], floats[1], floats[2], floats[3], floats[4], floats[5] = c[0], c[1], c[2], c[3], c[4], c[5]
    floats[6], floats[7], floats[8], floats[9], floats[10], floats[11] = c[6], c[7], c[8], c[9], c[10], c[11]
    floats[12], floats[13] = h, w
    if function != 0:
        call(function, address)
    d = floats
    return d[14], d[15], d[16], d[17], d[18], d[19], d[20], d[21]


def draw_from_memory(name):
    """The draw of that name over memory as `draw_switch` fills it."""
    scope = {**_draw.py_func.__globals__, "DRAWN": DRAW[name]}
    return exact(types.FunctionType(_draw.py_func.__code__, scope, name))


@exact
def _draw(address):
    k, f = i64(address + 8 * F.DRAW_KEY), f32(address + 8 * F.DRAW_FLOATS)
    c = (f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9], f[10], f[11])
    d = DRAWN((k[0], k[1], k[2], k[3], k[4], k[5]), c, f[12], f[13])
    f[14], f[15], f[16], f[17], f[18], f[19], f[20], f[21] = d


geometry_switch = _switch("geometry_switch", geometry.CASES, "a, h, w", GEOMETRY)
PLAN = _bind(plan, exact, draw_switch=draw_switch, geometry_switch=geometry_switch, position=DRAW["position"])
walk = PLAN["walk"]
