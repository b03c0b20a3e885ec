"""Network architectures. Importing this package registers them in BasicSR's ARCH_REGISTRY."""

from mobilesr_plugin.archs.abpn_arch import ABPN
from mobilesr_plugin.archs.sesr_arch import SESR

__all__ = ["ABPN", "SESR"]
