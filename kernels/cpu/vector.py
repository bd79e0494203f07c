"""Pixels in vector registers, as LLVM vectors of eight or sixteen floats, which every CPU target has or splits.

Horizontal resampling gathers. With eight lines in the lanes of a vector, a gather is a plain load: `blend_block` sums
source lines of one output line, `turn_block` transposes eight of these, `tap_one` and `tap_three` sum columns of that
and transpose them back.
"""

from llvmlite import ir
from numba import types as nt
from numba.core import cgutils
from numba.extending import intrinsic

from .dialect import FAST, LANES

FLOAT, WORD, INT = ir.FloatType(), ir.IntType(64), ir.IntType(32)
VECTOR, HALF = ir.VectorType(FLOAT, LANES), ir.VectorType(FLOAT, LANES // 2)
WIDE = 2 * LANES  # floats of the longest vectors
STREAM_BYTES = 4 * LANES
_PAIRS = ((0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15))
_QUADS = ((0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15))
_LOW, _HIGH = range(LANES // 2), range(LANES // 2, LANES)


def _shuffle(builder, a, b, mask):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT, len(mask)), list(mask)))


def _turned(builder, quad):
    """Four vectors of eight with the 4 x 4 floats of each half transposed."""
    pairs = [_shuffle(builder, quad[i], quad[i + 1], mask) for i in (0, 2) for mask in _PAIRS]
    return [_shuffle(builder, pairs[j], pairs[j + 2], mask) for j in (0, 1) for mask in _QUADS]


def _at(builder, pointer, index):
    return builder.gep(pointer, [index])


def _vector_at(builder, pointer, index):
    return builder.bitcast(_at(builder, pointer, index), VECTOR.as_pointer())


def _put(builder, vectors, out, pitch, x):
    """Store vectors from out[x] on, `pitch` apart."""
    for k, vector in enumerate(vectors):
        at = builder.add(builder.mul(pitch, ir.Constant(WORD, k)), x)
        builder.store(vector, builder.bitcast(_at(builder, out, at), vector.type.as_pointer()), align=4)


def _spread(builder, scalar, lanes=LANES):
    one = builder.insert_element(ir.Constant(ir.VectorType(FLOAT, lanes), ir.Undefined), scalar, ir.Constant(INT, 0))
    return _shuffle(builder, one, one, [0] * lanes)


def _weighted_sums(builder, number, lanes, count, terms):
    """So many vectors, each the sum over k < count of what terms(k) gives as pairs (scalar weight, vector)."""
    zero = ir.Constant(ir.VectorType(FLOAT, lanes), [0.0] * lanes)
    sums = [cgutils.alloca_once_value(builder, zero) for _ in range(number)]
    for total in sums:
        builder.store(zero, total)
    with cgutils.for_range(builder, count) as loop:
        for total, (weight, vector) in zip(sums, terms(loop.index), strict=True):
            product = builder.fmul(_spread(builder, weight, lanes), vector, flags=FAST)
            builder.store(builder.fadd(builder.load(total), product, flags=FAST), total)
    return [builder.load(total) for total in sums]


def _rounded(builder, bound, vectors):
    """The vectors on the lattice, where bound > 0."""
    slots = [cgutils.alloca_once_value(builder, v) for v in vectors]
    for slot, v in zip(slots, vectors, strict=True):
        builder.store(v, slot)
    kind = ir.FunctionType(VECTOR, [VECTOR])
    rint = cgutils.get_or_insert_function(builder.module, kind, f"llvm.rint.v{LANES}f32")
    zero, limit = ir.Constant(VECTOR, [0.0] * LANES), _spread(builder, bound)
    with builder.if_then(builder.fcmp_ordered(">", bound, ir.Constant(FLOAT, 0.0))):
        for slot, v in zip(slots, vectors, strict=True):
            v = builder.call(rint, [v])
            v = builder.select(builder.fcmp_ordered(">", v, zero), v, zero)
            builder.store(builder.select(builder.fcmp_ordered("<", v, limit), v, limit), slot)
    return [builder.load(slot) for slot in slots]


