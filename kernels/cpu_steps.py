"""What happens to a tile once it is sampled: fill, pixel steps, statistics, stores. One loop a formula, vectorised."""

import types

from . import cpu_frame as F
from . import dialect, pixel
from . import plan as P
from .cpu_bits import bf16_of, f16_of, of_bf16, of_f16, u8_of
from .cpu_dialect import PIXEL, f32, fast, u8, u16, xp
from .cpu_tables import clamp, element_bytes, group_at, step_at
from .cpu_vector import STREAM_BYTES, stream_block

luma = PIXEL["luma"]


@fast
def add_fill(frame):
    """Add the fill that the taps outside of the canvas stand for."""
    g = group_at(frame, frame[F.SMOOTH])
    inside_x = f32(frame[F.X_TABLE] + 8 * frame[F.TAPS_X] * frame[F.X_PITCH])
    inside_y = f32(frame[F.Y_TABLE] + 8 * frame[F.TAPS_Y] * frame[F.Y_PITCH])
    for c in range(frame[F.CHANNELS]):
        fill = g[P.G_FILL + c]
        for r in range(frame[F.ROWS]):
            row, share = f32(frame[F.TILE] + 4 * (c * frame[F.PITCH] + r * frame[F.OW])), inside_y[frame[F.Y] + r]
            for x in range(frame[F.OW]):
                row[x] += fill * (1.0 - inside_x[x] * share)


@fast
def aligned_births(frame):
    """The group where each pixel of the tile is born, -1 for none: the later one of its column's and its row's."""
    born_x = f32(frame[F.X_TABLE] + 4 * frame[F.X_PITCH] * (2 * frame[F.TAPS_X] + 1))
    born_y = f32(frame[F.Y_TABLE] + 4 * frame[F.Y_PITCH] * (2 * frame[F.TAPS_Y] + 1))
    for r in range(frame[F.ROWS]):
        birth, born = f32(frame[F.BIRTH] + 4 * r * frame[F.OW]), born_y[frame[F.Y] + r]
        for x in range(frame[F.OW]):
            birth[x] = xp.maximum(born_x[x], born)


@fast
def paint(frame, n):
    """Give born pixels their group's fill, and turn the group into its slot."""
    birth = f32(frame[F.BIRTH])
    for i in range(n):
        if birth[i] >= 0.0:
            g = group_at(frame, xp.i64(birth[i]))
            birth[i] = g[P.G_SLOT]
            for c in range(frame[F.CHANNELS]):
                f32(frame[F.TILE])[c * frame[F.PITCH] + i] = g[P.G_FILL + c]


@fast
def settle(frame, n):
    """Round a smooth pass back onto the lattice, where `tap_block` has not done so."""
    bound = group_at(frame, frame[F.SMOOTH])[P.G_BOUND]
    if bound > 0.0:
        for c in range(frame[F.CHANNELS]):
            row = f32(frame[F.TILE] + 4 * c * frame[F.PITCH])
            for i in range(n):
                row[i] = clamp(xp.rint(row[i]), 0.0, bound)


@fast
def eight(step, triple):
    """A step's arguments for three channels."""
    a = P.S_ARGUMENTS + 8 * triple
    return step[a], step[a + 1], step[a + 2], step[a + 3], step[a + 4], step[a + 5], step[a + 6], step[a + 7]


