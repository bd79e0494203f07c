"""Who is timed: gpuaug on each backend, and each peer in the forms in which people use it.

A provider is built for a case and a list of batches, and becomes a function of the batch's number that returns
[B, 3, OH, OW] in the case's dtype and layout, on the device. Each gets its input in the layout that suits it, prepared
beforehand.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from . import peers_nvidia
from .cases import GREY, TAIL, Case, import_albumentations
from .timing import captured

if TYPE_CHECKING:
    from .processes import Pool

Call = Callable[[int], torch.Tensor]
PER_SAMPLE = "per sample"
SHARED = "one draw for the batch"
RANGE_SLACK = 1e-3
LEAST_COMPARED = 8  # images, so that means do not depend much on what was drawn


@dataclass(frozen=True)
class Provider:
    """One row of a case's table.

    Attributes:
        name: unique.
        library: the module to import, and the key into `Case.ops`.
        form: how it is used, in words.
        build: (case, batches uint8 [B, 3, H, W] on the device, device) -> its call.
        work: PER_SAMPLE or SHARED.
        devices: where it runs.
        processes: it is built in worker processes, by `benchmarks.processes`.
        takes: the key into `Case.ops` if it takes another library's ops.
    """

    name: str
    library: str
    form: str
    build: Callable[[Case, Sequence[torch.Tensor], torch.device], Call]
    work: str = PER_SAMPLE
    devices: tuple[str, ...] = ("cpu", "cuda")
    processes: bool = False
    takes: str | None = None

    @property
    def backend(self) -> str | None:
        """gpuaug's backend, None for a peer."""
        return self.name.removeprefix("gpuaug-").removesuffix("-graph") if self.library == "gpuaug" else None

    @property
    def key(self) -> str:
        """Into `Case.ops`."""
        return self.takes or self.library

    def delivers(self, case: Case, call: Call) -> Call:
        """A call whose result has the case's dtype and layout: a peer's is cast."""
        if self.backend or (case.dtype == torch.float32 and not case.channels_last):
            return call
        return lambda i: call(i).to(dtype=case.dtype, memory_format=case.memory_format)

    def reason_against(self, case: Case, device: torch.device, pool: Pool | None) -> str | None:
        """Why there can be no time for it, or None."""
        missing = next((name for name in (self.library, self.key) if not installed(name)), None)
        if missing:
            return f"{missing} is not installed"
        if self.key not in case.ops:
            return case.reason_without(self.key)
        if device.type not in self.devices:
            return f"runs on {' and '.join(self.devices)} only"
        if self.processes and pool is None:
            return "needs two threads or more, and is left out of quick runs"
        if self.processes and case.batch < len(pool.workers):
            return f"a batch of {case.batch} cannot be shared by {len(pool.workers)} processes"
        return None


