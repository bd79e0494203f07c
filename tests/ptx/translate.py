"""PTX as Triton's compiler writes it, translated to C++ that does the same to the machine of `runtime.h`.

A register becomes a variable, an unsigned integer of its bits; an instruction becomes a statement. Most instructions
are a formula of their operands (FORMULAS); the others have a function each (HANDLERS). What is in neither raises
`Unknown`, so that nothing is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

WIDTHS = {"pred": 1, "f16": 16, "bf16": 16} | {f"{kind}{w}": w for kind in "bsu" for w in (8, 16, 32, 64)}
WIDTHS |= {"f32": 32, "f64": 64}
FLOATS = ("f16", "bf16", "f32", "f64")
SPECIAL = {
    "%tid.x": "thread_number(t)",
    "%tid.y": "0",
    "%tid.z": "0",
    "%ctaid.x": "block_number(t, 0)",
    "%ctaid.y": "block_number(t, 1)",
    "%ctaid.z": "block_number(t, 2)",
    "%laneid": "(thread_number(t) % 32)",
}
# An operand a, b, c, d is read as of the instruction's type, or as of the one behind the colon.
FORMULAS = {
    "abs": "absolute({a})",
    "add": "{a} + {b}",
    "and": "{a} & {b}",
    "bfe": "bit_field({a}, {b:u32}, {c:u32})",
    "bfi": "inserted({a}, {b}, {c:u32}, {d:u32})",
    "copysign": "std::copysign({b}, {a})",
    "div": "quotient({a}, {b})",
    "div.full": "approximate(t, {a} / {b})",
    "ex2.approx": "approximate(t, std::exp2({a}))",
    "fma": "std::fma({a}, {b}, {c})",
    "lg2.approx": "approximate(t, std::log2({a}))",
    "mad.lo": "{a} * {b} + {c}",
    "mad.wide": "wide({a}) * wide({b}) + {c:wide}",
    "max": "largest({a}, {b})",
    "max.NaN": "or_nan({a}, {b}, largest({a}, {b}))",
    "min": "least({a}, {b})",
    "min.NaN": "or_nan({a}, {b}, least({a}, {b}))",
    "mul": "{a} * {b}",
    "mul.hi": "high({a}, {b})",
    "mul.lo": "{a} * {b}",
    "mul.wide": "wide({a}) * wide({b})",
    "neg": "-{a}",
    "not": "inverse({a})",
    "or": "{a} | {b}",
    "popc": "__builtin_popcountll({a})",
    "prmt": "permuted({a:u32}, {b:u32}, {c:u32})",
    "rem": "remainder_of({a}, {b})",
    "selp": "{c:pred} ? {a} : {b}",
    "setp.eq": "{a} == {b}",
    "setp.equ": "!({a} < {b} || {a} > {b})",
    "setp.ge": "{a} >= {b}",
    "setp.geu": "!({a} < {b})",
    "setp.gt": "{a} > {b}",
    "setp.gtu": "!({a} <= {b})",
    "setp.le": "{a} <= {b}",
    "setp.leu": "!({a} > {b})",
    "setp.lt": "{a} < {b}",
    "setp.ltu": "!({a} >= {b})",
    "setp.ne": "{a} < {b} || {a} > {b}",
    "setp.neu": "{a} != {b}",
    "shf.l.wrap": "funnel_left({a}, {b}, {c:u32})",
    "shl": "shift_left({a}, {b:u32})",
    "shr": "shift_right({a}, {b:u32})",
    "sqrt": "std::sqrt({a})",
    "sub": "{a} - {b}",
    "xor": "{a} ^ {b}",
}
EXACT = {"rn", "ftz"}  # rounding as C++ does; `ftz` is heeded for the operands and the result
WHOLE = {"rmi": "std::floor", "rpi": "std::ceil", "rzi": "std::trunc", "rni": "std::nearbyint"}
ATOMIC = {
    "add": "old + {value}",
    "and": "old & {value}",
    "exch": "{value}",
    "max": "largest(old, {value})",
    "min": "least(old, {value})",
    "or": "old | {value}",
}
ORDERS = {"relaxed": "RELAXED", "acquire": "ACQUIRE", "release": "RELEASE", "acq_rel": "ACQ_REL"}
SPACES = {"global": "GLOBAL", "shared": "SHARED", "shared::cta": "SHARED"}
HINTS = {"ca", "cg", "cs", "nc"}  # of caches
SLOW = {"div.rn.f32": 9, "sqrt.rn.f32": 9, "div.full.f32": 6}


class Unknown(NotImplementedError):
    """PTX that is not translated."""


def weight(op: str) -> int:
    """About how many machine instructions one of PTX is."""
    name, kind = op.split(".")[0], op.split(".")[-1]
    if op in SLOW:
        return SLOW[op]
    if name == "mov" or op.startswith("ld.param"):
        return 0
    if name in ("div", "rem") and kind[0] != "f":
        return {"16": 16, "32": 16, "64": 70}[kind[1:]]
    if op.startswith(("mul.lo.s64", "mad.lo.s64")):
        return 4
    two = ("add", "sub") if kind in ("s64", "u64") else ("and", "or", "xor", "shl", "shr", "selp", "min", "max")
    return 2 if name in two and kind.endswith("64") else 1


def register(name: str) -> str:
    """The variable of a register."""
    return name.replace("%", "r_").replace("$", "_").replace(".", "_")


def label(name: str) -> str:
    return name.replace("$", "")


def cpp_type(kind: str) -> str:
    """Of a type of PTX; untyped bits are unsigned."""
    if kind not in WIDTHS:
        raise Unknown(f"type {kind}")
    return "bool" if kind == "pred" else re.sub(r"^b(?=\d)", "u", kind)


def bits(value: str, cpp: str) -> str:
    """What a register becomes by a value of a type: a signed integer is extended by its sign, all else by zeros."""
    return f"__builtin_bit_cast(u{WIDTHS[cpp]}, {value})" if cpp in FLOATS else value


def variable_type(kind: str) -> str:
    return "bool" if kind == "pred" else f"u{max(WIDTHS[kind], 16)}"


def split(operands: str) -> list[str]:
    """Operands, of which one may be a list in braces."""
    return [part.strip() for part in re.findall(r"(?:\{[^}]*\}|\[[^]]*\]|[^,{\[])+", operands) if part.strip()]


def vector(operand: str) -> list[str]:
    """The parts of an operand in braces, or it alone."""
    return [part.strip() for part in operand.strip("{} ").split(",")]


@dataclass(frozen=True)
class Operand:
    """What an instruction reads; formatted as of a type, it is C++."""

    text: str
    kind: str

    def __format__(self, kind: str) -> str:
        kind = kind or self.kind
        if kind == "wide":
            kind = self.kind[0] + str(2 * WIDTHS[self.kind])
        return self.as_type(cpp_type(kind))

    def as_type(self, cpp: str) -> str:
        if cpp in FLOATS:
            return f"__builtin_bit_cast({cpp}, (u{WIDTHS[cpp]}){self.whole()})"
        return f"({cpp}){self.whole()}"

    def whole(self) -> str:
        """A register's or a literal's bits, as an integer."""
        text = self.text
        if text in SPECIAL:
            return SPECIAL[text]
        if re.fullmatch(r"%(p|rs?|rd|fd?)\d+", text):
            return register(text)
        if re.fullmatch(r"0[fd][0-9A-Fa-f]+", text):
            return f"0x{text[2:]}{'u' if text[1] == 'f' else 'ull'}"
        if re.fullmatch(r"-?(0x[0-9A-Fa-f]+|\d+)U?", text):
            number = int(text.rstrip("U"), 0)
            return f"{number}{'ll' if number < 1 << 63 else 'ull'}"
        if text == "global_smem":  # Triton's only shared memory begins at 0
            return "0"
        raise Unknown(f"operand {text}")


@dataclass(frozen=True)
class Instruction:
    """`@guard op operands;` at a place in Triton's source."""

    guard: str
    op: str
    operands: list[str]
    place: str

    @property
    def name(self) -> str:
        return self.op.split(".")[0]

    @property
    def modifiers(self) -> list[str]:
        return self.op.split(".")[1:-1]

    @property
    def kind(self) -> str:
        return self.op.split(".")[-1]

    def read(self, i: int, kind: str = "") -> str:
        """Operand number `i` as of a type, by default the instruction's."""
        return format(Operand(self.operands[i], self.kind), kind)

    def put(self, value: str, cpp: str = "") -> str:
        """Set the first operand to a value, by default of the instruction's type."""
        return f"{register(self.operands[0])} = {bits(value, cpp or cpp_type(self.kind))};"


