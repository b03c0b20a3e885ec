"""What the processor at hand computes in hardware: integer dot products, bfloat16, AMX.

Names and meaning of the instruction sets: Intel's "Architecture Instruction Set Extensions Programming
Reference"; detection is torch's (``torch.cpu.get_capabilities``, which asks cpuinfo).
"""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Values of ONEDNN_MAX_CPU_ISA under which oneDNN, which computes torch's convolutions, uses bfloat16 units.
_ISA_WITH_BFLOAT16 = ("BF16", "FP16", "AMX", "AVX10", "DEFAULT", "ALL")


@dataclass(frozen=True)
class Processor:
    """A class of processors, as far as speed depends on it.

    Attributes:
        name: As it calls itself, such as ``AMD EPYC``.
        architecture: ``x86_64``, ``aarch64`` or what the system says.
        avx512: It has AVX-512.
        vnni: It multiplies and adds 8-bit integers in one instruction: VNNI on x86, DotProd on Arm.
        bfloat16: It computes in bfloat16; others convert to float32 and back, value by value.
        amx: It has AMX: matrices of 8-bit integers and bfloat16.
    """

    name: str
    architecture: str
    avx512: bool
    vnni: bool
    bfloat16: bool
    amx: bool

    @property
    def kind(self) -> str:
        """The class, for tables: ``AMX``, ``AVX-512 VNNI``, ``AVX-512``, ``AVX2 VNNI``, ``AVX2``, ``Arm``."""
        if self.architecture not in ("x86_64", "amd64"):
            return "Arm" if self.architecture in ("aarch64", "arm64") else self.architecture
        if self.amx:
            return "AMX"
        return f"{'AVX-512' if self.avx512 else 'AVX2'}{' VNNI' if self.vnni else ''}"


@functools.cache
def processor() -> Processor:
    """Returns the processor of this machine, limited as ``ONEDNN_MAX_CPU_ISA`` limits oneDNN."""
    has = _capabilities()
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "DEFAULT").upper()
    allowed = any(word in limit for word in _ISA_WITH_BFLOAT16)
    return Processor(
        name=str(has.get("cpu_name") or platform.processor() or platform.machine()),
        architecture=platform.machine().lower(),
        avx512=bool(has.get("avx512_bw")),
        vnni=any(has.get(name) for name in ("avx512_vnni", "avx_vnni", "dot")),
        bfloat16=allowed and any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")),
        amx=bool(has.get("amx_int8")),
    )


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device has units for bfloat16; without them it is many times slower than float32."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return processor().bfloat16


def _capabilities() -> Mapping[str, Any]:
    import torch

    if hasattr(torch.cpu, "get_capabilities"):
        return torch.cpu.get_capabilities()
    amx = torch.cpu._is_amx_tile_supported()  # a torch that has only these
    bfloat16 = torch.cpu._is_avx512_bf16_supported()
    avx512 = torch.cpu._is_avx512_supported()
    vnni = torch.cpu._is_vnni_supported()
    return {
        "avx512_bw": avx512,
        "avx512_vnni": vnni,
        "avx512_bf16": bfloat16,
        "amx_int8": amx,
        "amx_bf16": amx,
    }
