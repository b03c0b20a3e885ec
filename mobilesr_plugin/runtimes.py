"""Runs exported files: uint8 NHWC pixels in, uint8 NHWC pixels out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mobilesr_plugin.cpus import usable_cpus
from mobilesr_plugin.errors import DataError, MissingExtraError, OptionError
from mobilesr_plugin.native_output import silenced_native_output
from mobilesr_plugin.options import KERNELS
from mobilesr_plugin.tflite_probe import check_survives

_PIXEL_TYPES = (np.uint8, np.int8, np.float32)


class TFLiteRunner:
    """Runs a TFLite file with uint8, int8 or float32 ends.

    Args:
        source: File, which is run in a process of its own first (see ``tflite_probe``), or its bytes, which
            are not: they were made or checked here.
        threads: Processor threads; None: one for each processor that this process may use.
        kernels: ``xnnpack``, or ``tflite_builtin`` for TFLite's own kernels.

    Raises:
        MissingExtraError: ai-edge-litert is not installed.
        DataError: no such file, not a TFLite file, or one that crashes the interpreter.
    """

    def __init__(self, source: Path | bytes, *, threads: int | None = None, kernels: str = "xnnpack") -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        except ImportError as error:
            raise MissingExtraError("ai-edge-litert", "export") from error
        if kernels not in KERNELS:
            raise OptionError(f"kernels is {kernels!r}; it must be one of {', '.join(KERNELS)}")
        self.name = "the TFLite file" if isinstance(source, bytes) else str(source)
        if isinstance(source, Path):
            try:
                source = source.read_bytes()
            except OSError as error:
                raise DataError(
                    f"{self.name} cannot be read: {error.strerror}; mobilesr-export writes it"
                ) from error
            check_survives(source, self.name, kernels)
        self.threads = threads or usable_cpus()
        resolver = (
            OpResolverType.AUTO if kernels == "xnnpack" else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
        try:
            with silenced_native_output():
                self._interpreter = Interpreter(
                    model_content=source, num_threads=self.threads, experimental_op_resolver_type=resolver
                )
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"{self.name} is not a TFLite file that this machine can run: {reason}"
            ) from error
        self.input = self._image_input()
        self._check_result()
        self._allocated = tuple(self.input["shape"])
        signature = self.input["shape_signature"]
        self.channels = int(signature[3])
        self.fixed_size = None if -1 in signature else (int(signature[1]), int(signature[2]))
        dtypes = {detail["dtype"] for detail in self._interpreter.get_tensor_details()}
        self.kind = "int8" if np.int8 in dtypes else "float16" if np.float16 in dtypes else "float"

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Runs (1, H, W, C) uint8 pixels; returns (1, H * s, W * s, C) uint8.

        Raises:
            DataError: the file is made for another size.
        """
        return self.outputs(pixels)[0]

    def outputs(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Runs (1, H, W, C) uint8 pixels; returns every output of the file, the first as pixels."""
        first, *others = self._run(_encode(pixels, self.input))
        return [_decode(first), *others]

    def real(self, image: np.ndarray) -> np.ndarray:
        """Runs a file with float32 ends on (1, H, W, C) float32 in [0, 1], and returns the like."""
        return self._run(image)[0]

    def _run(self, pixels: np.ndarray) -> list[np.ndarray]:
        if self.fixed_size not in (None, pixels.shape[1:3]):
            height, width = self.fixed_size
            raise DataError(
                f"{self.name} takes images of {height}x{width} only, got "
                f"{pixels.shape[1]}x{pixels.shape[2]}; use the file without a size in its name"
            )
        try:
            if self._allocated != pixels.shape:
                self._interpreter.resize_tensor_input(self.input["index"], pixels.shape)
                with silenced_native_output():
                    self._interpreter.allocate_tensors()
                self._allocated = pixels.shape
            self._interpreter.set_tensor(self.input["index"], pixels)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            size = "x".join(map(str, pixels.shape[1:3]))
            reason = " ".join(str(error).split())
            raise DataError(f"{self.name} does not run on an image of {size}: {reason}") from error
        details = self._interpreter.get_output_details()
        return [self._interpreter.get_tensor(detail["index"]) for detail in details]

    def invoke(self) -> None:
        """Runs the file once more on the pixels it was last given; for timing."""
        self._interpreter.invoke()

    def nodes(self) -> list[dict[str, Any]]:
        """Returns the file's operators, then one DELEGATE for each part that XNNPACK took."""
        return list(self._interpreter._get_ops_details())

    def results(self) -> list[dict[str, Any]]:
        """Returns the runtime's description of each output: type, shape, quantization."""
        return list(self._interpreter.get_output_details())

    def shapes(self) -> list[tuple[int, ...]]:
        """Returns the shape of every tensor, as of the last run; () for one that has none yet."""
        details = {detail["index"]: detail for detail in self._interpreter.get_tensor_details()}
        return [
            tuple(map(int, details[index]["shape"])) if index in details else ()
            for index in range(max(details) + 1)
        ]

    def _check_result(self) -> None:
        """Checks the type of the first result.

        Raises:
            DataError: pixels are of no such type.
        """
        dtype = self._interpreter.get_output_details()[0]["dtype"]
        if dtype not in _PIXEL_TYPES:
            raise DataError(
                f"{self.name} gives {np.dtype(dtype).name}; it must be uint8, int8 or float32 in [0, 1]"
            )

    def _image_input(self) -> dict[str, Any]:
        """Returns the only input, an image.

        Raises:
            DataError: the file takes something else.
        """
        inputs = self._interpreter.get_input_details()
        if len(inputs) != 1:
            raise DataError(
                f"{self.name} has {len(inputs)} inputs; it must have one, an image (1, H, W, 1 or 3)"
            )
        signature, dtype = inputs[0]["shape_signature"], inputs[0]["dtype"]
        if len(signature) != 4 or signature[0] not in (1, -1) or signature[3] not in (1, 3):
            got = ", ".join("?" if size == -1 else str(size) for size in signature)
            raise DataError(
                f"{self.name} takes ({got}); it must be an image (1, H, W, 1 or 3), channels last"
            )
        if dtype not in _PIXEL_TYPES:
            raise DataError(
                f"{self.name} takes {np.dtype(dtype).name}; it must be uint8, int8 or float32 in [0, 1]"
            )
        return dict(inputs[0])


class OnnxRunner:
    """Runs an ONNX file with float32 ends in [0, 1].

    Args:
        path: File.
        threads: Processor threads; None: one for each processor that this process may use.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        DataError: no such file, not an ONNX file, or one whose weights lie in other files.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError("onnxruntime", "export") from error
        _refuse_other_files(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cpus()
        for pool in (
            "intra_op",
            "inter_op",
        ):  # beside a busy process a spinning thread delays the working one
            options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own types, one for each way to fail
            raise DataError(
                f"{path} is not an ONNX file that can be run: {str(error).splitlines()[0]}"
            ) from error
        image = self._session.get_inputs()[0]
        self._input, self.channels = image.name, int(image.shape[1])
        height, width = image.shape[2:]  # whole numbers, or names of what may vary
        self.fixed_size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        # ONNX Runtime does not show a file's operators; their names stand in it as plain text.
        self.kind = "int8" if b"DequantizeLinear" in path.read_bytes() else "float"

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Runs (N, H, W, C) uint8 pixels; returns (N, H * s, W * s, C) uint8."""
        return to_uint8(self.real(pixels.astype(np.float32) / np.float32(255)))

    def real(self, image: np.ndarray) -> np.ndarray:
        """Runs (N, H, W, C) float32 in [0, 1]; returns (N, H * s, W * s, C) float32."""
        channels_first = np.ascontiguousarray(image.transpose(0, 3, 1, 2))
        (result,) = self._session.run(None, {self._input: channels_first})
        return np.asarray(result).transpose(0, 2, 3, 1)


def _refuse_other_files(path: Path) -> None:
    """Refuses an ONNX file that would have ONNX Runtime read other files, which may lie anywhere.

    Raises:
        DataError: it names such files.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; mobilesr-export writes it") from error
    if b"location" not in content:  # the key under which a tensor names its file
        return
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "export") from error
    try:
        model = onnx.load_from_string(content)
    except Exception:  # told by ONNX Runtime
        return
    names = [each.name for each in model.graph.initializer if each.data_location == onnx.TensorProto.EXTERNAL]
    if names:
        raise DataError(
            f"{path} keeps weights ({names[0]}) in another file, which is not read; write all into one file: "
            "onnx.save(onnx.load(path), path)"
        )


def to_uint8(real: np.ndarray) -> np.ndarray:
    """Rounds values in [0, 1] to pixels, as BasicSR's ``tensor2img`` does."""
    return np.rint(np.clip(real, 0, 1) * 255).astype(np.uint8)


def _encode(pixels: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    match detail["dtype"]:
        case np.uint8:
            return pixels
        case np.int8:  # the same bytes with the sign bit turned
            return (pixels ^ 0x80).view(np.int8)
    return pixels.astype(np.float32) / np.float32(255)


def _decode(values: np.ndarray) -> np.ndarray:
    match values.dtype:
        case np.uint8:
            return values
        case np.int8:
            return values.view(np.uint8) ^ 0x80
    return to_uint8(values)
