"""Gathers all that a page shows, and writes it: one HTML file that fetches nothing."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from mobilesr_plugin.bench.accuracy import evaluate
from mobilesr_plugin.bench.accuracy_result import to_json
from mobilesr_plugin.bench.latency import Latency, measure
from mobilesr_plugin.bench.metrics import PROTOCOLS
from mobilesr_plugin.data.images import write_bytes
from mobilesr_plugin.export.metadata import read_contract
from mobilesr_plugin.html_report import curves, network, pictures
from mobilesr_plugin.html_report.subject import Subject, find_subject
from mobilesr_plugin.options import default_size

FILE = "report.html"
LATENCY_RUNS = 7

Progress = Callable[[str, int, int], None]  # what is being done, number done, number of all


def write_report(
    folder: Path,
    out: Path | None = None,
    *,
    data: Sequence[Path] = (),
    latency: bool = True,
    threads: int = 2,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Path, Subject]:
    """Writes the page of an export or experiment.

    Args:
        folder: See ``find_subject``.
        out: The file. Default: ``report.html`` in the export's folder.
        data: Folders of HR images. Default: the photographs that the demo keeps for validation.
        latency: Time the files on this machine.
        threads: Processor threads.
        progress: Called while something takes long.

    Returns:
        The file, and what it is about.

    Raises:
        DataError: no export, unreadable pictures, or the file cannot be written.
    """
    subject = find_subject(folder)
    with tempfile.TemporaryDirectory() as scratch:
        samples = Path(scratch) / "photographs"
        folders = list(data)
        if not folders:
            pictures.write_samples(samples)
            folders = [samples]
        content = _gather(subject, folders, threads, progress)
    content["sampled"] = not data
    content["latency"] = _latency(subject, threads, progress) if latency else None
    content["threads"] = threads
    content["commands"] = [*subject.commands, _own_command(folder, data)]
    path = out or subject.export / FILE
    write_bytes(path, render(subject, content).encode())
    return path, subject


def _gather(subject: Subject, folders: list[Path], threads: int, progress: Progress) -> dict[str, Any]:
    models = [subject.float_file, subject.int8_file]
    accuracy = evaluate(
        models,
        folders,
        list(PROTOCOLS),
        threads=threads,
        with_ssim=True,
        progress=lambda done, total: progress("accuracy", done, total),
    )
    shown = pictures.compare_pictures(
        {own.name: folder for own, folder in zip(accuracy.sets, folders, strict=True)},
        *models,
        threads=threads,
        progress=lambda done, total: progress("pictures", done, total),
    )
    fixed = subject.fixed_files
    described = next(iter(fixed.values()), subject.int8_file)
    rows = network.operator_rows(described.read_bytes())
    bars, zero = network.range_bars(rows)
    return {
        "accuracy": _tables(to_json(accuracy), models),
        "pictures": shown,
        "heat_gradient": Markup(pictures.heat_gradient()),
        "heat_most": pictures.MOST_OF_A_HEAT_MAP,
        "charts": curves.charts(curves.read_scalars(subject.log)) if subject.log else [],
        "operators": rows,
        "operators_of": described.name,
        "ranges": bars,
        "zero": zero,
        "contract": read_contract(subject.int8_file),
        "operator_counts": {
            name: ", ".join(f"{count} {kind}" for kind, count in Counter(kinds).items())
            for name, kinds in subject.report.get("ops", {}).items()
        },
    }


def _tables(accuracy: dict[str, Any], models: Sequence[Path]) -> list[dict[str, Any]]:
    """One table for each protocol: a row for each model, a cell for each set, and the loss against float."""
    sets = [own["name"] for own in accuracy["sets"]]
    labels = {"Bicubic": "MATLAB's", "Float network": models[0].name, "int8 device file": models[1].name}
    tables = []
    for protocol in accuracy["protocols"]:
        results = [model["results"][protocol] for model in accuracy["models"]]
        float_psnr = results[1]["psnr"]
        rows = []
        for (label, file), result in zip(labels.items(), results, strict=True):
            own = result["psnr"]
            against = None if own is None or float_psnr is None else own - float_psnr
            cells = [result["sets"][name] for name in sets]
            cells += [result] * (len(sets) > 1)  # the mean
            rows.append({"label": label, "file": file, "cells": cells, "against": against})
        rows[1]["against"] = None
        tables.append({"protocol": protocol, "rows": rows, "luma": PROTOCOLS[protocol].luma})
    counts = {own["name"]: own["count"] for own in accuracy["sets"]}
    return [{**table, "sets": counts, "scale": accuracy["scale"]} for table in tables]


def _latency(subject: Subject, threads: int, progress: Progress) -> dict[str, Any]:
    fixed = subject.fixed_files
    colours = len(subject.report["io"]["colour"])
    if fixed:
        (height, width), int8 = next(iter(fixed.items()))
    else:
        height, width = map(int, default_size(colours, subject.report["scale"]).split("x"))
        int8 = subject.int8_file
    half = subject.export / f"{subject.report['model']}_fp16.tflite"
    times: list[Latency] = measure(
        [int8, subject.float_file, half],
        size=(height, width),
        threads=threads,
        runs=LATENCY_RUNS,
        progress=lambda done, total: progress("latency", done, total),
    )
    slowest = max(each.high for each in times)
    return {"size": f"{height}x{width}", "runs": LATENCY_RUNS, "times": times, "slowest": slowest}


def _own_command(folder: Path, data: Sequence[Path]) -> str:
    import shlex

    words = ["mobilesr", "report", str(folder)]
    for each in data:
        words += ["--data", str(each)]
    return shlex.join(words)


def render(subject: Subject, content: dict[str, Any]) -> str:
    """Returns the page; its script is allowed by its hash, and nothing may be fetched."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mobilesr_plugin"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def source(name: str) -> str:
        assert environment.loader is not None
        return environment.loader.get_source(environment, name)[0]

    script = source("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    report = subject.report
    parity = [
        {"kernels": kernels, "file": file, "must_equal": "_int8" in file, **result}
        for kernels, files in report["parity"].items()
        for file, result in files.items()
    ]
    compared = [row for row in parity if row["must_equal"]]
    return environment.get_template("report.html.jinja").render(
        **content,
        report=report,
        problems=subject.problems,
        notes=report.get("notes", []),
        parity=parity,
        compared=sum(row["pixels"] for row in compared),
        differing=sum(row["mismatched"] for row in compared),
        sizes={file["name"]: file["bytes"] for file in report["files"]},
        int8_name=subject.int8_file.name,
        style=Markup(source("report.css")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
    )
