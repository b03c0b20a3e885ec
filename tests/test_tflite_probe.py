"""Files that would end the process that runs them: TFLite files that crash, ONNX files that read others."""

from __future__ import annotations

from pathlib import Path

import flatbuffers
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from test_export import Export, exported

from mobilesr_plugin.cli.main import main
from mobilesr_plugin.errors import DataError
from mobilesr_plugin.runtimes import OnnxRunner, TFLiteRunner

__all__ = ["exported"]  # a fixture

CUSTOM = 1  # the schema's QuantizationDetails.CustomQuantization


def crashing(content: bytes) -> bytes:
    """A well-formed file whose first tensor says that it has quantization details, which are not there."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    quantization = next(each.quantization for each in model.subgraphs[0].tensors if each.quantization)
    quantization.detailsType = CUSTOM + 1
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_a_file_that_crashes_the_interpreter_is_one_line(
    exported: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that runs the tests lives on, which is the point."""
    monkeypatch.chdir(tmp_path)
    Path("bad.tflite").write_bytes(crashing((exported(3).folder / "abpn_x3_int8.tflite").read_bytes()))
    for command in ("bench latency --size 24x32 --runs 3", "upscale photo.png --out new --model"):
        with pytest.raises(SystemExit) as left:
            main([*command.split(), "bad.tflite"])
        out, err = capsys.readouterr()
        assert (left.value.code, out) == (1, "")
        assert err == (
            "mobilesr: bad.tflite ends TFLite's interpreter with SIGSEGV, so it was not run here: it is "
            "damaged, or needs more memory than there is; export or copy the file again\n"
        )


def test_a_file_that_runs_on_no_image_is_one_line(exported: Export, tmp_path: Path) -> None:
    """LiteRT's reasons have several lines."""
    content = (exported(3).folder / "abpn_x3_int8.tflite").read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    convolution = next(op for op in model.subgraphs[0].operators if len(op.inputs) == 3)
    convolution.builtinOptions.strideH = 0
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "stride.tflite"
    path.write_bytes(bytes(builder.Output()))
    with pytest.raises(DataError) as told:
        TFLiteRunner(path)
    assert str(told.value).startswith(f"{path} is not a TFLite file that this machine can run: ")
    assert "stride_height > 0" in str(told.value)
    assert "\n" not in str(told.value)


def test_an_onnx_file_does_not_read_other_files(exported: Export, tmp_path: Path) -> None:
    source = exported(3).folder / "abpn_x3.onnx"
    model = onnx.load(str(source))
    weight = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    name, values = weight.name, onnx.numpy_helper.to_array(weight).copy()
    (tmp_path / "outside.bin").write_bytes(weight.raw_data)
    inside = tmp_path / "folder"
    inside.mkdir()
    onnx.external_data_helper.set_external_data(weight, location="../outside.bin")
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    path = inside / "hostile.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DataError) as told:
        OnnxRunner(path)
    assert str(told.value) == (
        f"{path} keeps weights ({name}) in another file, which is not read; write all into one file: "
        "onnx.save(onnx.load(path), path)"
    )
    assert values.any()
    assert OnnxRunner(source)(np.zeros((1, 8, 8, 3), np.uint8)).shape == (1, 24, 24, 3)
