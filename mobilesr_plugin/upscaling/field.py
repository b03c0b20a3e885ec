"""The receptive field of a network, from the deploy graph of a checkpoint or from a file's operators."""

from __future__ import annotations

from torch import nn

from mobilesr_plugin.errors import MissingExtraError, UnsupportedNetworkError
from mobilesr_plugin.graph import ops
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.graph.rewrite import simplify
from mobilesr_plugin.graph.trace import trace
from mobilesr_plugin.networks_from_files import FileNetwork
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.upscaling.field_of_onnx import field_of_onnx
from mobilesr_plugin.upscaling.field_of_tflite import field_of_tflite
from mobilesr_plugin.upscaling.reach import Field, Memory, NotTileableError, Reach, union


def receptive_field(file: FileNetwork) -> Field | None:
    """Returns the receptive field of a network; None where it cannot be told from its operators."""
    try:
        match file.origin:
            case IntegerNetwork():
                return field_of_graph(file.origin.graph)
            case nn.Module():
                return field_of_graph(lower(simplify(trace(file.origin))))
        content = file.path.read_bytes()
        return field_of_tflite(content) if file.path.suffix == ".tflite" else field_of_onnx(content)
    except (NotTileableError, UnsupportedNetworkError, MissingExtraError):
        return None


def field_of_graph(graph: ops.Graph) -> Field:
    """Returns the receptive field of a deploy graph; of kernels that are not square the longer side counts.

    Raises:
        NotTileableError: an operator is not known to look at a fixed neighbourhood only.
    """
    reach: dict[str, Reach] = {}
    memory = Memory()
    for op in graph:
        sources = [reach[name] for name in op.inputs]
        match op:
            case ops.Input():
                reach[op.name] = Reach()
            case ops.Conv():
                memory.convolution(op.weight.shape, sources[0].factor)
                reach[op.name] = sources[0].convolution(max(op.weight.shape[2:]))
            case ops.DepthToSpace():
                reach[op.name] = sources[0].repeated(op.block)
            case ops.ResizeBilinear():
                reach[op.name] = sources[0].resized(op.factor, neighbours=1)
            case _ if isinstance(op, ops.POINTWISE):
                reach[op.name] = union(sources)
            case _:
                raise NotTileableError(
                    f"{type(op).__name__} is not known to look at a fixed neighbourhood only"
                )
    return reach[graph.output.name].field(memory)
