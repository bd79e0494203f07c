"""Casts between the types of images: stores of a tile in any type and strides, and reading 16-bit sources."""

from . import frame as F
from .bits import bf16_of, f16_of, four_bytes, of_bf16, of_f16, u8_of
from .dialect import f32, fast, i32, inlined, specialised, u8, u16, widest, xp
from .steps import eight, of_colours
from .tables import step_at
from .vector import STREAM_BYTES, stream_block


@inlined
def same(x):
    return x


BLOCK = 256  # pixels that are cast, then streamed: they stay in the first cache, and one overlaps the other
CASTS = {F.U8: (u8, u8_of), F.F32: (f32, same), F.BF16: (u16, bf16_of), F.F16: (u16, f16_of)}
SIZES = {F.U8: 1, F.F32: 4, F.BF16: 2, F.F16: 2}


@fast
def cast_planes(frame, first, n, to, pitch):
    """Cast n pixels of the tile from `first` on into the sink's type, as planes `pitch` apart at the address `to`."""
    widest()
    for c in range(frame.sink_channels):
        plane, out = f32(frame.tile + 4 * (c * frame.tile_pitch + first)), POINTER(to + SIZE * c * pitch)
        for i in range(n):
            out[i] = CAST(plane[i])


@inlined
def unchanged(r, g, b, p):
    return r, g, b


@fast
def finish_planes(frame, first, n, to, pitch):
    """As `cast_planes`, behind the last one or two pixel steps, which no pass has run."""
    widest()
    k, tile, step = frame.steps_to, frame.tile + 4 * first, frame.tile_pitch
    last, last_out = frame.channels - 1, frame.sink_channels - 1
    for t in range(last_out // 3 + 1):
        p, q = eight(step_at(frame, k), t), eight(step_at(frame, k + frame.tail - 1), t)
        red, green, blue = 3 * t, 3 * t + 1, 3 * t + 2
        r, r_out = f32(tile + 4 * red * step), POINTER(to + SIZE * red * pitch)
        g, g_out = f32(tile + 4 * min(green, last) * step), POINTER(to + SIZE * min(green, last_out) * pitch)
        b, b_out = f32(tile + 4 * min(blue, last) * step), POINTER(to + SIZE * min(blue, last_out) * pitch)
        for i in range(n):
            u, v, w = FIRST(r[i], g[i], b[i], p)
            u, v, w = SECOND(u, v, w, q)
            b_out[i], g_out[i], r_out[i] = CAST(w), CAST(v), CAST(u)


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
    to, channels = frame.sink + SIZE * out, frame.sink_channels
    if frame.streams == 0:
        PLANES(frame, first, n, to, frame.sink_c)
    elif READY:
        for c in range(channels):
            plane = frame.tile + 4 * (c * frame.tile_pitch + first)
            stream(plane, to + SIZE * c * frame.sink_c, SIZE * n)
    else:
        for i in range(0, n, BLOCK):
            length = min(BLOCK, n - i)
            PLANES(frame, first + i, length, frame.spare, frame.pitch)
            for c in range(channels):
                plane = frame.spare + SIZE * c * frame.pitch
                stream(plane, to + SIZE * (c * frame.sink_c + i), SIZE * length)


@fast
def store_strided(frame, first, n, out):
    """As `store_planar` for any strides."""
    channels, step_c, step_x = frame.sink_channels, frame.sink_c, frame.sink_x
    streams = (frame.streams != 0) & (step_c == 1) & (step_x == channels)
    for i in range(0, n, BLOCK):
        length, to = min(BLOCK, n - i), frame.sink + SIZE * (out + i * step_x)
        source, pitch = frame.tile + 4 * (first + i), frame.tile_pitch
        if not READY:
            source, pitch = frame.spare, frame.pitch
            PLANES(frame, first + i, length, source, pitch)
        laid = xp.where(streams, frame.staging, to)
        spread(POINTER(source), pitch, channels, length, POINTER(laid), step_c, step_x)
        if streams:
            stream(laid, to, SIZE * channels * length)


@fast
def store_tile(frame):
    """Store the tile in the sink."""
    gapless = frame.sink_y == frame.ow * frame.sink_x
    for r in range(xp.where(gapless, 1, frame.lines)):
        length = xp.where(gapless, frame.lines, 1) * frame.ow
        STORE(frame, r * frame.ow, length, (frame.y + r) * frame.sink_y)


def store(kind, strided, tail=()):
    """The store of a tile in a sink of that kind of elements, whose columns are neighbours or `strided`.

    Args:
        tail: the last pixel steps, none, one or two, if it is to run them: opcode, and whether on the lattice.
    """
    steps = [of_colours(*step) for step in tail] + [unchanged] * (2 - len(tail))
    scope = {
        "POINTER": CASTS[kind][0],
        "CAST": CASTS[kind][1],
        "SIZE": SIZES[kind],
        "READY": kind == F.F32 and not tail,
    }

    def bound(template, **more):
        return specialised(fast, template, **scope, **more)

    planes = bound(finish_planes, FIRST=steps[0], SECOND=steps[1]) if tail else bound(cast_planes)
    return bound(store_tile, STORE=bound(store_strided if strided else store_planar, PLANES=planes))


@fast
def store_packed(frame):
    """Keep a tile of three channels on the lattice as packed bytes."""
    widest()
    n, words = frame.lines * frame.ow, i32(frame.sink + 4 * frame.y * frame.ow)
    r, g = f32(frame.tile), f32(frame.tile + 4 * frame.tile_pitch)
    b = f32(frame.tile + 8 * frame.tile_pitch)
    for i in range(n):
        words[i] = four_bytes(r[i], g[i], b[i])


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
    kind, height, width, step = frame.base_kind, frame.base_h, frame.base_w, frame.base_x
    scratch = frame.scratch + F.WIDENED * frame.scratch_bytes
    for c in range(frame.channels):
        for y in range(height):
            source = u16(frame.base + 2 * (c * frame.base_c + y * frame.base_y))
            out = f32(scratch + 4 * (c * height + y) * width)
            if step == 1:
                widen_run(source, 1, width, kind, out)
            else:
                widen_run(source, step, width, kind, out)