def _blend_block(vectors):
    """An intrinsic for so many vectors of WIDE; see `blend_block`."""

    @intrinsic
    def block(typingctx, lines, weights, count, i, out):
        def codegen(context, builder, signature, args):
            lines, weights, count, i, out = args
            starts = [builder.add(i, ir.Constant(WORD, WIDE * j)) for j in range(vectors)]
            wide = ir.VectorType(FLOAT, WIDE).as_pointer()

            def terms(k):
                line, weight = builder.load(_at(builder, lines, k)), builder.load(_at(builder, weights, k))
                line = builder.inttoptr(line, FLOAT.as_pointer())
                for start in starts:
                    yield weight, builder.load(builder.bitcast(_at(builder, line, start), wide), align=4)

            sums = _weighted_sums(builder, vectors, WIDE, count, terms)
            for start, total in zip(starts, sums, strict=True):
                builder.store(total, builder.bitcast(_at(builder, out, start), wide), align=4)
            return context.get_dummy_value()

        return nt.none(lines, weights, count, i, out), codegen

    return block


# out[i + j] = sum over k < count of weights[k] times element i + j of the float32s at the address lines[k], for j < 16,
# 32 or 64.
blend_block, blend_two_blocks, blend_four_blocks = _blend_block(1), _blend_block(2), _blend_block(4)


