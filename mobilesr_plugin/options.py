"""The blocks of an option file that are ours, as frozen dataclasses.

Unknown keys are errors that list the known ones.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mobilesr_plugin.cpus import usable_cpus
from mobilesr_plugin.errors import MissingExtraError, OptionError

OBSERVERS = ("auto", "minmax", "moving_average", "mse", "percentile")
RANGES = ("learned", "frozen")
KERNELS = ("xnnpack", "tflite_builtin")
FAST_MODELS = ("MobileSRModel", "QATSRModel")
IO_DTYPES = ("uint8", "int8", "float32")
AMP = ("auto", "bfloat16")

Block = TypeVar("Block")


@dataclass(frozen=True)
class QuantizationOptions:
    """How a network is quantized.

    Attributes:
        observer: How calibration finds the range of an activation: ``minmax``, ``moving_average``,
            ``mse`` (least squared error) or ``percentile``; ``auto`` takes, for the whole network, the
            one of minmax, mse and percentile whose result differs least from the float network's.
        percentile: For ``percentile`` and ``auto``: the upper end, in percent; the lower one mirrors it.
        calibration_images: Training patches that are run through the float network to find the first
            ranges, before the first step.
        observe_iters: Iterations in which ranges still follow the observer while weights are trained.
        ranges: What happens to the ranges after that: ``learned`` with the weights, or ``frozen``.
        range_lr: Learning rate of the ranges over that of the weights.
        freeze_ranges_at: Iteration from which learned ranges stay as they are; None: never.
        distillation: Learn the float network's output instead of the ground truth.
        kernels: Whose arithmetic validation follows: ``xnnpack``, or ``tflite_builtin`` for TFLite's own
            kernels.
    """

    observer: str = "auto"
    percentile: float = 99.999
    calibration_images: int = 512
    observe_iters: int = 0
    ranges: str = "learned"
    range_lr: float = 0.1
    freeze_ranges_at: int | None = None
    distillation: bool = True
    kernels: str = "xnnpack"

    def __post_init__(self) -> None:
        _one_of("quantization: observer", self.observer, OBSERVERS)
        _one_of("quantization: ranges", self.ranges, RANGES)
        _one_of("quantization: kernels", self.kernels, KERNELS)
        _number("quantization: percentile", self.percentile, above=50.0, most=100.0)
        _integer("quantization: calibration_images", self.calibration_images, least=1)
        _integer("quantization: observe_iters", self.observe_iters, least=0)
        _number("quantization: range_lr", self.range_lr, above=0.0, most=10.0)
        if self.freeze_ranges_at is not None:
            _integer("quantization: freeze_ranges_at", self.freeze_ranges_at, least=0)
        if self.observe_iters and self.observer in ("auto", "mse"):
            raise OptionError(
                f"quantization: observe_iters is above 0 with observer {self.observer}, whose search takes "
                "too long for every iteration; use percentile, moving_average or minmax"
            )
        if not isinstance(self.distillation, bool):
            raise OptionError(
                f"quantization: distillation is {self.distillation!r}; it must be true or false"
            )


@dataclass(frozen=True)
class ExportOptions:
    """What is written at the end of training.

    Attributes:
        sizes: Fixed input sizes, as ``HxW`` text, for which a file each is written; none if empty.
            None: 1080x1920 for a luma network of scale 2 (1080p to 4K), else 360x640.
        io: Type of the int8 files' input and output: ``uint8``, ``int8`` or ``float32``.
        calib: Folder or LMDB of LR images; needed if the network was trained in float.
        kernels: Sets of kernels for which the int8 files are verified: ``xnnpack``, ``tflite_builtin``.
        out: Folder; default: ``export`` in the experiment's folder.
    """

    sizes: tuple[str, ...] | None = None
    io: str = "uint8"
    calib: str | None = None
    kernels: tuple[str, ...] = KERNELS
    out: str | None = None

    def __post_init__(self) -> None:
        sizes = (self.sizes,) if isinstance(self.sizes, str) else self.sizes
        if sizes is not None and not isinstance(sizes, (list, tuple)):
            raise OptionError(
                f"export: sizes is {sizes!r}; it must be a list such as [360x640], or empty: []"
            )
        object.__setattr__(self, "sizes", None if sizes is None else tuple(sizes))
        for size in sizes or ():
            parse_size(size)
        _one_of("export: io", self.io, IO_DTYPES)
        kernels = (self.kernels,) if isinstance(self.kernels, str) else self.kernels or ()
        if not isinstance(kernels, (list, tuple)):
            raise OptionError(f"export: kernels is {kernels!r}; it must be a list of {', '.join(KERNELS)}")
        kernels = tuple(kernels)
        object.__setattr__(self, "kernels", kernels)
        for name in kernels or ("",):
            _one_of("export: kernels", name, KERNELS)
        for key, value in (("calib", self.calib), ("out", self.out)):
            if value is not None and not (isinstance(value, str) and value):
                raise OptionError(f"export: {key} is {value!r}; it must be a path as text, or ~")


@dataclass(frozen=True)
class TFLiteOptions:
    """How a TFLite file is run.

    Attributes:
        kernels: ``xnnpack``, or ``tflite_builtin`` for TFLite's own kernels.
        threads: Processor threads; ~: one for each that the process may use.
    """

    kernels: str = "xnnpack"
    threads: int | None = None

    def __post_init__(self) -> None:
        _one_of("tflite: kernels", self.kernels, KERNELS)
        if self.threads is None:
            object.__setattr__(self, "threads", usable_cpus())
        _integer("tflite: threads", self.threads, least=1)


@dataclass(frozen=True)
class SpeedOptions:
    """How MobileSRModel and QATSRModel take a training step. The defaults change results by rounding only.

    Attributes:
        channels_last: Memory order NHWC.
        amp: ``auto``: convolutions of a training step in bfloat16 (autocast) where the processor or GPU
            computes it in hardware; ``bfloat16``: everywhere; None: float32.
        compile: Compile network and loss with torch.compile, which needs a C++ compiler (GPU: Triton).
        fused_optimizer: One kernel for the whole step of Adam, AdamW or SGD.
        cuda_graphs: On a GPU, with ``compile``: replay the step as a CUDA graph.
        keep_memory: On Linux: do not give freed memory back to the system between layers.
    """

    channels_last: bool = True
    amp: str | None = None
    compile: bool = False
    fused_optimizer: bool = True
    cuda_graphs: bool = False
    keep_memory: bool = True

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name != "amp" and not isinstance(getattr(self, field.name), bool):
                value = getattr(self, field.name)
                raise OptionError(f"speed: {field.name} is {value!r}; it must be true or false")
        if self.amp not in (None, *AMP):
            raise OptionError(f"speed: amp is {self.amp!r}; it must be {' or '.join(AMP)}, or ~ for float32")
        if self.cuda_graphs and not self.compile:
            raise OptionError("speed: cuda_graphs needs compile: true as well")


def default_size(channels: int, scale: int) -> str:
    """Returns the size that an export takes where none is given; see ExportOptions."""
    return "1080x1920" if (channels, scale) == (1, 2) else "360x640"


def parse_size(text: str) -> tuple[int, int]:
    """Returns (height, width) of a text like ``360x640``.

    Raises:
        OptionError: it is not two positive integers with an x between them.
    """
    height, cross, width = str(text).lower().partition("x")
    if not (cross and height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise OptionError(f"size is {text!r}; it must be HEIGHTxWIDTH in pixels, for example 360x640")
    return int(height), int(width)


def parse_block(opt: Mapping[str, Any], name: str, block: type[Block]) -> Block:
    """Returns the block ``name`` of BasicSR's options as a ``block``; defaults where it is absent.

    Raises:
        OptionError: an unknown key or a value that is not allowed.
    """
    given = opt.get(name)
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise OptionError(f"{name}: is {given!r}; it must be a block of keys")
    known = [field.name for field in dataclasses.fields(block)]  # type: ignore[arg-type]
    check_keys(name, given, known)
    return block(**given)


def closest(key: object, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Returns the known key that ``key`` looks like; None if none does."""
    return next(iter(difflib.get_close_matches(str(key), list(known), n=1, cutoff=cutoff)), None)