def installed(module: str) -> bool:
    """Whether a module can be found, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of its parent
        return False


def _ours(backend: str) -> Callable:
    def build(case: Case, batches: Sequence[torch.Tensor], device: torch.device) -> Call:
        augment = case.ours(backend)
        return lambda i: augment(batches[i])

    return build


def _graphed(case: Case, batches: Sequence[torch.Tensor], device: torch.device) -> Call:
    augment = case.ours("triton")
    graphs = [captured(lambda batch=batch: augment(batch)) for batch in batches]

    def call(i: int) -> torch.Tensor:
        graph, result = graphs[i]
        graph.replay()
        return result

    return call


def _torchvision_images(case: Case, batches: Sequence[torch.Tensor], device: torch.device) -> Call:
    from torchvision.transforms import v2

    transform = v2.Compose([*case.ops["torchvision"](), *_torchvision_tail(case)])
    return lambda i: torch.stack([transform(image) for image in batches[i]])


def _torchvision_tail(case: Case) -> list:
    from torchvision.transforms import v2

    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(case.mean, case.std)]


def _torchvision_ops(case: Case, batches: Sequence[torch.Tensor], device: torch.device) -> Call:
    from torchvision.transforms import v2

    transform, tail = v2.Compose(case.ops["torchvision"]()), v2.Compose(_torchvision_tail(case))
    return lambda i: tail(torch.stack([transform(image) for image in batches[i]]))


def _torchvision_shared(case: Case, batches: Sequence[torch.Tensor], device: torch.device) -> Call:
    from torchvision.transforms import v2

    transform = v2.Compose([*case.ops["torchvision"](), *_torchvision_tail(case)])
    return lambda i: transform(batches[i])


def _cvcuda_torchvision(case: Case, batches: Sequence[torch.Tensor], device: torch.device) -> Call:
    from cvcuda import tv

    transform = tv.Compose([*case.ops["torchvision"](), *_torchvision_tail(case)])
    return lambda i: transform(batches[i])


def _kornia(compiled: bool) -> Callable:
    def build(case: Case, batches: Sequence[torch.Tensor], device: torch.device) -> Call:
        import kornia.augmentation as K

        normalize = K.Normalize(mean=torch.tensor(case.mean), std=torch.tensor(case.std))
        transform = K.AugmentationSequential(*case.ops["kornia"](), normalize, data_keys=["input"]).to(device)
        transform = torch.compile(transform) if compiled else transform
        return lambda i: transform(batches[i].to(torch.float32).div_(255))

    return build


def _fused(case: Case, batches: Sequence[torch.Tensor], device: torch.device) -> Call:
    import kornia.augmentation as K
    from fuse_augmentations import Compose

    normalize = K.Normalize(mean=torch.tensor(case.mean), std=torch.tensor(case.std))
    transform = Compose([*case.ops["kornia"](), normalize]).to(device)
    return lambda i: transform(batches[i].to(torch.float32).div_(255))


def _pillow(batches: Sequence[torch.Tensor]) -> list[list]:
    from PIL import Image

    return [[Image.fromarray(image) for image in images] for images in _hwc(batches)]


def _timm(case: Case, as_tensors: bool) -> Callable:
    """timm's transform; unless `as_tensors`, its result is uint8, for a loader that normalises batches."""
    from PIL import Image
    from timm.data import create_transform
    from timm.data.auto_augment import rand_augment_transform

    keywords = dict(color_jitter=None, mean=case.mean, std=case.std, use_prefetcher=not as_tensors)
    keywords |= case.ops["timm"]()
    policy = keywords.pop("policy", None)
    transform = create_transform(is_training=True, interpolation="bilinear", **keywords)
    if policy:  # create_transform itself would take the crop's interpolation for it
        hints = dict(interpolation=Image.Resampling.NEAREST, img_mean=GREY)
        transform.transforms.insert(2, rand_augment_transform(policy, hints))
    return transform


def _timm_images(case: Case, batches: Sequence[torch.Tensor], device: torch.device) -> Call:
    transform, images = _timm(case, True), _pillow(batches)
    return lambda i: torch.stack([transform(image) for image in images[i]]).to(device)


def _timm_ops(case: Case, batches: Sequence[torch.Tensor], device: torch.device) -> Call:
    transform, images = _timm(case, False), _pillow(batches)
    mean, std = (255 * torch.tensor(v, device=device)[:, None, None] for v in (case.mean, case.std))
    return lambda i: torch.stack([transform(image) for image in images[i]]).to(device).sub(mean).div_(std)


def _hwc(batches: Sequence[torch.Tensor]) -> list[list]:
    return [list(batch.permute(0, 2, 3, 1).cpu().contiguous().numpy()) for batch in batches]


def _albumentations_images(case: Case, batches: Sequence[torch.Tensor], device: torch.device) -> Call:
    A = import_albumentations()
    tail = [A.Normalize(case.mean, case.std), A.ToTensorV2()]
    transform, images = A.Compose([*case.ops["albumentations"](), *tail]), _hwc(batches)
    return lambda i: torch.stack([transform(image=image)["image"] for image in images[i]]).to(device)


def _albumentations_ops(case: Case, batches: Sequence[torch.Tensor], device: torch.device) -> Call:
    A = import_albumentations()
    transform, images = A.Compose(case.ops["albumentations"]()), _hwc(batches)
    mean, std = (255 * torch.tensor(v, device=device)[:, None, None] for v in (case.mean, case.std))

    def call(i: int) -> torch.Tensor:
        out = [torch.from_numpy(transform(image=image)["image"]) for image in images[i]]
        return torch.stack([image.permute(2, 0, 1) for image in out]).to(device).sub(mean).div_(std)

    return call


def _triton_augment(case: Case, batches: Sequence[torch.Tensor], device: torch.device) -> Call:
    import triton_augment

    transform = triton_augment.TritonFusedAugment(**case.ops["triton_augment"](), mean=case.mean, std=case.std)
    return lambda i: transform(batches[i].to(torch.float32).div_(255))


def set_opencv_threads(threads: int) -> None:
    """Give albumentations' OpenCV as many threads as the others have; importing albumentations takes them away."""
    if importlib.util.find_spec("albumentations") is not None:
        import_albumentations()
        import cv2

        cv2.setNumThreads(threads)