@intrinsic
def float_block(typingctx, source, i, out):
    """out[i + j] = source[i + j], uint8, for j < WIDE."""

    def codegen(context, builder, signature, args):
        source, i, out = args
        block = builder.bitcast(_at(builder, source, i), ir.VectorType(ir.IntType(8), WIDE).as_pointer())
        wide = builder.uitofp(builder.load(block, align=1), ir.VectorType(FLOAT, WIDE))
        builder.store(wide, builder.bitcast(_at(builder, out, i), wide.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return nt.none(source, i, out), codegen


@intrinsic
def turn_block(typingctx, lines, pitch, x, out):
    """out[j * 8 + r] = lines[r * pitch + x + j], for j, r < 8."""

    def codegen(context, builder, signature, args):
        lines, pitch, x, out = args
        quarter = LANES // 2
        for column in (0, quarter):
            halves = []
            for r in range(LANES):
                at = builder.add(builder.mul(pitch, ir.Constant(WORD, r)), builder.add(x, ir.Constant(WORD, column)))
                half = builder.bitcast(_at(builder, lines, at), HALF.as_pointer())
                halves.append(builder.load(half, align=4))
            quad = [_shuffle(builder, halves[r], halves[r + quarter], range(LANES)) for r in range(quarter)]
            _put(builder, _turned(builder, quad), out, ir.Constant(WORD, LANES), ir.Constant(WORD, column * LANES))
        return context.get_dummy_value()

    return nt.none(lines, pitch, x, out), codegen


def _tap_block(channels, width):
    """An intrinsic for `width` output columns of so many channels; see `tap_one`."""

    @intrinsic
    def block(typingctx, columns, columns_pitch, index, weights, pitch, count, x, out, out_pitch, plane_pitch, bound):
        def codegen(context, builder, signature, args):
            columns, columns_pitch, index, weights, pitch, count, x, out, out_pitch, plane_pitch, bound = args
            planes = [builder.mul(columns_pitch, ir.Constant(WORD, c)) for c in range(channels)]
            planes = [_at(builder, columns, plane) for plane in planes]

            def terms(k):
                start = builder.add(builder.mul(k, pitch), x)
                for j in range(width):
                    entry = builder.add(start, ir.Constant(WORD, j))
                    column = builder.sext(builder.load(_at(builder, index, entry)), WORD)
                    weight = builder.load(_at(builder, weights, entry))
                    for plane in planes:
                        yield weight, builder.load(_vector_at(builder, plane, column), align=4)

            sums = _rounded(builder, bound, _weighted_sums(builder, width * channels, LANES, count, terms))
            quads = [
                _turned(builder, sums[c + j * channels : c + (j + 4) * channels : channels])
                for c in range(channels)
                for j in range(0, width, 4)
            ]
            for c in range(channels):
                plane = builder.add(builder.mul(plane_pitch, ir.Constant(WORD, c)), x)
                for r in range(LANES):  # line by line: where lines are shorter than a vector, each ends its predecessor
                    half, at = (_LOW, _HIGH)[r // 4], builder.add(builder.mul(out_pitch, ir.Constant(WORD, r)), plane)
                    lines = [quad[r % 4] for quad in quads[c * width // 4 : (c + 1) * width // 4]]
                    _put(builder, [_shuffle(builder, v, v, half) for v in lines], out, ir.Constant(WORD, 4), at)
            return context.get_dummy_value()

        arguments = columns, columns_pitch, index, weights, pitch, count, x, out, out_pitch, plane_pitch, bound
        return nt.none(*arguments), codegen

    return block


# out[c * plane_pitch + r * out_pitch + x + j] = sum over k < count of weights[k * pitch + x + j] times
# columns[c * columns_pitch + index[k * pitch + x + j] + r], for eight lines r, and j < 8 of one channel, or j < 4 of
# three; where bound > 0, rounded half to even and clamped to 0 .. bound.
tap_one, tap_three = _tap_block(1, LANES), _tap_block(3, LANES // 2)


def _gather_block(kind):
    """An intrinsic for planes of `kind` (uint8, float32), or words of three bytes (int32); see `gather_block_u8`."""
    channels = 3 if kind == nt.int32 else 1

    @intrinsic
    def block(
        typingctx, base, step_y, index_x, index_y, weights_x, weights_y, pitch, count_x, count_y, x, out, out_pitch
    ):
        def codegen(context, builder, signature, args):
            base, step_y, index_x, index_y, weights_x, weights_y, pitch, count_x, count_y, x, out, out_pitch = args
            base = builder.inttoptr(base, context.get_value_type(kind).as_pointer())
            sums = [cgutils.alloca_once(builder, VECTOR) for _ in range(channels)]
            for total in sums:
                builder.store(ir.Constant(VECTOR, [0.0] * LANES), total)
            with cgutils.for_range(builder, count_y) as lines:
                at = builder.add(builder.mul(lines.index, pitch), x)
                starts = [builder.mul(offset, step_y) for offset in _offsets(builder, index_y, at)]
                share = builder.load(_vector_at(builder, weights_y, at), align=4)
                with cgutils.for_range(builder, count_x) as columns:
                    at = builder.add(builder.mul(columns.index, pitch), x)
                    offsets = zip(starts, _offsets(builder, index_x, at), strict=True)
                    taps = [builder.load(_at(builder, base, builder.add(a, b))) for a, b in offsets]
                    weight = builder.fmul(share, builder.load(_vector_at(builder, weights_x, at), align=4), flags=FAST)
                    for total, value in zip(sums, _planes(builder, kind, taps), strict=True):
                        product = builder.fmul(weight, value, flags=FAST)
                        builder.store(builder.fadd(builder.load(total), product, flags=FAST), total)
            _put(builder, [builder.load(total) for total in sums], out, out_pitch, x)
            return context.get_dummy_value()

        arguments = base, step_y, index_x, index_y, weights_x, weights_y, pitch, count_x, count_y, x, out, out_pitch
        return nt.none(*arguments), codegen

    return block


def _offsets(builder, index, at):
    """The eight int32s from `at` on, as int64s."""
    entries = [builder.add(at, ir.Constant(WORD, lane)) for lane in range(LANES)]
    return [builder.sext(builder.load(_at(builder, index, entry)), WORD) for entry in entries]


def _planes(builder, kind, taps):
    """Eight values as a vector of float32; the three lowest bytes of eight words as one vector each."""
    vector = _vector_of(builder, taps)
    if kind == nt.float32:
        return [vector]
    if kind == nt.uint8:
        return [builder.sitofp(builder.zext(vector, ir.VectorType(INT, LANES)), VECTOR)]
    return _bytes_of(builder, vector)


def _vector_of(builder, values):
    vector = ir.Constant(ir.VectorType(values[0].type, LANES), ir.Undefined)
    for lane, value in enumerate(values):
        vector = builder.insert_element(vector, value, ir.Constant(INT, lane))
    return vector


def _bytes_of(builder, words):
    """The three lowest bytes of eight words, as vectors of float32."""
    shifted = [builder.lshr(words, ir.Constant(words.type, [8 * c] * LANES)) for c in range(3)]
    return [builder.sitofp(builder.and_(v, ir.Constant(words.type, [255] * LANES)), VECTOR) for v in shifted]


# out[c * out_pitch + x + i] = sum over j < count_y, k < count_x of weights_y[j, x + i] * weights_x[k, x + i] times
# base[index_y[j, x + i] * step_y + index_x[k, x + i]], for i < 8; tables are [taps, pitch], `base` is an address.
gather_block_u8, gather_block_f32 = _gather_block(nt.uint8), _gather_block(nt.float32)
gather_block_packed = _gather_block(nt.int32)


@intrinsic
def take_block_packed(typingctx, base, offsets, x, out, out_pitch):
    """out[c * out_pitch + x + i] = byte c of the word base[offsets[x + i]], for i < 8, c < 3; `base` is an address."""

    def codegen(context, builder, signature, args):
        base, offsets, x, out, out_pitch = args
        base = builder.inttoptr(base, INT.as_pointer())
        words = [builder.load(_at(builder, base, offset)) for offset in _offsets(builder, offsets, x)]
        _put(builder, _bytes_of(builder, _vector_of(builder, words)), out, out_pitch, x)
        return context.get_dummy_value()

    return nt.none(base, offsets, x, out, out_pitch), codegen


@intrinsic
def four_block_packed(typingctx, base, step_y, offsets, weights, pitch, x, out, out_pitch):
    """out[c * out_pitch + x + i] = the sum of byte c of four words, for i < 8, c < 3: those at offsets[x + i], beside
    that, step_y behind it and beside that, times weights[0 .. 3, x + i], a table of that pitch; `base` is an address.
    """

    def codegen(context, builder, signature, args):
        base, step_y, offsets, weights, pitch, x, out, out_pitch = args
        base, lanes = builder.inttoptr(base, INT.as_pointer()), [ir.Constant(WORD, lane) for lane in range(LANES)]
        starts = [builder.load(_at(builder, offsets, builder.add(x, lane))) for lane in lanes]
        sums = [ir.Constant(VECTOR, [0.0] * LANES)] * 3
        for line in range(2):
            pairs = [builder.bitcast(_at(builder, base, start), WORD.as_pointer()) for start in starts]
            pairs = _vector_of(builder, [builder.load(pair, align=4) for pair in pairs])
            for column in range(2):
                half = builder.lshr(pairs, ir.Constant(pairs.type, [32 * column] * LANES))
                taps = builder.trunc(half, ir.VectorType(INT, LANES))
                at = builder.add(builder.mul(pitch, ir.Constant(WORD, 2 * line + column)), x)
                weight = builder.load(_vector_at(builder, weights, at), align=4)
                products = [builder.fmul(weight, value, flags=FAST) for value in _bytes_of(builder, taps)]
                sums = [builder.fadd(a, b, flags=FAST) for a, b in zip(sums, products, strict=True)]
            starts = [builder.add(start, step_y) for start in starts]
        _put(builder, sums, out, out_pitch, x)
        return context.get_dummy_value()

    return nt.none(base, step_y, offsets, weights, pitch, x, out, out_pitch), codegen


@intrinsic
def stream_block(typingctx, source, out):
    """Copy STREAM_BYTES from the address `source` to `out`, a multiple of them, past the caches."""

    def codegen(context, builder, signature, args):
        source, out = (builder.inttoptr(a, VECTOR.as_pointer()) for a in args)
        store = builder.store(builder.load(source, align=1), out, align=STREAM_BYTES)
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(INT, 1)]))
        return context.get_dummy_value()

    return nt.none(nt.int64, nt.int64), codegen


@intrinsic
def prefetch(typingctx, address):
    """Have the cache line at an address brought into the second cache; any address will do."""

    def codegen(context, builder, signature, args):
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, INT, INT, INT])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        reads, second, data = (ir.Constant(INT, number) for number in (0, 2, 1))
        builder.call(function, [builder.inttoptr(args[0], byte), reads, second, data])
        return context.get_dummy_value()

    return nt.none(nt.int64), codegen


@intrinsic
def drain(typingctx):
    """Make what was streamed visible to other threads."""

    def codegen(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return nt.none(), codegen
