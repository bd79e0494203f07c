"""What is drawn: torchvision's own distributions, and a pure function of (seed, epoch, sample id, op)."""

from __future__ import annotations

import copy
import math
import pickle
import random
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import judges
import numpy as np
import pytest
import torch
from loading import Augmented
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2

import gpuaug as ga

N = 10_000
LEAST_P = 0.01  # seeds are fixed: a test that passes keeps passing
IMAGES = torch.arange(6 * 3 * 20 * 24).remainder(251).to(torch.uint8).reshape(6, 3, 20, 24)
PIPELINE = (
    ga.RandomResizedCrop(16),
    ga.RandomHorizontalFlip(),
    ga.RandomAffine(30, (0.1, 0.1), (0.8, 1.2), 10),
    ga.ColorJitter(brightness=0.4, contrast=0.4),
    ga.RandomChoice([ga.RandomInvert(1.0), ga.RandomSolarize(99), ga.Identity()]),
)


def sampled(
    transforms: Sequence, size: tuple[int, int], n: int = N, seed: int = 11, epoch: int = 0
) -> list[list[dict]]:
    """The records of `n` samples of one image size (H, W)."""
    images = torch.zeros(1, dtype=torch.uint8).expand(n, 3, *size)
    params = ga.Compose(list(transforms), seed=seed, backend="cpu").sample(images, ids=torch.arange(n), epoch=epoch)
    return [params.describe(i) for i in range(n)]


def only(records: list[list[dict]], call: str) -> list[dict]:
    """The arguments of the one record called `call` of each sample."""
    chosen = [[record["kwargs"] for record in one if record["call"] == call] for one in records]
    assert all(len(one) == 1 for one in chosen), f"{call} once a sample"
    return [one[0] for one in chosen]


def torchvision_draws(transform: v2.Transform, size: tuple[int, int], n: int = N) -> list[dict]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12)
        return [transform.make_params([torch.empty(3, *size)]) for _ in range(n)]


def assert_same_distribution(ours: Sequence[float], theirs: Sequence[float], what: str) -> None:
    p = stats.ks_2samp(ours, theirs).pvalue
    assert p > LEAST_P, f"{what}: Kolmogorov-Smirnov p = {p:.2g}, means {np.mean(ours):.4g} and {np.mean(theirs):.4g}"


def assert_counts(counts: Sequence[int], shares: Sequence[float], what: str) -> None:
    total = sum(counts)
    p = stats.chisquare(counts, [total * s for s in shares]).pvalue
    assert p > LEAST_P, f"{what}: counts {list(counts)} against shares {list(shares)}, chi-square p = {p:.2g}"


def assert_uncorrelated(one: Sequence[float], other: Sequence[float], what: str) -> None:
    r = np.corrcoef(one, other)[0, 1]
    assert abs(r) < 4 / math.sqrt(len(one)), f"{what}: correlation {r:.3f}"


def angles(transforms: Sequence, **keywords: int) -> list[float]:
    return [kwargs["angle"] for kwargs in only(sampled(transforms, (8, 8), **keywords), "rotate")]


# --- distributions ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("size", "scale", "ratio"),
    [
        ((160, 200), (0.08, 1.0), (3 / 4, 4 / 3)),  # the defaults
        ((40, 90), (0.5, 1.0), (0.3, 3.0)),  # many tries fail, some samples fall back to the whole image
        ((64, 64), (0.8, 1.0), (1.5, 3.0)),  # few tries fit: mostly the centre crop at the least ratio
        ((24, 30), (0.0005, 0.01), (0.2, 5.0)),  # windows of no pixel are refused
    ],
)
def test_random_resized_crop(size: tuple[int, int], scale: tuple, ratio: tuple) -> None:
    ours = only(sampled([ga.RandomResizedCrop(8, scale, ratio)], size), "resized_crop")
    theirs = torchvision_draws(v2.RandomResizedCrop(8, scale, ratio), size)
    for name in ("top", "left", "height", "width"):
        assert_same_distribution([d[name] for d in ours], [d[name] for d in theirs], name)
    area, aspect = (lambda d: d["height"] * d["width"]), (lambda d: d["width"] / d["height"])
    for name, of in (("area", area), ("aspect", aspect)):
        assert_same_distribution([of(d) for d in ours], [of(d) for d in theirs], name)
    for d in ours:
        assert 0 <= d["top"] <= size[0] - d["height"] and 0 <= d["left"] <= size[1] - d["width"]
        assert d["height"] > 0 and d["width"] > 0
    likeliest, _ = Counter(tuple(d.values()) for d in theirs).most_common(1)[0]  # the fallback, where it happens
    names = list(theirs[0])
    hits = [sum(tuple(d[n] for n in names) == likeliest for d in draws) for draws in (ours, theirs)]
    if hits[1] > 20:
        assert stats.fisher_exact([hits, [N - h for h in hits]]).pvalue > LEAST_P, f"fallback: {hits} of {N}"


