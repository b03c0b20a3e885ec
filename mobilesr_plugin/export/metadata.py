"""The contract of a TFLite file, in the file's own metadata: what goes in, what comes out, what was verified.

It is a JSON object in a metadata buffer named ``mobilesr``. The file is not packed anew: a new head is put in
front of it, with a root table that refers to everything in the old file where it lies. Every byte that the
interpreter computes with stays as it was verified, at the same alignment.

Source of the layout: https://flatbuffers.dev/internals/ (offsets to children are unsigned and relative, so
what is in front can refer to what is behind) and TFLite's schema.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobilesr_plugin import __version__
from mobilesr_plugin.errors import DataError, MissingExtraError

NAME = "mobilesr"
FORMAT = 1

Contract = dict[str, Any]
Place = str | tuple[str, int]  # a name in the new head, or ("old", place in the old file)

_ALIGNMENT = 16  # the largest that TFLite's schema asks for: constants of a tensor
PIXELS = {  # how an element of the file stands for a pixel p in 0..255
    "uint8": {"range": [0, 255], "pixel": "p"},
    "int8": {"range": [-128, 127], "pixel": "p - 128"},
    "float32": {"range": [0.0, 1.0], "pixel": "p / 255"},
}
COLOUR_SPACES = {
    "RGB": "sRGB as decoded from an image file, channels R, G, B",
    "Y": "Y of ITU-R BT.601 in 16..235, computed from sRGB; interpolate Cb and Cr",
}


def contract(
    *,
    model: str,
    scale: int,
    colour: str,
    weights: str,
    ends: Mapping[str, Mapping[str, Any]],
    size: tuple[int, int] | None,
    kernels: Sequence[str],
    source: str,
) -> Contract:
    """Returns what a phone developer has to know of a file.

    Args:
        model: Such as ``abpn_x3``.
        scale: Upscaling factor.
        colour: ``RGB`` or ``Y``.
        weights: ``int8``, ``float32`` or ``float16``.
        ends: ``input`` and ``output``: ``dtype``, and ``scale`` and ``zero_point`` of a quantized one.
        size: (height, width) of the only input that the file takes; None: any.
        kernels: Those on which every value of the file equalled int8 validation.
        source: sha256 of the checkpoint.
    """
    described: Contract = {
        "format": FORMAT,
        "model": model,
        "scale": scale,
        "weights": weights,
        "plugin": f"mobilesr-plugin {__version__}",
        "checkpoint_sha256": source,
        "verified_kernels": list(kernels),
    }
    height, width = size or (None, None)
    for end, factor in (("input", 1), ("output", scale)):
        sides = [None if side is None else side * factor for side in (height, width)]
        described[end] = {
            "layout": "NHWC",
            "shape": [1, *sides, len(colour)],
            "colour": colour,
            "colour_space": COLOUR_SPACES[colour],
            **PIXELS[ends[end]["dtype"]],
            **{key: ends[end][key] for key in ("dtype", "scale", "zero_point") if key in ends[end]},
        }
    return described


def with_contract(content: bytes, described: Contract) -> bytes:
    """Returns a TFLite file that ends with ``content``, byte for byte, and holds the contract.

    Raises:
        MissingExtraError: ai-edge-litert is not installed.
    """
    schema = _schema()
    root = schema.Model.GetRootAsModel(content, 0)
    table = root._tab

    def child(offset: int) -> int | None:
        """Place of what a field of the root table refers to, in the old file."""
        at = table.Offset(offset)
        return table.Indirect(table.Pos + at) if at else None

    def elements(vector: int | None) -> list[Place]:
        if vector is None:
            return []
        (count,) = struct.unpack_from("<I", content, vector)
        places = range(vector + 4, vector + 4 + 4 * count, 4)
        return [("old", place + struct.unpack_from("<I", content, place)[0]) for place in places]

    fields: list[Place | int | None] = [root.Version()]
    for field in range(_CODES, _SIGNATURES + 2, 2):
        place = child(field)
        fields.append(None if place is None else ("old", place))
    buffers = elements(child(_BUFFERS))
    fields[(_BUFFERS - _VERSION) // 2] = "buffers"
    fields[(_METADATA - _VERSION) // 2] = "metadata"
    head = _Head()
    # What refers comes before what it refers to: offsets are unsigned.
    head.table("root", fields)
    head.vector("buffers", [*buffers, "buffer"])
    head.vector("metadata", [*elements(child(_METADATA)), "entry"])
    head.table("buffer", ["text"])
    head.table("entry", ["name", len(buffers)])
    head.sized("name", NAME.encode(), end=b"\0")
    head.sized("text", json.dumps(described, sort_keys=True, separators=(",", ":")).encode())
    return head.in_front_of(content)


def read_contract(path: Path) -> Contract | None:
    """Returns the contract in a TFLite file; None if it has none.

    Raises:
        DataError: it cannot be read, is no TFLite file, or its contract is damaged or of a later format.
        MissingExtraError: ai-edge-litert is not installed.
    """
    schema = _schema()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; mobilesr-export writes it") from error
    if content[4:8] != b"TFL3":
        raise DataError(f"{path} is no TFLite file: the identifier TFL3 is missing")
    try:
        model = schema.Model.GetRootAsModel(content, 0)
        entries = (model.Metadata(index) for index in range(model.MetadataLength()))
        found = next((entry for entry in entries if entry.Name() == NAME.encode()), None)
        if found is None:
            return None
        described = json.loads(bytes(model.Buffers(found.Buffer()).DataAsNumpy()))
        is_later = described["format"] > FORMAT
    except (struct.error, IndexError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: its metadata is damaged; copy or export the file again") from error
    if is_later:
        raise DataError(
            f"{path} has a contract of format {described['format']}, and this version knows {FORMAT}; "
            "update mobilesr-plugin"
        )
    return dict(described)


# Places of the root table's fields in its vtable.
_VERSION, _CODES, _SUBGRAPHS, _DESCRIPTION, _BUFFERS, _INDICES, _METADATA, _SIGNATURES = range(4, 20, 2)


class _Head:
    """Tables in front of a flatbuffer, written in order; what they refer to is filled in at the end."""

    def __init__(self) -> None:
        self._bytes = bytearray(8)  # offset of the root table, and TFL3
        self._places: dict[str, int] = {}
        self._references: list[tuple[int, Place]] = []

    def table(self, name: str, fields: Sequence[Place | int | None]) -> None:
        """A vtable and the table behind it; a field is a number, refers to a place, or is left out."""
        offsets, size = [], 4
        for field in fields:
            offsets.append(0 if field is None else size)
            size += 0 if field is None else 4
        vtable = self._add(struct.pack(f"<{2 + len(fields)}H", 4 + 2 * len(fields), size, *offsets))
        place = self._places[name] = self._add(bytes(size))
        struct.pack_into("<i", self._bytes, place, place - vtable)
        for offset, field in zip(offsets, fields, strict=True):
            if isinstance(field, int):
                struct.pack_into("<I", self._bytes, place + offset, field)
            elif field is not None:
                self._references.append((place + offset, field))

    def vector(self, name: str, items: Sequence[Place]) -> None:
        """The number of items, then what refers to each."""
        place = self._places[name] = self._add(struct.pack("<I", len(items)) + bytes(4 * len(items)))
        self._references += [(place + 4 + 4 * index, item) for index, item in enumerate(items)]

    def sized(self, name: str, data: bytes, end: bytes = b"") -> None:
        """The number of bytes, then the bytes, aligned as a tensor's constants are."""
        self._bytes += bytes((_ALIGNMENT - 4 - len(self._bytes)) % _ALIGNMENT)
        self._places[name] = self._add(struct.pack("<I", len(data)) + data + end)

    def in_front_of(self, content: bytes) -> bytes:
        """Returns the head and ``content``; the root table is the one called so."""
        self._bytes += bytes(-len(self._bytes) % _ALIGNMENT)
        shift = len(self._bytes)
        struct.pack_into("<I4s", self._bytes, 0, self._places["root"], b"TFL3")
        for place, referred in self._references:
            target = self._places[referred] if isinstance(referred, str) else referred[1] + shift
            struct.pack_into("<I", self._bytes, place, target - place)
        return bytes(self._bytes) + content

    def _add(self, data: bytes) -> int:
        self._bytes += bytes(-len(self._bytes) % 4)
        place = len(self._bytes)
        self._bytes += data
        return place


def _schema() -> Any:
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise MissingExtraError("ai-edge-litert", "export") from error
    return schema_py_generated
