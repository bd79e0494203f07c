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
    for c in range(frame[F.SINK_CHANNELS]):
        plane, out = f32(frame[F.TILE] + 4 * (c * frame[F.TILE_PITCH] + first)), POINTER(to + SIZE * c * pitch)
        for i in range(n):
            out[i] = CAST(plane[i])


@inlined
def unchanged(r, g, b, p):
    return r, g, b


@fast
def finish_planes(frame, first, n, to, pitch):
    """As `cast_planes`, behind the last one or two pixel steps, which no pass has run."""
    widest()
    k, tile, step = frame[F.STEPS_TO], frame[F.TILE] + 4 * first, frame[F.TILE_PITCH]
    last, last_out = frame[F.CHANNELS] - 1, frame[F.SINK_CHANNELS] - 1
    for t in range(last_out // 3 + 1):
        p, q = eight(step_at(frame, k), t), eight(step_at(frame, k + frame[F.TAIL] - 1), t)
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
    to, channels = frame[F.SINK] + SIZE * out, frame[F.SINK_CHANNELS]
    if frame[F.STREAMS] == 0:
        PLANES(frame, first, n, to, frame[F.SINK_C])
    elif READY:
        for c in range(channels):
            plane = frame[F.TILE] + 4 * (c * frame[F.TILE_PITCH] + first)
            stream(plane, to + SIZE * c * frame[F.SINK_C], SIZE * n)
    else:
        for i in range(0, n, BLOCK):
            length = min(BLOCK, n - i)
            PLANES(frame, first + i, length, frame[F.SPARE], frame[F.PITCH])
            for c in range(channels):
                plane = frame[F.SPARE] + SIZE * c * frame[F.PITCH]
                stream(plane, to + SIZE * (c * frame[F.SINK_C] + i), SIZE * length)


@fast
def store_strided(frame, first, n, out):
    """As `store_planar` for any strides."""
    channels, step_c, step_x = frame[F.SINK_CHANNELS], frame[F.SINK_C], frame[F.SINK_X]
    streams = (frame[F.STREAMS] != 0) & (step_c == 1) & (step_x == channels)
    for i in range(0, n, BLOCK):
        length, to = min(BLOCK, n - i), frame[F.SINK] + SIZE * (out + i * step_x)
        source, pitch = frame[F.TILE] + 4 * (first + i), frame[F.TILE_PITCH]
        if not READY:
            source, pitch = frame[F.SPARE], frame[F.PITCH]
            PLANES(frame, first + i, length, source, pitch)
        laid = xp.where(streams, frame[F.STAGING], to)
        spread(POINTER(source), pitch, channels, length, POINTER(laid), step_c, step_x)
        if streams:
            stream(laid, to, SIZE * channels * length)


@fast
def store_tile(frame):
    """Store the tile in the sink."""
    gapless = frame[F.SINK_Y] == frame[F.OW] * frame[F.SINK_X]
    for r in range(xp.where(gapless, 1, frame[F.LINES])):
        length = xp.where(gapless, frame[F.LINES], 1) * frame[F.OW]
        STORE(frame, r * frame[F.OW], length, (frame[F.Y] + r) * frame[F.SINK_Y])


def store(kind, strided, tail=()):
    """The store of a tile in a sink of that kind of elements, whose columns are neighbours or `strided`.

    Args:
        tail: the last pixel steps, none, one or two, if it is to run them: opcode, and whether on the lattice.
    """
    mark = "_".join(f"{opcode}_{int(lattice)}" for opcode, lattice in tail)
    steps = [of_colours(*step) for step in tail] + [unchanged] * (2 - len(tail))
    scope = {
        "POINTER": CASTS[kind][0],
        "CAST": CASTS[kind][1],
        "SIZE": SIZES[kind],
        "READY": kind == F.F32 and not tail,
    }

    def bound(template, **more):
        name = f"{template.py_func.__name__}_{kind}_{int(strided)}_{mark}"
        return specialised(fast, template, name, **scope, **more)

    planes = bound(finish_planes, FIRST=steps[0], SECOND=steps[1]) if tail else bound(cast_planes)
    return bound(store_tile, STORE=bound(store_strided if strided else store_planar, PLANES=planes))


@fast
def store_packed(frame):
    """Keep a tile of three channels on the lattice as packed bytes."""
    widest()
    n, words = frame[F.LINES] * frame[F.OW], i32(frame[F.SINK] + 4 * frame[F.Y] * frame[F.OW])
    r, g = f32(frame[F.TILE]), f32(frame[F.TILE] + 4 * frame[F.TILE_PITCH])
    b = f32(frame[F.TILE] + 8 * frame[F.TILE_PITCH])
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
