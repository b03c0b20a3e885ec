"""Around BasicSR's ``parse_options``, which train.py and test.py call first: checks and redirections."""

from __future__ import annotations

import functools
from argparse import Namespace
from typing import Any

from mobilesr_plugin.host import failures, folders, option_file, resuming
from mobilesr_plugin.host.replacing import replace_everywhere
from mobilesr_plugin.host.tensorboard_repair import keep_tensorflow_out_of_tensorboard


def wrap_parse_options() -> None:
    """Let BasicSR parse its options as ever, between our checks.

    Faults: a missing or broken option file, a misspelt ``--force_yml`` path or a missing data folder end
    in a page of traceback, some of them after minutes; the installed train.py writes into site-packages
    (see ``folders.redirect``). To see it: ``python basicsr/train.py -opt missing.yml``.
    """
    from basicsr.utils import options

    original = options.parse_options
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def parse_options(root_path: str, is_train: bool = True) -> tuple[dict[str, Any], Namespace]:
        failures.install_excepthook(resumable=is_train)
        check_values(option_file.read_command_line(), is_train=is_train)
        opt, arguments = original(folders.redirect(root_path), is_train)
        resuming.repair_main_script()
        keep_tensorflow_out_of_tensorboard()
        preflight(opt)
        failures.starting_is_over()
        return opt, arguments

    replace_everywhere(original, parse_options)


def check_values(opt: dict[str, Any] | None, *, is_train: bool) -> None:
    """Check types and ranges of BasicSR's own keys, before BasicSR computes with them.

    Args:
        opt: The options as YAML has them, overrides applied; None: there is no option file.
        is_train: Whether train.py reads them.

    Raises:
        OptionError: A value that is not allowed, a missing key, or keys that contradict each other.
    """
    from mobilesr_plugin.config.check import check
    from mobilesr_plugin.config.unknown import unknown_keys

    if opt is None:
        return
    check(opt, training=is_train)
    for warning in unknown_keys(opt, training=is_train):
        failures.warn(warning)


def preflight(opt: dict[str, Any]) -> None:
    """Find what would fail later while nothing has been written yet.

    Args:
        opt: The options as BasicSR has parsed them.

    Raises:
        MobileSRError: The first thing found wrong.
    """
    from mobilesr_plugin import extensions, options, registered
    from mobilesr_plugin.config.arguments import check_arguments
    from mobilesr_plugin.config.network import check_network
    from mobilesr_plugin.data import check

    option_file.check_devices(opt)
    extensions.load_extensions(opt.get("import"))
    registered.check_types(opt)
    options.check(opt)
    check_arguments(opt, training=opt["is_train"])
    check_network(opt)
    check_export_sizes(opt)
    check.check_datasets(opt)
    options.check_files(opt)
    folders.check_writable(opt)


def check_export_sizes(opt: dict[str, Any]) -> None:
    """Find sizes of ``export:`` for which even the images take more memory than there is.

    Raises:
        OptionError: There is one.
    """
    from mobilesr_plugin.export.memory import bytes_of_images, check_sizes
    from mobilesr_plugin.free_memory import free_memory
    from mobilesr_plugin.options import ExportOptions, parse_block

    sizes = parse_block(opt, "export", ExportOptions).sizes
    network_g = opt.get("network_g") or {}
    channels = network_g.get("num_in_ch", 1)
    if sizes and isinstance(channels, int):
        check_sizes(sizes, bytes_of_images(channels, int(opt.get("scale", 1))), free_memory())
