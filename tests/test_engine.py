"""The CPU engine that was built ahead: what it holds, when it is taken, and what is said where it is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from calls import HANG_S

import gpuaug as ga
from gpuaug.kernels.cpu import build, engine, names
from gpuaug.kernels.shared import user

ANY = ("run_rows", ("store", 0, False, ()), (3, True, False))
FLIP = "ga.Compose([ga.RandomHorizontalFlip(1.0)], seed=0, backend={!r})"
X = "torch.arange(2 * 3 * 64, dtype=torch.uint8).view(2, 3, 8, 8)"


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Nothing found, loaded or asked yet; afterwards as it was."""

    def forget() -> None:
        for known in (engine.built, engine._library, engine.lacks):
            known.cache_clear()

    monkeypatch.delenv("GPUAUG_ENGINE", raising=False)
    monkeypatch.setattr(engine, "_found", {})
    forget()
    yield monkeypatch
    forget()


@pytest.fixture
def library(fresh: pytest.MonkeyPatch) -> Path:
    """The one for this processor."""
    found = engine.built()
    if found is None:
        pytest.skip("no engine is built from the sources as they are: make engine")
    return found


def without_numba(script: str, engine_is: str = "") -> subprocess.CompletedProcess:
    """A script in a process that cannot import numba or llvmlite."""
    head = "import sys\nsys.modules['numba'] = sys.modules['llvmlite'] = None\nimport torch, gpuaug as ga\n"
    env = os.environ | {"GPUAUG_ENGINE": engine_is}
    command = [sys.executable, "-W", "ignore", "-c", head + script]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, env=env)


# --- names ------------------------------------------------------------------------------------------------------------
def test_names_are_of_one_function_each() -> None:
    keys = names.every()
    assert len({names.symbol(key) for key in keys}) == len(keys) and set(ANY) <= set(keys)


def test_a_users_op_is_named_by_its_content() -> None:
    @ga.pixel_op
    def darker_by(v, amount):
        return v - amount

    first = next(opcode for opcode, made in user.FORMULAS.items() if made.name == "user_darker_by")
    key = (first, True, False)
    assert names.symbol(key).startswith("gpuaug_loop_user_darker_by_") and names.symbol(key).endswith("_lattice_colour")
    assert user.FORMULAS[first].digest()[:16] in names.symbol(key) and key not in names.every()


# --- the library ------------------------------------------------------------------------------------------------------
def test_it_holds_all_that_the_ops_ask_for(library: Path) -> None:
    for key in names.every():
        found = engine.get(key)
        assert found.origin == "built" and found.address, key
        assert (found.call is not None) == (key in names.CALLED or key in names.CARRIES)


def test_of_other_sources_or_damaged_in_that_place_it_is_not_loaded(library: Path, fresh, tmp_path: Path) -> None:
    fresh.setattr(engine, "path_of", lambda level: tmp_path / f"{level}.so")
    engine.built.cache_clear()
    assert engine.built() is None, "there is none"
    content = library.read_bytes()
    place = content.index(engine.sources()) + len(engine.sources()) - 1
    for level in engine.levels():
        changed = bytearray(content)
        changed[place] ^= 1
        Path(tmp_path, f"{level}.so").write_bytes(changed)
    engine.built.cache_clear()
    assert engine.built() is None
    last = tmp_path / f"{engine.levels()[-1]}.so"
    last.write_bytes(content)
    engine.built.cache_clear()
    assert engine.built() == last, "the next level's is taken"


@pytest.mark.parametrize(
    "system, machine, flags, levels",
    [
        ("Linux", "x86_64", engine.LEVELS["x86-64-v4"][1] | {"sse2"}, ["x86-64-v4", "x86-64-v3"]),
        ("Linux", "x86_64", engine.V3, ["x86-64-v3"]),
        ("Linux", "x86_64", engine.V3 - {"fma"}, []),
        ("Linux", "aarch64", {"asimd"}, ["aarch64"]),
        ("Linux", "riscv64", engine.V3, []),
        ("Darwin", "x86_64", engine.V3, []),
        ("Windows", "AMD64", engine.V3, []),
    ],
)
def test_the_processor_says_which_are_taken(system, machine, flags, levels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.platform, "system", lambda: system)
    monkeypatch.setattr(engine.platform, "machine", lambda: machine)
    monkeypatch.setattr(engine, "processor", lambda: frozenset(flags))
    assert engine.levels() == levels


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/cpuinfo")
def test_what_the_processor_says() -> None:
    assert engine.processor(), "it says nothing"
    assert all(flag == flag.strip() and " " not in flag for flag in engine.processor())


