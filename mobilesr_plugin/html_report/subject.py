"""What a page is about: the folder of an export, and the experiment that it comes from, if there is one."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilesr_plugin.errors import DataError
from mobilesr_plugin.export.staging import UNVERIFIED
from mobilesr_plugin.html_report.report_form import FORM, first_problem


@dataclass(frozen=True)
class Subject:
    """An export and its experiment.

    Attributes:
        export: Folder of the files.
        experiment: Folder of the experiment; None if the export stands alone.
        report: Content of report.json.
        problems: Why the files must not be used; empty if they were verified.
        log: Folder of the experiment's tensorboard log; None if there is none.
    """

    export: Path
    experiment: Path | None
    report: dict[str, Any]
    problems: tuple[str, ...]
    log: Path | None

    @property
    def int8_file(self) -> Path:
        """The int8 file for any size."""
        return self.export / f"{self.report['model']}_int8.tflite"

    @property
    def float_file(self) -> Path:
        """The float32 file."""
        return self.export / f"{self.report['model']}_fp32.tflite"

    @property
    def fixed_files(self) -> dict[tuple[int, int], Path]:
        """(height, width) -> int8 file for that size, the smallest first."""
        pattern = re.compile(rf"{re.escape(self.report['model'])}_int8_(\d+)x(\d+)\.tflite")
        found = {}
        for file in self.report["files"]:
            match = pattern.fullmatch(file["name"])
            if match:
                found[int(match[1]), int(match[2])] = self.export / file["name"]
        return dict(sorted(found.items(), key=lambda item: item[0][0] * item[0][1]))

    @property
    def commands(self) -> list[str]:
        """What made it, in order: the training, if BasicSR's copy of the options names it, and the export."""
        made = [self.report["command"]] if "command" in self.report else []
        for options in sorted(self.experiment.glob("*.yml")) if self.experiment else ():
            head = options.read_text(encoding="utf-8", errors="replace").splitlines()[:4]
            # BasicSR writes "# CMD:" and below it "# .../train.py -opt ..." into its copy.
            made = [f"python {line.removeprefix('# ')}" for line in head if "-opt " in line] + made
        return made


def find_subject(folder: Path) -> Subject:
    """Finds the export in ``folder``, which may be the export's or the experiment's.

    Raises:
        DataError: it is neither, or the experiment was not exported, or its report is damaged.
    """
    export = next((each for each in (folder, folder / "export") if (each / "report.json").is_file()), None)
    if export is None:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; give an experiment's or an export's")
        if (folder / "models").is_dir():
            raise DataError(
                f"{folder} is an experiment that was not exported; run mobilesr-export --ckpt "
                f"{folder / 'models' / 'net_g_latest.pth'}"
            )
        raise DataError(
            f"{folder} is neither an experiment nor an export: it has no report.json, no export/ and no "
            "models/"
        )
    report = _read(export / "report.json")
    above = export.resolve().parent
    experiment = above if (above / "models").is_dir() else None
    log = above.parent.parent / "tb_logger" / above.name
    marked = export / UNVERIFIED
    problems = (
        tuple(marked.read_text(encoding="utf-8").splitlines())
        if marked.is_file()
        else tuple(report["problems"])
    )
    if not problems and not report["verified"]:
        problems = ("report.json says that the export was not verified",)
    missing = [file["name"] for file in report["files"] if not (export / file["name"]).is_file()]
    if missing:
        raise DataError(f"{export} lacks {', '.join(missing)}, which its report.json lists; export again")
    return Subject(export, experiment, report, problems, log if experiment and log.is_dir() else None)


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; export again") from error
    lacking = [key for key in FORM if not isinstance(report, dict) or key not in report]
    if lacking:
        raise DataError(f"{path} is no report of mobilesr-export: it lacks {', '.join(lacking)}")
    problem = first_problem(report)
    if problem is None:
        names = [report["model"], *(file["name"] for file in report["files"])]
        problem = next((f"{name!r} is not a file name" for name in names if not _is_file_name(name)), None)
    if problem:
        raise DataError(f"{path} is damaged: {problem}; export again")
    return dict(report)


def _is_file_name(name: str) -> bool:
    return name.isprintable() and name not in ("", ".", "..") and not set(name) & set("/\\")
