"""Memory of the CPU engine, as int64 words: the job of a call, a row's frame, the passes of a row.

Addresses are in bytes; offsets, strides and sizes in elements, unless a name says BYTES.
"""

# A job: what one call runs.
JOB_CODE = 0
JOB_ENTRIES = 1
JOB_CONFIG = 2
JOB_ROWS = 3
JOB_TABLE = 4
JOB_COLUMNS = 5
JOB_RECORDS = 6  # each row's own memory: frame, passes, float32 plan, float32 copy of its table row
JOB_RECORD_BYTES = 7
JOB_PLAN_WORDS = 8
JOB_CHANNELS = 9
JOB_GROUPS = 10
JOB_STEPS = 11
JOB_PASSES = 12  # the most passes of a row
JOB_FRESH = 13  # 1 to draw, 0 to read the table
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
JOB_OH = 27
JOB_OW = 28
JOB_STAGES = 29  # int64 [STAGES]: addresses of the compiled stages
JOB_STREAMS = 30  # 1 to write the output past the caches
JOB_WRITES = 31  # 0 to draw only
JOB_N = 32  # how many rows
JOB_NEXT = 40  # the row that is taken next; in a cache line that holds nothing else
JOB_WORDS = 56

# Stages of a pass, in `cpu_kernels`.
WIDEN = 0
PREPARE = 1
NEAREST_ROWS = 2
SMOOTH_ROWS = 3
POINTS = 4
FINISH = 5
STAGES = 6

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
PASS_BASE = 4  # SOURCE, or a scratch image
PASS_BASE_H = 5
PASS_BASE_W = 6
PASS_SINK = 7  # OUT, NOWHERE, or a scratch image
PASS_OH = 8
PASS_OW = 9
PASS_STATISTIC = 10  # the step whose statistic is taken, -1 for none
PASS_WORDS = 12
SOURCE = -1
OUT = -1
NOWHERE = -2
WIDENED = 2  # the scratch image that a 16-bit source is converted into

# A frame: what the kernels of a row share. First, that of the row:
PLAN = 0
CHANNELS = 1
GROUP_WORDS = 2
STEPS_AT = 3
STEP_WORDS = 4
PASSES = 5  # how many

# Work memory: offsets in bytes until `write_row` adds where it lies.
TILE = 6  # float32 [C, PITCH]: the pixels of some output rows
SPARE = 7  # as the tile
STAGING = 8  # as the tile: pixels laid out as in the sink
BIRTH = 9  # float32 [PITCH]: the group, then the slot, where a pixel was born; negative for none
COLUMNS = 10  # float32 [max W, C, 8]: eight source rows, transposed
X_TABLE = 11  # axis tables, see `cpu_tables`
Y_TABLE = 12
RUN_LIST = 13  # int64 [max W, 4]: start, end, first source column, step
ROW_TAPS = 14  # int64 [K, 8]: addresses of source rows, then float32 [K, 8]: their weights
POINTS_X = 15  # float32 [max (H, W) + 8]: source coordinates of a row, or of an axis
POINTS_Y = 16
OFFSETS = 17  # int64 [max W]: where the pixels of a row lie in the source
FOUR = 18  # float32 [4, X_PITCH]: the weights of four taps
SCRATCH = 19  # three float32 images [C, max H, max W]
SCRATCH_BYTES = 20
PITCH = 21
X_PITCH = 22
Y_PITCH = 23

# The pass being run.
GROUPS = 24
GROUPS_TO = 25
STEPS = 26
STEPS_TO = 27
SMOOTH = 28  # its smooth group, -1 for none
TAPS_X = 29
TAPS_Y = 30
ALIGNED = 31  # 1 if rows stay rows and columns columns
FIRST = 32  # first and last source column, if aligned
LAST = 33
BORN = 34  # 1 if a pixel may lie outside of a canvas
PARTIAL = 35  # 1 if the taps of a pixel may, if aligned
RUNS = 36  # runs of equal step in the column table, 0 where gathering is cheaper
STATISTIC = 37
BASE_KIND = 38  # U8 or F32
BASE = 39
BASE_H = 40
BASE_W = 41
BASE_C = 42  # strides
BASE_Y = 43
BASE_X = 44
SINK_KIND = 45
SINK = 46
SINK_C = 47  # strides
SINK_Y = 48
SINK_X = 49
OH = 50
OW = 51
Y = 52  # the tile: its first output row, and how many
ROWS = 53
TOGETHER = 54  # 1 if the channels of a smooth aligned pass are neighbours and are blended at once
STREAMS = 55  # 1 if the sink is so large that it is written past the caches
TOTAL = 56  # float64: the sum that becomes the statistic
FRAME_WORDS = 64

TILE_PIXELS = 1024
