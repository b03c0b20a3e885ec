"""A TFLite file as objects that can be changed and written again."""

from __future__ import annotations

from typing import Any

import numpy as np

from mobilesr_plugin.errors import DataError, MissingExtraError

ALIGNMENT = 16  # of a buffer's bytes: force_align in the schema
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")


class TFLiteModel:
    """The first graph of a TFLite file.

    Attributes:
        graph: Its operators, tensors, inputs and outputs, as the schema's generated classes have them.
        schema: Its generated classes.
        kinds: TFLite's name of each operator, such as ``CONV_2D``, in order of execution.

    Raises:
        MissingExtraError: ai-edge-litert is not installed.
        DataError: it is no TFLite file.
    """

    def __init__(self, content: bytes) -> None:
        try:
            from ai_edge_litert import schema_py_generated as schema
        except ImportError as error:
            raise MissingExtraError("ai-edge-litert", "export") from error
        if content[4:8] != b"TFL3":
            raise DataError("the file is no TFLite file: the identifier TFL3 is missing")
        self._size, self.schema = len(content), schema
        self.model = schema.ModelT.InitFromPackedBuf(content, 0)
        self.graph = self.model.subgraphs[0]
        named = {value: name for name, value in vars(schema.BuiltinOperator).items() if name[0] != "_"}
        self.kinds = [named[self._code(operator)] for operator in self.graph.operators]

    def _code(self, operator: Any) -> int:
        code = self.model.operatorCodes[operator.opcodeIndex]
        return int(max(code.builtinCode, code.deprecatedBuiltinCode))

    def inputs(self, index: int) -> list[int]:
        """Returns the tensors that operator ``index`` reads and another operator or the caller wrote."""
        return [tensor for tensor in self.graph.operators[index].inputs if not self.constant(tensor)]

    def outputs(self, index: int) -> list[int]:
        """Returns the tensors that operator ``index`` writes."""
        return [int(tensor) for tensor in self.graph.operators[index].outputs]

    def constant(self, tensor: int) -> bool:
        """Whether a tensor's values are in the file; also for -1, which stands for an absent one."""
        if tensor < 0:
            return True
        data = self.model.buffers[self.graph.tensors[tensor].buffer].data
        return data is not None and len(data) > 0

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Returns a tensor's shape; -1 for a dimension that may vary."""
        described = self.graph.tensors[tensor]
        sizes = described.shape if described.shapeSignature is None else described.shapeSignature
        return () if sizes is None else tuple(int(size) for size in sizes)

    def scale(self, tensor: int) -> np.ndarray:
        """Returns a tensor's quantization scales, (1,) or (C,); (0,) if it is not quantized."""
        quantization = self.graph.tensors[tensor].quantization
        scales = None if quantization is None else quantization.scale
        return np.zeros(0, np.float32) if scales is None else np.asarray(scales, np.float32)

    def operator_code(self, kind: str, version: int) -> int:
        """Returns the place of an operator's kind in the file's list, of at least that version; adds it."""
        builtin = getattr(self.schema.BuiltinOperator, kind)
        codes = self.model.operatorCodes
        for index, code in enumerate(codes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin:
                code.version = max(code.version, version)
                return index
        added = self.schema.OperatorCodeT()
        added.builtinCode, added.deprecatedBuiltinCode = builtin, min(builtin, 127)
        added.version = version
        codes.append(added)
        return len(codes) - 1

    def packed(self, *, signatures: bool = False) -> bytes:
        """Returns the file.

        Args:
            signatures: Whether to keep them; they name tensors, which must all be there still.
        """
        import flatbuffers

        class Builder(flatbuffers.Builder):
            """Puts constants where TFLite's schema wants them, which its generated classes do not."""

            def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:
                return super().StartVector(elemSize, numElems, ALIGNMENT if elemSize == 1 else alignment)

        if not signatures:
            self.model.signatureDefs = None
        builder = Builder(self._size + 4096)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
