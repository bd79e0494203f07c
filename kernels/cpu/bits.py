"""Integer and bit operations that Numba would widen to 64 bits, as intrinsics: casts to stored types, packed taps."""

from llvmlite import ir
from numba import types as nt
from numba.core import cgutils
from numba.extending import intrinsic

I16, I32, FLOAT = ir.IntType(16), ir.IntType(32), ir.FloatType()


def _word(value):
    return ir.Constant(I32, value)


def _rounded(builder, bits, drop):
    """The int32 `bits` without the lowest `drop`, to nearest even."""
    odd = builder.and_(builder.lshr(bits, _word(drop)), _word(1))
    return builder.lshr(builder.add(bits, builder.add(odd, _word((1 << (drop - 1)) - 1))), _word(drop))


def _held(builder, x):
    """x within 0 .. 255; 0 for NaN."""
    zero, most = ir.Constant(FLOAT, 0.0), ir.Constant(FLOAT, 255.0)
    x = builder.select(builder.fcmp_ordered(">", x, zero), x, zero)
    return builder.select(builder.fcmp_ordered("<", x, most), x, most)


@intrinsic
def u8_of(typingctx, x):
    """A float32 as uint8: clamped to 0 .. 255, then truncated; 0 for NaN."""

    def codegen(context, builder, signature, args):
        return builder.trunc(builder.fptosi(_held(builder, args[0]), I32), ir.IntType(8))

    return nt.uint8(nt.float32), codegen


@intrinsic
def bf16_of(typingctx, x):
    """A float32 as the bits of a bfloat16, to nearest even; NaN stays NaN."""

    def codegen(context, builder, signature, args):
        bits = builder.bitcast(args[0], I32)
        quiet = builder.or_(builder.lshr(bits, _word(16)), _word(0x40))
        nan = builder.fcmp_unordered("uno", args[0], args[0])
        return builder.trunc(builder.select(nan, quiet, _rounded(builder, bits, 16)), I16)

    return nt.uint16(nt.float32), codegen


@intrinsic
def f16_of(typingctx, x):
    """A float32 as the bits of a float16, to nearest even, with subnormals, infinity from 65520 on, and NaN."""

    def codegen(context, builder, signature, args):
        bits = builder.bitcast(args[0], I32)
        size = builder.and_(bits, _word(0x7FFFFFFF))
        sign = builder.and_(builder.lshr(bits, _word(16)), _word(0x8000))
        normal = _rounded(builder, builder.sub(size, _word(0x38000000)), 13)
        half = builder.fadd(builder.bitcast(size, FLOAT), ir.Constant(FLOAT, 0.5))
        tiny = builder.sub(builder.bitcast(half, I32), _word(0x3F000000))
        large = builder.select(builder.icmp_unsigned(">", size, _word(0x7F800000)), _word(0x7E00), _word(0x7C00))
        result = builder.select(builder.icmp_unsigned("<", size, _word(0x47800000)), normal, large)
        result = builder.select(builder.icmp_unsigned("<", size, _word(0x38800000)), tiny, result)
        return builder.trunc(builder.or_(result, sign), I16)

    return nt.uint16(nt.float32), codegen


@intrinsic
def of_bf16(typingctx, word):
    """The float32 that the bits of a bfloat16 stand for."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(builder.shl(builder.zext(args[0], I32), _word(16)), FLOAT)

    return nt.float32(nt.uint16), codegen


@intrinsic
def of_f16(typingctx, word):
    """The float32 that the bits of a float16 stand for."""

    def codegen(context, builder, signature, args):
        word = builder.zext(args[0], I32)
        size = builder.shl(builder.and_(word, _word(0x7FFF)), _word(13))
        finite = builder.fmul(builder.bitcast(size, FLOAT), ir.Constant(FLOAT, 2.0**112))
        special = builder.icmp_unsigned(">=", size, _word(0x7C00 << 13))
        bits = builder.select(special, builder.or_(size, _word(0x7F800000)), builder.bitcast(finite, I32))
        sign = builder.shl(builder.and_(word, _word(0x8000)), _word(16))
        return builder.bitcast(builder.or_(bits, sign), FLOAT)

    return nt.float32(nt.uint16), codegen


@intrinsic
def four_bytes(typingctx, a, b, c):
    """Three float32 as the lowest bytes of an int32, each as `u8_of` behind rounding; the fourth is 0."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(FLOAT, [FLOAT])
        rint = cgutils.get_or_insert_function(builder.module, kind, "llvm.rint.f32")
        a, b, c = (builder.fptosi(_held(builder, builder.call(rint, [x])), I32) for x in args)
        return builder.or_(a, builder.or_(builder.shl(b, _word(8)), builder.shl(c, _word(16))))

    return nt.int32(nt.float32, nt.float32, nt.float32), codegen


@intrinsic
def three_bytes(typingctx, a, b, c):
    """Three uint8 as the lowest bytes of an int32; the fourth is 0."""

    def codegen(context, builder, signature, args):
        a, b, c = (builder.zext(x, I32) for x in args)
        return builder.or_(a, builder.or_(builder.shl(b, _word(8)), builder.shl(c, _word(16))))

    return nt.int32(nt.uint8, nt.uint8, nt.uint8), codegen
