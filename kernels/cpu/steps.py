"""What happens to a tile once it is sampled: fill, pixel steps, what is asked for, stores.

Each formula has a loop over the tile, vectorised, which is a C function of its own: programs compile those that they
need, and reach them by address.
"""

import numpy as np

from ..shared import geometry as G
from ..shared import pixel, user
from ..shared import plan as P
from . import frame as F
from .dialect import PIXEL, call, f32, fast, i32, i64, inlined, specialised, widest, xp
from .tables import clamp, group_at, step_at

loop_index = fast(F.loop_index)


@fast
def add_fill(frame):
    """Add the fill that the taps outside of the canvas stand for."""
    g = group_at(frame, frame.smooth)
    inside_x = f32(frame.x_table + 8 * frame.taps_x * frame.x_pitch)
    inside_y = f32(frame.y_table + 8 * frame.taps_y * frame.y_pitch)
    for c in range(frame.channels):
        fill = g[P.G_FILL + c]
        for r in range(frame.lines):
            line, share = f32(frame.tile + 4 * (c * frame.tile_pitch + r * frame.ow)), inside_y[frame.y + r]
            for x in range(frame.ow):
                line[x] += fill * (1.0 - inside_x[x] * share)


@fast
def aligned_births(frame):
    """The group where each pixel of the tile is born, -1 for none: the later one of its column's and its line's."""
    born_x = f32(frame.x_table + 4 * frame.x_pitch * (2 * frame.taps_x + 1))
    born_y = f32(frame.y_table + 4 * frame.y_pitch * (2 * frame.taps_y + 1))
    for r in range(frame.lines):
        birth, born = f32(frame.birth + 4 * r * frame.ow), born_y[frame.y + r]
        for x in range(frame.ow):
            birth[x] = xp.maximum(born_x[x], born)


@fast
def paint(frame, n):
    """Give born pixels their group's fill; returns whether there are any."""
    birth, words, signs = f32(frame.birth), i32(frame.birth), -1
    for i in range(n):
        signs &= words[i]
    if signs < 0:
        return False
    for k in range(frame.groups, frame.groups_to):
        g, number = group_at(frame, k), xp.f32(k)
        if g[P.G_BORDER] == G.FILL:
            for c in range(frame.channels):
                plane, fill = f32(frame.tile + 4 * c * frame.tile_pitch), g[P.G_FILL + c]
                for i in range(n):
                    plane[i] = xp.where(birth[i] == number, fill, plane[i])
    return True


@fast
def birth_slots(frame, n):
    """Turn the groups of birth into their slots."""
    birth, slots = f32(frame.birth), f32(frame.spare)
    for i in range(n):
        slots[i] = xp.f32(-1.0)
    for k in range(frame.groups, frame.groups_to):
        number, slot = xp.f32(k), group_at(frame, k)[P.G_SLOT]
        for i in range(n):
            slots[i] = xp.where(birth[i] == number, slot, slots[i])
    for i in range(n):
        birth[i] = slots[i]


@fast
def round_smooth(frame, n):
    """Round a smooth pass back onto the lattice, where `tap_block` has not done so."""
    bound = group_at(frame, frame.smooth)[P.G_BOUND]
    if bound > 0.0:
        for c in range(frame.channels):
            plane = f32(frame.tile + 4 * c * frame.tile_pitch)
            for i in range(n):
                plane[i] = clamp(xp.rint(plane[i]), 0.0, bound)


@fast
def eight(step, triple):
    """A step's arguments for three channels."""
    a = P.S_ARGUMENTS + 8 * triple
    return step[a], step[a + 1], step[a + 2], step[a + 3], step[a + 4], step[a + 5], step[a + 6], step[a + 7]


