"""``python -m mobilesr_plugin.cli`` is ``mobilesr``."""

from mobilesr_plugin.cli.main import main

main()
