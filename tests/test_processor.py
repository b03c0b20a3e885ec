"""Classes of processors, and what training does on each."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import networks  # noqa: F401  (registers the plugin)
import pytest
import torch

from mobilesr_plugin import processor as module
from mobilesr_plugin.models.speed import Speed
from mobilesr_plugin.options import SpeedOptions

CPU = torch.device("cpu")
ZEN3 = {"avx512_bw": False, "avx512_vnni": False}
SKYLAKE = {"avx512_bw": True}
ALDER_LAKE = {"avx_vnni": True}
CASCADE_LAKE = {"avx512_bw": True, "avx512_vnni": True}
ZEN4 = {**CASCADE_LAKE, "avx512_bf16": True}
SAPPHIRE_RAPIDS = {**ZEN4, "amx_int8": True, "amx_bf16": True}


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    module.processor.cache_clear()
    yield
    module.processor.cache_clear()


def pretend(monkeypatch: pytest.MonkeyPatch, has: dict[str, bool], architecture: str = "x86_64") -> None:
    """A processor with these instructions, which need not be at hand."""
    monkeypatch.setattr(module, "_capabilities", lambda: has)
    monkeypatch.setattr(module.platform, "machine", lambda: architecture)
    module.processor.cache_clear()


@pytest.mark.parametrize(
    ("has", "architecture", "kind", "bfloat16"),
    [
        (ZEN3, "x86_64", "AVX2", False),
        (ALDER_LAKE, "AMD64", "AVX2 VNNI", False),
        (SKYLAKE, "x86_64", "AVX-512", False),
        (CASCADE_LAKE, "x86_64", "AVX-512 VNNI", False),
        (ZEN4, "x86_64", "AVX-512 VNNI", True),
        (SAPPHIRE_RAPIDS, "x86_64", "AMX", True),
        ({"dot": True}, "aarch64", "Arm", False),
        ({"dot": True, "bf16": True}, "arm64", "Arm", True),
    ],
)
def test_class_and_bfloat16(
    monkeypatch: pytest.MonkeyPatch, has: dict[str, bool], architecture: str, kind: str, bfloat16: bool
) -> None:
    pretend(monkeypatch, has, architecture)
    found = module.processor()
    assert (found.kind, found.bfloat16) == (kind, bfloat16)
    assert found.vnni == any(has.get(name, False) for name in ("avx512_vnni", "avx_vnni", "dot"))
    assert Speed(SpeedOptions(amp="auto"), CPU).bfloat16 is bfloat16
    assert Speed(SpeedOptions(amp="bfloat16"), CPU).bfloat16
    assert not Speed(SpeedOptions(), CPU).bfloat16


@pytest.mark.parametrize(("limit", "bfloat16"), [("AVX2", False), ("AVX512_CORE_VNNI", False), ("ALL", True)])
def test_a_limit_on_onednn_counts(monkeypatch: pytest.MonkeyPatch, limit: str, bfloat16: bool) -> None:
    pretend(monkeypatch, SAPPHIRE_RAPIDS)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert module.processor().bfloat16 is bfloat16


def test_this_processor_is_what_torch_computes_with() -> None:
    found, capability = module.processor(), torch.backends.cpu.get_cpu_capability()
    if "AVX512" in capability:
        assert found.kind in ("AVX-512", "AVX-512 VNNI", "AMX")
    assert found.name
    assert not found.amx or (found.vnni and found.avx512)


@pytest.mark.parametrize("has", [ZEN3, ZEN4])
def test_emulated_bfloat16_is_obeyed_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, has: dict[str, bool]
) -> None:
    pretend(monkeypatch, has)
    logger = logging.getLogger("basicsr")
    monkeypatch.setattr(logger, "propagate", False)
    logger.addHandler(caplog.handler)
    speed = Speed(SpeedOptions(amp="bfloat16"), CPU)
    Speed(SpeedOptions(amp="auto"), CPU)
    logger.removeHandler(caplog.handler)
    with speed.autocast():
        assert torch.nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 2)).dtype == torch.bfloat16
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    if has is ZEN4:
        assert warnings == []
    else:
        (line,) = warnings
        assert "amp: bfloat16 is emulated here" in line
        assert line.endswith("a tenth of its float32 speed on such a processor; use amp: auto")
