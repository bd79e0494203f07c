"""Boxes and keypoints, carried forward through a plan's groups, as torchvision's kernels treat them one by one.

Here coordinates are continuous: pixel i covers [i, i + 1]. A points program (`gpuaug.projection.project_points`) leaves
each geometry slot a group of its own, whose border word says what the slot does to points: a class below, or EVENT plus
the number of an event. What is carried lies in a state of POINT floats.
"""

# What a slot does to points beside its map. From CROP on, boxes are clamped to the canvas behind it.
FLIP_X = 1
FLIP_Y = 2
RESIZE = 3
SHIFT = 4
PAD = 5  # clamps if it pads
CROP = 6
WINDOW = 7  # a crop, then a resize
WARP = 8
EXPAND = 9  # a turn, onto a canvas that begins where the turned image does
CENTRES = 10  # a crop, and 0 for a box whose centre lies outside
LAID = 11  # kept if so much of a box's area is left, millionths in G_BOUND
EVENT = 16

# Events: EVENT_WORDS floats each, the kind and two numbers.
EVENT_WORDS = 4
NO_EVENT = 0
CLAMP_BOXES = 1  # the mode
SANITIZE_BOXES = 2  # the least size, the least area
MODE = 3  # by which boxes are clamped from here on
CLAMP_POINTS = 4
SANITIZE_POINTS = 5
FORMAT = 6  # boxes change their format
LAID_OUT = 8  # on a canvas of several: the part of its area that a box must keep
ARRIVES = 7  # at an op that draws by the boxes in front of it

# Modes of clamping; upright boxes know no difference between soft and hard.
NOT = 0.0
SOFT = 1.0
HARD = 2.0
AUTO = 3.0  # as is set

# State. A keypoint has X1 and Y1.
X1 = 0
Y1 = 1
X2 = 2
Y2 = 3
AT_H = 4  # canvas
AT_W = 5
CLAMPS = 6
KEPT = 7
POINT = 8

# What a program's slots can ask for; a sum of these.
TURNS = 1
EXPANDS = 2
EVENTS = 4
CUTS = 8
LAYS = 16


def forward(m):
    """Of a group's matrix, output to input pixel, the inverse times its determinant, in float64."""
    a, b, c, d, e, f = xp.f64(m[0]), xp.f64(m[1]), xp.f64(m[2]), xp.f64(m[3]), xp.f64(m[4]), xp.f64(m[5])
    g, k, i = xp.f64(m[6]), xp.f64(m[7]), xp.f64(m[8])
    first = e * i - f * k, c * k - b * i, b * f - c * e
    second = f * g - d * i, a * i - c * g, c * d - a * f
    third = d * k - e * g, b * g - a * k, a * e - b * d
    return first + second + third


def carried(n, x, y):
    """Where the point (x, y) goes, by the matrix n of `forward`."""
    u, v = xp.f64(x) - 0.5, xp.f64(y) - 0.5
    depth = n[6] * u + n[7] * v + n[8]
    right = (n[0] * u + n[1] * v + n[2]) / depth + 0.5
    down = (n[3] * u + n[4] * v + n[5]) / depth + 0.5
    return xp.f32(right), xp.f32(down)


def least(a, b, c, d):
    """The smallest of four."""
    return xp.minimum(xp.minimum(a, b), xp.minimum(c, d))


def greatest(a, b, c, d):
    """The largest of four."""
    return xp.maximum(xp.maximum(a, b), xp.maximum(c, d))


def begins(n, h, w):
    """The least x and y of a canvas, carried."""
    zero = h * 0.0
    ax, ay = carried(n, zero, zero)
    bx, by = carried(n, w, zero)
    cx, cy = carried(n, w, h)
    dx, dy = carried(n, zero, h)
    return least(ax, bx, cx, dx), least(ay, by, cy, dy)