@pytest.mark.parametrize(("size", "ratio"), [((64, 64), (3.0, 4.0)), ((64, 48), (0.1, 0.2)), ((50, 31), (7.0, 7.5))])
def test_random_resized_crop_falls_back(size: tuple[int, int], ratio: tuple) -> None:
    """A ratio that never fits: the centre crop that torchvision clamps to the ratio's range."""
    expected = torchvision_draws(v2.RandomResizedCrop(8, (0.95, 1.0), ratio), size, 1)[0]
    for kwargs in only(sampled([ga.RandomResizedCrop(8, (0.95, 1.0), ratio)], size, 50), "resized_crop"):
        assert {name: kwargs[name] for name in expected} == expected


@pytest.mark.parametrize("options", [{"padding": 4}, {"padding": (3, 0, 9, 2)}, {}, {"pad_if_needed": True}])
def test_random_crop(options: dict) -> None:
    size, out = (32, 40), (36, 38) if options.get("pad_if_needed") else (30, 33)
    ours = only(sampled([ga.RandomCrop(out, **options)], size), "crop")
    theirs = torchvision_draws(v2.RandomCrop(out, **options), size)
    for name in ("top", "left"):
        assert_same_distribution([d[name] for d in ours], [d[name] for d in theirs], name)
        counts = Counter(d[name] for d in ours)
        assert set(counts) == {d[name] for d in theirs}
        assert_counts([counts[k] for k in sorted(counts)], [1 / len(counts)] * len(counts), name)
    assert_uncorrelated([d["top"] for d in ours], [d["left"] for d in ours], "top and left")


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: ga.RandomHorizontalFlip(p),
        lambda p: ga.RandomVerticalFlip(p),
        lambda p: ga.RandomInvert(p),
        lambda p: ga.RandomSolarize(128, p),
        lambda p: ga.RandomPerspective(0.5, p),
        lambda p: ga.RandomApply([ga.RandomInvert(1.0), ga.RandomHorizontalFlip(1.0)], p),
    ],
)
def test_probability(make, p: float) -> None:
    records = sampled([make(p)], (16, 16))
    fired = sum(len(one) > 0 for one in records)
    assert len({len(one) for one in records if one}) <= 1, "all or nothing"
    if p in (0.0, 1.0):
        assert fired == p * N
    else:
        assert stats.binomtest(fired, N, p).pvalue > LEAST_P


def test_random_rotation() -> None:
    ours = angles([ga.RandomRotation((-20, 70))])
    theirs = [d["angle"] for d in torchvision_draws(v2.RandomRotation((-20, 70)), (8, 8))]
    assert_same_distribution(ours, theirs, "angle")
    assert stats.kstest(ours, stats.uniform(-20, 90).cdf).pvalue > LEAST_P


