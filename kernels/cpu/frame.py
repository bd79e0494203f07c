"""Memory of the CPU engine, as C structures: what a thread has, the job of a call, a row's frame, the passes of a row.

Python reads and writes them by ctypes, compiled functions by `dialect.pointer_to`; names and places are these.
Addresses and sizes are in bytes; offsets and strides in elements, unless a name says otherwise.
"""

import ctypes
from ctypes import c_double as Double
from ctypes import c_float as Single
from ctypes import c_int64 as Word


def structure(described):
    """The C structure of a class's annotations, behind the fields of those that it is derived from."""
    base = next((k for k in described.__mro__[1:] if issubclass(k, ctypes.Structure)), ctypes.Structure)
    fields = list(vars(described).get("__annotations__", {}).items())
    return type(described.__name__, (base,), {"_fields_": fields, "__doc__": described.__doc__})


@structure
class Own:
    """A thread's own: what it brings into the jobs that it runs. The functions are C's, by address."""

    memory: Word  # where its work memory was allocated, 0 for none
    bytes: Word  # how much of it there is, from the first cache line on
    allocate: Word  # void *(size_t)
    free: Word  # void (void *)
    acquire: Word  # int (void *, int)
    release: Word  # void (void *)
    lock: Word  # where it waits for its helpers: a lock that it holds
    advise: Word  # int (void *, size_t, int), 0 for none


@structure
class Task:
    """What every job begins with."""

    n: Word  # how many rows
    chunk: Word  # how many of them a thread takes at once
    lock: Word  # of the thread that opened it, as `Own.lock`
    lacks: Word  # bytes of work memory that a thread could not get, 0 for none
    before: Word * 8
    next: Word * 1  # the row that is taken next; in a cache line that holds nothing else but
    busy: Word * 1  # how many threads are inside, 0 before the job is opened and after it is closed
    behind: Word * 8


@structure
class Job(Task):
    """What one call runs, on images."""

    code: Word  # int64: as the program's, but draws and geometry ops stand there as the addresses of their functions
    entries: Word
    config: Word
    rows: Word
    table: Word
    columns: Word
    records: Word  # each row's own memory as it is written: frame, passes
    record_bytes: Word
    plans: Word  # float32 [rows, row_words]: each row's plan, then its own copy of its table row
    plan_words: Word
    row_words: Word
    planned: Word  # 1 if the plans are there
    writes: Word  # 0 to plan only
    channels: Word
    groups: Word
    steps: Word
    passes: Word  # the most passes of a row
    fresh: Word  # 1 to draw, 2 to draw onto the table, 0 to read it
    ids: Word  # 0 for none: then the counter plus the sample
    counter: Word
    epoch: Word
    seed_low: Word
    seed_high: Word
    source: Word
    source_kind: Word
    out: Word
    out_kind: Word
    out_strides: Word * 4  # of batch, channel, line, column
    out_channels: Word
    ragged: Word  # 1 if each row has a place and strides of its own in the output
    phases: Word  # int64: addresses of the compiled phases
    streams: Word  # 1 to write the output past the caches
    tail: Word  # how many of the last pixel steps the output's store runs
    packs: Word  # 1 if images on the lattice may be kept as packed bytes
    blends: Word  # 1 if the program has a blend
    outputs: Word  # int64 [outputs, layers]: of a program with a blend, the rows that each output is blended of
    layers: Word
    layer_kind: Word


@structure
class TextJob(Task):
    """What one call runs, on rows of tokens."""

    program: Word  # int64 [ops, text.OP_WORDS]
    ops: Word
    memory: Word  # int32
    special: Word  # where in memory the bits of special tokens begin
    known: Word  # of how many tokens they tell
    ids: Word  # int64 [n]: of the samples
    epoch: Word
    seed_low: Word
    seed_high: Word
    tokens: Word  # [n, length], and bytes of an element
    token_bytes: Word
    mask: Word  # [n, length]
    mask_bytes: Word
    length: Word
    width: Word  # of the output, at least length
    out: Word  # [n, width], elements as tokens
    out_mask: Word  # [n, width], elements as mask
    sources: Word  # int32 [n, width], 0 to leave them out
    left: Word  # 1 to pad on the left
    pad: Word


@structure
class CarryJob:
    """Boxes, or keypoints, that are to be carried through their rows' plans."""

    n: Word
    state: Word  # float32 [n, points.POINT]
    rows: Word  # int64 [n] each
    first: Word  # groups
    last: Word
    plans: Word  # float32, `stride` from row to row
    stride: Word
    events: Word
    channels: Word
    groups: Word
    flags: Word


@structure
class Draw:
    """Arguments and results of a draw."""

    key: Word * 6
    config: Single * 12
    h: Single
    w: Single
    result: Single * 8


@structure
class Map:
    """Arguments and results of a geometry function."""

    arguments: Single * 12
    h: Single
    w: Single
    result: Single * 17


@structure
class Layer:
    """What a thread keeps of a layer in front of its work memory; the layers themselves lie behind all of these."""

    row: Word  # -1 for none
    used: Word  # the output that used it last
    at: Word  # of the output being written, where its k-th layer lies


@structure
class Pass:
    """Groups and steps of the plan that a pass runs, from which image onto which."""

    groups: Word
    groups_to: Word
    steps: Word
    steps_to: Word
    base: Word  # SOURCE, LAYERS, or a scratch image
    base_h: Word
    base_w: Word
    sink: Word  # OUT, NOWHERE, LAYER, or a scratch image
    oh: Word
    ow: Word
    ask: Word  # the ask for a statistic that the pass answers, -1 for none
    smooth: Word  # its smooth group, if among its groups