@dataclass
class Translation:
    """A kernel's C++, as far as it is translated.

    Attributes:
        parameters: the offset of each.
        targets: labels, by the name of their list.
        variables, lines: declarations and statements.
        sites: what and where each instruction is that touches memory or waits.
    """

    parameters: dict[str, int]
    targets: dict[str, list[str]] = field(default_factory=dict)
    variables: list[str] = field(default_factory=list)
    sites: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    _block: int = 0  # the line that weighs the instructions since the last label or branch
    _weight: int = 0

    def site(self, x: Instruction) -> int:
        self.sites.append(f"{x.op} at {x.place}")
        return len(self.sites) - 1

    def address(self, operand: str) -> str:
        """Of `[register or symbol + offset]`."""
        found = re.fullmatch(r"\[\s*(\S+?)\s*(?:\+\s*(-?\d+)\s*)?\]", operand)
        if not found:
            raise Unknown(f"address {operand}")
        return f"{Operand(found[1], 'u64')} + ({found[2] or 0})"

    def begin_block(self) -> None:
        """Weigh the last block's instructions where they begin; what follows is a new one."""
        if self.lines:
            self.lines[self._block] = f"weigh(t, {self._weight});" if self._weight else ""
        self._block, self._weight = len(self.lines), 0
        self.lines.append("")

    def add(self, x: Instruction) -> None:
        handler = HANDLERS.get(x.name, formula)
        try:
            statement = handler(self, x)
        except Unknown as unknown:
            raise Unknown(f"{x.op} {', '.join(x.operands)} at {x.place}: {unknown} is not translated") from None
        if x.guard:
            condition = register(x.guard.strip("@!"))
            statement = f"if ({'!' if '!' in x.guard else ''}{condition}) {{ {statement} }}"
        self.lines.append(statement)
        self._weight += weight(x.op)
        if x.name in ("bra", "brx", "ret"):
            self.begin_block()

    def source(self, shared: int) -> str:
        """The whole of it; `shared`: bytes of shared memory of a block."""
        sites = [f'    "{site}",' for site in self.sites]
        head = ['#include "runtime.h"\n', f"extern const u32 shared_bytes = {shared};"]
        table = ["extern const char* const sites[] = {", *sites, "    nullptr};\n"]
        body = [line for line in self.variables + self.lines if line]
        return "\n".join([*head, *table, "void kernel(Thread& t) {", *body, "}\n"])


