"""Imports of other projects' checkpoints: weights, functions, and what is said when something is wrong."""

from __future__ import annotations

import itertools
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_originals as originals
import torch
from float_bounds import rounding_bound
from networks import ABPN, SESR, noise, seeded, tensor
from test_reference import published as published_abpn  # noqa: F401  (a fixture)

from mobilesr_plugin import checkpoint
from mobilesr_plugin.cli.main import main
from mobilesr_plugin.data.images import encode_png
from mobilesr_plugin.data.samples import sample_images
from mobilesr_plugin.errors import MissingExtraError
from mobilesr_plugin.importers.formats import FORMATS
from mobilesr_plugin.importers.importing import _SAMPLES, import_checkpoint
from mobilesr_plugin.options import ExportOptions
from mobilesr_plugin.pipeline import prepare
from mobilesr_plugin.quantization.integer_network import IntegerNetwork

from basicsr.archs import build_network  # isort: skip  (needs the repairs of networks)

IMAGE = noise(37, 45)


@pytest.fixture(scope="module")
def saved_abpn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("abpn") / "best_status"
    originals.abpn().save(folder)
    return folder


@pytest.fixture(scope="module")
def saved_sesr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sesr") / "SESR_m3"
    model = originals.sesr()
    model.save(folder)
    model.save_weights(folder / "model_weights")
    return folder


