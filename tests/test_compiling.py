"""Pipelines inside of torch.compile and torch.export: the results, draws and gradients of a call outside of a graph."""

from __future__ import annotations

import copy
import gc
import io
import pickle
from collections.abc import Callable

import judges
import pytest
import torch
from calls import run_script
from test_inputs import noise, refused
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters

import gpuaug as ga
from gpuaug import operator

DRAWN = ga.Compose([ga.RandomApply([ga.Resize((5, 6))], p=1e-9)], seed=0, backend="cpu")  # it draws the same here
IDS = torch.arange(2)
MIXED = ga.Compose([ga.MixUp(num_classes=2)], seed=0, backend="cpu")
FLOAT = ga.ToDtype(torch.float32, scale=True)
CROP = [ga.RandomResizedCrop(12), ga.RandomHorizontalFlip(), ga.ColorJitter(0.4, 0.4), FLOAT]
TURN = [ga.RandomRotation(30), ga.RandomHorizontalFlip()]  # the output is of the input's size
pytestmark = pytest.mark.usefixtures("dynamo")
backends = pytest.mark.parametrize("backend", ["cpu", "kornia"])


def pipeline(backend: str = "cpu", transforms: list = CROP, **keywords) -> ga.Compose:
    return ga.Compose(transforms, **{"seed": 0, "backend": backend, **keywords})


def compiled(function: Callable, backend: str = "aot_eager", **keywords) -> Callable:
    return torch.compile(function, backend=backend, fullgraph=True, **keywords)


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def same(found: Tensor, expected: Tensor) -> None:
    """Equal to the bit, in memory of the same layout."""
    assert found.dtype == expected.dtype and found.stride() == expected.stride()
    assert torch.equal(found, expected)


# --- calls ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("transforms", [CROP, TURN], ids=["one size", "the input's size"])
@backends
def test_batches_ids_and_epochs_are_compiled_twice_at_most(backend: str, transforms: list) -> None:
    augment, eager = pipeline(backend, transforms), pipeline(backend, transforms)
    step = compiled(lambda x, labels, ids, epoch: augment(x, labels, ids=ids, epoch=epoch))
    for k in range(20):
        b = 4 + k % 5
        x, ids, labels = noise(b, 3, 16, 17, seed=k), torch.arange(b) * 7 + k, torch.arange(b)
        found, through = step(x, labels, ids, k)
        same(found, eager(x, ids=ids, epoch=k))
        assert torch.equal(through, labels)
        assert graphs() <= min(k + 1, 2), "what was compiled for the second size of a batch serves all others"


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_each_backend_in_a_graph(backend: str) -> None:
    transforms = [ga.RandomHorizontalFlip(), ga.RandomCrop(6), FLOAT]
    augment, eager = pipeline(backend, transforms), pipeline(backend, transforms)
    step = compiled(lambda x, labels, ids, epoch: (augment(x, labels, ids=ids, epoch=epoch), augment(x) * 1))
    for b in (2, 3):
        x, ids = noise(b, 3, 8, 8, seed=b).to(judges.device_of(backend)), torch.arange(b)
        (found, _), counted = step(x, ids, ids + 7, b)
        same(found, eager(x, ids=ids + 7, epoch=b))
        same(counted, eager(x))


@backends
def test_set_epoch_seed_and_counter_act_without_another_graph(backend: str) -> None:
    augment, eager = pipeline(backend), pipeline(backend)
    keyed, counted = compiled(lambda x, ids: augment(x, ids=ids) + 0), compiled(lambda x: augment(x) + 0)
    x, ids = noise(4, 3, 16, 16), torch.arange(4)
    changes = (
        lambda one: one.set_epoch(1),
        lambda one: one.set_epoch(7),
        lambda one: setattr(one, "seed", 2**63 + 5),
        lambda one: one.load_state_dict({"_extra_state": torch.tensor([9, 3, 1000])}),
    )
    for change in changes:
        change(augment), change(eager)
        same(keyed(x, ids), eager(x, ids=ids))
        same(counted(x), eager(x))
        assert torch.equal(augment.get_extra_state(), eager.get_extra_state())
    assert graphs() == 2, "one for each function"