@pytest.mark.parametrize("shear", [12, (-5, 20), (-5, 20, 3, 9)])
def test_random_affine(shear) -> None:
    arguments = (45, (0.3, 0.11), (0.5, 1.7), shear)
    ours = only(sampled([ga.RandomAffine(*arguments)], (50, 37)), "affine")
    theirs = torchvision_draws(v2.RandomAffine(*arguments), (50, 37))

    def columns(draws: list[dict]) -> dict[str, list[float]]:
        return {
            "angle": [d["angle"] for d in draws],
            "x": [d["translate"][0] for d in draws],
            "y": [d["translate"][1] for d in draws],
            "scale": [d["scale"] for d in draws],
            "shear x": [d["shear"][0] for d in draws],
            "shear y": [d["shear"][1] for d in draws],
        }

    ours, theirs = columns(ours), columns(theirs)
    for name, values in ours.items():
        assert_same_distribution(values, theirs[name], name)
    for name in ("x", "y"):
        assert set(ours[name]) == set(theirs[name]) and all(v == int(v) for v in ours[name])
    varied = [name for name, values in ours.items() if len(set(values)) > 1]
    for i, name in enumerate(varied):
        for other in varied[:i]:
            assert_uncorrelated(ours[name], ours[other], f"{name} and {other}")


@pytest.mark.parametrize("distortion", [0.2, 0.5, 0.75])
def test_random_perspective(distortion: float) -> None:
    height, width = 41, 60
    start = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]

    def corners(kwargs: dict) -> list[int]:
        if kwargs.get("endpoints") is not None:
            return [c for point in kwargs["endpoints"] for c in point]
        a = np.append(np.array(kwargs["coefficients"], dtype=np.float64), 1.0).reshape(3, 3)
        moved = np.linalg.solve(a, np.array([[x, y, 1.0] for x, y in start]).T)
        return np.rint(moved[:2] / moved[2]).T.reshape(-1).astype(int).tolist()

    ours = only(sampled([ga.RandomPerspective(distortion, p=1.0)], (height, width), 5000), "perspective")
    theirs = torchvision_draws(v2.RandomPerspective(distortion, p=1.0), (height, width), 5000)
    ours, theirs = (np.array([corners(d) for d in draws]) for draws in (ours, theirs))
    for i in range(8):
        assert_same_distribution(ours[:, i], theirs[:, i], f"corner {i // 2}, {'xy'[i % 2]}")
        assert ours[:, i].min() == theirs[:, i].min() and ours[:, i].max() == theirs[:, i].max()
        for j in range(i):
            assert_uncorrelated(ours[:, i], ours[:, j], f"coordinates {i} and {j}")


def test_color_jitter() -> None:
    records = sampled([ga.ColorJitter(brightness=0.4, contrast=(0.2, 3.0))], (8, 8))
    theirs = torchvision_draws(v2.ColorJitter(brightness=0.4, contrast=(0.2, 3.0)), (8, 8))
    for name in ("brightness", "contrast"):
        ours = [kwargs[f"{name}_factor"] for kwargs in only(records, f"adjust_{name}")]
        assert_same_distribution(ours, [d[f"{name}_factor"] for d in theirs], name)
    first = [one[0]["call"] == "adjust_brightness" for one in records]
    assert stats.binomtest(sum(first), N, 0.5).pvalue > LEAST_P, "the order of brightness and contrast"
    factors = [kwargs["brightness_factor"] for kwargs in only(records, "adjust_brightness")]
    assert_uncorrelated(first, factors, "order and factor")


def test_random_order_gives_all_24_orders() -> None:
    ops = [ga.RandomInvert(1.0), ga.RandomHorizontalFlip(1.0), ga.RandomVerticalFlip(1.0), ga.RandomSolarize(9, 1.0)]
    counts = Counter(tuple(r["call"] for r in one) for one in sampled([ga.RandomOrder(ops)], (8, 8), 20_000))
    assert len(counts) == 24 and all(len(set(order)) == 4 for order in counts)
    assert_counts(list(counts.values()), [1 / 24] * 24, "orders")


@pytest.mark.parametrize("p", [None, [0.2, 0.5, 0.3], [1, 6, 1], [0.0, 1.0, 3.0]])
def test_random_choice(p: list[float] | None) -> None:
    ops = [ga.RandomInvert(1.0), ga.RandomHorizontalFlip(1.0), ga.RandomVerticalFlip(1.0)]
    counts = Counter(one[0]["call"] for one in sampled([ga.RandomChoice(ops, p=p)], (8, 8)) if len(one) == 1)
    weights = dict(zip(("invert", "horizontal_flip", "vertical_flip"), p or [1, 1, 1], strict=True))
    possible = [name for name, weight in weights.items() if weight > 0]
    assert sum(counts.values()) == N and set(counts) == set(possible)
    assert_counts([counts[k] for k in possible], [weights[k] / sum(weights.values()) for k in possible], "choice")