def failure(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code and the one line on stderr of ``mobilesr import``."""
    with pytest.raises(SystemExit) as stopped:
        main(["import", *map(str, arguments)])
    (line,) = capsys.readouterr().err.splitlines()
    return stopped.value.code, line


def result(network: torch.nn.Module, image: np.ndarray = IMAGE) -> np.ndarray:
    with torch.no_grad():
        return network(tensor(image)).permute(0, 2, 3, 1).numpy()


def luma_result(network: torch.nn.Module) -> np.ndarray:
    return result(network, IMAGE[..., :1])


# ABPN


@pytest.mark.parametrize("part", ["", "variables", "variables/variables", "variables/variables.index"])
def test_published_abpn_equals_the_stored_weights(
    shared_data: Path,
    published_abpn: ABPN,  # noqa: F811
    part: str,
    tmp_path: Path,
) -> None:
    source = shared_data.parent / "reference" / "savedmodel" / part
    imported = import_checkpoint("tf-abpn", source, tmp_path / "abpn.pth")
    restored = checkpoint.restore(tmp_path / "abpn.pth")
    expected = published_abpn.state_dict()
    got = restored.float_network.state_dict()
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert torch.equal(got[name], value), name
    assert (restored.name, restored.scale, imported.num_weights) == ("abpn_x3", 3, 42_539)
    assert imported.steps < 0.01
    assert imported.judged_by == "TensorFlow's operators on its variables"


@pytest.mark.parametrize(
    ("scale", "widths"),
    [
        (3, (27, 27, 27)),
        *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in ((2, (6, 6)), (4, (8,)))),
    ],
)
def test_abpn_of_other_sizes(scale: int, widths: tuple[int, ...], tmp_path: Path) -> None:
    model = originals.abpn(scale=scale, widths=widths)
    model.save(tmp_path / "model")
    imported = import_checkpoint("tf-abpn", tmp_path / "model", tmp_path / "x.pth")
    sizes = [imported.network_g[key] for key in ("num_feat", "num_block", "upscale")]
    assert sizes == [widths[0], len(widths) - 1, scale]
    assert imported.judged_by == "its serving signature"
    expected = model(IMAGE[None].astype(np.float32)).numpy() / 255
    got = result(checkpoint.restore(tmp_path / "x.pth").float_network)
    assert np.abs(got - expected).max() < 1e-5
    assert imported.steps < 0.01
    assert imported.psnr > 100


def test_imported_abpn_exports_without_an_option_file(
    saved_abpn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "calib").mkdir()
    (tmp_path / "calib" / "a.png").write_bytes(encode_png(noise(48, 48)))
    out = tmp_path / "abpn.pth"
    main_without_failure(["import", "tf-abpn", str(saved_abpn), "--out", str(out)])
    printed = capsys.readouterr().out
    assert f"{out}  ABPN x3, num_feat 8, num_block 2; 9,951 weights" in printed
    assert "verified against its serving signature: largest difference" in printed
    arguments = ["--calib", str(tmp_path / "calib"), "--size", "24x32", "--out", str(tmp_path / "device")]
    main_without_failure(["export", "--ckpt", str(out), *arguments])
    assert "abpn_x3_int8_24x32.tflite" in capsys.readouterr().out
    assert not (tmp_path / "device" / "UNVERIFIED").exists()


def main_without_failure(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 0


# SESR


@pytest.mark.parametrize(
    ("scale", "form", "part"),  # part: the SavedModel with its signature; variables alone
    [
        (2, "collapsed", ""),
        (4, "expanded", "model_weights"),
        *(
            pytest.param(scale, form, part, marks=pytest.mark.slow)
            for scale, form, part in itertools.product(
                (2, 4), ("collapsed", "expanded"), ("", "model_weights")
            )
            if (scale, form, part) not in ((2, "collapsed", ""), (4, "expanded", "model_weights"))
        ),
    ],
)
def test_sesr(scale: int, form: str, part: str, tmp_path: Path) -> None:
    model = originals.sesr(scale=scale, form=form)
    if part:
        model.save_weights(tmp_path / "model" / part)
    else:
        model.save(tmp_path / "model")
    imported = import_checkpoint("tf-sesr", tmp_path / "model" / part, tmp_path / "x.pth")
    expected_g = {"variant": "M3", "upscale": scale, "activation": "prelu", "num_in_ch": 1}
    assert expected_g.items() <= imported.network_g.items()
    assert imported.network_g.get("bias", False) == (form == "expanded")
    assert (imported.judged_by == "its serving signature") == (not part)
    original = model(IMAGE[None, ..., :1].astype(np.float32) / 255).numpy()
    inner = slice(9 * scale, -9 * scale)  # beyond the reach of the border of the offset
    restored = checkpoint.restore(tmp_path / "x.pth")
    difference = np.abs(luma_result(restored.float_network) - original) * 255
    assert restored.name == f"sesr_m3_x{scale}"
    if form == "expanded":
        assert difference[:, inner, inner].max() < 0.002
        assert difference.max() < 0.2
    else:
        assert 0.01 < difference.max() < 0.5  # without biases the other offset stays


def test_sesr_collapsed_is_exact_but_for_the_offset(tmp_path: Path) -> None:
    """The weights alone: with the original's offset put back the function is the same to float rounding."""
    model = originals.sesr(scale=4)
    model.save_weights(tmp_path / "w")
    import_checkpoint("tf-sesr", tmp_path / "w", tmp_path / "x.pth")
    network = checkpoint.restore(tmp_path / "x.pth").float_network
    network.conv_first.register_forward_pre_hook(lambda _, inputs: (inputs[0] + 128 / 255 - 0.5,))
    original = model(IMAGE[None, ..., :1].astype(np.float32) / 255).numpy()
    assert np.abs(luma_result(network) - original).max() < 1e-5


@pytest.mark.slow
def test_sesr_trains_on_from_its_import(saved_sesr: Path, tmp_path: Path) -> None:
    """The import's plain kernels load strictly into the network of the option files, which expands them."""
    import_checkpoint("tf-sesr", saved_sesr, tmp_path / "x.pth")
    network = SESR(1, variant="M3", upscale=2, linear_block="collapsed").eval()
    checkpoint.load_into(network, checkpoint.load_params(tmp_path / "x.pth"), tmp_path / "x.pth")
    assert network.body[0].expand.shape[0] == 256
    imported = checkpoint.restore(tmp_path / "x.pth").float_network
    assert np.abs(luma_result(network) - luma_result(imported)).max() < 1e-5


def test_sesr_trained_for_int8_has_relu_and_a_note(tmp_path: Path) -> None:
    originals.sesr(quantized=True).save(tmp_path / "model")
    imported = import_checkpoint("tf-sesr", tmp_path / "model", tmp_path / "x.pth")
    assert imported.network_g["activation"] == "relu"
    assert any("int8 ranges are left out" in note for note in imported.notes)
    assert not any("activations" in name for name in checkpoint.load_params(tmp_path / "x.pth"))


@pytest.mark.slow
def test_imported_sesr_calibrates_on_luma_of_colour_pictures(tmp_path: Path) -> None:
    originals.sesr(quantized=True).save_weights(tmp_path / "w")
    import_checkpoint("tf-sesr", tmp_path / "w", tmp_path / "x.pth")
    (tmp_path / "calib").mkdir()
    for seed in range(3):
        (tmp_path / "calib" / f"{seed}.png").write_bytes(encode_png(noise(48, 48, seed)))
    prepared = prepare(tmp_path / "x.pth", ExportOptions(calib=str(tmp_path / "calib")), None)
    expected = luma_result(prepared.float_network)
    got = luma_result(IntegerNetwork(prepared.quantized))
    assert prepared.quantized.input.channels == 1
    assert 10 * np.log10(1 / np.mean((got - expected) ** 2)) > 35


def test_sesr_of_early_commits_and_other_sizes(tmp_path: Path) -> None:
    originals.sesr(early=True, num_block=4, num_feat=12, num_expand=32).save_weights(tmp_path / "w")
    imported = import_checkpoint("tf-sesr", tmp_path / "w", tmp_path / "x.pth")
    sizes = {"variant": "M5", "num_block": 4, "num_feat": 12, "num_expand": 32, "activation": "prelu"}
    assert sizes.items() <= imported.network_g.items()
    # This one amplifies the other offset, so it got biases.
    assert imported.network_g["bias"] is True
    assert imported.notes == ("it has biases: to train from it, set bias: true in network_g",)


# SRVGGNetCompact


def srvgg(path: Path, entry: str | None = "params", **sizes: object) -> torch.nn.Module:
    network_g = {"type": "SRVGGNetCompact", "num_feat": 12, "num_conv": 3, "upscale": 4} | sizes
    network = seeded(build_network(network_g))
    state = network.state_dict()
    torch.save({entry: state} if entry else state, path)
    return network


@pytest.mark.parametrize(
    ("entry", "sizes"),
    [("params", {}), ("params_ema", {"upscale": 2, "num_conv": 0}), (None, {"upscale": 1, "num_feat": 5})],
)
def test_srvgg(entry: str | None, sizes: dict[str, int], tmp_path: Path) -> None:
    network = srvgg(tmp_path / "published.pth", entry, **sizes)
    imported = import_checkpoint("srvgg", tmp_path / "published.pth", tmp_path / "x.pth")
    wanted = {"num_in_ch": 3, "num_feat": 12, "num_conv": 3, "upscale": 4, "act_type": "prelu"} | sizes
    assert wanted.items() <= imported.network_g.items()
    # The original is run on images in another memory order, whose sums are in another order too.
    samples = [tensor(image) for name, image in sample_images().items() if name in _SAMPLES]
    bound = max(rounding_bound(network, image) for image in samples)
    assert bound < 0.5 / 255
    assert imported.steps <= 255 * bound
    assert imported.psnr >= -20 * np.log10(bound)
    restored = checkpoint.restore(tmp_path / "x.pth")
    for name, value in network.state_dict().items():
        assert torch.equal(restored.float_network.state_dict()[name], value), name


@pytest.mark.parametrize("act_type", ["relu", "leakyrelu"])
def test_srvgg_without_slopes_needs_a_word(
    act_type: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "published.pth", tmp_path / "x.pth"
    network = srvgg(source, act_type=act_type)
    code, line = failure(capsys, "srvgg", source, "--out", out)
    assert code == 1
    assert "does not say which activation it has; give --act-type relu or --act-type leakyrelu" in line
    main_without_failure(["import", "srvgg", str(source), "--out", str(out), "--act-type", act_type])
    assert np.array_equal(result(checkpoint.restore(out).float_network), result(network))


# Failures


def test_a_network_that_computes_otherwise_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    originals.abpn(residual=False).save(tmp_path / "model")  # the same variables, another function
    out = tmp_path / "x.pth"
    out.write_bytes(b"what was there")
    code, line = failure(capsys, "tf-abpn", tmp_path / "model", "--out", out)
    assert code == 3
    assert "differs from its serving signature by up to" in line
    assert line.endswith(f"steps of 1/255 (1 is allowed); {out} was not written")
    assert out.read_bytes() == b"what was there"
    assert {path.name for path in tmp_path.iterdir()} == {"model", "x.pth"}


def test_not_a_number_is_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = originals.abpn()
    model.trainable_variables[1].assign(np.full(8, np.nan))
    model.save(tmp_path / "model")
    code, line = failure(capsys, "tf-abpn", tmp_path / "model", "--out", tmp_path / "x.pth")
    assert code == 3
    assert "by up to nan steps" in line
    assert not (tmp_path / "x.pth").exists()


def test_unknown_format_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["import", "tf-edsr", str(tmp_path), "--out", str(tmp_path / "x.pth")])
    assert stopped.value.code == 2
    error = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert f"'tf-edsr' is not one of {', '.join(FORMATS)}" in error


def test_sources_that_are_not_there(
    tmp_path: Path, saved_sesr: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.pth"
    (tmp_path / "empty").mkdir()
    (tmp_path / "model.h5").write_bytes(b"h5")
    two = shutil.copytree(saved_sesr, tmp_path / "two")
    shutil.rmtree(two / "variables")
    for suffix in ("index", "data-00000-of-00001"):
        shutil.copy(two / f"model_weights.{suffix}", two / f"other.{suffix}")
    tf.raw_ops.SaveV2(prefix=str(tmp_path / "old"), tensor_names=["a"], shape_and_slices=[""], tensors=[1.0])
    for name, expected in {
        "missing": "missing does not exist; give a SavedModel's folder, its variables folder, or",
        "empty": "empty holds no TensorFlow checkpoint; give a SavedModel's folder",
        "model.h5": "model.h5 is not a TensorFlow checkpoint; give a SavedModel's folder",
        "two": f"two holds 2 checkpoints; give one of them, such as {two / 'model_weights'}",
        "old": "old is a checkpoint of TensorFlow 1, without the names of objects",
    }.items():
        code, line = failure(capsys, "tf-sesr", tmp_path / name, "--out", out)
        assert code == 1
        assert expected in line
    code, line = failure(capsys, "srvgg", tmp_path / "missing.pth", "--out", out)
    assert code == 1
    assert "missing.pth does not exist" in line
    assert not out.exists()


@pytest.mark.parametrize(
    "file", ["variables/variables.index", "variables/variables.data-00000-of-00001", "saved_model.pb"]
)
def test_truncated_checkpoint(
    file: str, saved_abpn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = shutil.copytree(saved_abpn, tmp_path / "model")
    content = (source / file).read_bytes()
    (source / file).write_bytes(content[: len(content) // 2])
    code, line = failure(capsys, "tf-abpn", source, "--out", tmp_path / "x.pth")
    assert code == 1
    assert line.startswith(f"mobilesr: {source} is truncated or damaged (")
    assert line.endswith("); copy it again")
    (source / file).unlink()
    if file.endswith("00001"):
        code, line = failure(capsys, "tf-abpn", source, "--out", tmp_path / "x.pth")
        assert code == 1
        assert line.startswith(f"mobilesr: {source} is truncated or damaged (")


def test_truncated_pth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    srvgg(tmp_path / "a.pth")
    content = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(content[: len(content) // 2])
    code, line = failure(capsys, "srvgg", tmp_path / "a.pth", "--out", tmp_path / "x.pth")
    assert code == 1
    assert "a.pth is truncated or damaged" in line


def test_other_networks_are_told_by_a_variable(
    saved_abpn: Path, saved_sesr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    originals.abpn(widths=(8, 12, 8)).save(tmp_path / "widths")
    originals.abpn(widths=()).save(tmp_path / "few")
    originals.sesr(scale=8).save_weights(tmp_path / "x8")
    originals.sesr(num_block=0).save_weights(tmp_path / "m0")
    torch.save({"params": ABPN().state_dict()}, tmp_path / "abpn.pth")
    state = srvgg(tmp_path / "a.pth").state_dict()
    torch.save({"params": state | {"body.4.weight": torch.zeros(12, 11, 3, 3)}}, tmp_path / "shape.pth")
    torch.save({"params": {k: v for k, v in state.items() if k != "body.2.weight"}}, tmp_path / "gap.pth")
    for format, source, expected in (
        ("tf-abpn", saved_sesr, "does not hold ABPN: it has activations/0/alpha, which ABPN has not"),
        (
            "tf-abpn",
            tmp_path / "widths",
            "layer_with_weights-1/kernel is (3, 3, 8, 12), expected (3, 3, 8, 8)",
        ),
        ("tf-abpn", tmp_path / "few", "layer_with_weights-2/kernel is missing (2 of at least 3"),
        ("tf-sesr", saved_abpn, "input_block/collapse/layer_with_weights-0/kernel is missing"),
        ("tf-sesr", tmp_path / "x8", "output_block has 64 output channels, expected 4 (x2) or 16 (x4)"),
        ("tf-sesr", tmp_path / "m0", "linear_blocks/0 is missing"),
        ("srvgg", tmp_path / "abpn.pth", "it has conv_first.weight, which SRVGGNetCompact has not"),
        ("srvgg", tmp_path / "shape.pth", "body.4.weight is (12, 11, 3, 3), expected (12, 12, 3, 3)"),
        ("srvgg", tmp_path / "gap.pth", "body.2.weight is missing"),
    ):
        code, line = failure(capsys, format, source, "--out", tmp_path / "x.pth")
        assert code == 1
        assert expected in line
    assert not (tmp_path / "x.pth").exists()


def test_out_that_cannot_be_written(
    saved_abpn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.pth"
    srvgg(source)
    before = source.read_bytes()
    for out, expected in (
        (tmp_path, "is a folder; give the path of a .pth file to write"),
        (tmp_path / "none" / "x.pth", f"cannot be written: there is no folder {tmp_path / 'none'}"),
        (source / "x.pth", f"cannot be written: there is no folder {source}"),
        (source, "is the file to import; choose another --out"),
    ):
        code, line = failure(capsys, "srvgg", source, "--out", out)
        assert (code, line) == (1, f"mobilesr: {out} {expected}")
    assert source.read_bytes() == before


def test_options_that_contradict(
    saved_abpn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "a.pth", tmp_path / "x.pth"
    srvgg(source)
    code, line = failure(capsys, "srvgg", source, "--out", out, "--act-type", "relu")
    assert code == 1
    assert "--act-type is relu, but" in line
    code, line = failure(capsys, "tf-abpn", saved_abpn, "--out", out, "--act-type", "relu")
    assert (code, line) == (1, "mobilesr: tf-abpn takes no --act-type; leave it out")


def test_tensorflow_is_an_extra(saved_abpn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingExtraError, match=r"tensorflow is not installed.*mobilesr-plugin\[export\]"):
        import_checkpoint("tf-abpn", saved_abpn, tmp_path / "x.pth")


def test_help_has_an_example_and_the_formats(capsys: pytest.CaptureFixture[str]) -> None:
    main_without_failure(["import", "--help"])
    text = capsys.readouterr().out
    assert "  mobilesr import tf-abpn " in text
    assert all(name in text for name in FORMATS)