RECIPES = {
    "imagenet_train": "ga.presets.imagenet_train()",
    "randaugment": "ga.presets.randaugment()",
    "autoaugment": "ga.presets.autoaugment()",
    "timm": "ga.presets.timm_train(auto_augment='rand-m9-mstd0.5-inc1', re_prob=0.5)",
    "affine bf16": "ga.Compose([ga.RandomAffine(30, interpolation='bilinear'), ga.ToDtype(torch.bfloat16, True)])",
    "jpeg": "ga.Compose([ga.JPEG((30, 80))])",
}
RUN = """
torch.manual_seed(0)
images = torch.randint(0, 256, (4, 3, 96, 80), dtype=torch.uint8)
for made in ({made},):
    augment = ga.Compose(made.transforms, seed=3, backend="cpu")
    out = augment(images, ids=range(4), epoch=0)
    print(out.dtype, tuple(out.shape), out.double().sum().item().hex(), out.double().std().item().hex())
mixed = ga.Compose([ga.RandomHorizontalFlip(), ga.MixUp(num_classes=3)], seed=3, backend="cpu")
out, labels = mixed(images, torch.tensor([0, 1, 2, 0]), ids=range(4), epoch=0)
print(out.double().sum().item().hex(), labels.sum(0).tolist())
boxes = torch.tensor([[[4.0, 4.0, 40.0, 30.0]]] * 4)
turned = ga.Compose([ga.RandomRotation(30)], seed=3, backend="cpu")(images, boxes=boxes, ids=range(4), epoch=0)
print([v.double().sum().item().hex() for v in (turned if isinstance(turned, tuple) else turned.values())])
"""


def recipes(*which: str) -> str:
    return RUN.replace("{made}", ", ".join(RECIPES[name] for name in which or RECIPES))


def test_it_runs_without_numba(library: Path) -> None:
    done = without_numba(recipes() + "print(sorted(k for k in sys.modules if k.startswith(('numba', 'llvmlite'))))")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['llvmlite', 'numba']", "which are the two that stand for none"
    assert len(done.stdout.splitlines()) == len(RECIPES) + 3


