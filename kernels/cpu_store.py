"""Casts between the types of images: stores of a tile in any type and strides, and reading 16-bit sources."""

from . import cpu_frame as F
from .cpu_bits import bf16_of, f16_of, of_bf16, of_f16, u8_of
from .cpu_dialect import f32, fast, inlined, specialised, u8, u16, widest, xp
from .cpu_tables import element_bytes
from .cpu_vector import STREAM_BYTES, stream_block


@inlined
def same(x):
    return x


CASTS = {F.U8: (u8, u8_of), F.F32: (f32, same), F.BF16: (u16, bf16_of), F.F16: (u16, f16_of)}


@fast
def convert(row, n, out):
    """Cast n floats into the sink's type at the address `out`."""
    widest()
    to = POINTER(out)
    for i in range(n):
        to[i] = CAST(row[i])


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
    size, pitch = element_bytes(KIND), frame[F.TILE_PITCH]
    for c in range(frame[F.SINK_CHANNELS]):
        row, to = frame[F.TILE] + 4 * (c * pitch + first), frame[F.SINK] + size * (out + c * frame[F.SINK_C])
        if frame[F.STREAMS] == 0:
            convert(f32(row), n, to)
        elif KIND == F.F32:
            stream(row, to, 4 * n)
        else:
            convert(f32(row), n, frame[F.SPARE])
            stream(frame[F.SPARE], to, size * n)


@fast
def store_strided(frame, first, n, out):
    """As `store_planar` for any strides."""
    size, channels, pitch = element_bytes(KIND), frame[F.SINK_CHANNELS], frame[F.TILE_PITCH]
    source, step_c, step_x = frame[F.TILE] + 4 * first, frame[F.SINK_C], frame[F.SINK_X]
    if KIND != F.F32:
        for c in range(channels):
            convert(f32(source + 4 * c * pitch), n, frame[F.SPARE] + size * c * frame[F.PITCH])
        source, pitch = frame[F.SPARE], frame[F.PITCH]
    to = frame[F.SINK] + size * out
    streams = (frame[F.STREAMS] != 0) & (step_c == 1) & (step_x == channels)
    laid = xp.where(streams, frame[F.STAGING], to)
    spread(POINTER(source), pitch, channels, n, POINTER(laid), step_c, step_x)
    if streams:
        stream(laid, to, size * channels * n)


@fast
def store_tile(frame):
    """Store the tile in the sink."""
    gapless = frame[F.SINK_Y] == frame[F.OW] * frame[F.SINK_X]
    for r in range(xp.where(gapless, 1, frame[F.ROWS])):
        length = xp.where(gapless, frame[F.ROWS], 1) * frame[F.OW]
        STORE(frame, r * frame[F.OW], length, (frame[F.Y] + r) * frame[F.SINK_Y])


def store(kind, strided):
    """The store of a tile in a sink of that kind of elements, whose columns are neighbours or `strided`."""
    scope = {"KIND": kind, "POINTER": CASTS[kind][0], "CAST": CASTS[kind][1]}

    def bound(template):
        return specialised(fast, template, f"{template.py_func.__name__}_{kind}_{int(strided)}", **scope)

    scope["convert"] = bound(convert)
    scope["STORE"] = bound(store_strided if strided else store_planar)
    return bound(store_tile)


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