@pytest.mark.parametrize("compiler", ["eager", "aot_eager", "inductor"])
def test_two_calls_of_a_graph_count_on(compiler: str) -> None:
    augment, eager = pipeline(), pipeline()
    step = compiled(lambda x: (augment(x) * 1, augment(x) * 1), compiler)
    x = noise(8, 3, 16, 16)
    for _ in range(3):
        one, other = step(x)
        same(one, eager(x))
        same(other, eager(x))
        assert not torch.equal(one, other)
    assert augment.get_extra_state()[2] == 48


def test_a_call_whose_result_is_dropped_still_counts() -> None:
    augment, eager, x = pipeline(), pipeline(), noise(4, 3, 16, 16)

    def step(images: Tensor) -> Tensor:
        augment(images)
        return augment(images) + 0

    eager(x)
    same(compiled(step)(x), eager(x))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last, torch.preserve_format])
@pytest.mark.parametrize("transforms", [CROP, TURN], ids=["one size", "the input's size"])
def test_the_layout_is_what_the_graph_was_told(memory_format: torch.memory_format, transforms: list) -> None:
    x = noise(4, 3, 16, 16)
    last = x.to(memory_format=torch.channels_last)
    inputs = (x, last, x[0], last[0], x[:1], last[:1], x[..., ::2], x.transpose(2, 3), x[:0], x[:, :1], last[:, :1])
    told: list[tuple] = []

    def look(graph: torch.fx.GraphModule, examples: list) -> Callable:
        told.append(graph(*examples)[-1].stride())  # of fake tensors, as the compiler meets them
        return graph

    for images in inputs:
        torch._dynamo.reset()
        augment, eager = (pipeline("cpu", transforms, memory_format=memory_format) for _ in range(2))
        found = compiled(augment, aot_autograd(fw_compiler=look))(images)
        same(found, eager(images))
        strides = zip(told[-1], found.stride(), found.shape, strict=True)
        assert found.numel() == 0 or all(a == b for a, b, n in strides if n > 1)


def test_any_size_of_images_is_one_graph_where_the_output_has_one() -> None:
    augment, eager = pipeline(), pipeline()
    step = compiled(lambda x: augment(x) + 0)
    for k in range(12):
        x = noise(2 + k, 3, 16 + k, 40 - 2 * k)
        same(step(x), eager(x))
    assert graphs() == 2


def test_what_a_pipeline_is_changed_to_acts() -> None:
    augment, eager, x = pipeline(transforms=TURN), pipeline(transforms=TURN), noise(4, 3, 16, 16)
    step = compiled(lambda images: augment(images) + 0)
    changes = (
        lambda one: None,
        lambda one: one.transforms.append(ga.Resize((5, 6))),
        lambda one: one.transforms.__setitem__(-1, ga.Resize((4, 5))),
        lambda one: setattr(one, "memory_format", torch.channels_last),
        lambda one: setattr(one, "backend", "kornia"),
    )
    for change in changes:
        change(augment), change(eager)
        same(step(x), eager(x))


def test_each_pipeline_has_graphs_of_its_own() -> None:
    step, x = compiled(lambda augment, images: augment(images) + 0), noise(4, 3, 16, 16)
    for seed in range(3):
        same(step(pipeline(seed=seed), x), pipeline(seed=seed)(x))


@backends
def test_sample_and_apply_in_a_graph(backend: str) -> None:
    augment, eager, x, ids = pipeline(backend), pipeline(backend), noise(4, 3, 16, 16), torch.arange(4)
    params = compiled(lambda images, i: augment.sample(images, ids=i, epoch=3))(x, ids)
    expected = eager.sample(x, ids=ids, epoch=3)
    assert torch.equal(params.table, expected.table) and params.describe(2) == expected.describe(2)
    same(compiled(lambda images, drawn: augment.apply(images, drawn) + 0)(x, params), eager(x, ids=ids, epoch=3))
    both = compiled(lambda images: augment.apply(images, augment.sample(images)) + 0)
    same(both(x), eager(x))
    same(both(x[0]), eager(x[0]))
    refused(lambda: augment.apply(x[:2], params), "params hold a table")


