"""Seeded damage to files: bytes, text, and the parts of zip archives, PNG chunks, JSON and YAML."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import yaml

Mutation = Callable[[bytes, random.Random], bytes]

# What stands where another value is expected.
_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 7, 10**9, -(2**63), 2**70, 0.5, -0.0, float("inf"), float("nan")),
    *(
        "",
        "x",
        "../..",
        "/dev/null/x",
        "\0",
        "ü" * 50,
        "x" * 5000,
        [],
        [1, 2],
        [[]],
        {},
        {"a": 1},
        {"type": "x"},
    ),
)


def flips(data: bytes, generator: random.Random) -> bytes:
    """Changes 1 to 30 bytes."""
    changed = bytearray(data)
    for _ in range(generator.choice((1, 2, 5, 30))):
        changed[generator.randrange(len(changed))] = generator.randrange(256)
    return bytes(changed)


def bits(data: bytes, generator: random.Random) -> bytes:
    """Turns one bit."""
    changed = bytearray(data)
    changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
    return bytes(changed)


def words(data: bytes, generator: random.Random) -> bytes:
    """Puts extreme 32-bit numbers in place of others, where lengths and offsets stand."""
    changed = bytearray(data)
    for _ in range(generator.choice((1, 1, 3))):
        place = generator.randrange(max(1, len(changed) // 4)) * 4
        value = generator.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 1 << 20, len(data)))
        changed[place : place + 4] = struct.pack("<I", value)
    return bytes(changed[: len(data)])


def truncated(data: bytes, generator: random.Random) -> bytes:
    """Leaves the start."""
    return data[: generator.choice((0, 1, 4, 8, len(data) - 1, generator.randrange(len(data))))]


def spliced(data: bytes, generator: random.Random) -> bytes:
    """Removes, repeats or moves a piece."""
    start, end = sorted(generator.randrange(len(data)) for _ in range(2))
    place = generator.randrange(len(data))
    piece = data[start : min(end, start + 4096)]
    match generator.randrange(3):
        case 0:
            return data[:start] + data[end:]
        case 1:
            return data[:place] + piece + data[place:]
    return data[:place] + piece + data[place + len(piece) :]


BYTES: tuple[Mutation, ...] = (flips, bits, words, truncated, spliced)


def zip_parts(data: bytes, generator: random.Random) -> bytes:
    """Damages one file inside a zip archive, such as the pickle of a .pth, with correct checksums."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = [(name, archive.read(name)) for name in archive.namelist()]
    chosen = generator.choice([index for index, (_, content) in enumerate(parts) if content])
    if generator.random() < 0.5:  # the pickle is the interesting one
        chosen = next(index for index, (name, _) in enumerate(parts) if name.endswith(".pkl"))
    name, content = parts[chosen]
    match generator.randrange(4):
        case 0:
            del parts[chosen]
        case _:
            parts[chosen] = (name, generator.choice(BYTES)(content, generator))
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in parts:
            archive.writestr(name, content)
    return written.getvalue()


def png_chunks(data: bytes, generator: random.Random) -> bytes:
    """Damages one chunk of a PNG file; its checksum is right again."""
    chunks, place = [], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    index = generator.randrange(len(chunks))
    kind, content = chunks[index]
    match generator.randrange(3):
        case 0:
            del chunks[index]
        case 1:
            chunks.insert(generator.randrange(len(chunks)), chunks[index])
        case _ if content:
            chunks[index] = (kind, generator.choice(BYTES)(content, generator))
    return data[:8] + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def yaml_values(data: bytes, generator: random.Random) -> bytes:
    """Changes, removes, renames or adds keys of a YAML file."""
    return yaml.safe_dump(_changed(yaml.safe_load(data), generator), sort_keys=False).encode()


def json_values(data: bytes, generator: random.Random) -> bytes:
    """The same for JSON."""
    return json.dumps(_changed(json.loads(data), generator)).encode()


def lines(data: bytes, generator: random.Random) -> bytes:
    """Removes, repeats or changes lines of a text."""
    held = data.splitlines(keepends=True)
    index = generator.randrange(len(held))
    match generator.randrange(4):
        case 0:
            del held[index]
        case 1:
            held.insert(index, held[generator.randrange(len(held))])
        case 2:
            held[index] = generator.choice(BYTES)(held[index], generator)
        case _:
            numbers = held[index].replace(b"1", generator.choice((b"9999999999", b"-1", b"0", b"1.5", b"x")))
            held[index] = numbers
    return b"".join(held)


def _changed(root: Any, generator: random.Random) -> Any:
    for _ in range(generator.choice((1, 1, 1, 2, 4))):
        places = list(_places(root))
        if not places:
            break
        holder, key = generator.choice(places)
        match generator.randrange(6):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[generator.choice(("nonsense", "type", "name", 3, "lq"))] = holder.pop(key)
            case 2 if isinstance(holder, dict):
                holder["nonsense"] = generator.choice(_VALUES)
            case 3 if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
                holder[key] = generator.choice((-holder[key], holder[key] * 1000 + 1, 0, str(holder[key])))
            case _:
                holder[key] = generator.choice(_VALUES)
    return root


def _places(root: Any) -> Any:
    items = root.items() if isinstance(root, dict) else enumerate(root) if isinstance(root, list) else ()
    for key, value in list(items):
        yield root, key
        yield from _places(value)


def tflite_fields(data: bytes, generator: random.Random) -> bytes:
    """Changes numbers of a TFLite file that stays a well-formed flatbuffer: shapes, indices, options."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    options = [operator.builtinOptions for operator in graph.operators if operator.builtinOptions]
    for _ in range(generator.choice((1, 1, 2))):
        match generator.randrange(4):
            case 0:
                changed: Any = generator.choice(options)
            case 1:
                changed = generator.choice(graph.operators)
            case 2:
                changed = generator.choice([each.quantization for each in graph.tensors if each.quantization])
            case _:
                changed = generator.choice(graph.tensors)
        _change_field(changed, generator)
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _change_field(changed: Any, generator: random.Random) -> None:
    fields = [
        name for name, value in vars(changed).items() if isinstance(value, int) or hasattr(value, "__len__")
    ]
    fields = [name for name in fields if not isinstance(getattr(changed, name), bytes | str)]
    if not fields:
        return
    name = generator.choice(fields)
    value = getattr(changed, name)
    if isinstance(value, bool):
        setattr(changed, name, not value)
    elif isinstance(value, int):
        setattr(changed, name, generator.choice((0, 1, 2, 3, 5, 9, 64, 100)))
    elif len(value) and not hasattr(value[0], "__dict__"):
        items = list(value)
        items[generator.randrange(len(items))] = generator.choice((0, 1, 2, 3, 7, 100, 2**20))
        setattr(changed, name, items[: generator.choice((len(items), len(items), len(items) - 1))])