def formula(of: Translation, x: Instruction) -> str:
    """An instruction of FORMULAS."""
    key = ".".join([x.name, *(m for m in x.modifiers if m not in EXACT)])
    if key not in FORMULAS:
        raise Unknown("it")
    values: list[object] = [Operand(text, x.kind) for text in x.operands[1:]]
    if "ftz" in x.modifiers:
        values = [f"flush({value})" for value in values]
    found = FORMULAS[key].format(**dict(zip("abcd", values, strict=False)))
    if "ftz" in x.modifiers and x.name != "setp":
        found = f"flush({found})"
    if x.name == "setp":
        return x.put(found, "bool")
    if "wide" in x.modifiers:
        return x.put(found)
    return x.put(f"({cpp_type(x.kind)})({found})")  # C++ computes with short integers as with long ones


def move(of: Translation, x: Instruction) -> str:
    """`mov`, also between a register and its parts."""
    parts, whole = vector(x.operands[0]), WIDTHS[x.kind]
    width = whole // len(parts)
    if len(parts) > 1:
        low = enumerate(parts)
        return " ".join(f"{register(part)} = (u{width})({x.read(1)} >> {width * i});" for i, part in low)
    values = vector(x.operands[1])
    if len(values) > 1:
        width = whole // len(values)
        parts = [f"(u{whole}){Operand(v, x.kind):u{width}} << {width * i}" for i, v in enumerate(values)]
        return x.put(" | ".join(f"({part})" for part in parts))
    kind = f"b{whole}" if x.kind != "pred" else "pred"
    return x.put(x.read(1, kind), cpp_type(kind))


def conversion(of: Translation, x: Instruction) -> str:
    """`cvt`, from the last type to the one before."""
    to, kind = x.op.split(".")[-2:]
    modifiers = x.modifiers[:-1]
    if to in ("bf16x2", "f16x2") and modifiers == ["rn"]:
        return x.put(f"pair<{to[:-2]}>({x.read(1, 'f32')}, {x.read(2, 'f32')})", "u32")
    value = x.read(1, kind)
    for modifier in sorted(modifiers):  # `ftz` comes before how to round
        if modifier == "ftz":
            value = f"flush({value})"
        elif modifier in WHOLE:
            value = f"{WHOLE[modifier]}({value})"
        elif modifier != "rn":
            raise Unknown(modifier)
    return x.put(f"convert<{cpp_type(to)}>({value})", cpp_type(to))