@structure
class Frame:
    """What the kernels of a row share."""

    # of the row
    plan: Word
    channels: Word
    group_words: Word
    steps_at: Word
    step_words: Word
    asks_at: Word
    phases: Word  # as Job.phases, packs, tail
    packs: Word
    tail: Word

    # where its work memory lies
    tile: Word  # float32 [C, tile_pitch]: the pixels of some output lines; here, or in a scratch image itself
    spare: Word  # float32 [C, pitch]
    staging: Word  # as the spare: pixels laid out as in the sink
    birth: Word  # float32 [pitch]: the group, then the slot, where a pixel was born; negative for none
    columns: Word  # float32 [max W, C, 8]: eight source lines, transposed
    x_table: Word  # axis tables, see `tables`
    y_table: Word
    run_list: Word  # int64 [max W, 4]: start, end, first source column, step
    line_taps: Word  # int64 [K * 8]: source lines; int64 [8, K]: where they lie in the strip; float32 [8, K]: weights
    strip: Word  # float32 [K * 8 + 8, STRIP_COLUMNS]: a part of each of those lines, then of eight blended of them
    points_x: Word  # float32 [max (H, W) + 8]: source coordinates of a line, or of an axis
    points_y: Word
    offsets: Word  # int64 [max W]: where the pixels of a line lie in the source
    four: Word  # float32 [4, x_pitch]: the weights of four taps
    place_x: Word  # float32 [pitch]: where the tile's pixels lie in the canvas of a placed step
    place_y: Word
    counts: Word  # int32 [4, 3, 256]: histograms of every fourth pixel
    levels: Word  # float32 [asks, 3, 256]: the tables that were made of them
    near_memory: Word  # of a step that reads neighbours: a blur's weights and line, planes of JPEG, noise
    scratch: Word  # three float32 images [C, max H, max W]
    scratch_bytes: Word
    pitch: Word  # of spare and staging, and of a tile beside them
    x_pitch: Word
    y_pitch: Word

    # the pass being run
    groups: Word
    groups_to: Word
    steps: Word
    steps_to: Word
    smooth: Word  # its smooth group, -1 for none
    taps_x: Word
    taps_y: Word
    aligned: Word  # 1 if lines stay lines and columns columns
    first: Word  # first and last source column, if aligned
    last: Word
    born: Word  # 1 if a pixel may lie outside of a canvas
    partial: Word  # 1 if the taps of a pixel may, if aligned
    runs: Word  # runs of equal step in the column table, 0 where gathering is cheaper
    together: Word  # 1 if the channels of a smooth aligned pass are neighbours and are blended at once
    copies: Word  # 1 if the pass may be one of `copy`
    base_kind: Word  # U8 or F32
    base: Word
    base_h: Word
    base_w: Word
    base_c: Word  # strides
    base_y: Word
    base_x: Word
    packed_base: Word  # 1 if the base is a scratch image of packed bytes
    sink_store: Word  # its phase, NONE for none
    sink: Word
    sink_channels: Word
    sink_c: Word  # strides
    sink_y: Word
    sink_x: Word
    streams: Word  # 1 if the sink is so large that it is written past the caches
    in_place: Word  # 1 if the pass runs its steps on its base, a scratch image
    oh: Word
    ow: Word
    layer_at: Word  # where a layer is kept: [C, oh, ow] of the kind Job.layer_kind
    layers_at: Word  # where the layers that are blended lie, as Layer
    n_layers: Word
    blending: Word  # the address of the step that blends them, 0 for none
    near: Word  # the address of the step that reads neighbours
    ask: Word  # the ask that it answers, -1 for none
    asking: Word  # the address of the step that asks
    total: Double  # the sum of the grey
    least: Single * 3  # of each channel
    greatest: Single * 3

    # the tile, and the step that acts on it
    y: Word  # its first output line, and how many
    lines: Word
    tile_pitch: Word
    in_sink: Word  # 1 if the tile lies in the sink
    step: Word  # the address of the step being run, and the part of the tile that it acts on
    first_pixel: Word
    pixels: Word

    n_passes: Word
    passes: Pass * 0  # as many as there is room for behind the frame


# Phases of a pass, in `names`.
WIDEN = 0
PREPARE = 1
NEAREST_LINES = 2
SMOOTH_LINES = 3
POINTS = 4
FINISH = 5
NEIGHBOURS = 6
PLACES = 7
ASKS = 8  # + the trait of what is asked for: MEAN, EXTREMES, HISTOGRAM
STORE_OUT = 12  # the output's, + 1 if its columns are not neighbours
KEEP = 14  # a scratch image's
KEEP_PACKED = 15
KEEP_LAYER = 16  # a layer's
JPEG = 17
ELASTIC = 18
COPY_LINES = 19
LOOPS = 20  # `loop_index`

# Kinds of elements.
NONE = -1
U8 = 0
F32 = 1
BF16 = 2
F16 = 3

# What a pass reads and writes, beside the scratch images 0 and 1.
SOURCE = -1
LAYERS = -3
OUT = -1
NOWHERE = -2
LAYER = -3
WIDENED = 2  # the scratch image that a 16-bit source is converted into
PACKED = 3  # a scratch image of bytes in its place: [H, W, 4], the fourth channel is not used

TILE_PIXELS = 1024
STRIP_COLUMNS = 128
CACHE_LINE = 64
TEXT_BUFFERS = 12  # int32: codes and sources, twice, of two each; words; positions taken; their two words


def loop_index(opcode, lattice, grey):
    """Where the address of a pixel step's loop stands among the phases; `grey` if its stage has one channel."""
    return LOOPS + 4 * opcode + 2 * lattice + grey
