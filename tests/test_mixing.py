"""MixUp and CutMix: what `describe` tells, replayed in torch; partners; labels; who shares a draw; what is refused."""

from __future__ import annotations

import copy
import pickle

import judges
import pytest
import torch
from calls import torchs_threads  # noqa: F401
from judges import BACKENDS, device_of
from mixed import DRAWS, FLOAT, lowered, pictures
from refusals import refusal
from timm.data.mixup import Mixup, mixup_target
from torch import Tensor

import gpuaug as ga

SIZE, CLASSES = (14, 18), 7
BLENDS = ("MixUp", "CutMix")
EITHER = ga.RandomChoice([ga.MixUp(alpha=0.4), ga.CutMix()])
BYTES = {  # of uint8 images: replayed to the bit
    "mixup": [ga.RandomHorizontalFlip(), ga.MixUp(alpha=0.4)],
    "cutmix": [ga.RandomCrop(SIZE, padding=2), ga.RandomInvert(), ga.CutMix()],
    "either, then pixels": [ga.RandomVerticalFlip(), EITHER, ga.RandomInvert(), ga.RandomSolarize(100)],
    "at times": [ga.RandomApply([ga.MixUp(pair="flip")], p=0.6), ga.RandomErasing(0.7)],
    "with what stands in front": [
        ga.RandomApply([ga.RandomInvert(1.0), ga.MixUp()], p=0.6),
        ga.RandomHorizontalFlip(0),
    ][:1],
}
JITTER = ga.ColorJitter(0.4, 0.4, 0.4)
FLOATS = {  # 1e-3
    "of floats": (
        [ga.RandomResizedCrop(SIZE), ga.RandomHorizontalFlip(), ga.ColorJitter(0.4, 0.4, 0.4), EITHER],
        False,
    ),
    "of bytes": ([ga.RandomHorizontalFlip(), *FLOAT, EITHER, ga.RandomErasing(value=0.5)], True),
    "of nested bytes": (
        [ga.Compose([ga.RandomHorizontalFlip(), *FLOAT]), ga.RandomApply([ga.MixUp(pair="flip")])],
        True,
    ),
    "floats behind": ([ga.RandomCrop(SIZE), ga.CutMix(pair="flip"), *FLOAT], True),
    "one channel": ([ga.RandomVerticalFlip(), ga.Grayscale(), EITHER, *FLOAT[:1]], True),
}


def split(records: list[dict]) -> tuple[list[dict], dict | None, list[dict]]:
    """Records in front of the blend, the blend, and behind it."""
    at = next((i for i, record in enumerate(records) if record["op"] in BLENDS), None)
    return (records, None, []) if at is None else (records[:at], records[at], records[at + 1 :])


def mix(own: Tensor, other: Tensor, record: dict) -> Tensor:
    """What a record says, as its paper has it; of bytes rounded half to even."""
    if record["op"] == "CutMix":
        x1, y1, x2, y2 = record["box"]
        mixed = own.clone()
        mixed[:, y1:y2, x1:x2] = other[:, y1:y2, x1:x2]
        return mixed
    mixed = own.float() * record["lam"] + other.float() * (1.0 - record["lam"])
    return mixed if own.is_floating_point() else mixed.round().to(own.dtype)


def replayed(images: Tensor, records: list[list[dict]], i: int, behind: int) -> Tensor:
    """Sample i by its records and its partner's; of samples that do not blend, the last `behind` ops stand behind."""

    def front(j: int) -> list[dict]:
        calls, blend, _ = split(records[j])
        kept = calls if blend else [record for record in calls if record["op"] not in BEHIND[:behind]]
        return kept

    calls, blend, rest = split(records[i])
    if blend is None:
        return judges.replay(images[i], calls)
    own, other = judges.replay(images[i], calls), judges.replay(images[blend["partner"]], front(blend["partner"]))
    return judges.replay(mix(own, other, blend), rest)