def test_a_warning_points_at_the_callers_line() -> None:
    augment, x, ids = pipeline(), noise(2, 3, 16, 16), torch.arange(2)
    step = compiled(lambda images, i: augment(images, ids=i) + 0)
    with pytest.warns(UserWarning, match="ids without an epoch") as caught:
        step(x, ids)
    assert caught[0].filename == __file__


def test_a_trained_model_with_a_pipeline_inside() -> None:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.augment, self.layers = pipeline(), nn.Sequential(nn.Flatten(), nn.Linear(432, 3))

        def forward(self, images: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
            images, labels = self.augment(images, labels, ids=ids, epoch=2)
            return nn.functional.cross_entropy(self.layers(images), labels)

    eager = Model()
    model = copy.deepcopy(eager)
    x, ids, labels = noise(6, 3, 16, 16), torch.arange(6), torch.arange(6) % 3
    step = compiled(model, "inductor")
    for _ in range(2):
        losses = [one(x, labels, ids) for one in (step, eager)]
        for loss, one in zip(losses, (model, eager), strict=True):
            one.zero_grad()
            loss.backward()
            with torch.no_grad():
                one.layers[1].weight -= 0.1 * one.layers[1].weight.grad
        assert torch.allclose(*losses) and losses[0] > 0
    assert torch.allclose(model.layers[1].weight, eager.layers[1].weight)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@backends
def test_views_clips_and_an_index_in_a_graph(backend: str, memory_format: torch.memory_format) -> None:
    clips, ids = noise(6, 2, 3, 16, 16), torch.arange(6)
    x, few = clips[:, 0], torch.tensor([5, 0, 3])
    calls: dict[str, Callable[[ga.Compose], Tensor]] = {
        "views": lambda one: one(x, ids=ids, epoch=1, views=3),
        "a view": lambda one: one(x, ids=ids, epoch=1, view=2),
        "views of one image": lambda one: one(x[0], views=2),
        "clips": lambda one: one(clips, ids=ids, epoch=1),
        "views of clips": lambda one: one(clips, views=2),
        "an index": lambda one: one(x, index=few, ids=few, epoch=1),
        "an index into clips": lambda one: one(clips, index=few, views=2),
        "halves": lambda one: one.apply(x, one.sample(x, index=few, views=2), index=few),
        "one of two": lambda one: one.apply(x, one.sample(x, views=2), view=1),
    }
    for name, call in calls.items():
        torch._dynamo.reset()
        augment, eager = (pipeline(backend, memory_format=memory_format) for _ in range(2))
        step, expected = compiled(lambda augment=augment, call=call: call(augment) + 0), call(eager)
        found = step()
        assert torch.equal(found, expected) and found.stride() == expected.stride(), name


@backends
def test_mixed_labels_in_a_graph(backend: str) -> None:
    x, labels, soft, few = (
        noise(6, 3, 16, 16),
        torch.arange(6) % 4,
        torch.eye(4)[[0, 1, 3, 2, 0, 1]],
        torch.tensor([5, 0]),
    )
    mixing = [*CROP, ga.RandomChoice([ga.MixUp(num_classes=4), ga.CutMix(num_classes=4)])]
    calls: dict[str, Callable[[ga.Compose], tuple]] = {
        "hard": lambda one: one(x, labels),
        "soft": lambda one: one(x, soft, ids=torch.arange(6), epoch=3),
        "of one": lambda one: one(x[0], soft[0]),
        "views": lambda one: one(x, labels, views=2),
        "an index": lambda one: one(x, labels[few], index=few),
        "no labels": lambda one: (one(x), labels),
    }
    for name, call in calls.items():
        torch._dynamo.reset()
        augment, eager = pipeline(backend, mixing), pipeline(backend, mixing)
        found, expected = compiled(lambda augment=augment, call=call: call(augment))(), call(eager)
        assert all(torch.equal(a, b) and a.stride() == b.stride() for a, b in zip(found, expected, strict=True)), name


def test_labels_beside_layers_of_ones_own_pass_through() -> None:
    transforms = [ga.RandomResizedCrop(12), ga.AugMix()]
    augment, eager = pipeline(transforms=transforms), pipeline(transforms=transforms)
    x, labels = noise(4, 3, 16, 16), torch.arange(4)
    found, through = compiled(lambda images, targets: augment(images, targets))(x, labels)
    same(found, eager(x))
    assert torch.equal(through, labels)


@pytest.mark.parametrize("grad", [False, True])
def test_multicrop_in_a_graph(grad: bool) -> None:
    x = noise(4, 3, 16, 16, dtype=torch.float32).requires_grad_(grad)
    sizes = ((12, 2), (8, 3))
    augment, eager = (ga.MultiCrop([(pipeline("auto", [ga.RandomResizedCrop(n)]), k) for n, k in sizes]) for _ in "ab")
    step = compiled(lambda images: [crop + 0 for crop in augment(images)])
    for _ in range(2):
        found, expected = step(x), eager(x)
        assert len(found) == 5 and all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert found[4].requires_grad == grad


@pytest.mark.parametrize("op", [ga.UniformTemporalSubsample(3), ga.RandomTemporalCrop(2)], ids=repr)
def test_frames_of_clips_in_a_graph(op) -> None:
    clips, transforms = noise(3, 5, 3, 16, 16), [op, ga.RandomHorizontalFlip()]
    augment, eager = pipeline(transforms=transforms), pipeline(transforms=transforms)
    same(compiled(lambda images: augment(images) + 0)(clips), eager(clips))
    program = torch.export.export(nn.Sequential(augment), (clips,), strict=False)
    same(program.module()(clips), eager(clips))


def test_gradients_of_views_and_of_images_that_an_index_chose() -> None:
    x, index = noise(5, 3, 16, 16, dtype=torch.float32).requires_grad_(), torch.tensor([4, 1, 1])
    augment, eager = pipeline("auto", CROP[:2]), pipeline("auto", CROP[:2])
    found = torch.autograd.grad(compiled(lambda images: augment(images, index=index, views=2).square())(x).sum(), x)
    expected = torch.autograd.grad(eager(x, index=index, views=2).square().sum(), x)
    assert torch.allclose(*found, *expected, atol=1e-6)
    assert [bool(slopes.any()) for slopes in found[0]] == [False, True, False, False, True]


# --- gradients --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
def test_gradients_are_those_outside_of_a_graph(compiler: str) -> None:
    transforms = [ga.RandomResizedCrop(12), ga.RandomRotation(20, interpolation="bilinear"), ga.ColorJitter(0.2, 0.2)]
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = noise(4, 3, 16, 16, dtype=torch.float32).to(memory_format=memory_format).requires_grad_()
        augment, eager = pipeline("auto", transforms), pipeline("auto", transforms)
        step = compiled(lambda images, augment=augment: augment(images * 0.5).square(), compiler)
        for _ in range(2):
            found, expected = step(x), eager(x * 0.5).square()
            assert torch.allclose(found, expected, atol=1e-6)
            slopes = torch.autograd.grad(found.sum(), x) + torch.autograd.grad(expected.sum(), x)
            assert torch.allclose(*slopes, atol=1e-6) and slopes[0].abs().max() > 0.1
        assert torch.equal(augment.get_extra_state(), eager.get_extra_state())


def test_gradients_through_apply_and_without_a_slope() -> None:
    augment, x = pipeline("kornia", CROP[:2]), noise(4, 3, 16, 16, dtype=torch.float32).requires_grad_()
    params = augment.sample(x)
    found = torch.autograd.grad(compiled(augment.apply)(x, params).sum(), x)
    assert torch.equal(*found, *torch.autograd.grad(augment.apply(x, params).sum(), x))
    flat = pipeline("kornia", [ga.RandomPosterize(2, p=1.0)])
    assert not torch.autograd.grad(compiled(lambda images: flat(images) + images * 0)(x).sum(), x)[0].any()
    with torch.no_grad():
        assert not compiled(lambda images: augment(images) + 0)(x).requires_grad


# --- what cannot stand in a graph -------------------------------------------------------------------------------------
def unfit() -> dict[str, tuple[Callable[[ga.Compose, Tensor], Tensor], str]]:
    """Calls that are right, but not in a graph, and what is said of them."""
    return {
        "list": (lambda augment, x: augment([x[0], x[1]]), "list as images cannot stand in a graph"),
        "index": (lambda augment, x: augment(x, index=[1, 0]), "list as index cannot stand in a graph"),
        "labels": (lambda augment, x: MIXED(x, [0, 1], ids=IDS, epoch=0)[0], "list as labels that are mixed cannot"),
        "drawn": (lambda augment, x: torch.stack(DRAWN(x)), "an output whose size is drawn cannot stand in a graph"),
        "ids": (lambda augment, x: augment(x, ids=[3, 4], epoch=0), "list as ids cannot stand in a graph"),
        "out": (lambda augment, x: augment.apply(x, augment.sample(x), out=torch.empty(2, 3, 12, 12)), "out="),
        "epoch": (lambda augment, x: augment(x, ids=IDS, epoch=torch.tensor(3)), "a tensor as epoch"),
    }


@pytest.mark.parametrize("name", unfit())
@pytest.mark.filterwarnings("ignore:.*lru_cache")
def test_what_cannot_stand_in_a_graph_breaks_it_or_says_why(name: str) -> None:
    call, told = unfit()[name]
    augment, eager, x = pipeline(), pipeline(), noise(2, 3, 16, 16)
    same(torch.compile(lambda images: call(augment, images * 1) + 0, backend="eager")(x), call(eager, x))
    with pytest.raises(torch._dynamo.exc.Unsupported) as caught:
        compiled(lambda images: call(augment, images))(x)
    assert told in str(caught.value).splitlines()[1]


@pytest.mark.parametrize("fullgraph", [True, False])
def test_wrong_calls_raise_their_own_error(fullgraph: bool) -> None:
    x = noise(2, 3, 16, 16)
    too_small, follows = pipeline(transforms=[ga.RandomCrop(32)]), pipeline(transforms=[ga.Pad(2), ga.CenterCrop(19)])
    step = torch.compile(lambda augment, images: augment(images) + 0, backend="aot_eager", fullgraph=fullgraph)
    refused(lambda: step(too_small, x), "RandomCrop", "the crop of 32x32 is larger than the image of 16x16")
    same(step(follows, x), pipeline(transforms=follows.transforms)(x))
    normal = pipeline(transforms=[*TURN, ga.Normalize([0.5] * 3, [0.5] * 3)])
    with pytest.raises((TypeError, RuntimeError), match="Normalize: expects floating-point images but meets"):
        step(normal, x)
    with pytest.raises(RuntimeError, match="not differentiable, and the images require grad"):
        step(pipeline("cpu"), x.float().div(255).requires_grad_())
    keyed = torch.compile(follows, backend="aot_eager", fullgraph=fullgraph)
    with pytest.raises(ValueError, match=r"epoch must lie in 0 .. 2\^32 - 1, got -3"):
        keyed(x, ids=torch.arange(2), epoch=-3)


def test_a_graph_without_its_pipeline_says_so() -> None:
    augment, x = pipeline(), noise(2, 3, 16, 16)
    program = torch.export.export(augment, (x,)).module()
    program(x)
    del augment
    gc.collect()
    refused(lambda: program(x), "this graph's gpuaug pipeline is not here")


def test_a_pipeline_changed_behind_the_graphs_back_is_told() -> None:
    inner = ga.Compose([ga.Resize((5, 5))])
    augment, x = pipeline(transforms=[inner]), noise(2, 3, 16, 16)
    step = compiled(augment)
    same(step(x), augment(x))
    inner.transforms[0] = ga.Resize((6, 5))
    refused(lambda: step(x), "compiled for images of [3, 5, 5] torch.uint8", "makes [3, 6, 5]", "reset()")


@pytest.mark.filterwarnings("error")
@backends
def test_a_function_breaks_the_graph(backend: str) -> None:
    x = noise(4, 3, 8, 8)

    def turn(images: Tensor) -> Tensor:
        return ga.functional.rotate(images * 1, 30.0, backend=backend) * 1

    same(torch.compile(turn, backend="eager")(x), turn(x))

    class Model(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return turn(images)

    refused(lambda: torch.export.export(Model(), (x,), strict=False), "rotate", "cannot stand in a graph")
    with pytest.raises(RuntimeError, match="rotate: functions of gpuaug's cannot stand in a graph"):
        torch.export.export(Model(), (x,), strict=True)


@pytest.mark.filterwarnings("ignore")
def test_torch_jit_is_refused() -> None:
    refused(lambda: torch.jit.trace(pipeline(), noise(2, 3, 8, 8)), "torch.jit cannot trace", "torch.export")


# --- copies and other processes ---------------------------------------------------------------------------------------
def test_copies_of_a_compiled_model_draw_on_from_its_state() -> None:
    model, x = nn.Sequential(pipeline(), nn.Flatten()), noise(4, 3, 16, 16)
    step = compiled(model)
    step(x)
    for copied in (copy.deepcopy(step), pickle.loads(pickle.dumps(model))):
        eager = copy.deepcopy(model)
        again = copied if isinstance(copied, torch._dynamo.OptimizedModule) else compiled(copied)
        assert torch.equal(again(x), eager(x)), "and not what the model itself, or another copy, draws"
    assert model[0].get_extra_state()[2] == 4
    assert len({one._number for one in (model[0], copied[0], eager[0])}) == 3


@pytest.mark.parametrize("strict", [False, True])
@backends
def test_an_exported_model_draws_as_the_model_does(backend: str, strict: bool) -> None:
    model, eager = (nn.Sequential(pipeline(backend), nn.Flatten()) for _ in range(2))
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(model, (noise(4, 3, 16, 16),), dynamic_shapes=({0: batch},), strict=strict)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    for one in (program, program.run_decompositions(), torch.export.load(file)):
        for b in (4, 7):
            x = noise(b, 3, 16, 16, seed=b)
            assert torch.equal(one.module()(x), eager(x))
    assert torch.equal(model[0].get_extra_state(), eager[0].get_extra_state())


def test_an_exported_model_in_another_process_says_so(tmp_path) -> None:
    model = nn.Sequential(pipeline(), nn.Flatten())
    torch.export.save(torch.export.export(model, (noise(4, 3, 16, 16),)), tmp_path / "model.pt2")
    found = run_script(OTHER_PROCESS, str(tmp_path / "model.pt2"))
    assert found.startswith("RuntimeError: this graph's gpuaug pipeline is not here") and found.count("\n") == 1


OTHER_PROCESS = """
import sys, torch, gpuaug
model = torch.export.load(sys.argv[1]).module()
try:
    model(torch.zeros(4, 3, 16, 16, dtype=torch.uint8))
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


def test_fake_images_give_fake_images() -> None:
    with torch._subclasses.FakeTensorMode():
        x = torch.empty(4, 3, 16, 16, dtype=torch.uint8)
        found = pipeline(memory_format=torch.channels_last)(x)
    assert torch._subclasses.fake_tensor.is_fake(found)
    assert (tuple(found.shape), found.stride(), found.dtype) == ((4, 3, 12, 12), (432, 1, 36, 3), torch.float32)


def test_what_is_made_ahead_is_all_that_a_call_keeps() -> None:
    augment, x = pipeline("kornia"), noise(4, 3, 16, 16)
    operator.prepare(augment, x, grad=False)
    assert len(augment._recipes._recipes) == 1 and len(augment._keys._states) == 2
    kept = dict(augment._keys._states), dict(augment._recipes._recipes)
    augment(x), augment(x, ids=torch.arange(4), epoch=0)
    assert kept == (augment._keys._states, augment._recipes._recipes)
    assert augment.get_extra_state()[2] == 4, "no sample was counted ahead"
