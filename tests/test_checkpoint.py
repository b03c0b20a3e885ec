"""Checkpoints are read safely, and what is wrong with one is said in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from networks import calibrated, seeded_abpn
from torch import nn

from mobilesr_plugin import checkpoint
from mobilesr_plugin.errors import CheckpointError


class _RunsCode:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.proof}",)


def written(path: Path, entries: object) -> Path:
    torch.save(entries, path)
    return path


def message(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_params(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_pickle_that_would_run_code_does_not(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    path = written(tmp_path / "net.pth", {"params": _RunsCode(proof)})
    assert "would run code" in message(path)
    assert not proof.exists()


def test_truncated(tmp_path: Path) -> None:
    path = written(tmp_path / "net.pth", {"params": seeded_abpn(2).state_dict()})
    path.write_bytes(path.read_bytes()[:-5000])
    assert "truncated or damaged" in message(path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02garbage"])
def test_no_checkpoint_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    message(path)


def test_missing(tmp_path: Path) -> None:
    assert "does not exist" in message(tmp_path / "none.pth")


@pytest.mark.parametrize("entries", [[1, 2], {"weights": {}}, {"params": [1]}])
def test_other_content(tmp_path: Path, entries: object) -> None:
    message(written(tmp_path / "net.pth", entries))


def test_another_networks_weights_are_named(tmp_path: Path) -> None:
    network = seeded_abpn(2)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_into(network, seeded_abpn(3, num_block=5).state_dict(), tmp_path / "net.pth")
    text = str(caught.value)
    assert "unexpected: body.4.weight" in text
    assert "conv_up.weight is (27, 28, 3, 3), expected (12, 28, 3, 3)" in text


def test_nothing_is_loaded_when_something_does_not_fit(tmp_path: Path) -> None:
    network = seeded_abpn(2)
    before = network.conv_first.weight.clone()
    with pytest.raises(CheckpointError):
        checkpoint.load_into(network, seeded_abpn(3).state_dict(), tmp_path / "net.pth")
    assert torch.equal(network.conv_first.weight, before)


def test_basicsr_rules_for_the_entry(tmp_path: Path) -> None:
    weight = {"module.weight": torch.ones(1)}
    path = written(tmp_path / "net.pth", {"params": weight})
    assert list(checkpoint.load_params(path, "params_ema")) == ["weight"]
    assert list(checkpoint.load_params(written(path, weight), None)) == ["weight"]


def test_saving_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    checkpoint.save(path, {"params": {"weight": torch.ones(3)}})
    before = path.read_bytes()

    with pytest.raises(AttributeError):
        checkpoint.save(path, {"params": lambda: None})  # cannot be pickled: fails half-way
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["net.pth"]


def test_unwritable_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written"):
        checkpoint.save(tmp_path / "missing" / "net.pth", {})


def test_quantized_round_trip(tmp_path: Path) -> None:
    network = calibrated(seeded_abpn(2))
    entries = {
        "params": network.state_dict(),
        "mobilesr": checkpoint.describe({"scale": 2, "network_g": {"type": "ABPN", "upscale": 2}}),
    }
    path = tmp_path / "net.pth"
    checkpoint.save(path, entries)
    restored = checkpoint.restore(path).quantized_network
    assert restored is not None
    for name, value in network.state_dict().items():
        assert torch.equal(restored.state_dict()[name], value)


def test_another_observer_takes_the_ranges(tmp_path: Path) -> None:
    trained = calibrated(seeded_abpn(2), observer="minmax")
    other = calibrated(seeded_abpn(2), observer="percentile", percentile=60.0)
    checkpoint.load_into(other, trained.state_dict(), tmp_path / "net.pth")
    name = "body.0.output_quantizer.high"
    assert torch.equal(other.state_dict()[name], trained.state_dict()[name])


def test_description_is_plain_data() -> None:
    described = checkpoint.describe({"scale": 3, "network_g": {"type": "ABPN", "sizes": (1, 2)}})
    assert described["network_g"] == {"type": "ABPN", "sizes": [1, 2]}
    assert not checkpoint.is_quantized(nn.Linear(1, 1).state_dict())