BEHIND = ("RandomErasing", "RandomInvert", "RandomSolarize")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", BYTES)
def test_bytes_replay_to_the_bit(name: str, backend: str) -> None:
    n = 12 if judges.INTERPRETED else DRAWS
    x = pictures(n)
    augment = ga.Compose(BYTES[name], seed=3, backend=backend)
    params = augment.sample(x.to(device_of(backend)), ids=range(n), epoch=1)
    y = augment.apply(x.to(device_of(backend)), params).cpu()
    records = [params.describe(i) for i in range(n)]
    assert sum(split(one)[1] is not None for one in records) >= (n if "," not in name and " " not in name else n // 3)
    for i in range(n):
        expected = replayed(x, records, i, 1 if name == "at times" else 0)
        assert torch.equal(y[i], expected), f"{int((y[i] != expected).sum())} values differ: {records[i]}"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FLOATS)
def test_floats_replay(name: str, backend: str) -> None:
    ops, bytes_in = FLOATS[name]
    n = 8 if judges.INTERPRETED else DRAWS
    x = pictures(n, floats=not bytes_in)
    augment = ga.Compose(ops, seed=4, backend=backend)
    params = augment.sample(x.to(device_of(backend)), ids=range(n), epoch=1)
    y = augment.apply(x.to(device_of(backend)), params).cpu()
    records = [params.describe(i) for i in range(n)]
    for i in range(n):
        expected = replayed(x, records, i, 1)
        torch.testing.assert_close(y[i], expected, rtol=0, atol=1e-3, msg=lambda m, i=i: f"{m}: {records[i]}")


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_draw_the_same(backend: str) -> None:
    blends = [*(ga.MixUp(alpha=a) for a in (0.1, 0.4, 1.0, 2.0, 9.0)), ga.CutMix(alpha=0.3)]
    x, tables = pictures(96), []
    for name in (backend, "kornia"):
        augment = ga.Compose([ga.RandomHorizontalFlip(), ga.RandomChoice(blends)], seed=2, backend=name)
        tables.append(augment.sample(x.to(device_of(name)), ids=range(96), epoch=0).table.cpu())
    assert torch.equal(*tables)