# --- keys: seed, epoch, id, op ----------------------------------------------------------------------------------------
def test_ops_draw_independently() -> None:
    inner = ga.RandomApply([ga.RandomInvert(1.0), ga.RandomRotation(30, center=(0, 0))], p=1.0)
    pipeline = [ga.RandomRotation(30), ga.RandomHorizontalFlip(), ga.RandomRotation(30), ga.RandomVerticalFlip(), inner]
    records = sampled(pipeline, (8, 8))
    turns = np.array([[r["kwargs"]["angle"] for r in one if r["call"] == "rotate"] for one in records])
    flips = np.array(
        [[any(r["call"] == c for r in one) for c in ("horizontal_flip", "vertical_flip")] for one in records]
    )
    columns = np.concatenate([turns, flips], axis=1).astype(float)
    for i in range(columns.shape[1]):
        for j in range(i):
            assert_uncorrelated(columns[:, i], columns[:, j], f"draws {i} and {j}")
            assert_uncorrelated(columns[:-1, i], columns[1:, j], f"draw {i} and draw {j} of the next sample")


def test_neighbouring_keys_are_independent() -> None:
    base = angles([ga.RandomRotation(30)])
    assert_uncorrelated(base[:-1], base[1:], "ids i and i + 1")
    for what, other in (
        ("seed + 1", angles([ga.RandomRotation(30)], seed=12)),
        ("seed + 2**32", angles([ga.RandomRotation(30)], seed=11 + 2**32)),
        ("epoch + 1", angles([ga.RandomRotation(30)], epoch=1)),
        ("a later op", angles([ga.RandomHorizontalFlip(), ga.RandomRotation(30)])),
    ):
        assert len(set(base) & set(other)) < N // 100, what
        assert_uncorrelated(base, other, what)
        assert_same_distribution(base, other, what)
    by_epoch = np.array([angles([ga.RandomRotation(30)], n=64, epoch=e) for e in range(64)])
    assert_uncorrelated(by_epoch.reshape(-1), by_epoch.T.reshape(-1), "(id, epoch) and (epoch, id)")


@pytest.mark.filterwarnings("ignore:ids repeat within a batch")
@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_an_id_decides_whatever_its_batch(backend: str) -> None:
    device = judges.device_of(backend)
    augment = ga.Compose(PIPELINE, seed=5, backend=backend)
    ids = [7, 0, 2**40 + 3, 2**62, 123456789, 8]
    images = IMAGES.to(device)
    whole, pixels = augment.sample(images, ids=ids, epoch=2), augment(images, ids=ids, epoch=2)
    assert len({tuple(row) for row in whole.table.tolist()}) == len(ids)
    again = ga.Compose(PIPELINE, seed=5, backend=backend)
    for order in ([5, 3, 1, 0, 2, 4], [2], [0, 1, 2], [4, 4, 4]):
        some = [ids[i] for i in order]
        for given in (some, torch.tensor(some), torch.tensor(some, device=device)):
            assert torch.equal(again.sample(images[order], ids=given, epoch=2).table, whole.table[order])
    assert torch.equal(again(images[order], ids=some, epoch=2), pixels[order])
    for i, one in enumerate(ids[: 1 if judges.INTERPRETED else None]):
        assert torch.equal(again(images[i], ids=[one], epoch=2), pixels[i]), "[C, H, W]"


