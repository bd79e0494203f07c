"""What a fine-tuning run is told: the fields of :class:`Config` are the options of ``gpuaug finetune``."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gpuaug.messages import meant, shown

AUTO = "auto"  # of augment: the run chooses
AT_LEAST = {
    "epochs": 1, "batch_size": 1, "accumulate": 1, "patience": 1, "plateau_patience": 1, "size": 1, "resize": 1,
    "workers": 0, "seed": 0, "head_epochs": 0, "keep": 0, "checkpoint_steps": 0, "robustness": 0,
    "max_tokens": 3, "vocab_size": 64, "lora": 1,
    "frames": 1, "stride": 1, "clips_per_video": 1,
}  # fmt: skip
POSITIVE = ("lr", "head_lr", "clip", "auto_budget", "distill_temperature", "lora_alpha")
NOT_NEGATIVE = ("weight_decay", "l1", "warmup_epochs", "mixup", "cutmix")
FRACTIONS = ("label_smoothing", "val_fraction", "dropout", "drop_path", "ema", "swa", "max_bad")

SHARES = ("layer_decay", "distill_weight")


@dataclass(frozen=True)
class Config:
    """Fine-tune an image classifier, a detector or a segmenter on augmented images.

    An option that is not given has the recipe's default, or is decided by what the data and the model are; the run
    says what was decided. Raises ValueError for values that cannot be.
    """

    data: str = "digits"
    """A folder of class folders, or one with train/ and test/ (or val/) in it; "digits" is embedded in scikit-learn,
    "motion" are clips of camera motions, made of its two photos. Of texts a folder with train.csv and test.csv, or
    .tsv, .jsonl, .parquet; or one such file."""
    model: str | None = None
    """Any model of timm by its name; resnet20, the small one of CIFAR-10; or module:function of your own, which is
    called with num_classes=. By default the one that the weights file names; tf_efficientnet_lite0 where they are
    "pretrained"; resnet20 otherwise. Of segment timm's model is the encoder, by default tf_efficientnet_lite0.
    Of text hf:NAME_OR_FOLDER, an encoder of Hugging Face's with its weights; by default subwords, small and quick. Of
    video also torchvision:r3d_18 and the like, and patches, which compares pixels and is the default of motion."""
    weights: str | None = None
    """A .safetensors file, or "pretrained" for the weights that timm publishes (a download), behind which the
    classifier is always new. None starts at random."""
    task: Literal["classify", "detect", "segment", "text", "video"] | None = None
    """What is learned; by default what the data are for: masks beside images and COCO's polygons are to be segmented,
    boxes alone (COCO's JSON, VOC's XML) to be detected; of tables with texts, train.csv and the like, the classes are
    told; class folders of video files, or of folders of counted frames, are of clips."""
    recipe: Literal["probe", "finetune", "full"] | None = None
    """probe: a linear classifier on features that are computed once. finetune: first the classifier, then everything,
    early layers with smaller steps. full: everything at one rate. Of detect and segment finetune and full. By
    default finetune where the model has weights, and full where it begins at random."""
    augment: str | None = None
    """A preset of gpuaug.presets, with arguments if need be: none, geometric, imagenet_train, geometric:degrees=30. By
    default rotate_shift for the digits, and photo_train for images: mild crops, rotations and light, and a flip; for
    images that a mirror changes (text, digits) take rotate_shift or photo_train:flip=0; segmentation_train for images
    with masks, detection_train for those with boxes; video_train for clips, without its flip where that makes another
    class of one. auto: by successive halving the run chooses, on the validation part, one of a dozen presets and
    strengths for such data; of classify alone. Of text none, text_light (by default), text_medium, text_strong, or
    rates: deletion=0.1,swap=(0, 0.2)."""
    feature_augment: str = "none"
    """Of the recipe probe and classify: what its classifier sees in place of the same features each epoch. autoencoder:
    new ones by class, of a small variational one; mix: in pairs, with their labels; noise: of each class's spread. With
    arguments if need be: autoencoder:share=0.5, mix:alpha=1, noise:strength=0.5."""
    auto_budget: float | None = None
    """What augment=auto may take for its search, in multiples of the run's own batches. By default 3, or 9 where there
    are so few images that three folds judge, and more where a run has fewer than 80 batches."""

    epochs: int | None = None
    """Passes over the training part."""
    batch_size: int | None = None
    """Images a step, on each process."""
    accumulate: int = 1
    """Batches whose gradients make one step together."""
    optimizer: str | None = None
    """adamw, sgd (Nesterov, 0.9), or any of timm's: lamb, lion, adopt, ..."""
    lr: float | None = None
    """The highest learning rate, of the last layers before the classifier."""
    schedule: Literal["cosine", "onecycle", "plateau", "constant"] | None = None
    """cosine and constant begin with a warm-up, plateau too: it divides the rate by 10 where validation stands still.
    onecycle: Smith & Topin, 2017."""
    warmup_epochs: float | None = None
    """In which the rate grows from a hundredth to lr; not of onecycle, which has its own."""
    plateau_patience: int = 3
    """Epochs without a better validation after which plateau divides the rate."""

    weight_decay: float | None = None
    """Not of norms and biases."""
    l1: float = 0.0
    """Times the sum of the absolute weights, norms and biases left out, added to the loss."""
    layer_decay: float | None = None
    """Each layer's rate is this times that of the layer behind it; 1: all alike."""
    head_lr: float | None = None
    """How many times lr the new classifier gets."""
    head_epochs: int | None = None
    """Epochs at the beginning in which only the classifier learns."""
    freeze: str | None = None
    """What never learns: backbone, all but the classifier; a number, so many layers from the input; or a regular
    expression that is searched for in parameters' names."""
    frozen_bn: bool = False
    """Batch norms keep the statistics that they came with; those whose layer is frozen always do."""
    lora: int | None = None
    """Of classify and text, for models of linear layers, as vision transformers and encoders of texts are: adapters of
    this rank (8 is usual) learn beside these layers, and the classifier; all else stays as it was. In the weights that
    are kept they are merged."""
    lora_alpha: float | None = None
    """By this, over the rank, the adapters' outputs are multiplied; by default twice the rank."""
    lora_layers: Literal["all", "attention"] = "all"
    """Which linear layers get adapters: all but the classifier, or those of attention."""

    dropout: float = 0.0
    """In front of the classifier, where the model (of timm) has such."""
    drop_path: float = 0.0
    """Stochastic depth, where the model (of timm) has it."""
    label_smoothing: float | None = None
    mixup: float | None = None
    """Mix each image with another, by Beta(mixup, mixup); 0.2 and 0.8 are usual, 0: not. With cutmix, one of both
    is drawn. Of segment masks are mixed as their images are."""
    cutmix: float | None = None
    """Lay a rectangle of another image over each, its area by Beta(cutmix, cutmix); 1 is usual, 0: not."""
    copy_paste: float | None = None
    """Of segment, whose masks are of objects (numbers of objects, COCO's polygons): on this share of the images, 0 to
    1, objects of another image of the batch are pasted, with their masks. Not with mixup or cutmix."""
    balance: Literal["no", "weights", "sampling"] = "no"
    """Of classes with unequally many images. weights: their losses by the inverse of their number. sampling: images of
    small classes come several times an epoch, each time augmented anew."""
    clip: float | None = None
    """The most that the norm of all gradients may be."""
    ema: float = 0.0
    """Also average the weights, and keep this much of the average each step (0.999), at first less; the average is
    what is tested. 0: no average."""
    swa: float = 0.0
    """Average the weights after each of the last epochs instead, of this share of all (0.25), with the learning rate as
    it was when they began; the average is what is tested from then on. Of classify alone. 0: no average."""

    teacher: tuple[str, ...] = ()
    """Distillation, of classify alone: runs, by folder, name or number in --out, from whose answers the model learns,
    too; of several from the mean of their probabilities. They see each image augmented and mixed as the model does, at
    a size and normalisation of their own, and are for the same classes in the same order. With --distill-features also
    a model of timm by its name, whose published weights (a download) have features for any classes."""
    distill_temperature: float = 2.0
    """By which the logits of both are divided, so that answers that are not the first say more."""
    distill_weight: float = 0.5
    """Of the loss, the share of what the teachers say; the rest is what the labels say."""
    distill_features: bool = False
    """Also bring a linear map of the model's features close to the teachers' (mean squared error)."""

    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision; "no" is float32."""
    channels_last: bool | None = None
    """The layout of images and weights; by default on CUDA and CPUs, where convolutions are faster with it."""
    compile: bool = False
    """The model by torch.compile, and its teachers."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps, ..."""

    val_fraction: float | None = None
    """Of the training part, held out to choose the best weights where there is no validation part; 0 keeps the last
    ones and trains on everything. By default a tenth, where that is a hundred images or more, or something goes by it
    (patience, plateau, best), else 0."""
    best: str | None = None
    """The validation's metric that chooses: accuracy (by default), balanced_accuracy, f1 or loss; or one of
    finetune(metrics=), with a minus in front where less is better. Of segment iou (by default), dice or loss, of
    detect map (by default), map50 or loss."""
    patience: int | None = None
    """Stop after so many epochs without a better one."""
    tta: Literal["none", "flip"] = "none"
    """flip: validation and test average the model's outputs for an image and its mirror image."""

    robustness: int | None = None
    """So many test images, the same ones each time, are also turned, scaled, blurred, noisy, pale and compressed, at
    five strengths each. By default as many as cost about a tenth of the training, 40 to 1,000; 0: none, as is the
    default of segment and detect, whose masks and boxes are turned and scaled with them."""
    masks: Literal["auto", "objects", "classes"] = "auto"
    """Of segment: whether the numbers in masks are those of objects, which become foreground, or classes, from 0 on."""
    decoder: str = "unet"
    """Of segment: unet, unetplusplus, fpn, linknet, deeplabv3plus or upernet; or torchvision's deeplabv3 or fcn."""

    size: int | None = None
    """Side of the model's input in pixels; by default 32 for the digits, the model's own for its weights, and where
    these begin at random 32 for small images and 64 for larger ones; 256 of segment; of detect 320, which the longer
    side of images becomes."""
    resize: int | None = None
    """The shorter side before the central crop in validation and test; by default as the model was published. Of
    segment that of all images, which by default keep their size."""
    mean: tuple[float, float, float] | None = None
    """Of the input's channels, 0 to 1; by default the model's own."""
    std: tuple[float, float, float] | None = None
    """As mean."""
    backend: str = "auto"
    """Of the augmentation: auto, triton, cpu or kornia."""
    resident: bool | None = None
    """Keep all images, decoded, in the device's memory. By default where they take less than 2 GiB."""
    cache: Path | None = None
    """A folder on disk where decoded images are kept, those that are not resident."""
    workers: int = 2
    """Threads that decode images."""
    max_bad: float = 0.01
    """The largest share of each part's images that may be unreadable, and is left out; of more the run does not
    begin."""

    seed: int = 0
    """Of the order, the draws, the new weights. The split of the data does not depend on it."""
    out: Path = Path("runs")
    """Each run makes a new numbered folder in here."""
    keep: int = 2
    """Checkpoints that are kept, the last ones, until the run is done; one is written each epoch. 0: none, and no
    resume."""
    checkpoint_steps: int = 0
    """Also write one each so many steps."""
    keep_done: bool = False
    """Keep the checkpoints of a run that is done, too; best.safetensors has all that is needed from it."""
    quiet: bool = False
    """Print nothing."""
    json: bool = False
    """Print each line of metrics.jsonl, and nothing else."""
    tensorboard: bool = False
    """Also write curves, pictures and options for TensorBoard, into events/ of the run's folder."""

    # of detect
    detector: str = "fcos"
    """fcos (without anchors), retinanet, ssdlite or faster_rcnn, torchvision's, on a model of timm; strides and anchors
    follow from the boxes."""
    # of text
    text_column: str | None = None
    """The column of texts; by default text, sentence, review and others that are usual."""
    label_column: str | None = None
    """The column of classes; by default label, category, class and others that are usual."""
    max_tokens: int | None = None
    """What is behind so many tokens of a text is cut off; by default as many as the model takes, 512 at most."""
    vocab_size: int | None = None
    """Tokens of the vocabulary that is learned from the training texts, for subwords; by default 4,000."""
    # of video
    frames: int | None = None
    """Of video: frames that are taken of each clip; by default 8, and 16 for a model that wants so many."""
    stride: int | Literal["fit"] | None = None
    """Of video: from each frame to the next. A number: where they begin is drawn anew each epoch. fit, the default:
    they span the whole clip, which then is decoded once and kept where all fit in memory."""
    pooling: Literal["mean", "max", "correlation"] | None = None
    """Of video, how a network of images becomes one of clips. mean, max: of the frames' features, for what is in a
    clip; correlation: of their feature maps, for how things move, and nothing else. By default correlation for motion,
    and where classes differ in left and right or the like alone, else mean."""
    clips_per_video: int = 1
    """Of video, in validation and test: so many samples of each clip, from its beginning to its end, whose
    probabilities are averaged; with a stride that is a number."""

    def __post_init__(self) -> None:
        if not isinstance(self.teacher, list | tuple):
            object.__setattr__(self, "teacher", (self.teacher,))
        object.__setattr__(self, "teacher", tuple(map(str, self.teacher)))
        for name, kinds in kinds_of_fields().items():
            _check_kind(name, getattr(self, name), kinds)
        for name, least in AT_LEAST.items():
            if self._given(name) and not isinstance(getattr(self, name), str) and getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in (*POSITIVE, *NOT_NEGATIVE, *FRACTIONS, *SHARES):
            if self._given(name) and not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")
        for name in POSITIVE:
            if self._given(name) and not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in NOT_NEGATIVE:
            if self._given(name) and getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in FRACTIONS:
            if self._given(name) and not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        for name in SHARES:
            if self._given(name) and not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {getattr(self, name)}")
        if self._given("copy_paste") and not 0 <= self.copy_paste <= 1:
            raise ValueError(f"copy_paste must be in [0, 1], got {self.copy_paste}")
        for name in ("mean", "std"):
            if self._given(name) and len(getattr(self, name)) != 3:
                raise ValueError(f"{name} must be three numbers, got {getattr(self, name)}")
        if self.quiet and self.json:
            raise ValueError("quiet and json cannot be asked for together: json prints lines")
        if self._given("auto_budget") and self.augment != AUTO:
            raise ValueError(f"auto_budget is of augment=auto, and augment is {shown(self.augment)}; leave one out")
        if self.keep == 0 and self.checkpoint_steps:
            raise ValueError("checkpoint_steps writes checkpoints and keep=0 keeps none; leave one of both out")

    def _given(self, name: str) -> bool:
        return getattr(self, name) is not None

    def as_dict(self) -> dict[str, Any]:
        """Every field, as plain JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self), default=str))

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Config:
        """Of what :meth:`as_dict` gave. Raises ValueError for a field that there is not."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                raise ValueError(f"config: there is no option {name!r}{meant(name, known)}")
        fields = dict(fields)
        for name in ("out", "cache"):
            fields[name] = Path(fields[name]) if fields.get(name) is not None else fields.get(name)
        for name in ("mean", "std"):
            fields[name] = tuple(fields[name]) if fields.get(name) is not None else None
        return cls(**{name: value for name, value in fields.items() if name != "out" or value is not None})


@functools.cache
def kinds_of_fields() -> dict[str, tuple]:
    """What each field may be: types, and the values of a Literal."""
    found = {}
    for name, hint in get_type_hints(Config).items():
        choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        found[name] = tuple(c for one in choices for c in (get_args(one) if get_origin(one) is Literal else (one,)))
    return found


def _check_kind(name: str, value: Any, kinds: tuple) -> None:
    """Raises ValueError for what is none of a Literal's values, or not of the type of a bool, an int or a float."""
    words = [kind for kind in kinds if isinstance(kind, str)]
    if value is None and type(None) in kinds:
        return
    if value in words or (words and int in kinds and type(value) is int):
        return
    if words:
        said = "a whole number, or " if int in kinds else ""
        raise ValueError(f"{name} must be {said}one of {', '.join(words)}; got {shown(value)}{meant(value, words)}")
    takes = {bool: (bool, "True or False"), int: (int, "a whole number"), float: (int | float, "a number")}
    for kind, (types, said) in takes.items():
        if kind in kinds and (not isinstance(value, types) or isinstance(value, bool) != (kind is bool)):
            raise ValueError(f"{name} must be {said}, got {shown(value)}")