@fast
def by_channel(frame):
    widest()
    step, pitch, n = f32(frame.step), frame.tile_pitch, frame.pixels
    tile = frame.tile + 4 * frame.first_pixel
    for c in range(frame.channels):
        p, plane = eight(step, c // 3), f32(tile + 4 * c * pitch)
        for i in range(n):
            plane[i] = FORMULA(plane[i], p, BOUND, LATTICE, CHANNELS)


@fast
def by_colour(frame):
    widest()
    step, pitch, n = f32(frame.step), frame.tile_pitch, frame.pixels
    tile = frame.tile + 4 * frame.first_pixel
    xs, ys = f32(frame.place_x + 4 * frame.first_pixel), f32(frame.place_y + 4 * frame.first_pixel)
    last = frame.channels - 1
    for t in range(last // 3 + 1):
        p, r = eight(step, t), f32(tile + 12 * t * pitch)
        g, b = f32(tile + 4 * min(3 * t + 1, last) * pitch), f32(tile + 4 * min(3 * t + 2, last) * pitch)
        for i in range(n):
            u, v, w = COLOUR(r[i], g[i], b[i], xs, ys, i, p)
            b[i] = w
            g[i] = v
            r[i] = u


@fast
def by_grey(frame):
    widest()
    step, pitch, n = f32(frame.step), frame.tile_pitch, frame.pixels
    tile = frame.tile + 4 * frame.first_pixel
    xs, ys = f32(frame.place_x + 4 * frame.first_pixel), f32(frame.place_y + 4 * frame.first_pixel)
    p, grey = eight(step, 0), f32(tile)
    for i in range(n):
        grey[i] = COLOUR(grey[i], grey[i], grey[i], xs, ys, i, p)[0]
    for c in range(1, frame.channels):
        for i in range(n):
            f32(tile + 4 * c * pitch)[i] = grey[i]


@inlined
def anywhere(r, g, b, xs, ys, i, p):
    return FORMULA(r, g, b, p, BOUND, LATTICE, CHANNELS)


@inlined
def at_place(r, g, b, xs, ys, i, p):
    return FORMULA(r, g, b, xs[i], ys[i], p, BOUND, LATTICE, CHANNELS)


def formula_of(opcode):
    """The pixel formula of an opcode, `pixel`'s or a user's, and the names of its arguments."""
    if opcode in pixel.CASES:
        name = pixel.CASES[opcode]
        return PIXEL[name], getattr(pixel, name).__code__.co_varnames
    made = user.FORMULAS[opcode]
    scope = {"__name__": __name__, "settle": PIXEL["settle"]}
    first = ("r", "g", "b") if made.colour else ("v",)
    return made.bind(xp, inlined, scope, np.float32), (*first, *("x", "y") * made.placed)


def stage_numbers(lattice, grey):
    """What a formula knows of its stage, as names of a template."""
    numbers = {"BOUND": 255.0 if lattice else 1.0, "LATTICE": float(lattice), "CHANNELS": 1.0 if grey else 3.0}
    return {name: np.float32(number) for name, number in numbers.items()}


def loop(opcode, lattice, grey):
    """The loop over a tile of an opcode's formula, for one kind of stage.

    `lattice` and `grey` (one channel, or several that are the same) are constants of it; all that a formula asks of the
    number of channels is whether it is one.
    """
    formula, names = formula_of(opcode)
    scope = {"FORMULA": formula, **stage_numbers(lattice, grey)}
    if names[0] == "v":
        return specialised(fast, by_channel, **scope)
    colour = specialised(inlined, at_place if "x" in names[3:4] else anywhere, **scope)
    return specialised(fast, by_grey if grey else by_colour, COLOUR=colour)


@inlined
def by_one(r, g, b, p):
    u, v = FORMULA(r, p, BOUND, LATTICE, CHANNELS), FORMULA(g, p, BOUND, LATTICE, CHANNELS)
    return u, v, FORMULA(b, p, BOUND, LATTICE, CHANNELS)


@inlined
def by_three(r, g, b, p):
    return FORMULA(r, g, b, p, BOUND, LATTICE, CHANNELS)


def of_colours(opcode, lattice):
    """An opcode's formula as a function of r, g, b and its arguments, for stages of more than one channel."""
    formula, names = formula_of(opcode)
    scope = {"FORMULA": formula, **stage_numbers(lattice, False)}
    return specialised(inlined, by_one if names[0] == "v" else by_three, **scope)


RECTANGULAR = tuple(k for k, name in pixel.CASES.items() if "within" in getattr(pixel, name).__code__.co_names)


@fast
def first_at(x, n):
    """The first of n pixels that does not lie before coordinate x, n for none."""
    return xp.i64(clamp(0.0 - xp.floor(0.0 - x), 0.0, xp.f32(n)))


@fast
def run_in_rectangle(frame, loop):
    """Run a step that acts on a rectangle of output pixels, where that meets the tile."""
    p, width = eight(f32(frame.step), 0), frame.ow
    y0, y1 = first_at(p[0], frame.oh), first_at(p[0] + p[2], frame.oh)
    x0, x1 = first_at(p[1], width), first_at(p[1] + p[3], width)
    y0, y1 = max(y0 - frame.y, 0), min(y1 - frame.y, frame.lines)
    if (y0 >= y1) | (x0 >= x1):
        return
    call(i64(frame.phases)[F.PLACES], frame)
    whole = x1 - x0 == width
    frame.pixels = xp.where(whole, y1 - y0, 1) * (x1 - x0)
    for r in range(y0, xp.where(whole, y0 + 1, y1)):
        frame.first_pixel = r * width + x0
        call(loop, frame)


@fast
def run_step(frame, step, n):
    """A pixel step over the n pixels of the tile."""
    opcode, phases = xp.i64(step[P.S_OP]), i64(frame.phases)
    loop = phases[loop_index(opcode, step[P.S_LATTICE] > 0.0, step[P.S_CHANNELS] == 1.0)]
    frame.first_pixel, frame.pixels = 0, n
    if step[P.S_TRAIT] != P.PLACE:
        call(loop, frame)
    elif (opcode in RECTANGULAR) & (xp.i64(step[P.S_GROUPS]) >= frame.groups_to):
        run_in_rectangle(frame, loop)
    else:
        call(phases[F.PLACES], frame)
        call(loop, frame)


@fast
def copy_tile(frame, n):
    for c in range(frame.channels):
        before, plane = f32(frame.spare + 4 * c * frame.pitch), f32(frame.tile + 4 * c * frame.tile_pitch)
        for i in range(n):
            before[i] = plane[i]


@fast
def keep_born(frame, slot, n):
    """Undo a step where the pixel was born behind it."""
    birth = f32(frame.birth)
    for c in range(frame.channels):
        plane, before = f32(frame.tile + 4 * c * frame.tile_pitch), f32(frame.spare + 4 * c * frame.pitch)
        for i in range(n):
            plane[i] = xp.where(birth[i] > slot, before[i], plane[i])


@fast
def last_slot(frame):
    """The slot of the last group of the pass: steps behind it change all pixels, wherever they were born."""
    last = xp.f32(-1.0)
    for k in range(frame.groups, frame.groups_to):
        last = xp.maximum(last, group_at(frame, k)[P.G_SLOT])
    return last


@fast
def run_steps(frame, n, born):
    """The pixel steps of the pass over the n pixels of the tile, some of them `born` outside of a canvas."""
    last, slotted = last_slot(frame), False
    for k in range(frame.steps, frame.steps_to):
        step = step_at(frame, k)
        kept = born & (step[P.S_SLOT] < last)
        frame.step = frame.plan + 4 * (frame.steps_at + k * frame.step_words)
        if kept & (slotted == 0):
            birth_slots(frame, n)
            slotted = True
        if kept:
            copy_tile(frame, n)
        run_step(frame, step, n)
        if kept:
            keep_born(frame, step[P.S_SLOT], n)


@fast
def finish(frame):
    """All that follows the sampling of a tile."""
    n, aligned, born = frame.lines * frame.ow, frame.aligned != 0, False
    if frame.smooth >= 0:
        if aligned & (frame.partial != 0):
            add_fill(frame)
        if (aligned == 0) | (frame.partial != 0):
            round_smooth(frame, n)
    if frame.born:
        if aligned:
            aligned_births(frame)
        born = paint(frame, n)
    run_steps(frame, n, born)
    if frame.ask >= 0:
        call(i64(frame.phases)[F.ASKS + xp.i64(f32(frame.asking)[P.S_TRAIT])], frame)
    if (frame.sink_store != F.NONE) & (frame.in_sink == 0):
        call(i64(frame.phases)[frame.sink_store], frame)