# --- partners ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("pair", ["roll", "flip"])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 7, 33])
def test_partners(pair: str, n: int) -> None:
    """torchvision's, and timm's; who has none stays as he is, with his own label."""
    x, labels = pictures(n) if n else torch.zeros((0, 3, 20, 22), dtype=torch.uint8), torch.arange(n) % CLASSES
    results = []
    for backend in [b for b in BACKENDS if isinstance(b, str)]:
        augment = ga.Compose([ga.MixUp(num_classes=CLASSES, pair=pair)], seed=0, backend=backend)
        params = augment.sample(x, ids=range(n), epoch=0)
        y, soft = augment(x, labels, ids=range(n), epoch=0)
        assert soft.shape == (n, CLASSES) and soft.dtype == torch.float32
        order = torch.arange(n)
        expected = order.roll(1) if pair == "roll" else order.flip(0)
        hot = torch.nn.functional.one_hot(labels, CLASSES).float()
        for i in range(n):
            if expected[i] == i:
                assert params.describe(i) == [] and torch.equal(y[i], x[i]) and torch.equal(soft[i], hot[i])
                continue
            (record,) = params.describe(i)
            assert record["op"] == "MixUp" and record["partner"] == expected[i] and 0.0 < record["lam"] < 1.0
            torch.testing.assert_close(soft[i], record["lam"] * hot[i] + (1 - record["lam"]) * hot[record["partner"]])
        results.append((y, soft))
    for y, soft in results[1:]:
        assert torch.equal(y, results[0][0]) and torch.equal(soft, results[0][1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_image(backend: str) -> None:
    x = pictures(1)[0].to(device_of(backend))
    augment = ga.Compose([ga.RandomHorizontalFlip(1.0), ga.CutMix(num_classes=3)], seed=0, backend=backend)
    y, soft = augment(x, torch.tensor(2))
    assert torch.equal(y, x.flip(2)) and soft.tolist() == [0.0, 0.0, 1.0]
    assert torch.equal(augment(x), x.flip(2))


@pytest.mark.parametrize("backend", BACKENDS)
def test_draws_belong_to_ids_and_partners_to_places(backend: str) -> None:
    x, ids = pictures(5).to(device_of(backend)), torch.tensor([3, 9, 4, 100, 7])
    augment = ga.Compose([ga.RandomHorizontalFlip(), ga.MixUp(pair="flip")], seed=1, backend=backend)
    order = torch.tensor([2, 4, 0, 1, 3])
    one = augment.sample(x, ids=ids, epoch=2)
    other = augment.sample(x[order], ids=ids[order], epoch=2)
    assert torch.equal(one.table[order], other.table)
    assert [one.describe(i)[-1].get("partner") for i in (0, 1, 3, 4)] == [4, 3, 1, 0]


# --- who shares a draw ------------------------------------------------------------------------------------------------
def blends_of(params: ga.Params) -> list[tuple]:
    found = [split(params.describe(i))[1] for i in range(len(params))]
    return [None if r is None else (r["op"], r["lam"], r.get("box")) for r in found]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("counted", [False, True])
def test_who_shares_a_draw(backend: str, counted: bool) -> None:
    """Also of the gates in front of blends, and not of the ops in front."""
    x = pictures(6).to(device_of(backend))
    seen = set()
    for epoch in range(4 if judges.INTERPRETED else 24):
        for per in ("sample", "batch", "pair"):
            mixers = [cls(pair="flip", per=per) for cls in (ga.MixUp, ga.CutMix)]
            ops = [ga.RandomRotation(30), ga.RandomApply([ga.RandomChoice(mixers)], p=0.7)]
            augment = ga.Compose(ops, seed=5, backend=backend)
            augment.set_epoch(epoch)
            params = augment.sample(x) if counted else augment.sample(x, ids=range(10, 16), epoch=epoch)
            drawn, angles = blends_of(params), {params.describe(i)[0]["kwargs"]["angle"] for i in range(6)}
            assert len(angles) == 6
            groups = {"sample": 1, "batch": 6, "pair": 2}[per]
            if per == "sample":
                first = drawn
                seen |= {one and one[0] for one in drawn}
            elif per == "batch":
                assert len(set(drawn)) == 1 and drawn[0] == first[0]
            else:
                assert drawn == [first[min(i, 5 - i)] for i in range(6)] and groups == 2
    assert seen == {"MixUp", "CutMix", None} or judges.INTERPRETED


def test_a_shared_draw_beside_one_by_sample() -> None:
    """A gate over ops of both kinds is each sample's own."""
    ops = [ga.RandomApply([ga.RandomInvert(1.0), ga.MixUp(per="batch")], p=0.5)]
    params = ga.Compose(ops, seed=0, backend="cpu").sample(pictures(40), ids=range(40), epoch=0)
    drawn = blends_of(params)
    assert 5 < drawn.count(None) < 35 and len(set(drawn)) == 2


# --- labels -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_as_timm_smooths_them(backend: str, smoothing: float) -> None:
    x, labels = pictures(8).to(device_of(backend)), torch.tensor([0, 6, 3, 3, 1, 2, 5, 4])
    mixup = ga.MixUp(num_classes=CLASSES, pair="flip", label_smoothing=smoothing)
    augment = ga.Compose([ga.RandomApply([mixup], p=0.6), *FLOAT], seed=6, backend=backend)
    params = augment.sample(x, ids=range(8), epoch=0)
    lam = torch.tensor([1.0 if b is None else b[1] for b in blends_of(params)])
    assert (lam == 1.0).any() and (lam < 1.0).any()
    _, soft = augment(x, labels.to(x.device), ids=range(8), epoch=0)
    expected = mixup_target(labels, CLASSES, lam[:, None], smoothing)
    torch.testing.assert_close(soft.cpu(), expected, rtol=0, atol=1e-6)


def test_labels_of_all_kinds() -> None:
    x = pictures(3)
    augment = ga.Compose([ga.CutMix(num_classes=4)], seed=0, backend="cpu")
    hard = augment(x, torch.tensor([1, 0, 3]), ids=range(3), epoch=0)[1]
    soft = torch.nn.functional.one_hot(torch.tensor([1, 0, 3]), 4)
    for labels in ([1, 0, 3], torch.tensor([1, 0, 3], dtype=torch.uint8), soft, soft.double(), soft.tolist()):
        assert torch.equal(augment(x, labels, ids=range(3), epoch=0)[1], hard)
    y = augment(x, ids=range(3), epoch=0)
    assert isinstance(y, Tensor) and torch.equal(y, augment(x, hard, ids=range(3), epoch=0)[0])
    labels = [5, 1, 2]
    assert ga.Compose([ga.RandomInvert()], backend="cpu")(x, labels)[1] is labels, "where nothing is mixed"


def test_labels_by_the_boxs_true_share() -> None:
    x, labels = pictures(64), torch.arange(64) % CLASSES
    soft, shares = {}, {}
    for correct in (True, False):
        augment = ga.Compose([ga.CutMix(num_classes=64, correct_lam=correct)], seed=0, backend="cpu")
        params = augment.sample(x, ids=range(64), epoch=0)
        soft[correct] = augment(x, torch.arange(64), ids=range(64), epoch=0)[1]
        shares[correct] = [params.describe(i)[0] for i in range(64)]
    areas = [(r["box"][2] - r["box"][0]) * (r["box"][3] - r["box"][1]) / (20 * 22) for r in shares[True]]
    assert [r["box"] for r in shares[True]] == [r["box"] for r in shares[False]]
    assert torch.allclose(torch.tensor([r["lam"] for r in shares[True]]), 1.0 - torch.tensor(areas))
    assert (soft[True] - soft[False]).abs().max() > 0.1 and labels.numel() == 64
    assert torch.allclose(soft[True][torch.arange(64), torch.arange(64)], 1.0 - torch.tensor(areas))


# --- timm -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_timms_modes(mode: str) -> None:
    """timm's own Mixup, given our lambdas: the same images and targets. Its boxes are given to it, too."""
    arguments = dict(mixup_alpha=0.8, cutmix_alpha=0.0, prob=0.8, mode=mode, label_smoothing=0.1, num_classes=CLASSES)
    x, labels = pictures(8, floats=True), torch.arange(8) % CLASSES
    theirs = Mixup(**arguments)
    for epoch in range(6):
        augment = ga.Compose([ga.timm_mixup(**arguments)], seed=1, backend="cpu")
        params = augment.sample(x, ids=range(8), epoch=epoch)
        lam = [1.0 if b is None else b[1] for b in blends_of(params)]
        theirs._params_per_batch = lambda lam=lam: (lam[0], False)
        theirs._params_per_elem = lambda n, lam=lam: (torch.tensor(lam[:n], dtype=torch.float32).numpy(), [False] * n)
        expected, targets = theirs(x.clone(), labels)
        y, soft = augment(x, labels, ids=range(8), epoch=epoch)
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(soft, targets.float(), rtol=0, atol=1e-6)


def test_timms_arguments() -> None:
    both = ga.timm_mixup(0.8, 1.0, prob=0.5, switch_prob=0.3, mode="elem", num_classes=5)
    shared = dict(num_classes=5, pair="flip", per="sample", label_smoothing=0.1)
    choice = ga.RandomChoice([ga.MixUp(alpha=0.8, **shared), ga.CutMix(alpha=1.0, **shared)], p=[0.7, 0.3])
    assert both == ga.RandomApply([choice], p=0.5)
    alone = ga.timm_mixup(0.0, 0.5, correct_lam=False, mode="pair", label_smoothing=0.0)
    assert alone == ga.CutMix(alpha=0.5, num_classes=1000, pair="flip", per="pair", correct_lam=False)
    refusal(lambda: ga.timm_mixup(0.0, 0.0), ["timm_mixup", "mixup_alpha", "cutmix_alpha"])
    refusal(lambda: ga.timm_mixup(mode="half"), ["timm_mixup", "mode", "'half'"])
    refusal(lambda: ga.timm_mixup(prob=2), ["timm_mixup", "prob", "2"])


# --- what is refused --------------------------------------------------------------------------------------------------
REFUSED = [
    (lambda: ga.MixUp(alpha=0.0), ["MixUp", "alpha", "0"]),
    (lambda: ga.CutMix(alpha=float("nan")), ["CutMix", "alpha", "nan"]),
    (lambda: ga.MixUp(num_classes=0), ["MixUp", "num_classes", "0"]),
    (lambda: ga.MixUp(pair="rol"), ["MixUp", "pair", "'rol'", "'roll'"]),
    (lambda: ga.CutMix(per="pair"), ["CutMix", "pair", "flip"]),
    (lambda: ga.CutMix(label_smoothing=1), ["CutMix", "label_smoothing", "1"]),
    (lambda: ga.MixUp(labels_getter=len), ["MixUp", "labels_getter"]),
    (lowered(ga.MixUp(), ga.RandomHorizontalFlip()), ["1.RandomHorizontalFlip", "0.MixUp", "behind"]),
    (lowered(ga.CutMix(), ga.ColorJitter(contrast=0.4)), ["1.ColorJitter", "0.CutMix", "behind"]),
    (lowered(ga.MixUp(), ga.CutMix()), ["1.CutMix", "0.MixUp", "RandomChoice"]),
    (lowered(ga.RandomOrder([ga.MixUp(), ga.RandomInvert()])), ["MixUp"]),
    (lowered(ga.RandomChoice([ga.MixUp(), ga.CutMix(pair="flip")])), ["CutMix", "pair"]),
    (lowered(ga.RandomChoice([ga.MixUp(), ga.Identity()]), ga.RandomCrop(9)), ["1.RandomCrop", "MixUp"]),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_what_is_refused(case: int) -> None:
    call, mentions = REFUSED[case]
    refusal(call, mentions)


def test_labels_that_are_refused() -> None:
    x = pictures(3)
    plain, classed = (ga.Compose([ga.MixUp(num_classes=k)], seed=0, backend="cpu") for k in (None, 4))
    for augment, labels, mentions in (
        (plain, torch.arange(3), ["num_classes"]),
        (classed, torch.arange(2), ["[3]", "(2,)"]),
        (classed, torch.tensor([0, 1, 4]), ["0 .. 3", "4"]),
        (classed, torch.tensor([0, -1, 2]), ["0 .. 3", "-1"]),
        (classed, torch.rand(3), ["whole numbers", "float32"]),
        (classed, torch.rand(3, 5), ["5 classes", "4"]),
        (classed, ["a", "b", "c"], ["labels"]),
    ):
        refusal(lambda a=augment, t=labels: a(x, t), mentions, (ValueError, TypeError))


# --- the rest of the contract -----------------------------------------------------------------------------------------
def test_descriptions_print_pickle_and_copy() -> None:
    ops = [ga.MixUp(alpha=0.2, num_classes=3), ga.CutMix(per="batch"), ga.RandomChoice([ga.MixUp(), ga.CutMix()])]
    for op in ops:
        for same in (pickle.loads(pickle.dumps(op)), copy.deepcopy(op), eval(repr(op), vars(ga))):
            assert same == op and hash(same) == hash(op)
    augment = ga.Compose([*FLOAT, ops[2]], seed=1, backend="cpu")
    x = pictures(4)
    again = pickle.loads(pickle.dumps(augment))
    assert torch.equal(augment(x, ids=range(4), epoch=0), again(x, ids=range(4), epoch=0))


@pytest.mark.parametrize("backend", BACKENDS)
def test_apply_is_pure_and_takes_buffers(backend: str) -> None:
    x = pictures(5).to(device_of(backend))
    for memory_format in (torch.contiguous_format, torch.channels_last):
        augment = ga.Compose(
            [ga.RandomCrop((16, 16)), EITHER, *FLOAT], seed=2, backend=backend, memory_format=memory_format
        )
        params = augment.sample(x, ids=range(5), epoch=0)
        y = augment(x, ids=range(5), epoch=0)
        assert torch.equal(augment.apply(x, params), y) and y.is_contiguous(memory_format=memory_format)
        out = torch.full((5, 16, 20, 3), float("nan"), device=x.device).permute(0, 3, 1, 2)[..., 2:18]
        assert torch.equal(augment.apply(x, params, out=out), y)


def test_gradients_reach_both_images() -> None:
    x = pictures(3, floats=True).requires_grad_()
    augment = ga.Compose([ga.RandomHorizontalFlip(), ga.MixUp(), ga.Normalize((0.5,), (0.5,))], seed=0)
    params = augment.sample(x.detach(), ids=range(3), epoch=0)
    augment.apply(x, params)[0].sum().backward()
    record = split(params.describe(0))[1]
    lam = record["lam"]
    expected = torch.zeros_like(x)
    expected[0], expected[record["partner"]] = 2.0 * lam, 2.0 * (1.0 - lam)
    torch.testing.assert_close(x.grad, expected)


def test_threads_and_chunks_change_nothing(threads) -> None:
    """Layers that are shared, forgotten and rendered again; images larger than a tile and of other sizes."""
    x = pictures(37, size=(70, 80))
    ops = [ga.RandomResizedCrop((64, 64)), ga.ColorJitter(0.4, 0.4), *FLOAT, EITHER]
    for pair_ops in (ops, [*ops[:-1], ga.MixUp(pair="flip")]):
        results = []
        for n in (1, 2, 3, 5):
            threads(n)
            results.append(ga.Compose(pair_ops, seed=2, backend="cpu")(x, ids=range(37), epoch=0))
        assert all(torch.equal(results[0], other) for other in results[1:])
        expected = ga.Compose(pair_ops, seed=2, backend="kornia")(x, ids=range(37), epoch=0)
        torch.testing.assert_close(results[0], expected, rtol=0, atol=2 * 1.02 / 255 / 0.2)
        assert (results[0] - expected).abs().gt(1e-4).float().mean() < 0.01


# --- views, clips, lists, an index ------------------------------------------------------------------------------------
MIXED = [
    ga.RandomResizedCrop(SIZE),
    ga.RandomHorizontalFlip(),
    *FLOAT,
    ga.RandomChoice([ga.MixUp(num_classes=9, pair="flip"), ga.CutMix(num_classes=9, pair="flip")]),
]


@pytest.mark.parametrize("backend", ["cpu", "kornia"])
def test_views_are_mixed_within_themselves(backend: str) -> None:
    x, labels, call = pictures(5), torch.tensor([0, 8, 2, 5, 1]), dict(ids=range(5), epoch=3)
    augment = ga.Compose(MIXED, seed=2, backend=backend)
    y, soft = augment(x, labels, views=3, **call)
    assert y.shape == (3, 5, 3, *SIZE) and soft.shape == (3, 5, 9)
    for v in range(3):
        one, own = augment(x, labels, view=v, **call)
        assert torch.equal(y[v], one) and torch.equal(soft[v], own)
    assert not torch.equal(soft[0], soft[1])
    assert torch.equal(augment.apply(x, augment.sample(x, views=3, **call)), y)


@pytest.mark.parametrize("backend", ["cpu", "kornia"])
def test_frames_share_partner_and_lambda(backend: str) -> None:
    clips = torch.stack([pictures(3, seed=t) for t in range(4)], 1)
    augment = ga.Compose(MIXED, seed=2, backend=backend)
    y, soft = augment(clips, torch.arange(3), ids=range(3), epoch=3)
    assert soft.shape == (3, 9)
    for t in range(4):
        one, own = augment(clips[:, t], torch.arange(3), ids=range(3), epoch=3)
        assert torch.equal(y[:, t], one) and torch.equal(own, soft)


@pytest.mark.parametrize("backend", ["cpu", "kornia"])
def test_lists_and_indices(backend: str) -> None:
    x = pictures(6)
    augment = ga.Compose(MIXED, seed=2, backend=backend)
    expected = augment(x, torch.arange(6), ids=range(6), epoch=3)
    found = augment(list(x), torch.arange(6), ids=range(6), epoch=3)
    assert all(map(torch.equal, found, expected))
    index = torch.tensor([4, 0, 3])
    expected = augment(x[index], torch.arange(3), ids=range(3), epoch=3)
    found = augment(x, torch.arange(3), ids=range(3), epoch=3, index=index)
    assert all(map(torch.equal, found, expected))
    sizes = [pictures(1, i, size=(20 + 2 * i, 30 - 2 * i))[0] for i in range(4)]
    y, params = augment(sizes, ids=range(4), epoch=0), augment.sample(sizes, ids=range(4), epoch=0)
    front = ga.Compose(MIXED[:-1], seed=2, backend=backend)
    alone = [front(image[None], ids=[i], epoch=0)[0] for i, image in enumerate(sizes)]
    for i in range(4):
        record = split(params.describe(i))[1]
        torch.testing.assert_close(y[i], mix(alone[i], alone[record["partner"]], record), rtol=0, atol=1e-5)
    refusal(lambda: ga.Compose([ga.MixUp()], backend=backend)(sizes), ["MixUp", "one size"])