def box_after(n, code, box, flags):
    """A box (left, top, right, bottom) behind a slot: of a turn, the upright one about its corners."""
    x1, y1, x2, y2 = box[0], box[1], box[2], box[3]
    ax, ay = carried(n, x1, y1)
    bx, by = carried(n, x2, y2)
    flips_x, flips_y = code == FLIP_X, code == FLIP_Y
    left, right = xp.where(flips_x, bx, ax), xp.where(flips_x, ax, bx)
    top, bottom = xp.where(flips_y, by, ay), xp.where(flips_y, ay, by)
    if TURNS & flags:
        turns = (code == WARP) | (code == EXPAND)
        cx, cy = carried(n, x2, y1)
        dx, dy = carried(n, x1, y2)
        left, top = xp.where(turns, least(ax, bx, cx, dx), left), xp.where(turns, least(ay, by, cy, dy), top)
        right = xp.where(turns, greatest(ax, bx, cx, dx), right)
        bottom = xp.where(turns, greatest(ay, by, cy, dy), bottom)
    return left, top, right, bottom


def held(box, h, w, on):
    """A box clamped to a canvas where `on`."""
    zero = h * 0.0
    x1, y1 = xp.minimum(xp.maximum(box[0], zero), w), xp.minimum(xp.maximum(box[1], zero), h)
    x2, y2 = xp.minimum(xp.maximum(box[2], zero), w), xp.minimum(xp.maximum(box[3], zero), h)
    return xp.choose(on, (x1, y1, x2, y2), (box[0], box[1], box[2], box[3]))


def is_valid(box, h, w, size, area):
    """Whether SanitizeBoundingBoxes keeps a box."""
    wide, tall = box[2] - box[0], box[3] - box[1]
    large = (wide >= size) & (tall >= size) & (wide * tall >= area)
    inside = (box[0] >= 0.0) & (box[1] >= 0.0) & (box[2] >= 0.0) & (box[3] >= 0.0)
    inside = inside & (box[0] <= w) & (box[2] <= w) & (box[1] <= h) & (box[3] <= h)
    return large & inside


def matrix_at(plan, at):
    """The matrix of the group at `at`."""
    return (
        xp.load(plan, at),
        xp.load(plan, at + 1),
        xp.load(plan, at + 2),
        xp.load(plan, at + 3),
        xp.load(plan, at + 4),
        xp.load(plan, at + 5),
        xp.load(plan, at + 6),
        xp.load(plan, at + 7),
        xp.load(plan, at + 8),
    )


def event_at(events, code):
    """Kind and numbers of the event that a group stands for; NO_EVENT for a slot."""
    at = xp.i32(xp.where(code >= EVENT, code - EVENT, 0)) * EVENT_WORDS
    kind = xp.where(code >= EVENT, xp.load(events, at), 0.0)
    return kind, xp.load(events, at + 1), xp.load(events, at + 2)


