"""What a pipeline keeps between calls: saved states, attributes that change, recipes that a captured graph reads."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

import gpuaug as ga
from gpuaug import recipe
from gpuaug.kernels.shared import plan

IDS = range(64)


@pytest.fixture
def batch() -> Tensor:
    return torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def flip(**keywords) -> ga.Compose:
    return ga.Compose([ga.RandomHorizontalFlip()], **{"seed": 0, "backend": "kornia", **keywords})


def model(seed: int = 0) -> nn.Sequential:
    return nn.Sequential(flip(seed=seed), ga.Compose([ga.ToDtype(torch.float32)]), nn.Flatten(), nn.Linear(192, 2))


# --- saved states -----------------------------------------------------------------------------------------------------
def test_the_state_is_a_small_tensor_that_resumes(batch: Tensor) -> None:
    augment = flip(seed=2**64 - 3)
    augment.set_epoch(4)
    augment(batch)
    state = augment.state_dict()
    assert [(k, v.dtype, tuple(v.shape)) for k, v in state.items()] == [("_extra_state", torch.int64, (3,))]
    other = flip(seed=1)
    other.load_state_dict(state)
    assert (other.seed, other.epoch) == (2**64 - 3, 4)
    assert torch.equal(other(batch), augment(batch)), "the count goes on"
    fresh = flip(seed=1)
    fresh.load_state_dict(flip(seed=5).state_dict())
    assert (fresh.seed, fresh.epoch) == (5, None)


def test_states_of_earlier_versions_load(batch: Tensor) -> None:
    augment = flip()
    augment.load_state_dict({"_extra_state": {"seed": 9, "epoch": None, "counter": 128}})
    expected = flip(seed=9)
    expected(batch), expected(batch)
    assert torch.equal(augment(batch), expected(batch))
    assert flip().load_state_dict({}, strict=True) is not None, "a state without one leaves the pipeline as it is"


@pytest.mark.parametrize("bad", [torch.zeros(3), torch.zeros(2, dtype=torch.int64), "state"])
def test_other_states_are_refused(bad) -> None:
    with pytest.raises((ValueError, RuntimeError), match="saved state is an int64 tensor"):
        flip().load_state_dict({"_extra_state": bad})


def test_safetensors_saves_and_loads_a_model(tmp_path, batch: Tensor) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    one, other = model(), model(seed=1)
    one[0](batch)
    safetensors.save_model(one, tmp_path / "model.safetensors")
    safetensors.load_model(other, tmp_path / "model.safetensors")
    assert other[0].seed == 0 and torch.equal(other(batch), one(batch))


def test_hugging_face_saves_and_loads_a_model(tmp_path, batch: Tensor) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")

    class Model(nn.Module, hub.PyTorchModelHubMixin):
        def __init__(self):
            super().__init__()
            self.layers = model()

    one = Model()
    one.layers[0].seed = 77
    one.save_pretrained(tmp_path)
    other = Model.from_pretrained(tmp_path)
    assert other.layers[0].seed == 77 and torch.equal(other.layers(batch), one.layers(batch))


def test_accelerate_saves_and_loads_a_run(tmp_path, batch: Tensor) -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    accelerator = accelerate.Accelerator(cpu=True)
    one = accelerator.prepare(model())
    one[0](batch)
    accelerator.save_state(tmp_path)
    after = one(batch)
    one[0].seed = 5
    accelerator.load_state(tmp_path)
    assert one[0].seed == 0 and torch.equal(one(batch), after)
    accelerator.save_model(one, tmp_path / "model")


def test_timm_averages_a_model(batch: Tensor) -> None:
    timm = pytest.importorskip("timm.utils", reason="timm is not installed")
    one = model()
    average = timm.ModelEmaV3(one, decay=0.5)
    before = average.module[-1].weight.clone()
    with torch.no_grad():
        one[-1].weight.add_(1.0)
    average.update(one)
    assert torch.allclose(average.module[-1].weight, before + 0.5) and average.module[0].seed == 0


# --- attributes -------------------------------------------------------------------------------------------------------
def changed(change, batch: Tensor, **keywords) -> Tensor:
    """What a pipeline that was used makes of the batch after a change."""
    augment = flip(**keywords)
    augment(batch, ids=IDS, epoch=0)
    change(augment)
    return augment(batch, ids=IDS, epoch=0)


def test_a_seed_assigned_after_use_acts(batch: Tensor) -> None:
    assert torch.equal(changed(lambda a: setattr(a, "seed", 7), batch), flip(seed=7)(batch, ids=IDS, epoch=0))
    counted, fresh = flip(), flip(seed=7)
    counted(batch), fresh(batch)
    counted.seed = 7
    assert torch.equal(counted(batch), fresh(batch)), "the count stays"


def test_transforms_changed_after_use_act(batch: Tensor) -> None:
    plain, inverted = changed(lambda a: None, batch), 255 - changed(lambda a: None, batch)
    for change in (
        lambda a: a.transforms.append(ga.RandomInvert(1.0)),
        lambda a: setattr(a, "transforms", [*a.transforms, ga.RandomInvert(1.0)]),
        lambda a: a.transforms.extend([ga.RandomInvert(1.0)] * 3),
    ):
        assert torch.equal(changed(change, batch), inverted)
    assert torch.equal(changed(lambda a: a.transforms.clear(), batch), batch)
    assert not torch.equal(plain, batch)


@pytest.mark.parametrize("wrap", [lambda inner: inner, lambda inner: ga.RandomApply([inner], p=1.0)])
def test_transforms_of_a_pipeline_inside_act(wrap, batch: Tensor) -> None:
    inner = ga.Compose([ga.RandomInvert(1.0)], backend="kornia")
    augment = ga.Compose([wrap(inner)], seed=0, backend="kornia")
    assert torch.equal(augment(batch), 255 - batch) and torch.equal(inner(batch), 255 - batch)
    inner.transforms.append(ga.RandomInvert(1.0))
    assert torch.equal(augment(batch), batch) and torch.equal(inner(batch), batch), "each pipeline sees the change"


def test_format_backend_and_check_act(batch: Tensor) -> None:
    out = changed(lambda a: setattr(a, "memory_format", torch.channels_last), batch)
    assert out.is_contiguous(memory_format=torch.channels_last)
    augment = flip(backend="cpu")
    augment(batch)
    augment.backend = "kornia"
    assert augment.recipe(batch).module.__name__.endswith("kornia") and "kornia" in repr(augment)
    augment.check = True
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        augment(batch.float())


def test_bad_changes_are_refused(batch: Tensor) -> None:
    augment = flip()
    for name, bad in (("seed", -1), ("epoch", 2.5), ("backend", "gpu"), ("memory_format", torch.channels_last_3d)):
        before = getattr(augment, name)
        with pytest.raises((ValueError, TypeError), match=name):
            setattr(augment, name, bad)
        assert getattr(augment, name) == before
    augment.transforms.append(3)
    for _ in range(2):
        with pytest.raises(TypeError, match="3, which is neither"):
            augment(batch)


def test_copies_keep_what_was_changed(batch: Tensor) -> None:
    augment = flip()
    augment.seed, augment.memory_format = 3, torch.channels_last
    augment.set_epoch(2)
    augment(batch)
    expected = augment(batch, ids=IDS)
    for other in (copy.deepcopy(augment), pickle.loads(pickle.dumps(augment))):
        assert repr(other) == repr(augment) and torch.equal(other(batch, ids=IDS), expected)
        assert other.get_extra_state().tolist() == augment.get_extra_state().tolist() == [3, 2, 64]


# --- what a captured graph reads --------------------------------------------------------------------------------------
def test_a_loaded_state_is_copied_into_the_one_that_is_read(batch: Tensor) -> None:
    augment = flip()
    augment(batch), augment(batch, ids=IDS, epoch=0)
    states = list(augment._keys._states.values())
    augment.load_state_dict({"_extra_state": torch.tensor([6, 2, 640])})
    augment.seed = 8
    assert [s.data_ptr() for s in augment._keys._states.values()] == [s.data_ptr() for s in states]
    counted = next(s for key, s in augment._keys._states.items() if isinstance(key, tuple))
    assert counted[plan.STATE_COUNTER] == 640
    fresh = flip(seed=8)
    assert torch.equal(augment(batch, ids=IDS, epoch=1), fresh(batch, ids=IDS, epoch=1))


def test_the_epoch_lies_in_the_states_for_graphs_to_read(batch: Tensor) -> None:
    augment = flip()
    augment.set_epoch(3)
    augment(batch)
    augment(batch, ids=IDS)
    for epoch, change in (
        (3, lambda: None),
        (7, lambda: augment.set_epoch(7)),
        (7, lambda: setattr(augment, "seed", 5)),
        (2, lambda: augment.load_state_dict({"_extra_state": torch.tensor([6, 2, 640])})),
        (0, lambda: setattr(augment, "epoch", None)),
    ):
        change()
        assert [int(state[plan.STATE_EPOCH]) for state in augment._keys._states.values()] == [epoch, epoch]


def test_states_made_in_inference_mode_can_be_written_to_outside(batch: Tensor) -> None:
    augment, expected = flip(), flip()
    with torch.inference_mode():
        augment(batch), augment(batch, ids=IDS, epoch=0)
    augment.set_epoch(1)
    expected(batch)
    expected.set_epoch(1)
    assert torch.equal(augment(batch), expected(batch))


def test_recipes_used_while_capturing_are_kept(batch: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    augment, capturing = flip(), []
    monkeypatch.setattr(recipe, "capturing", lambda images: bool(capturing))
    augment(batch)
    assert augment._recipes.captured == []
    capturing.append(True)
    augment(batch), augment(batch), augment(batch[:3])
    kept = list(augment._recipes.captured)
    assert [one.shape[0] for one in kept] == [64, 3]
    capturing.clear()
    for b in range(1, recipe.KEPT_RECIPES + 3):
        augment(batch[:1].expand(b, -1, -1, -1))
    augment.transforms.append(ga.RandomInvert(1.0))
    augment(batch)
    assert augment._recipes.captured == kept and all(one.rows is not None for one in kept)
