"""ONNX to TFLite through onnx2tf, which no other module imports; nor does another here import tensorflow.

onnx2tf drops QuantizeLinear and DequantizeLinear pairs and would calibrate anew. Here its handler of
QuantizeLinear is replaced, while a conversion runs, by one that emits TensorFlow's fake quantization
with the same range; TFLiteConverter then takes every scale and zero point over, to the last bit.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mobilesr_plugin.errors import ExportError, MissingExtraError
from mobilesr_plugin.export.float_ends import through_float
from mobilesr_plugin.export.onnx_file import INPUT, OUTPUT
from mobilesr_plugin.graph.ops import QParams
from mobilesr_plugin.native_output import silenced_native_output

Size = tuple[int, int]


class TensorFlowModel:
    """A network in TensorFlow, made from an ONNX file by onnx2tf; (N, H, W, C) float32 in and out.

    Args:
        onnx_path: File written by ``write_onnx`` with dynamic height and width; of a quantized graph,
            with ``integer_weights=False``.

    Raises:
        MissingExtraError: onnx2tf or tensorflow is not installed.
        ExportError: the conversion failed.
    """

    def __init__(self, onnx_path: Path) -> None:
        with silenced_native_output():
            tensorflow, onnx2tf = _import()
            self._tensorflow = tensorflow
            # onnx2tf prints tracebacks of what fails; one line tells enough.
            printed = contextlib.redirect_stdout(io.StringIO())
            with printed, tempfile.TemporaryDirectory() as folder, _quantize_as_fake_quant(tensorflow):
                # A copy, because onnx2tf may rewrite its input file in place.
                copied = shutil.copy(onnx_path, Path(folder) / "network.onnx")
                try:
                    self._model = onnx2tf.convert(
                        input_onnx_file_path=str(copied),
                        output_folder_path=str(Path(folder) / "saved_model"),
                        disable_model_save=True,
                        not_use_onnxsim=True,
                        non_verbose=True,
                        verbosity="error",
                    )
                except SystemExit as error:  # its way to fail
                    raise ExportError(
                        f"onnx2tf could not convert {onnx_path.name} (exit code {error.code})"
                    ) from error
                except Exception as error:
                    reason = " ".join(str(error).split())
                    raise ExportError(f"onnx2tf could not convert {onnx_path.name}: {reason}") from error

    def float_file(self, *, half: bool = False) -> bytes:
        """Returns a TFLite file with float32 ends, for any size; its weights are float16 if ``half``."""
        converter = self._converter(None)
        if half:
            converter.optimizations = [self._tensorflow.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [self._tensorflow.float16]
        return self._convert(converter)

    def int8_file(self, *, size: Size | None = None, io: str = "uint8") -> bytes:
        """Returns an int8 TFLite file of a network with fake quantization.

        Args:
            size: Fixed (height, width); None: any.
            io: ``uint8``, ``int8`` or ``float32`` ends; see float_ends.
        """
        converter = self._converter(size)
        converter.optimizations = [self._tensorflow.lite.Optimize.DEFAULT]
        ends = self._tensorflow.dtypes.as_dtype(io)
        converter.inference_input_type = converter.inference_output_type = ends
        content = self._convert(converter)
        return through_float(content) if io == "uint8" else content

    def _converter(self, size: Size | None) -> Any:
        tensorflow = self._tensorflow
        channels = self._model.inputs[0].shape[-1]
        shape = [1, *(size or (None, None)), channels]

        @tensorflow.function(input_signature=[tensorflow.TensorSpec(shape, tensorflow.float32, name=INPUT)])
        def run(image: Any) -> Any:
            return {OUTPUT: self._model(image)}

        return tensorflow.lite.TFLiteConverter.from_concrete_functions(
            [run.get_concrete_function()], self._model
        )

    def _convert(self, converter: Any) -> bytes:
        try:
            with silenced_native_output(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "statistics were expected": the ranges come from the graph
                return converter.convert()
        except Exception as error:  # TensorFlow's converter raises many types
            reason = " ".join(str(error).split())[:300]
            raise ExportError(f"TensorFlow's converter failed: {reason}") from error


def _import() -> tuple[Any, Any]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for pool in ("INTRAOP", "INTEROP"):  # a conversion computes next to nothing, and idle threads spin
        os.environ.setdefault(f"TF_NUM_{pool}_THREADS", "1")
    try:
        import tensorflow
    except ImportError as error:
        raise MissingExtraError("tensorflow", "export") from error
    try:
        import onnx2tf
    except ImportError as error:
        raise MissingExtraError("onnx2tf", "export") from error
    return tensorflow, onnx2tf


@contextlib.contextmanager
def _quantize_as_fake_quant(tensorflow: Any) -> Iterator[None]:
    from onnx2tf.ops import QuantizeLinear

    def make_node(*, graph_node: Any, tf_layers_dict: dict[str, Any], **_unused: Any) -> None:
        source, scale, zero_point = graph_node.inputs
        (target,) = graph_node.outputs
        low, high = QParams(float(scale.values), int(zero_point.values)).range
        read = tf_layers_dict[source.name]
        tf_layers_dict[target.name] = {
            "optype": graph_node.op,
            "shape": target.shape,
            "dtype": target.dtype,
            "is_dequantized": True,  # so that the DequantizeLinear behind it adds nothing
            "nhwc": read.get("nhwc", False),
            "tf_node": tensorflow.quantization.fake_quant_with_min_max_args(
                read["tf_node"], min=low, max=high
            ),
            "tf_node_info": {},
        }

    original = QuantizeLinear.make_node
    QuantizeLinear.make_node = make_node
    try:
        yield
    finally:
        QuantizeLinear.make_node = original
