"""What the compiler makes of the Triton kernels: registers, spills, shared memory, loads and stores, without a GPU.

    python -m gpuaug.benchmarks.kernel_report [--targets sm_90 gfx942 ...] [--cases NAME ...] [--paths N] [--out FILE]

For NVIDIA the machine code is read with the `cuobjdump` inside the Triton wheel, for AMD from the assembly text. A
spill is an instruction that reads or writes local memory (NVIDIA), or a vector register that the compiler says it
spilled, or an access to scratch memory (AMD). A scalar register of AMD that has no room goes into a lane of a vector
register, not to memory: counted apart. Warps are how many fit on a multiprocessor by their registers, of 64, or on a
SIMD, of 8. Loads and stores are counted in the code, by bytes a thread, not weighted by loops.
"""

from __future__ import annotations

import argparse
import ast
import functools
import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget

import gpuaug as ga
from gpuaug.backends.triton import kernels
from gpuaug.lowering import lower
from gpuaug.program import Program

from . import RESULTS

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
NVDISASM = CUOBJDUMP.with_name("nvdisasm")
TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
TO_FLOAT = [ga.ToDtype(torch.bfloat16, scale=True), ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD)]
ONE_OF_ALL = ga.RandomChoice(
    [
        ga.RandomAffine(30, (0.2, 0.2), shear=10, fill=128),
        ga.ColorJitter(0.4, 0.4, 0.4, 0.1),
        ga.RandomGrayscale(),
        ga.RandomChannelPermutation(),
        ga.RandomInvert(),
        ga.RandomPosterize(4),
        ga.RandomSolarize(128),
        ga.SolarizeAdd(60),
        ga.RandomGamma((0.5, 2.0)),
        ga.RandomAutocontrast(),
        ga.RandomEqualize(),
        ga.RandomAdjustSharpness(2.0),
        ga.GaussianBlur(5),
        ga.GaussianNoise(),
        ga.SaltAndPepper((0.0, 0.1)),
        ga.RandomErasing(),
        ga.CoarseDropout(),
        ga.GridMask((20, 60)),
    ]
)
CASES = {
    "flip": [ga.RandomHorizontalFlip()],
    "crop_flip": [ga.RandomCrop(224), ga.RandomHorizontalFlip(), *TO_FLOAT],
    "eval": [ga.Resize(256), ga.CenterCrop(224), *TO_FLOAT],
    "resized_crop": [ga.RandomResizedCrop(224), ga.RandomHorizontalFlip(), *TO_FLOAT],
    "lanczos": [ga.RandomResizedCrop(224, interpolation="lanczos"), ga.RandomHorizontalFlip(), *TO_FLOAT],
    "filters": [
        ga.ResizeKeepRatio(224, 0.0, "random", 0.5, (0.8, 1.0), True, 0.5),
        ga.RandomCropOrPad(224, padding_mode="reflect"),
        ga.RandomApply([ga.Resize(200, "lanczos")]),
        ga.CenterCropOrPad(224),
        *TO_FLOAT,
    ],
    "cifar": [ga.RandomCrop(32, padding=4, padding_mode="reflect"), ga.RandomHorizontalFlip(), *TO_FLOAT],
    "affine_nearest": [ga.RandomAffine(45, (0.1, 0.1), (0.9, 1.1)), *TO_FLOAT],
    "imagenet_train": [
        ga.RandomResizedCrop(224),
        ga.RandomHorizontalFlip(),
        ga.ColorJitter(0.4, 0.4, 0.4, 0.1),
        *TO_FLOAT,
    ],
    "randaugment": [ga.RandomResizedCrop(224), ga.RandomHorizontalFlip(), ga.RandAugment(), *TO_FLOAT],
    "erasing": [ga.RandomResizedCrop(224), *TO_FLOAT, ga.RandomErasing(value="random")],
    "equalize": [ga.RandomResizedCrop(224), ga.RandomAutocontrast(), ga.RandomEqualize(), *TO_FLOAT],
    "sharpness": [ga.RandomResizedCrop(224), ga.RandomAdjustSharpness(2.0), *TO_FLOAT],
    "elastic": [
        ga.RandomResizedCrop(224),
        ga.ElasticTransform(),
        ga.JPEG(50),
        ga.RandomAdjustSharpness(2.0),
        *TO_FLOAT,
    ],
    "jpeg": [ga.RandomResizedCrop(224), ga.JPEG((30, 90)), ga.RandomAffine(30, interpolation="bilinear"), *TO_FLOAT],
    "mixing": [
        ga.RandomResizedCrop(224),
        ga.RandomHorizontalFlip(),
        ga.ColorJitter(0.4, 0.4, 0.4, 0.1),
        *TO_FLOAT,
        ga.RandomChoice([ga.MixUp(), ga.CutMix()]),
    ],
    "policy_mixed": [
        ga.RandomResizedCrop(224),
        ONE_OF_ALL,
        ONE_OF_ALL,
        ga.RandomChoice([ga.MixUp(), ga.CutMix()]),
        ga.RandomApply([ga.ColorJitter(0.4, saturation=0.4)]),
        *TO_FLOAT,
        ga.RandomErasing(value="random"),
    ],
    "augmix": [ga.RandomResizedCrop(224), ga.RandomHorizontalFlip(), ga.AugMix(), *TO_FLOAT],
    "policy": [ga.RandomResizedCrop(224), ONE_OF_ALL, ONE_OF_ALL, *TO_FLOAT, ga.RandomErasing(value="random")],
    "policy_before": [ONE_OF_ALL, ONE_OF_ALL, ga.RandomResizedCrop(224), *TO_FLOAT],
    "everything": [
        ga.RandomCrop(224, padding=8, padding_mode="symmetric"),
        ga.RandomHorizontalFlip(),
        ga.RandomSolarize(128),
        ga.ColorJitter(brightness=0.4, contrast=0.4),
        ga.RandomApply([ga.RandomRotation(30)]),
        ga.RandomChoice([ga.RandomPerspective(), ga.RandomAffine(30, interpolation="bicubic", fill=(1, 2, 3))]),
        ga.RandomInvert(),
        ga.RandomVerticalFlip(),
        ga.RandomResizedCrop(224, interpolation="bicubic"),
        ga.ColorJitter(contrast=0.4),
        *TO_FLOAT,
    ],
}