def memory(of: Translation, x: Instruction) -> tuple[str, int]:
    """The space of a load or a store, and of how many numbers it is."""
    space, *rest = x.modifiers
    lengths = [int(m[1:]) for m in rest if m in ("v2", "v4")]
    if space not in SPACES or len(lengths) + sum(m in HINTS for m in rest) != len(rest):
        raise Unknown(".".join(x.modifiers))
    return SPACES[space], lengths[0] if lengths else 1


def load(of: Translation, x: Instruction) -> str:
    if x.modifiers[0] == "param":
        return x.put(f"parameter<{cpp_type(x.kind)}>(t, {of.parameters[x.operands[1].strip('[] ')]})")
    space, n = memory(of, x)
    read = f"auto v = load<{cpp_type(x.kind)}, {n}>(t, {space}, {of.address(x.operands[1])}, {of.site(x)});"
    return f"{{ {read} {unpacked(x)} }}"


def unpacked(x: Instruction) -> str:
    """Set the registers of the first operand to the numbers of v."""
    kind, names = cpp_type(x.kind), enumerate(vector(x.operands[0]))
    return " ".join(f"{register(name)} = {bits(f'v[{i}]', kind)};" for i, name in names if name != "_")


def store(of: Translation, x: Instruction) -> str:
    space, n = memory(of, x)
    values = ", ".join(f"{Operand(value, x.kind)}" for value in vector(x.operands[1]))
    return f"store<{cpp_type(x.kind)}, {n}>(t, {space}, {of.address(x.operands[0])}, {{{values}}}, {of.site(x)});"


def atomic(of: Translation, x: Instruction) -> str:
    """`atom`, in any order of its modifiers."""
    space = [SPACES[m] for m in x.modifiers if m in SPACES]
    change = [ATOMIC[m] for m in x.modifiers if m in ATOMIC]
    order = [ORDERS[m] for m in x.modifiers if m in ORDERS] or ["RELAXED"]
    if len(x.modifiers) > 4 or not space or not change or (space[0] == "SHARED" and order[0] != "RELAXED"):
        raise Unknown("it")
    kind = cpp_type(x.kind)
    changed = f"[&]({kind} old) -> {kind} {{ return {change[0].format(value=x.read(2))}; }}"
    call = f"atomic<{kind}>(t, {space[0]}, {of.address(x.operands[1])}, {changed}, {order[0]}, {of.site(x)})"
    return x.put(call) if x.operands[0] != "_" else f"{call};"


def shuffle(of: Translation, x: Instruction) -> str:
    """`shfl.sync`, of whole warps."""
    if x.modifiers[0] != "sync" or x.operands[3] != ("0" if x.modifiers[1] == "up" else "31"):
        raise Unknown("a part of a warp")
    return x.put(f"exchange(t, {x.read(1)}, {x.modifiers[1].upper()}, {x.read(2, 'u32')}, {of.site(x)})")


def reduction(of: Translation, x: Instruction) -> str:
    if x.modifiers[1] not in ("add", "max", "min") or WIDTHS[x.kind] != 32:
        raise Unknown("it")
    return x.put(f"exchange(t, {x.read(1, 'u32')}, {x.modifiers[1].upper()}, 0, {of.site(x)})")


def ballot(of: Translation, x: Instruction) -> str:
    """`vote.sync.ballot`: a bit of each thread of the warp."""
    if x.modifiers != ["sync", "ballot"]:
        raise Unknown("it")
    return x.put(f"exchange(t, {x.read(1, 'pred')}, BALLOT, 0, {of.site(x)})")


def matrices(of: Translation, x: Instruction) -> str:
    if "trans" in x.modifiers or "m8n8" not in x.modifiers:
        raise Unknown("it")
    if x.name == "stmatrix":
        values = ", ".join(f"{Operand(value, 'u32')}" for value in vector(x.operands[1]))
        n = len(vector(x.operands[1]))
        return f"store_matrices<{n}>(t, {of.address(x.operands[0])}, {{{values}}}, {of.site(x)});"
    n = len(vector(x.operands[0]))
    return f"{{ auto v = load_matrices<{n}>(t, {of.address(x.operands[1])}, {of.site(x)}); {unpacked(x)} }}"


