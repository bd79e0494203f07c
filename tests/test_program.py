"""Lowering: what a pipeline becomes, what it refuses, and what `explain` says of it."""

import pytest
import torch
from test_parity import OPS
from torch.overrides import TorchFunctionMode

import gpuaug as ga
from gpuaug.explain import floor_bytes
from gpuaug.facts import layout, reached
from gpuaug.kernels.shared import plan
from gpuaug.lowering import lower
from gpuaug.tree import Choice


def lowered(*ops, size=(32, 40), channels=3, dtype=torch.uint8):
    return lower(ops, frozenset({size}), channels, dtype)


def test_a_program_is_hashable_data():
    ops = [ga.RandomResizedCrop(24), ga.RandomHorizontalFlip(), ga.ColorJitter(0.4, 0.4)]
    a, b = lowered(*ops), lowered(*ops)
    assert a == b and hash(a) == hash(b)
    assert a != lowered(ga.RandomResizedCrop(25), *ops[1:])
    assert len(a.code) == plan.ENTRY * len(a.entries)
    assert all(isinstance(word, int) for word in a.code)


class NoTensors(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        raise AssertionError(f"lowering calls {function}")


@pytest.mark.parametrize("name", OPS)
def test_lowering_makes_no_tensors(name):
    """It is done while torch.compile and torch.export trace, and under any torch function or dispatch mode."""
    ops = OPS[name](201, (11, 128, 240), 255)
    with NoTensors():
        program = lowered(*ops, size=(64, 71))
        assert layout(program).channels >= 3


def test_columns_hold_what_is_drawn_and_nothing_else():
    program = lowered(
        ga.RandomCrop(16, padding=2), ga.RandomHorizontalFlip(), ga.RandomHorizontalFlip(p=1.0), ga.Resize(8)
    )
    assert program.columns == ("0.RandomCrop.top", "0.RandomCrop.left", "1.RandomHorizontalFlip.applied")


def test_an_op_inside_random_order_has_its_columns_once():
    program = lowered(ga.RandomOrder([ga.RandomInvert(), ga.RandomSolarize(9), ga.RandomAffine(3)]))
    assert len(program.columns) == len(set(program.columns)) == 1 + 1 + 1 + 6
    assert program.columns[0] == "0.RandomOrder.order"
    assert (program.groups, program.steps) == (1, 2)
    assert lowered(ga.ColorJitter(0.4, 0.4)).asks == 1


def test_an_order_counts_what_an_op_does_at_whatever_place():
    """The dtype changes with the first op of the order, whichever it is: no row has fewer than four steps."""
    convert = ga.ToDtype(torch.float32, scale=True)
    ops = [ga.Compose([convert, last], seed=0) for last in (ga.RandomSolarize(0.5, 1.0), ga.RandomInvert(1.0))]
    program = lowered(ga.RandomInvert(1.0), ga.RandomOrder(ops))
    for order in (0.0, 1.0):
        assert len(program.describe([order], (32, 40))) == 4 <= program.steps


def test_an_op_at_one_of_two_places_counts_once():
    program = lowered(ga.RandomPhotometricDistort())
    assert [e.name for e in program.entries if e.op and e.asks] == ["RandomPhotometricDistort"] * 2
    assert (program.steps, program.asks) == (5, 1)


@pytest.mark.parametrize("transform", [ga.RandAugment(2), ga.AutoAugment(), ga.ColorJitter(0.4, 0.4, 0.4, 0.1)])
def test_the_tree_and_the_code_are_one(transform):
    """Each gate stands in front of what is behind it, and a slot's words are where the plan reads them."""
    program = lowered(transform, ga.CoarseDropout((1, 3)))
    assert [entry.number for entry in program.entries] == list(range(len(program.entries)))

    def check(nodes, gate, number, place):
        for node in nodes:
            if isinstance(node, Choice):
                for child, way in node.ways:
                    check(way, node.gate, child, node.position)
                continue
            line = program.code[node.number * plan.ENTRY :][: plan.ENTRY]
            assert line[plan.GATE_AT] == (-1 if gate is None else gate.number)
            assert gate is None or line[plan.WANT] == (number * 16 + place if gate.trait > 0 else number)
            assert (line[plan.OP], line[plan.TRAIT], line[plan.FILTER]) == (node.op, node.trait, node.filter)

    check(program.nodes, None, 0, 0)


def test_what_stands_in_front_of_a_slot_is_followed_through_the_gates():
    program = lowered(
        ga.RandomApply([ga.Pad(4), ga.RandomInvert()]), ga.GaussianBlur((3, 1), 1.0), ga.RandomCrop((16, 16))
    )
    facts, sizes = program.facts, program.sizes
    in_front = {slot.name: set(sizes.canvases[slot.number]) for slot in facts.slots}
    either = {(32, 40), (40, 48)}
    assert in_front == {"Pad": {(32, 40)}, "RandomInvert": {(40, 48)}, "GaussianBlur": either, "RandomCrop": either}
    assert sizes.largest == (40, 48)
    steps = reached(program.nodes, frozenset({0}), lambda n, slot: {n + slot.paints})
    assert set(steps[facts.slots[-1].number]) == {1, 2}


def test_out_size_and_dtype_follow_the_ops():
    ops = (ga.Resize(16), ga.Pad((1, 2)), ga.CenterCrop((30, 9)), ga.ToDtype(torch.bfloat16, scale=True))
    program = lowered(*ops)
    assert program.out_size == (30, 9) and program.out_dtype == torch.bfloat16
    assert lowered(ga.Resize(16, max_size=18)).out_size == (14, 18)


def test_identity_slots_vanish():
    assert (
        lowered(
            ga.Identity(),
            ga.ToImage(),
            ga.ToPureTensor(),
            ga.PILToTensor(),
            ga.ToPILImage(),
            ga.Pad(0),
            ga.ToDtype(torch.uint8),
        ).entries
        == ()
    )
    assert lowered(ga.ColorJitter(brightness=0, contrast=(1, 1))).entries == ()


def test_output_sizes_follow_those_of_the_inputs_and_the_draws():
    sizes = frozenset({(32, 40), (20, 20)})
    assert lower([ga.RandomResizedCrop(8)], sizes, 3, torch.uint8).out_size == (8, 8)
    flip = lower([ga.RandomHorizontalFlip()], sizes, 3, torch.uint8)
    assert flip.out_sizes == sizes and flip.out_size is None
    assert lowered(ga.RandomApply([ga.CenterCrop(4)])).out_sizes == {(4, 4), (32, 40)}
    assert lowered(ga.RandomResize(8, 11)).out_sizes == {(8, 10), (10, 12)}
    jittered = lowered(ga.ScaleJitter((40, 32), (0.5, 2.0)), ga.Pad(1))
    assert jittered.out_sizes == {(18, 22), (66, 82)} and jittered.sizes.largest == (66, 82)


@pytest.mark.parametrize(
    ("ops", "error", "message"),
    [
        ([ga.RandomOrder([ga.CenterCrop(8), ga.RandomInvert()])], ValueError, "RandomOrder: cannot reorder"),
        ([ga.RandomApply([ga.ToDtype(torch.float32)])], ValueError, "depending on the draw"),
        ([ga.Pad(1, fill=0.5)], ValueError, "whole numbers"),
        ([ga.RandomApply([ga.RandomInvert(), ga.RandomCrop(99)])], ValueError, r"0\.1\.RandomCrop"),
    ],
)
def test_what_cannot_be_lowered_names_the_op_and_the_value(ops, error, message):
    with pytest.raises(error, match=message):
        lower(ops, frozenset({(32, 40)}), 3, torch.uint8)


def test_describe_follows_gates_and_canvases():
    program = lowered(
        ga.RandomCrop((20, 22)),
        ga.RandomPerspective(p=0.5),
        ga.RandomChoice([ga.RandomInvert(1.0), ga.Resize((20, 22))]),
    )
    row = [3.0, 4.0, 1.0, 1, 2, 18, 3, 19, 17, 0, 16, 0.0]
    calls = program.describe(row, (32, 40))
    assert [c["call"] for c in calls] == ["crop", "perspective", "invert"]
    assert calls[1]["kwargs"]["startpoints"] == [[0, 0], [21, 0], [21, 19], [0, 19]]
    assert calls[1]["kwargs"]["endpoints"] == [[1, 2], [18, 3], [19, 17], [0, 16]]
    row[2], row[-1] = 0.0, 1.0
    assert [c["call"] for c in program.describe(row, (32, 40))] == ["crop", "resize"]


def test_explain_tells_ops_passes_launches_and_backend():
    ops = [
        ga.RandomResizedCrop(24),
        ga.RandomHorizontalFlip(),
        ga.RandomApply([ga.ColorJitter(0.4, 0.4)]),
        ga.GaussianBlur(3),
        ga.RandomRotation(9, "bilinear"),
    ]
    augment = ga.Compose(ops, seed=1, backend="cpu")
    images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    text = augment.explain(images)
    for words in (
        "uint8 [4, 3, 32, 32] on cpu -> uint8, 3 channels of 24x24; backend cpu",
        "  0.RandomResizedCrop     24x24  resamples, bilinear; draws top, left, height, width",
        "  1.RandomHorizontalFlip  24x24  moves whole pixels; draws applied",
        "after a look at the image's mean; draws order, brightness, contrast",
        "passes over an image: at most 4",
        "  3.GaussianBlur looks at neighbouring pixels",
        "where 0.RandomResizedCrop and 4.RandomRotation act on one image, they become one resampling",
        "draw, 3 to look at whole images, write = 5",
    ):
        assert words in text, text
    for word in ("slot", "gate", "plan", "entry"):
        assert word not in text, "the inner vocabulary is for verbose=True"
    slots = augment.explain(images, verbose=True)
    assert slots.startswith(text) and "flip_horizontal (merges into its neighbour)" in slots
    assert slots.count("brightness_factor") == slots.count("contrast_factor") == 1, "each op of an order, once"


def test_explain_tells_the_sizes_behind_each_op():
    ops = [ga.RandomChoice([ga.Resize((8, 8)), ga.RandomVerticalFlip()]), ga.CenterCrop(6), ga.RandomInvert()]
    lines = ga.Compose(ops, seed=1).explain(torch.zeros(2, 3, 16, 20, dtype=torch.uint8)).splitlines()
    found = [line.split()[:4] for line in lines if line.startswith("  ")]
    assert [line[0] for line in found] == [
        "0.RandomChoice",
        "0.0.Resize",
        "0.1.RandomVerticalFlip",
        "1.CenterCrop",
        "2.RandomInvert",
    ]
    assert [" ".join(line[1:]).split("  ")[0].split(" ")[0] for line in found] == ["8x8", "8x8", "16x20", "6x6", "6x6"]
    assert found[0][1:4] == ["8x8", "to", "16x20"]


def test_describe_prints_a_call_a_line():
    ops = [ga.RandomHorizontalFlip(1.0), ga.RandomInvert(0.0), ga.Pad(2), ga.MixUp(num_classes=2)]
    params = ga.Compose(ops, seed=1).sample(torch.zeros(2, 3, 16, 20, dtype=torch.uint8))
    described = params.describe(0)
    assert isinstance(described, list) and [record["op"] for record in described] == [
        "RandomHorizontalFlip",
        "Pad",
        "MixUp",
    ]
    share = described[2]["lam"]
    assert str(described).splitlines() == [
        "horizontal_flip()  # RandomHorizontalFlip",
        "pad(padding=[2, 2, 2, 2], fill=0, padding_mode='constant')  # Pad",
        f"MixUp(partner=1, lam={share!r})",
    ]
    assert "stays as it is" in str(ga.Compose([], seed=1).sample(torch.zeros(1, 3, 4, 4)).describe(0))


@pytest.mark.parametrize("channels, output", [(1, 32 * 32), (3, 3 * 32 * 32)])
def test_explain_counts_the_bytes_of_the_channels_that_are_written(channels, output):
    x = torch.zeros(1000, 3, 32, 32, dtype=torch.uint8)
    text = ga.Compose([ga.Grayscale(channels)], seed=1, backend="cpu").explain(x)
    assert f"reads at most 3.07 MB, writes {output / 1000:.2f} MB" in text
    assert floor_bytes(lowered(ga.Grayscale(channels), size=(32, 32)), x) == (1000 * 3 * 32 * 32, 1000 * output)


def test_a_description_can_be_saved_and_loaded(tmp_path) -> None:
    params = ga.Compose([ga.Pad(2)], seed=1).sample(torch.zeros(1, 3, 4, 4))
    torch.save(params.describe(0), tmp_path / "described.pt")
    found = torch.load(tmp_path / "described.pt", weights_only=True)
    assert found == params.describe(0) and str(found) == str(params.describe(0))