BATCHED = f"ops image by image, then stack, {TAIL} as one batch"
PROVIDERS = {
    p.name: p
    for p in (
        Provider("gpuaug-triton", "gpuaug", "one call", _ours("triton")),
        Provider("gpuaug-triton-graph", "gpuaug", "one call, replayed from a CUDA graph", _graphed, devices=("cuda",)),
        Provider("gpuaug-cpu", "gpuaug", "one call", _ours("cpu")),
        Provider("gpuaug-kornia", "gpuaug", "one call", _ours("kornia")),
        Provider("torchvision", "torchvision", "v2.Compose image by image, then stack", _torchvision_images),
        Provider("torchvision-batched", "torchvision", BATCHED, _torchvision_ops),
        Provider("torchvision-shared", "torchvision", "v2.Compose on the batch", _torchvision_shared, SHARED),
        Provider(
            "torchvision-processes",
            "torchvision",
            "as torchvision-batched in one process a thread, into shared memory",
            _torchvision_ops,
            devices=("cpu",),
            processes=True,
        ),
        Provider("kornia", "kornia", "AugmentationSequential on the batch", _kornia(compiled=False)),
        Provider(
            "kornia-compiled",
            "kornia",
            "AugmentationSequential on the batch under torch.compile",
            _kornia(compiled=True),
            devices=("cuda",),
        ),
        Provider(
            "albumentations",
            "albumentations",
            "A.Compose with Normalize and ToTensorV2 image by image on the CPU, then stack, upload",
            _albumentations_images,
        ),
        Provider(
            "albumentations-batched",
            "albumentations",
            f"ops image by image on the CPU, then stack, upload, {TAIL} as one batch",
            _albumentations_ops,
        ),
        Provider(
            "albumentations-processes",
            "albumentations",
            "as albumentations-batched in one process a thread, into shared memory",
            _albumentations_ops,
            devices=("cpu",),
            processes=True,
        ),
        Provider(
            "timm",
            "timm",
            "create_transform on Pillow images, image by image on the CPU, then stack, upload",
            _timm_images,
        ),
        Provider(
            "timm-batched",
            "timm",
            f"create_transform for its loader: ops on Pillow images, then stack, upload, {TAIL} as one batch",
            _timm_ops,
        ),
        Provider(
            "timm-processes",
            "timm",
            "as timm-batched in one process a thread, into shared memory",
            _timm_ops,
            devices=("cpu",),
            processes=True,
        ),
        Provider(
            "fuse-augmentations",
            "fuse_augmentations",
            "its Compose of kornia's ops on the batch",
            _fused,
            takes="kornia",
        ),
        Provider("dali", "nvidia.dali", "a pipeline on the batch, nothing fetched ahead", peers_nvidia.dali),
        Provider(
            "cv-cuda-torchvision",
            "cvcuda",
            "cvcuda.tv.Compose of torchvision's transforms on the batch",
            _cvcuda_torchvision,
            SHARED,
            devices=("cuda",),
            takes="torchvision",
        ),
        Provider("cv-cuda", "cvcuda", "operators on the batch", peers_nvidia.cvcuda, devices=("cuda",)),
        Provider(
            "triton-augment", "triton_augment", "TritonFusedAugment on the batch", _triton_augment, devices=("cuda",)
        ),
    )
}


def layout(case: Case) -> str:
    """The output's layout in words."""
    return "channels last" if case.channels_last else "contiguous"


def complaint(output: torch.Tensor, case: Case, device: torch.device, expected: torch.Tensor | None) -> str | None:
    """Why an output is no equal work: another shape, dtype, layout or range; or another mean or deviation than gpuaug's
    `expected`, if that is given."""
    shape = (case.batch, 3, case.out_size, case.out_size)
    if tuple(output.shape) != shape or output.dtype != case.dtype or output.device.type != device.type:
        found = f"{tuple(output.shape)} {output.dtype} on {output.device}"
        return f"its output is {found}, not {shape} {case.dtype} on {device}"
    if not output.is_contiguous(memory_format=case.memory_format):
        return f"its output has the strides {output.stride()}, and is not {layout(case)}"
    output = output.float()
    means, stds = (torch.tensor(v, device=output.device)[:, None, None] for v in (case.mean, case.std))
    pixels = output * stds + means
    slack = RANGE_SLACK + torch.finfo(case.dtype).eps
    if not (pixels.min() >= -slack and pixels.max() <= 1 + slack):
        return f"before it was normalised its output was from {float(pixels.min()):.3g} to {float(pixels.max()):.3g}"
    if case.batch < LEAST_COMPARED or expected is None:
        return None
    expected = expected.float()
    (mean, std), (right_mean, right_std) = ((float(t.mean()), float(t.std())) for t in (output, expected))
    if abs(mean - right_mean) > 0.5 * right_std or not 0.5 < std / right_std < 2:
        return f"its output has mean {mean:.3g} and deviation {std:.3g}, gpuaug's {right_mean:.3g} and {right_std:.3g}"
    return None