def check_keys(where: str, given: Mapping[str, Any], known: list[str]) -> None:
    """Raises OptionError for the first key of ``given`` that is not ``known``."""
    for key in given:
        if key not in known:
            close = closest(key, known)
            hint = f", did you mean {close}?" if close else ";"
            raise OptionError(f"{where}: unknown key {key!r}{hint} Known keys: {', '.join(known)}")


# BasicSR's keys, and ours. Others are left alone unless they look like one of these.
_TOP_LEVEL = (
    *("name", "model_type", "scale", "num_gpu", "manual_seed", "datasets", "network_g", "network_d", "path"),
    *("train", "val", "logger", "dist_params", "find_unused_parameters", "quantization", "export", "tflite"),
    *("speed", "import"),
)


def check(opt: Mapping[str, Any]) -> None:
    """Checks what BasicSR does not: our blocks and misspelt top-level keys.

    Raises:
        OptionError: one line that names the key and what is allowed.
    """
    for key in opt:
        close = closest(key, _TOP_LEVEL, cutoff=0.8)
        if key not in _TOP_LEVEL and close:
            raise OptionError(f"unknown key {key!r}; did you mean {close}?")
    parse_block(opt, "quantization", QuantizationOptions)
    parse_block(opt, "tflite", TFLiteOptions)
    parse_block(opt, "speed", SpeedOptions)
    if opt.get("speed") and opt.get("model_type") not in FAST_MODELS:
        raise OptionError(
            f"speed: is for model_type {' and '.join(FAST_MODELS)}, not {opt.get('model_type')}"
        )
    if opt.get("export") is not None:
        _check_export(opt)


def _check_export(opt: Mapping[str, Any]) -> None:
    """Finds at the start what would stop the export at the end of a training."""
    options = parse_block(opt, "export", ExportOptions)
    for package in ("onnx", "onnx2tf", "tensorflow", "ai_edge_litert", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package.replace("_", "-"), "export")
    if opt.get("model_type") != "QATSRModel" and options.calib is None:
        raise OptionError(
            f"export: {opt.get('model_type')} trains in float, so the export needs images to find int8 "
            "ranges; set calib to a folder or LMDB of LR images, or leave the block out"
        )


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise OptionError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")


def _integer(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise OptionError(f"{name} is {value!r}; it must be an integer of at least {least}")


def _number(name: str, value: object, above: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not above < value <= most:
        raise OptionError(f"{name} is {value!r}; it must be above {above:g} and at most {most:g}")
