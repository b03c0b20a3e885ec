"""The contract inside TFLite files: read back, and nothing that the interpreter computes with has moved."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from networks import noise
from test_export import SIZE, Export, exported, quantized_graph, save_checkpoint

from mobilesr_plugin import __version__, pipeline
from mobilesr_plugin.errors import DataError
from mobilesr_plugin.export import metadata
from mobilesr_plugin.export.metadata import read_contract, with_contract
from mobilesr_plugin.export.tflite_file import TensorFlowModel
from mobilesr_plugin.options import ExportOptions
from mobilesr_plugin.runtimes import TFLiteRunner
from mobilesr_plugin.verify.audit import audit
from mobilesr_plugin.verify.tflite_graph import read_operators

__all__ = ["exported"]  # a fixture


def test_contract_of_the_int8_files(exported: Export) -> None:
    folder = exported(3).folder
    found = read_contract(folder / "abpn_x3_int8.tflite")
    assert found is not None
    assert (found["model"], found["scale"], found["weights"]) == ("abpn_x3", 3, "int8")
    assert found["plugin"] == f"mobilesr-plugin {__version__}"
    assert found["verified_kernels"] == ["xnnpack", "tflite_builtin"]
    ckpt = folder.parent / "models" / "net_g_latest.pth"
    assert found["checkpoint_sha256"] == hashlib.sha256(ckpt.read_bytes()).hexdigest()
    ends = {"layout": "NHWC", "shape": [1, None, None, 3], "dtype": "uint8", "range": [0, 255], "pixel": "p"}
    assert ends.items() <= found["input"].items()
    assert ends.items() <= found["output"].items()
    fixed = read_contract(folder / f"abpn_x3_int8_{SIZE}.tflite")
    assert fixed is not None
    assert (fixed["input"]["shape"], fixed["output"]["shape"]) == ([1, 48, 64, 3], [1, 144, 192, 3])


@pytest.mark.parametrize("io", ["uint8", "int8", "float32"])
def test_contract_is_true(exported: Export, io: str) -> None:
    """Its types, scales and zero points are those of the file's own tensors."""
    path = exported(3, io=io).folder / "abpn_x3_int8.tflite"
    found = read_contract(path)
    assert found is not None
    operators = read_operators(path.read_bytes())
    for end, tensor in (("input", operators[0].inputs[0]), ("output", operators[-1].outputs[0])):
        assert found[end]["dtype"] == tensor.dtype == io
        if io == "float32":
            assert "scale" not in found[end]
        else:
            assert [found[end]["scale"]] == list(tensor.scale)
            assert [found[end]["zero_point"]] == list(tensor.zero_point)


def test_float_files_have_one_too(exported: Export) -> None:
    for kind, weights in (("fp32", "float32"), ("fp16", "float16")):
        found = read_contract(exported(3).folder / f"abpn_x3_{kind}.tflite")
        assert found is not None
        assert (found["weights"], found["input"]["dtype"], found["verified_kernels"]) == (
            weights,
            "float32",
            [],
        )


def test_the_file_as_verified_is_the_end_of_the_new_one(exported: Export, tmp_path: Path) -> None:
    path = exported(3).folder / "abpn_x3_int8.tflite"
    content, described = path.read_bytes(), {"format": 1, "text": "grün" * 99}
    longer = with_contract(content, described)
    assert longer.endswith(content)
    assert (len(longer) - len(content)) % 16 == 0  # constants keep their alignment
    assert longer == with_contract(content, described)
    assert audit(longer, quantized_graph(path.parent.parent / "models" / "net_g_latest.pth")) == []
    (tmp_path / "longer.tflite").write_bytes(longer)
    image = noise(31, 44)[None]
    for kernels in ("xnnpack", "tflite_builtin"):
        before, after = (
            TFLiteRunner(each, kernels=kernels)(image) for each in (path, tmp_path / "longer.tflite")
        )
        assert np.array_equal(before, after)


def test_other_metadata_stays(exported: Export) -> None:
    from ai_edge_litert import schema_py_generated as schema

    content = (exported(3).folder / "abpn_x3_int8.tflite").read_bytes()
    model = schema.Model.GetRootAsModel(content, 0)
    held = {model.Metadata(index).Name().decode() for index in range(model.MetadataLength())}
    assert held == {"min_runtime_version", "CONVERSION_METADATA", metadata.NAME}
    assert model.SignatureDefs(0).SignatureKey() == b"serving_default"
    assert model.Description() == b"MLIR Converted."


def test_files_without_one(exported: Export, tmp_path: Path) -> None:
    onnx = exported(3).folder / "abpn_x3.onnx"
    with pytest.raises(DataError, match="no TFLite file"):
        read_contract(onnx)
    with pytest.raises(DataError, match="cannot be read"):
        read_contract(tmp_path / "missing.tflite")
    content = (exported(3).folder / "abpn_x3_int8.tflite").read_bytes()
    name = content.index(b"mobilesr\0")
    foreign = tmp_path / "foreign.tflite"
    foreign.write_bytes(content[:name] + b"anything" + content[name + 8 :])
    assert read_contract(foreign) is None
    foreign.write_bytes(content.replace(b'{"checkpoint', b'{{"checkpoin', 1))
    with pytest.raises(DataError, match="metadata is damaged"):
        read_contract(foreign)
    foreign.write_bytes(content.replace(b'"format":1', b'"format":9', 1))
    with pytest.raises(DataError, match="format 9"):
        read_contract(foreign)


@pytest.mark.slow
def test_a_file_that_differs_names_no_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ckpt = save_checkpoint(tmp_path / "models" / "net_g_latest.pth", 2, quantized=True)
    convert = TensorFlowModel.int8_file

    def damaged(self: TensorFlowModel, **arguments: object) -> bytes:
        content = bytearray(convert(self, **arguments))
        weights = next(op for op in read_operators(bytes(content)) if op.kind == "CONV_2D").inputs[1]
        assert weights.values is not None
        content[content.index(weights.values.tobytes())] ^= 0x40
        return bytes(content)

    monkeypatch.setattr(TensorFlowModel, "int8_file", damaged)
    with pytest.raises(pipeline.VerificationError):
        pipeline.export(ckpt, ExportOptions(sizes=()))
    found = read_contract(tmp_path / "export" / "abpn_x2_int8.tflite")
    assert found is not None
    assert found["verified_kernels"] == []
    assert "NOT VERIFIED. Do not ship" in (tmp_path / "export" / "MODEL_CARD.md").read_text()