def same_level(which: tuple[str, ...], library: Path, folder: Path) -> None:
    """The library's bits are those of what Numba compiles for processors of that level."""
    level = library.stem.removeprefix("engine-")
    compiled = {"NUMBA_CPU_NAME": level, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(folder)}
    script = "import torch, gpuaug as ga\n" + recipes(*which)
    told = []
    for environment in ({"GPUAUG_ENGINE": "built"}, {"GPUAUG_ENGINE": "jit"} | compiled):
        command = [sys.executable, "-W", "ignore", "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, env=os.environ | environment)
        assert done.returncode == 0, done.stderr
        told.append(done.stdout)
    assert told[0] == told[1]


@pytest.mark.skipif(sys.platform != "linux", reason="no library is built elsewhere")
def test_its_bits_are_those_of_the_jit(library: Path, tmp_path: Path) -> None:
    same_level(("imagenet_train",), library, tmp_path)


@pytest.mark.slow  # compiles the engine with nothing kept
def test_its_bits_are_those_of_the_jit_in_every_recipe(library: Path, tmp_path: Path) -> None:
    same_level((), library, tmp_path)


@pytest.mark.parametrize("name", RECIPES)
def test_levels_agree(name: str, library: Path, fresh: pytest.MonkeyPatch) -> None:
    """But for the order of long sums, and for what is multiplied and added at once."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 96, 80), dtype=torch.uint8)
    transforms = eval(RECIPES[name], {"ga": ga, "torch": torch}).transforms
    told = {}
    for level in engine.levels():
        fresh.setattr(engine, "levels", lambda level=level: [level])
        for known in (engine.built, engine._library):
            known.cache_clear()
        engine._found.clear()
        told[level] = ga.Compose(transforms, seed=3, backend="cpu")(images, ids=range(4), epoch=0).float()
        assert engine.built().stem == f"engine-{level}"
    first, *others = told.values()
    if not others:
        pytest.skip("this processor runs one level alone")
    assert all((other - first).abs().max() <= 4e-6 for other in others), "of values up to 3, or equal levels"


# --- building ---------------------------------------------------------------------------------------------------------
def test_building_where_it_cannot_be(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> None:
    """It is said before anything is compiled, and is no error of `make test`."""
    monkeypatch.setattr(build, "build", lambda *_: pytest.fail("it began"))
    monkeypatch.setattr(sys, "argv", ["build", "--out", str(tmp_path)])
    monkeypatch.setattr(build.platform, "system", lambda: "Darwin")
    with pytest.raises(SystemExit, match="the CPU engine is not built ahead on Darwin"):
        build.main()
    monkeypatch.undo()
    monkeypatch.setattr(build, "build", lambda *_: pytest.fail("it began"))
    monkeypatch.setattr(build, "buildable", lambda: ["x86-64-v3"])
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(sys, "argv", ["build", "--out", str(tmp_path), "--if-possible"])
    build.main()
    told = "no C compiler to link the CPU engine with: none of cc, gcc, clang is there; set CC. It is compiled as"
    assert capsys.readouterr().err.startswith(told) and not list(tmp_path.iterdir())


def test_a_linker_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="cannot link the CPU engine: "):
        build._link([sys.executable, "-c", "import sys; sys.exit('no such option')"], [], tmp_path / "engine.so")
    assert not list(tmp_path.iterdir()), "and what was there stays"


# --- what is missing --------------------------------------------------------------------------------------------------
USERS = f"""
import pathlib, tempfile, importlib.util
path = pathlib.Path(tempfile.mkdtemp()) / "mine.py"
path.write_text("import gpuaug as ga\\n@ga.pixel_op\\ndef darker(v, amount):\\n    return v - amount\\n")
spec = importlib.util.spec_from_file_location("mine", path)
mine = importlib.util.module_from_spec(spec)
spec.loader.exec_module(mine)
x = {X}.float() / 255
op = mine.darker(amount=0.25)
try:
    ga.Compose([op], seed=0, backend="cpu")(x)
except RuntimeError as error:
    print(error)
print(torch.equal(ga.Compose([op], seed=0, backend="kornia")(x), (x - 0.25).clamp(0, 1)))
"""


def test_a_users_op_without_numba_names_the_extra(library: Path) -> None:
    done = without_numba(USERS)
    assert done.returncode == 0, done.stderr
    told, right = done.stdout.splitlines()
    assert "cpu: an op of yours is compiled by numba, and numba is not installed: pip install 'gpuaug[jit]'" in told
    assert right == "True", "on the kornia backend it runs"


def test_no_engine_at_all_names_the_extra() -> None:
    script = f"x = {X}\n" + "print(torch.equal({}(x), x.flip(3)))\n{}(x)".format(
        FLIP.format("kornia"), FLIP.format("cpu")
    )
    done = without_numba(script, engine_is="jit")
    assert done.returncode == 1 and done.stdout == "True\n"
    told = "cpu: no engine is built for this processor, and numba is not installed: pip install 'gpuaug[jit]'"
    assert told in done.stderr.splitlines()[-1]


def test_built_asked_for_and_not_there(fresh: pytest.MonkeyPatch) -> None:
    fresh.setenv("GPUAUG_ENGINE", "built")
    fresh.setattr(engine, "levels", list)
    with pytest.raises(RuntimeError, match=r"GPUAUG_ENGINE=built, and no engine is built for this processor"):
        ga.Compose([ga.RandomInvert(1.0)], seed=0, backend="cpu")(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ModuleNotFoundError, match="the CPU engine: GPUAUG_ENGINE=built"):
        engine.get("run_rows")
