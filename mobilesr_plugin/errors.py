"""Every error that a user of mobilesr-plugin can meet.

MobileSRError                 one line: what was got, what is allowed, what to do (exit code 1)
├── OptionError               a YAML key or a command-line value that makes no sense
├── DataError                 a data set: missing, unreadable, sizes that do not match
├── CheckpointError           a .pth: unreadable, unsafe, or of another network
├── UnsupportedNetworkError   a module that has no exact int8 counterpart
├── ExportError               a conversion failed, or its result cannot be written
│   ├── MissingExtraError     an optional package is not installed
│   └── FinalExportError      the export at the end of a training failed (exit code 3)
└── VerificationError         a network does not compute what it must (exit code 3)
"""

from __future__ import annotations


class MobileSRError(Exception):
    """Base of all stated failures. ``str(error)`` is one line fit for a user."""

    exit_code = 1


class OptionError(MobileSRError):
    """A YAML key or a command-line value that makes no sense."""


class DataError(MobileSRError):
    """A data set that is missing, unreadable, or whose LR and HR do not match."""


class CheckpointError(MobileSRError):
    """A checkpoint that is unreadable, unsafe to load, or of another network."""


class UnsupportedNetworkError(MobileSRError):
    """A network with a module that has no exact int8 counterpart."""


class ExportError(MobileSRError):
    """A conversion that failed, or whose result cannot be written."""


class MissingExtraError(ExportError):
    """An optional package that this step needs is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed, and this step needs it: pip install 'mobilesr-plugin[{extra}]' "
            f"(in a checkout: pip install '.[{extra}]')"
        )


class FinalExportError(ExportError):
    """The export at the end of a training failed; the training itself is complete and saved."""

    exit_code = 3


class VerificationError(MobileSRError):
    """A network does not compute what it must.

    In an export: the device file does not compute what validation saw; the files are kept and marked
    ``UNVERIFIED``. In an import: the network does not compute what the original does; nothing is written.
    """

    exit_code = 3
