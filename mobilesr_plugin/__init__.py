"""mobilesr-plugin: super-resolution from PyTorch to a phone, inside BasicSR."""

__version__ = "0.1.0"


def register() -> None:
    """Register this package's networks and models in BasicSR, importing BasicSR with its repairs.

    The import hook does this when BasicSR is imported. Call it yourself where the hook is off
    (``MOBILESR_AUTOLOAD=0``) or not installed. Calling it again does nothing.
    """
    from mobilesr_plugin.host.activation import activate

    activate()