@pytest.mark.parametrize("other", [b for b in judges.BACKENDS if b != "cpu"])
def test_backends_draw_alike(other: str) -> None:
    """Whole numbers (windows, gates, choices, orders, corners) to the bit; angles and factors to the last places."""
    pipeline = (*PIPELINE, ga.RandomPerspective(0.6), ga.RandomCrop(14, padding=2), ga.RandomRotation(90))
    count = 64 if judges.INTERPRETED else 4096
    images = torch.zeros(1, dtype=torch.uint8).expand(count, 3, 40, 52)
    tables = {}
    for backend in ("cpu", other):
        augment = ga.Compose(pipeline, seed=3, backend=backend)
        params = augment.sample(images.to(judges.device_of(backend)), ids=torch.arange(count), epoch=1)
        tables[backend] = params.table.cpu(), params.columns
    (ours, columns), (theirs, other_columns) = tables.values()
    assert columns == other_columns and ours.shape == (count, len(columns))
    for i, name in enumerate(columns):
        if (ours[:, i] == ours[:, i].round()).all():
            assert torch.equal(ours[:, i], theirs[:, i]), name
        else:
            torch.testing.assert_close(
                ours[:, i], theirs[:, i], rtol=1e-6, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
            )


@contextmanager
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load(*parts: Augmented, workers: int, method: str) -> list[Tensor]:
    """What workers make of each part, pair by pair."""
    loader = torch.utils.data.DataLoader(
        torch.utils.data.ConcatDataset(parts),
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=method,
        timeout=240,
    )
    return list(torch.cat(list(pairs)) for pairs in zip(*[iter(loader)] * len(parts[0]), strict=True))


SMALL = [*PIPELINE, ga.Resize((120, 120), interpolation="nearest")]
LARGE = [ga.RandomResizedCrop(512), ga.ToDtype(torch.float32, scale=True)]  # threads share it, and its buffers are kept


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("backend", ["cpu", "kornia"])
def test_forked_workers_draw_what_the_parent_draws(backend: str, workers: int) -> None:
    with two_threads():
        augment = ga.Compose(SMALL, seed=5, backend=backend)
        expected = augment(IMAGES, ids=range(6), epoch=4)  # the parent uses its engine and its threads first
        (got,) = load(Augmented(augment, IMAGES), workers=workers, method="fork")
        assert torch.equal(got, expected)
        assert torch.equal(augment(IMAGES, ids=range(6), epoch=4), expected), "the parent's engine still works"


def test_spawned_workers_draw_what_the_parent_draws() -> None:
    """One pair of workers for all: starting one takes seconds."""
    with two_threads():
        jobs = [ga.Compose(LARGE, seed=5, backend="cpu")]
        jobs += [ga.Compose(SMALL, seed=5, backend=backend) for backend in ("cpu", "kornia")]
        expected = [augment(IMAGES, ids=range(6), epoch=4) for augment in jobs]
        got = load(*(Augmented(augment, IMAGES) for augment in jobs), workers=2, method="spawn")
        assert len(got) == 3 and all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
        for augment, before in zip(jobs, expected, strict=True):
            assert torch.equal(augment(IMAGES, ids=range(6), epoch=4), before), "the parent's engine still works"


@pytest.mark.parametrize("workers", [0, 2])
def test_counting_workers_differ(workers: int) -> None:
    """Without ids the worker is part of the key: equal images in two workers get other draws."""
    augment = ga.Compose([ga.RandomRotation(90)], seed=5, backend="cpu")
    images = torch.arange(3 * 60 * 80).remainder(251).to(torch.uint8).reshape(1, 3, 60, 80).expand(8, -1, -1, -1)
    seeds = torch.Generator().manual_seed(0)  # of the workers, which are in the key
    augmented = Augmented(augment, images, keyed=False)
    loader = torch.utils.data.DataLoader(
        augmented, batch_size=None, num_workers=workers, generator=seeds, timeout=240 if workers else 0
    )
    outputs = torch.cat(list(loader))
    assert len({tuple(o.flatten().tolist()) for o in outputs}) == 8