def program_of(name: str, channels: int = 3, dtype: torch.dtype = torch.uint8) -> Program:
    """A case, lowered for a canvas that it takes."""
    side = 32 if name == "cifar" else 256
    return lower(CASES[name], frozenset({(side, side)}), channels, dtype)


def _width(modifiers: str) -> int:
    for pattern, width in (("128", 16), ("64", 8), ("U8|S8", 1), ("U16|S16", 2)):
        if re.search(rf"\.({pattern})\b", modifiers):
            return width
    return 4


@functools.cache
def functions_of(path: str) -> list[tuple[int, int, str]]:
    """First line, last line and name of each function of a source file; none where there is no such file."""
    if not Path(path).is_file():
        return []
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    return [(f.lineno, f.end_lineno, f.name) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)]


def function_at(path: str, line: str) -> str:
    """The function at a line of a source file."""
    found = [name for first, last, name in functions_of(path) if first <= int(line) <= last]
    return found[-1] if found else "?"


def by_path(cubin: str) -> dict[str, int]:
    """Instructions by the functions they come from, outermost first, "write_kernel story gather"; none of a subroutine
    of the compiler's own."""
    text = subprocess.run([NVDISASM, "-c", "-gi", cubin], capture_output=True, text=True, check=True).stdout
    counts, path, fresh = Counter(), [], True
    for line in text.partition("\n$__internal")[0].splitlines():
        place = re.search(r'//## File "([^"]+)", line (\d+)', line)
        if place:
            path, fresh = ([] if fresh else path) + [function_at(*place.groups())], False
        elif re.match(r"\s+/\*[0-9a-f]{4,}\*/\s", line):
            fresh = True
            counts[" ".join(reversed(path))] += " NOP " not in line
    return dict(counts)


