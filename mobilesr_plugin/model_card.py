"""MODEL_CARD.md: what a phone developer has to know of an export, with snippets that run its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2

from mobilesr_plugin.export.metadata import COLOUR_SPACES, PIXELS

FILE = "MODEL_CARD.md"

_PYTHON = {  # from and to (1, H, W, C) uint8
    "uint8": ("pixels", 'network.get_tensor(result["index"])'),
    "int8": ("(pixels ^ 0x80).view(np.int8)", 'network.get_tensor(result["index"]).view(np.uint8) ^ 0x80'),
    "float32": (
        "pixels / np.float32(255)",
        'np.rint(network.get_tensor(result["index"]).clip(0, 1) * 255).astype(np.uint8)',
    ),
}
_KOTLIN_PUT = {
    "uint8": "put({value}.toByte())",
    "int8": "put(({value} xor 0x80).toByte())",
    "float32": "putFloat(({value} and 0xff) / 255f)",
}
_KOTLIN_GET = {
    "uint8": "(result.get().toInt() and 0xff)",
    "int8": "((result.get().toInt() and 0xff) xor 0x80)",
    "float32": "Math.round(result.getFloat().coerceIn(0f, 1f) * 255)",
}


def markdown(content: Mapping[str, Any]) -> str:
    """Returns the card of an export.

    Args:
        content: What ``report.build`` returned.
    """
    dtype, colour = content["io"]["input"]["dtype"], content["io"]["colour"]
    encode, decode = _PYTHON[dtype]
    value = "(colour shr shift)" if colour == "RGB" else "value.toInt()"
    parity = [
        {"kernels": kernels, "file": file, **result}
        for kernels, files in content["parity"].items()
        for file, result in files.items()
    ]
    compared = sum(row["pixels"] for row in parity if "_int8" in row["file"])
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mobilesr_plugin"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # it is Markdown, made from names of this project
        keep_trailing_newline=True,
    )
    return environment.get_template("model_card.md.jinja").render(
        **{name: content[name] for name in ("model", "scale", "verified", "problems", "notes", "io")},
        **{name: content[name] for name in ("source", "files")},
        parity=parity,
        checks=f"{compared:,}",
        channels=len(colour),
        colour_space=COLOUR_SPACES[colour],
        pixel=PIXELS[dtype]["pixel"],
        python={"encode": encode, "decode": decode},
        kotlin={
            "write": _KOTLIN_PUT[dtype].format(value=value),
            "read": _KOTLIN_GET[dtype],
            "times": " * 4" if dtype == "float32" else "",
        },
        packages=", ".join(f"{name} {version}" for name, version in content["versions"].items()),
    )