@fast
def one_channel(step, tile, pitch, channels, n):
    bound, lattice = step[P.S_BOUND], step[P.S_LATTICE]
    for c in range(channels):
        p, row = eight(step, c // 3), f32(tile + 4 * c * pitch)
        for i in range(n):
            row[i] = FORMULA(row[i], p, bound, lattice, channels)


@fast
def three_channels(step, tile, pitch, channels, n):
    bound, lattice = step[P.S_BOUND], step[P.S_LATTICE]
    for t in range((channels + 2) // 3):
        p = eight(step, t)
        r, g = f32(tile + 12 * t * pitch), f32(tile + 4 * min(3 * t + 1, channels - 1) * pitch)
        b = f32(tile + 4 * min(3 * t + 2, channels - 1) * pitch)
        if channels == 1:
            for i in range(n):
                r[i] = FORMULA(r[i], r[i], r[i], p, bound, lattice, channels)[0]
        else:
            for i in range(n):
                x, y, z = FORMULA(r[i], g[i], b[i], p, bound, lattice, channels)
                b[i] = z
                g[i] = y
                r[i] = x


def _loop(name):
    """The loop over a tile of the formula `pixel.<name>`, after the number of channels that it takes."""
    first = getattr(pixel, name).__code__.co_varnames[0]
    template = one_channel.py_func if first == "v" else three_channels.py_func
    scope = {**template.__globals__, "FORMULA": PIXEL[name]}
    return fast(types.FunctionType(template.__code__, scope, f"loop_{name}"))


def _dispatch():
    lines = ["def run_step(op, step, tile, pitch, channels, n):"]
    for opcode, name in pixel.CASES.items():
        lines += [f"    if op == {opcode}:", f"        loop_{name}(step, tile, pitch, channels, n)"]
    scope = {f"loop_{name}": _loop(name) for name in pixel.CASES.values()}
    return fast(dialect.from_source("run_step", "\n".join(lines) + "\n", {"__name__": __name__, **scope}))


run_step = _dispatch()


@fast
def keep_born(frame, slot, n):
    """Undo a step where the pixel was born behind it."""
    birth = f32(frame[F.BIRTH])
    for c in range(frame[F.CHANNELS]):
        row, before = f32(frame[F.TILE] + 4 * c * frame[F.PITCH]), f32(frame[F.SPARE] + 4 * c * frame[F.PITCH])
        for i in range(n):
            row[i] = xp.where(birth[i] > slot, before[i], row[i])


@fast
def run_steps(frame, n):
    """The pixel steps of the pass over the n pixels of the tile."""
    for k in range(frame[F.STEPS], frame[F.STEPS_TO]):
        step = step_at(frame, k)
        if frame[F.BORN]:
            words = frame[F.CHANNELS] * frame[F.PITCH]
            before, tile = f32(frame[F.SPARE]), f32(frame[F.TILE])
            for i in range(words):
                before[i] = tile[i]
        run_step(xp.i64(step[P.S_OP]), step, frame[F.TILE], frame[F.PITCH], frame[F.CHANNELS], n)
        if frame[F.BORN]:
            keep_born(frame, step[P.S_SLOT], n)


@fast
def grey_sum(frame, n):
    """The sum of the tile's luma: vectors of float32 over a tile, float64 over the image."""
    channels, pitch = frame[F.CHANNELS], frame[F.PITCH]
    lattice = step_at(frame, frame[F.STATISTIC])[P.S_LATTICE]
    r, g = f32(frame[F.TILE]), f32(frame[F.TILE] + 4 * min(1, channels - 1) * pitch)
    b = f32(frame[F.TILE] + 4 * min(2, channels - 1) * pitch)
    total = xp.f32(0.0)
    for i in range(n):
        total += luma(r[i], g[i], b[i], lattice, channels)
    return xp.f64(total)


@fast
def convert(kind, row, n, out):
    """Cast n floats into the sink's type at the address `out`."""
    if kind == F.U8:
        bytes_out = u8(out)
        for i in range(n):
            bytes_out[i] = u8_of(row[i])
    elif kind == F.F32:
        floats_out = f32(out)
        for i in range(n):
            floats_out[i] = row[i]
    elif kind == F.BF16:
        words_out = u16(out)
        for i in range(n):
            words_out[i] = bf16_of(row[i])
    else:
        words_out = u16(out)
        for i in range(n):
            words_out[i] = f16_of(row[i])


@fast
def spread(source, pitch, channels, n, out, step_c, step_x):
    """Lay out the n pixels of planar `source` (channels `pitch` apart) with any strides."""
    if (channels == 3) & (step_c == 1) & (step_x == 3):
        for i in range(n):
            out[3 * i], out[3 * i + 1], out[3 * i + 2] = source[i], source[pitch + i], source[2 * pitch + i]
    else:
        for c in range(channels):
            for i in range(n):
                out[c * step_c + i * step_x] = source[c * pitch + i]


@fast
def stream(source, out, size):
    """Copy `size` bytes past the caches; what is not aligned goes the ordinary way."""
    head = min(-out % STREAM_BYTES, size)
    tail = head + (size - head) // STREAM_BYTES * STREAM_BYTES
    for i in range(head):
        u8(out)[i] = u8(source)[i]
    for i in range(head, tail, STREAM_BYTES):
        stream_block(source + i, out + i)
    for i in range(tail, size):
        u8(out)[i] = u8(source)[i]


@fast
def store_planar(frame, first, n, out):
    """Store n pixels of the tile from `first` on at element `out` of a sink whose columns are neighbours."""
    kind, pitch = frame[F.SINK_KIND], frame[F.PITCH]
    size = element_bytes(kind)
    for c in range(frame[F.CHANNELS]):
        row, to = frame[F.TILE] + 4 * (c * pitch + first), frame[F.SINK] + size * (out + c * frame[F.SINK_C])
        if frame[F.STREAMS] == 0:
            convert(kind, f32(row), n, to)
        elif kind == F.F32:
            stream(row, to, 4 * n)
        else:
            convert(kind, f32(row), n, frame[F.SPARE])
            stream(frame[F.SPARE], to, size * n)


@fast
def store_strided(frame, first, n, out):
    """As `store_planar` for any strides."""
    kind, channels, pitch = frame[F.SINK_KIND], frame[F.CHANNELS], frame[F.PITCH]
    size = element_bytes(kind)
    source, step_c, step_x = frame[F.TILE] + 4 * first, frame[F.SINK_C], frame[F.SINK_X]
    if kind != F.F32:
        for c in range(channels):
            convert(kind, f32(source + 4 * c * pitch), n, frame[F.SPARE] + size * c * pitch)
        source = frame[F.SPARE]
    to = frame[F.SINK] + size * out
    streams = (frame[F.STREAMS] != 0) & (step_c == 1) & (step_x == channels)
    laid = xp.where(streams, frame[F.STAGING], to)
    if kind == F.U8:
        spread(u8(source), pitch, channels, n, u8(laid), step_c, step_x)
    elif kind == F.F32:
        spread(f32(source), pitch, channels, n, f32(laid), step_c, step_x)
    else:
        spread(u16(source), pitch, channels, n, u16(laid), step_c, step_x)
    if streams:
        stream(laid, to, size * channels * n)


@fast
def finish(frame, total):
    """All that follows the sampling of a tile; `total` takes what its statistic sums."""
    n, aligned = frame[F.ROWS] * frame[F.OW], frame[F.ALIGNED] != 0
    if frame[F.SMOOTH] >= 0:
        if aligned & (frame[F.PARTIAL] != 0):
            add_fill(frame)
        if (aligned == 0) | (frame[F.PARTIAL] != 0):
            settle(frame, n)
    if frame[F.BORN]:
        if aligned:
            aligned_births(frame)
        paint(frame, n)
    run_steps(frame, n)
    if frame[F.STATISTIC] >= 0:
        total[0] += grey_sum(frame, n)
    if frame[F.SINK_KIND] != F.NONE:
        gapless = frame[F.SINK_Y] == frame[F.OW] * frame[F.SINK_X]
        for r in range(xp.where(gapless, 1, frame[F.ROWS])):
            length = xp.where(gapless, frame[F.ROWS], 1) * frame[F.OW]
            first, out = r * frame[F.OW], (frame[F.Y] + r) * frame[F.SINK_Y]
            if frame[F.SINK_X] == 1:
                store_planar(frame, first, length, out)
            else:
                store_strided(frame, first, length, out)


@fast
def widen_run(source, step, n, kind, out):
    """n bfloat16s or float16s, `step` apart, as float32s."""
    if kind == F.BF16:
        for i in range(n):
            out[i] = of_bf16(source[i * step])
    else:
        for i in range(n):
            out[i] = of_f16(source[i * step])


@fast
def widen(frame):
    """Convert a 16-bit base image into a float32 scratch image [C, H, W]."""
    kind, height, width, step = frame[F.BASE_KIND], frame[F.BASE_H], frame[F.BASE_W], frame[F.BASE_X]
    scratch = frame[F.SCRATCH] + F.WIDENED * frame[F.SCRATCH_BYTES]
    for c in range(frame[F.CHANNELS]):
        for y in range(height):
            source = u16(frame[F.BASE] + 2 * (c * frame[F.BASE_C] + y * frame[F.BASE_Y]))
            out = f32(scratch + 4 * (c * height + y) * width)
            if step == 1:
                widen_run(source, 1, width, kind, out)
            else:
                widen_run(source, step, width, kind, out)