def read_cuda(compiled) -> dict:
    """Counts of a kernel compiled for NVIDIA."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
        sass = subprocess.run([CUOBJDUMP, "-sass", file.name], capture_output=True, text=True, check=True).stdout
        paths = by_path(file.name)
    sizes = dict(re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", usage.rsplit("Function", 1)[-1]))
    code = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", sass)
    names = [op.split(".")[0] for op in code]
    warps = compiled.metadata.num_warps
    loads = Counter(_width(op) for op in code if op.startswith("LDG"))
    stores = Counter(_width(op) for op in code if op.startswith("STG"))
    return {
        "registers": int(sizes["REG"]),
        "spills": names.count("LDL") + names.count("STL"),
        "warps": warps * min(65536 // (-(-int(sizes["REG"]) // 8) * 256 * warps), 64 // warps, 32),
        "shared_bytes": compiled.metadata.shared,
        "stack_bytes": int(sizes["STACK"]),
        "instructions": len(names) - names.count("NOP"),
        "paths": paths,
        "loads": dict(sorted(loads.items())),
        "stores": dict(sorted(stores.items())),
    }


_AMD_WIDTH = {"ubyte": 1, "sbyte": 1, "byte": 1, "ushort": 2, "sshort": 2, "short": 2}


def _amd_width(op: str) -> int:
    number = re.search(r"dwordx(\d)", op)
    if number:
        return 4 * int(number[1])
    return next((width for name, width in _AMD_WIDTH.items() if f"_{name}" in op), 4)


def read_hip(compiled) -> dict:
    """Counts of a kernel compiled for AMD."""
    text = compiled.asm["amdgcn"]
    sizes = {name: int(value) for name, value in re.findall(r"\.(\w+): +(\d+)", text)}
    code = re.findall(r"^\s+([sv]_[a-z0-9_]+|(?:global|buffer|flat|ds|scratch)_[a-z0-9_]+)", text, re.MULTILINE)
    loads = Counter(_amd_width(op) for op in code if re.match(r"(global|buffer|flat|s)_(buffer_)?load", op))
    stores = Counter(_amd_width(op) for op in code if re.match(r"(global|buffer|flat)_store", op))
    return {
        "registers": sizes["vgpr_count"],
        "scalar_registers": sizes["sgpr_count"],
        "spills": sizes["vgpr_spill_count"] + sum(op.startswith("scratch_") for op in code),
        "scalar_spills": sizes["sgpr_spill_count"],
        "warps": min(512 // (-(-sizes["vgpr_count"] // 8) * 8), 8),
        "shared_bytes": sizes["group_segment_fixed_size"],
        "stack_bytes": sizes["private_segment_fixed_size"],
        "instructions": len(code) - sum(op.startswith("s_nop") for op in code),
        "loads": dict(sorted(loads.items())),
        "stores": dict(sorted(stores.items())),
    }


def compiled_kernels(name: str, targets: list[str], **keywords) -> Iterator[tuple[str, str, dict]]:
    """(kernel, target, counts) of each kernel of a case."""
    for kernel_name, kernel in kernels(program_of(name, **keywords)).items():
        for target in targets:
            compiled = kernel.compile(TARGETS[target])
            yield kernel_name, target, read_hip(compiled) if target.startswith("gfx") else read_cuda(compiled)


def _widths(counts: dict[int, int]) -> str:
    return " ".join(f"{n}x{width}B" for width, n in counts.items())


def main() -> None:
    """Print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument(
        "--paths", type=int, default=0, metavar="N", help="print the N call paths with most instructions"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "kernel_report.json")
    arguments = parser.parse_args()
    head = ("case", "kernel", "target", "regs", "spills", "warps", "shared", "instr.", "loads", "stores")
    line = "{:15s} {:7s} {:7s} {:>5s} {:>6s} {:>5s} {:>6s} {:>6s}  {:22s} {}"
    print(f"Triton {triton.__version__}", line.format(*head), sep="\n", flush=True)
    entries = []
    for case in arguments.cases:
        for kernel, target, counts in compiled_kernels(case, arguments.targets):
            paths = counts.pop("paths", {})
            entries.append({"case": case, "kernel": kernel, "target": target, **counts})
            numbers = (counts[k] for k in ("registers", "spills", "warps", "shared_bytes", "instructions"))
            ways = (_widths(counts[k]) for k in ("loads", "stores"))
            print(line.format(case, kernel, target, *map(str, numbers), *ways), flush=True)
            for path, n in sorted(paths.items(), key=lambda item: -item[1])[: arguments.paths]:
                print(f"    {n:5d} {path}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"triton": triton.__version__, "kernels": entries}, indent=1) + "\n")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
