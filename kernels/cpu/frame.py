"""Memory of the CPU engine, as int64 words: what a thread has, the job of a call, a row's frame, the passes of a row.

Addresses are in bytes; offsets, strides and sizes in elements, unless a name says BYTES.
"""

# A thread's own: what it brings into the jobs that it runs.
OWN_MEMORY = 0  # where its work memory was allocated, 0 for none
OWN_BYTES = 1  # how much of it there is, from the first cache line on
OWN_ALLOCATE = 2  # addresses of C functions: void *(size_t)
OWN_FREE = 3  # void (void *)
OWN_ACQUIRE = 4  # int (void *, int)
OWN_RELEASE = 5  # void (void *)
OWN_LOCK = 6  # where it waits for its helpers: a lock that it holds
OWN_ADVISE = 7  # int (void *, size_t, int), 0 for none
OWN_WORDS = 8

# A job: what one call runs.
JOB_CODE = 0  # int64: as the program's, but draws and geometry ops stand there as the addresses of their functions
JOB_ENTRIES = 1
JOB_CONFIG = 2
JOB_ROWS = 3
JOB_TABLE = 4
JOB_COLUMNS = 5
JOB_RECORDS = 6  # each row's own memory as it is written: frame, passes
JOB_RECORD_BYTES = 7
JOB_PLAN_WORDS = 8
JOB_CHANNELS = 9
JOB_GROUPS = 10
JOB_STEPS = 11
JOB_PASSES = 12  # the most passes of a row
JOB_FRESH = 13  # 1 to draw, 2 to draw onto the table, 0 to read it
JOB_IDS = 14  # 0 for none: then the counter plus the sample
JOB_COUNTER = 15
JOB_EPOCH = 16
JOB_SEED_LOW = 17
JOB_SEED_HIGH = 18
JOB_SOURCE = 19
JOB_SOURCE_KIND = 20
JOB_OUT = 21
JOB_OUT_KIND = 22
JOB_OUT_B = 23
JOB_OUT_C = 24
JOB_OUT_Y = 25
JOB_OUT_X = 26
JOB_OUT_CHANNELS = 27
JOB_PHASES = 28  # int64: addresses of the compiled phases
JOB_STREAMS = 29  # 1 to write the output past the caches
JOB_WRITES = 30  # 0 to plan only
JOB_TAIL = 32  # how many of the last pixel steps the output's store runs
JOB_PACKS = 33  # 1 if images on the lattice may be kept as packed bytes
JOB_N = 31  # how many rows
JOB_LOCK = 34  # of the thread that opened it, as OWN_LOCK
JOB_LACKS = 35  # bytes of work memory that a thread could not get, 0 for none
JOB_PLANS = 36  # float32 [rows, JOB_ROW_WORDS]: each row's plan, then its own copy of its table row
JOB_ROW_WORDS = 37
JOB_PLANNED = 38  # 1 if the plans are there
JOB_BLENDS = 39  # 1 if the program has a blend
JOB_OUTPUTS = 40  # int64 [outputs, JOB_LAYERS]: of a program with a blend, the rows that each output is blended of
JOB_LAYERS = 41
JOB_CHUNK = 42  # how many outputs a thread takes at once
JOB_LAYER_KIND = 43
JOB_RAGGED = 44  # 1 if each row has a place and strides of its own in the output
JOB_NEXT = 46  # the row that is taken next; in a cache line that holds nothing else but
JOB_BUSY = 47  # how many threads are inside, 0 before the job is opened and after it is closed
JOB_WORDS = 56

# Phases of a pass, in `kernels`.
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

# A draw's arguments and results, in words of 8 bytes.
DRAW_KEY = 0  # int64 [6]
DRAW_FLOATS = 6  # float32: twelve of the configuration, h, w, then the eight results
DRAW_WORDS = 17

# A geometry function's, in floats.
MAP_H = 12  # behind twelve arguments
MAP_W = 13
MAP_RESULT = 14  # seventeen
MAP_WORDS = 16  # of 8 bytes

# Kinds of elements.
NONE = -1
U8 = 0
F32 = 1
BF16 = 2
F16 = 3

# A pass: groups and steps of the plan that it runs, from which image onto which.
PASS_GROUPS = 0
PASS_GROUPS_TO = 1
PASS_STEPS = 2
PASS_STEPS_TO = 3
PASS_BASE = 4  # SOURCE, LAYERS, or a scratch image
PASS_BASE_H = 5
PASS_BASE_W = 6
PASS_SINK = 7  # OUT, NOWHERE, LAYER, or a scratch image
PASS_OH = 8
PASS_OW = 9
PASS_ASK = 10  # the ask for a statistic that the pass answers, -1 for none
PASS_SMOOTH = 11  # its smooth group, if among its groups
PASS_WORDS = 12
SOURCE = -1
LAYERS = -3
OUT = -1
NOWHERE = -2
LAYER = -3
WIDENED = 2  # the scratch image that a 16-bit source is converted into
PACKED = 3  # a scratch image of bytes in its place: [H, W, 4], the fourth channel is not used

