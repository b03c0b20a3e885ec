"""Whether files under their final names are whole: each is decoded or parsed to its end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

_PICTURES = (".png", ".jpg", ".webp", ".bmp", ".tif")
_VIDEOS = (".mp4", ".mkv", ".mov")


def visible(folder: Path) -> set[Path]:
    """Every file below ``folder`` that has its final name: neither it nor a folder above it is hidden."""
    return {
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def problems(paths: Iterable[Path]) -> list[str]:
    """Returns one line for each file that is not whole."""
    found = []
    for path in sorted(paths):
        try:
            _check(path)
        except Exception as error:  # whatever a parser raises is the finding
            found.append(f"{path}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    return found


def _check(path: Path) -> None:
    match path.suffix:
        case suffix if suffix in _PICTURES:
            _picture(path)
        case suffix if suffix in _VIDEOS:
            _video(path)
        case ".pth" | ".state":
            import torch

            torch.load(path, map_location="cpu", weights_only=True)
        case ".tflite":
            from ai_edge_litert.interpreter import Interpreter

            Interpreter(model_path=str(path)).allocate_tensors()
        case ".onnx":
            import onnx

            onnx.checker.check_model(onnx.load(str(path)), full_check=True)
        case ".json":
            json.loads(path.read_text())
        case ".yml":
            import yaml

            assert isinstance(yaml.safe_load(path.read_text()), dict), "no options"
        case ".html":
            assert path.read_text().rstrip().endswith("</html>"), "ends early"
        case _ if path.name == "meta_info.txt":
            _lmdb(path.parent)


def _picture(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        image.load()


def _video(path: Path) -> None:
    import av

    from faults.world import FRAMES

    with av.open(str(path)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert frames == FRAMES, f"{frames} frames, expected {FRAMES}"


def _lmdb(folder: Path) -> None:
    import cv2
    import lmdb
    import numpy as np

    lines = (folder / "meta_info.txt").read_text().splitlines()
    assert lines, "no entry"
    with lmdb.open(str(folder), readonly=True, lock=False) as env, env.begin() as transaction:
        for line in lines:
            data = transaction.get(line.split(".")[0].encode())
            assert data is not None, f"{line.split('.')[0]} is missing"
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            expected = line.split("(")[1].split(")")[0]
            assert image is not None, f"{line} cannot be decoded"
            assert ",".join(map(str, image.shape)) == expected, f"{line} is {image.shape}"


def content(folder: Path) -> dict[str, bytes]:
    """What a result consists of, by name, for comparison with an undisturbed run: see ``comparable``."""
    return {str(path.relative_to(folder)): comparable(path) for path in visible(folder)}


def comparable(path: Path) -> bytes:
    """The file's bytes, without what differs between two undisturbed runs: times."""
    match path.name:
        case "report.json":
            report = json.loads(path.read_text())
            for key in ("seconds", "created", "date"):
                report.pop(key, None)
            return json.dumps(report, sort_keys=True).encode()
        case "report.md":
            return b"".join(
                line
                for line in path.read_bytes().splitlines(True)
                if b" s" not in line and b"second" not in line
            )
        case "data.mdb":
            return _entries(path.parent)
        case "lock.mdb":
            return b""
    return path.read_bytes()


def _entries(folder: Path) -> bytes:
    import lmdb

    with lmdb.open(str(folder), readonly=True, lock=False) as env, env.begin() as transaction:
        return b"".join(bytes(key) + bytes(value) for key, value in transaction.cursor())
