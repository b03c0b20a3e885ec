"""The ``mobilesr`` command: parse, call one function, map errors to exit codes."""
