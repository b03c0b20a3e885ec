"""Network architectures. Importing this package registers them in BasicSR's ARCH_REGISTRY."""

from mobilesr_plugin.archs.abpn_arch import ABPN

__all__ = ["ABPN"]