def barrier(of: Translation, x: Instruction) -> str:
    if x.op != "bar.sync" or x.operands != ["0"]:
        raise Unknown("a barrier of a part of the block")
    return f"barrier(t, {of.site(x)});"


def branch(of: Translation, x: Instruction) -> str:
    return f"goto {label(x.operands[0])};"


def branch_to_one_of(of: Translation, x: Instruction) -> str:
    cases = " ".join(f"case {i}: goto {label(to)};" for i, to in enumerate(of.targets[x.operands[1]]))
    return f"switch ({register(x.operands[0])}) {{ {cases} }}"


HANDLERS: dict[str, Callable[[Translation, Instruction], str]] = {
    "atom": atomic,
    "bar": barrier,
    "bra": branch,
    "brx": branch_to_one_of,
    "cvt": conversion,
    "ld": load,
    "ldmatrix": matrices,
    "mov": move,
    "redux": reduction,
    "ret": lambda of, x: "return;",
    "shfl": shuffle,
    "st": store,
    "stmatrix": matrices,
    "vote": ballot,
}


def statements(ptx: str) -> Iterator[tuple[str, str]]:
    """Each label, brace, directive and instruction of the kernel's body, and its place in Triton's source."""
    files = {number: path.rpartition("/")[2] for number, path in re.findall(r'\.file\s+(\d+)\s+"([^"]*)"', ptx)}
    body = ptx[re.search(r"^\{", ptx, re.M).end() : re.search(r"^\}", ptx, re.M).start()]
    place = rest = ""
    for line in body.splitlines():
        line = line.partition("//")[0].strip()
        located = re.match(r"\.loc\s+(\d+)\s+(\d+)", line)
        if located:
            place = f"{files.get(located[1], '?')}:{located[2]}"
            continue
        rest += " " + line
        while found := re.match(r"\s*([{}]|[$\w]+:(?!\s*\.branchtargets)|[^;]*;)", rest):
            if not rest.strip().startswith(("{", "}")) and ";" not in found[0] and not found[0].endswith(":"):
                break
            yield found[1].rstrip(";").strip(), place
            rest = rest[found.end() :]


def parameters_of(ptx: str) -> dict[str, int]:
    """The offset of each parameter of the kernel."""
    offsets, end = {}, 0
    for kind, name in re.findall(r"\.param \.(\w+)[^,)]*?(\w+_param_\d+)", ptx[: re.search(r"^\{", ptx, re.M).start()]):
        size = WIDTHS[kind] // 8
        offsets[name] = -(-end // size) * size
        end = offsets[name] + size
    return offsets


def translate(ptx: str, shared: int) -> str:
    """The C++ of the kernel that a PTX text holds; `shared`: its bytes of shared memory."""
    of = Translation(parameters_of(ptx))
    of.begin_block()
    for text, place in statements(ptx):
        if declared := re.fullmatch(r"\.reg\s+\.(\w+)\s+%(\w+)<(\d+)>", text):
            names = (f"r_{declared[2]}{i} = 0" for i in range(int(declared[3])))
            of.variables.append(f"{variable_type(declared[1])} {', '.join(names)};")
        elif declared := re.fullmatch(r"\.reg\s+\.(\w+)\s+([%\w, ]+)", text):  # of a scope, which jumps may enter
            of.lines.append(f"{variable_type(declared[1])} {', '.join(map(register, split(declared[2])))};")
        elif targets := re.fullmatch(r"([$\w]+):\s*\.branchtargets(.*)", text, re.S):
            of.targets[targets[1]] = split(targets[2])
        elif text.startswith(("$L__tmp", "$L__func")):  # of debuggers
            continue
        elif text.endswith(":"):
            of.lines.append(f"{label(text[:-1])}:;")
            of.begin_block()
        elif text in ("{", "}"):
            of.lines.append(text)
        elif text.startswith(".pragma"):
            continue
        elif found := re.fullmatch(r"(@!?%\w+\s+)?([a-z][\w.:]*)\s*(.*)", text, re.S):
            of.add(Instruction((found[1] or "").strip(), found[2], split(found[3]), place))
        else:
            raise Unknown(f"{text} at {place} is not translated")
    of.begin_block()
    return of.source(shared)