def test_counting() -> None:
    """Without ids samples are counted, the count is in the state, and a resumed pipeline goes on where it was."""
    augment = ga.Compose(PIPELINE, seed=9)
    first, saved = augment(IMAGES), copy.deepcopy(augment.state_dict())
    pickled, cloned = pickle.dumps(augment), copy.deepcopy(augment)
    second = augment(IMAGES)
    assert not torch.equal(first, second)
    fresh = ga.Compose(PIPELINE, seed=1234)
    fresh.load_state_dict(saved)
    for resumed in (fresh, pickle.loads(pickled), cloned):
        assert torch.equal(resumed(IMAGES), second)
    ours, theirs = ga.Compose(PIPELINE, seed=9), ga.Compose(PIPELINE, seed=9)
    halves = torch.cat([theirs.sample(IMAGES[:2]).table, theirs.sample(IMAGES[2:]).table])
    assert torch.equal(ours.sample(IMAGES).table, halves), "samples are counted, not calls"
    ga.Compose(PIPELINE).load_state_dict({})  # a checkpoint from before the pipeline was part of the model


def test_several_threads_at_once() -> None:
    """From one Python thread or four, on one thread of torch's or two: the same bits."""
    augment = ga.Compose([*PIPELINE, ga.Resize((160, 160), interpolation="nearest")], seed=6, backend="cpu")
    jobs = [torch.roll(IMAGES, i, -1) for i in range(12)]
    expected = [augment(images, ids=range(6), epoch=e) for e, images in enumerate(jobs)]
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with ThreadPoolExecutor(4) as pool:
                got = list(pool.map(lambda job: augment(job[1], ids=range(6), epoch=job[0]), enumerate(jobs)))
            assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    finally:
        torch.set_num_threads(before)


def draw(augment: ga.Compose, together: Barrier, images: Tensor) -> Tensor:
    together.wait()
    return augment.sample(images).table


@pytest.mark.parametrize("backend", ["cpu", "kornia"])
def test_threads_take_each_sample_once(backend: str) -> None:
    """Without ids, threads that start together draw from one count."""
    images, interval = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for seed in range(20):
            augment, together = ga.Compose([ga.RandomRotation(180)], seed=seed, backend=backend), Barrier(4)
            with ThreadPoolExecutor(4) as pool:
                jobs = [pool.submit(draw, augment, together, images) for _ in range(4)]
                angles = torch.cat([job.result() for job in jobs]).flatten().tolist()
            assert len(set(angles)) == 8, "two threads took the same samples"
    finally:
        sys.setswitchinterval(interval)


def test_epochs() -> None:
    augment = ga.Compose(PIPELINE, seed=9)
    by_argument = [augment(IMAGES, ids=range(6), epoch=e) for e in range(3)]
    assert not torch.equal(by_argument[0], by_argument[1])
    for epoch in (2, 0, 1):
        augment.set_epoch(epoch)
        assert torch.equal(augment(IMAGES, ids=range(6)), by_argument[epoch])
    restored = ga.Compose(PIPELINE, seed=0)
    restored.load_state_dict(augment.state_dict())
    assert torch.equal(restored(IMAGES, ids=range(6)), by_argument[1]), "the epoch is in the state"
    forgetful = ga.Compose(PIPELINE, seed=9)
    with pytest.warns(UserWarning, match="epoch"):
        forgetful(IMAGES, ids=range(6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forgetful(IMAGES, ids=range(6))


def test_seed_none_takes_one_and_shows_it() -> None:
    one, other = ga.Compose(PIPELINE), ga.Compose(PIPELINE)
    assert one.seed != other.seed and str(one.seed) in repr(one)
    same = ga.Compose(PIPELINE, seed=one.seed)
    assert torch.equal(one(IMAGES, ids=range(6), epoch=0), same(IMAGES, ids=range(6), epoch=0))


@pytest.mark.parametrize("backend", ["cpu", "kornia"])
def test_global_generators_are_neither_read_nor_changed(backend: str) -> None:
    outputs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        augment = ga.Compose(PIPELINE, seed=9, backend=backend)
        outputs.append(torch.cat([augment(IMAGES), augment(IMAGES, ids=range(6), epoch=0)]))
        ga.Compose(PIPELINE, backend=backend)(IMAGES)
        assert torch.equal(before[0], torch.get_rng_state())
        assert (before[1] == np.random.get_state()[1]).all() and before[2] == random.getstate()
    assert torch.equal(*outputs)