def box_walk(plan, events, state, first, last, channels, groups, flags):
    """Carry a box of left, top, right, bottom through the groups first .. last - 1 of its row's plan."""
    box = xp.load(state, X1), xp.load(state, Y1), xp.load(state, X2), xp.load(state, Y2)
    h, w = xp.load(state, AT_H), xp.load(state, AT_W)
    clamps, kept = xp.load(state, CLAMPS), xp.load(state, KEPT)
    i = 0
    while i < groups:
        on = (i >= first) & (i < last)
        if xp.some(on):
            at = group_at(channels, i)
            m, code = matrix_at(plan, at), xp.i32(xp.load(plan, at + G_BORDER))
            oh, ow = xp.load(plan, at + G_OH), xp.load(plan, at + G_OW)
            n = forward(m)
            after = box_after(n, code, box, flags)
            if EXPANDS & flags:
                x, y = begins(n, h, w)
                x, y = xp.where(code == EXPAND, x, 0.0), xp.where(code == EXPAND, y, 0.0)
                after = after[0] - x, after[1] - y, after[2] - x, after[3] - y
            pads = (code == PAD) & ((oh != h) | (ow != w))
            held_here = ((code >= CROP) & (code < EVENT)) | pads
            after = held(after, oh, ow, held_here & (clamps > 0.0))
            if CUTS & flags:
                x, y = (box[0] + box[2]) * 0.5, (box[1] + box[3]) * 0.5
                inside = (x > m[2]) & (x < m[2] + ow) & (y > m[5]) & (y < m[5] + oh)
                zero = h * 0.0
                after = xp.choose((code == CENTRES) & (inside == 0), (zero, zero, zero, zero), after)
            if LAYS & flags:
                left = (after[2] - after[0]) * (after[3] - after[1])
                least_area = (box[2] - box[0]) * (box[3] - box[1]) * (xp.load(plan, at + G_BOUND) * 0.000001)
                kept = xp.where(on & (code == LAID) & ((left < least_area) | (left <= 0.0)), 0.0, kept)
            if EVENTS & flags:
                kind, size, area = event_at(events, code)
                wants = (size != NOT) & ((size != AUTO) | (clamps > 0.0))
                after = held(after, oh, ow, (kind == CLAMP_BOXES) & wants)
                lost = (kind == SANITIZE_BOXES) & (is_valid(after, oh, ow, size, area) == 0)
                kept = xp.where(on & lost, 0.0, kept)
                clamps = xp.where(on & (kind == MODE), size, clamps)
            box = xp.choose(on, after, box)
            h, w = xp.where(on, oh, h), xp.where(on, ow, w)
        i += 1
    put_state(state, box, h, w, clamps, kept)


def put_state(state, box, h, w, clamps, kept):
    """Store the state, once all have read it."""
    xp.fence()
    always = h > 0.0
    xp.store(state, X1, box[0], always)
    xp.store(state, Y1, box[1], always)
    xp.store(state, X2, box[2], always)
    xp.store(state, Y2, box[3], always)
    xp.store(state, AT_H, h, always)
    xp.store(state, AT_W, w, always)
    xp.store(state, CLAMPS, clamps, always)
    xp.store(state, KEPT, kept, always)


def point_walk(plan, events, state, first, last, channels, groups, flags):
    """As `box_walk`, a keypoint. torchvision mirrors it within 0 .. side - 1, and clamps it by ClampKeyPoints alone."""
    x, y = xp.load(state, X1), xp.load(state, Y1)
    h, w, kept = xp.load(state, AT_H), xp.load(state, AT_W), xp.load(state, KEPT)
    i = 0
    while i < groups:
        on = (i >= first) & (i < last)
        if xp.some(on):
            at = group_at(channels, i)
            m, code = matrix_at(plan, at), xp.i32(xp.load(plan, at + G_BORDER))
            oh, ow = xp.load(plan, at + G_OH), xp.load(plan, at + G_OW)
            n = forward(m)
            u, v = carried(n, x, y)
            u, v = xp.where(code == FLIP_X, u - 1.0, u), xp.where(code == FLIP_Y, v - 1.0, v)
            if EXPANDS & flags:
                left, top = begins(n, h, w)
                u, v = xp.where(code == EXPAND, u - left, u), xp.where(code == EXPAND, v - top, v)
            if EVENTS & flags:
                kind, _, _ = event_at(events, code)
                zero = h * 0.0
                u = xp.where(kind == CLAMP_POINTS, xp.minimum(xp.maximum(u, zero), ow - 1.0), u)
                v = xp.where(kind == CLAMP_POINTS, xp.minimum(xp.maximum(v, zero), oh - 1.0), v)
                inside = (u >= 0.0) & (u < ow) & (v >= 0.0) & (v < oh)
                kept = xp.where(on & (kind == SANITIZE_POINTS) & (inside == 0), 0.0, kept)
            x, y = xp.where(on, u, x), xp.where(on, v, y)
            h, w = xp.where(on, oh, h), xp.where(on, ow, w)
        i += 1
    put_state(state, (x, y, x, y), h, w, xp.load(state, CLAMPS), kept)