# A frame: what the kernels of a row share. First, that of the row:
PLAN = 0
CHANNELS = 1
GROUP_WORDS = 2
STEPS_AT = 3
STEP_WORDS = 4
PASSES = 5  # how many

# Work memory: offsets in bytes until `write_row` adds where it lies.
TILE = 6  # float32 [C, TILE_PITCH]: the pixels of some output lines; here, or in a scratch image itself
SPARE = 7  # float32 [C, PITCH]
STAGING = 8  # as the spare: pixels laid out as in the sink
BIRTH = 9  # float32 [PITCH]: the group, then the slot, where a pixel was born; negative for none
COLUMNS = 10  # float32 [max W, C, 8]: eight source lines, transposed
X_TABLE = 11  # axis tables, see `tables`
Y_TABLE = 12
RUN_LIST = 13  # int64 [max W, 4]: start, end, first source column, step
LINE_TAPS = 14  # int64 [K * 8]: source lines; int64 [8, K]: where they lie in the strip; float32 [8, K]: their weights
STRIP = 15  # float32 [K * 8 + 8, STRIP_COLUMNS]: a part of each of those lines, then of eight that are blended of them
POINTS_X = 16  # float32 [max (H, W) + 8]: source coordinates of a line, or of an axis
POINTS_Y = 17
OFFSETS = 18  # int64 [max W]: where the pixels of a line lie in the source
FOUR = 19  # float32 [4, X_PITCH]: the weights of four taps
PLACE_X = 20  # float32 [PITCH]: where the tile's pixels lie in the canvas of a placed step
PLACE_Y = 21
COUNTS = 22  # int32 [4, 3, 256]: histograms of every fourth pixel
LEVELS = 23  # float32 [asks, 3, 256]: the tables that were made of them
NEAR_MEMORY = (
    24  # of the step that reads neighbours: weights and a line with its margins of a blur, planes of JPEG, noise
)
SCRATCH = 25  # three float32 images [C, max H, max W]
SCRATCH_BYTES = 26
PITCH = 27  # of SPARE and STAGING, and of a TILE beside them
X_PITCH = 28
Y_PITCH = 29
PHASES = 30  # as JOB_PHASES
ASKS_AT = 31

# The pass being run.
GROUPS = 32
GROUPS_TO = 33
STEPS = 34
STEPS_TO = 35
SMOOTH = 36  # its smooth group, -1 for none
TAPS_X = 37
TAPS_Y = 38
ALIGNED = 39  # 1 if lines stay lines and columns columns
FIRST = 40  # first and last source column, if aligned
LAST = 41
BORN = 42  # 1 if a pixel may lie outside of a canvas
PARTIAL = 43  # 1 if the taps of a pixel may, if aligned
RUNS = 44  # runs of equal step in the column table, 0 where gathering is cheaper
ASK = 45  # the ask that it answers, -1 for none
ASKING = 46  # the address of the step that asks
BASE_KIND = 47  # U8 or F32
BASE = 48
BASE_H = 49
BASE_W = 50
BASE_C = 51  # strides
BASE_Y = 52
BASE_X = 53
SINK_STORE = 54  # its phase, NONE for none
SINK = 55
SINK_CHANNELS = 56
SINK_C = 57  # strides
SINK_Y = 58
SINK_X = 59
OH = 60
OW = 61
Y = 62  # the tile: its first output line, and how many
LINES = 63
TOGETHER = 64  # 1 if the channels of a smooth aligned pass are neighbours and are blended at once
STREAMS = 65  # 1 if the sink is so large that it is written past the caches
NEAR = 66  # the address of the step that reads neighbours
STEP = 67  # the address of the step being run, and the part of the tile that it acts on
FIRST_PIXEL = 68
PIXELS = 69
TOTAL = 70  # float64: the sum of the grey
EXTREMES = 71  # float32 [6]: least, then greatest value of each channel
TILE_PITCH = 75
IN_PLACE = 76  # 1 if the pass runs its steps on its base, a scratch image
IN_SINK = 77  # 1 if the tile lies in the sink
PACKED_BASE = 78  # 1 if the base is a scratch image of packed bytes
PACKS = 79  # as JOB_PACKS
TAIL = 80  # as JOB_TAIL
LAYER_AT = 81  # where a layer is kept: [C, OH, OW] of the kind JOB_LAYER_KIND
LAYERS_AT = 82  # int64: where the layers lie that are blended
N_LAYERS = 83
BLENDING = 84  # the address of the step that blends them, 0 for none
COPIES = 85  # 1 if the pass may be one of `copy`
FRAME_WORDS = 86

# What a thread keeps of layers in front of its work memory: three int64s for each layer that it has room for, then the
# layers themselves.
CACHE_ROW = 0  # the row, -1 for none
CACHE_USED = 1  # the output that used it last
CACHE_AT = 2  # of the output being written, where its k-th layer lies
CACHE_WORDS = 3

TILE_PIXELS = 1024
STRIP_COLUMNS = 128
CACHE_LINE = 64


def loop_index(opcode, lattice, grey):
    """Where the address of a pixel step's loop stands among the phases; `grey` if its stage has one channel."""
    return LOOPS + 4 * opcode + 2 * lattice + grey
