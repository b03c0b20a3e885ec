"""How a run ends: exit codes, one line, and who says it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from host_fixtures import run

from mobilesr_plugin.errors import DataError
from mobilesr_plugin.host import failures

RAISE = """
import sys
from mobilesr_plugin import errors
from mobilesr_plugin.host import failures
sys.argv = ["basicsr/train.py", "-opt", "a.yml"]
failures.install_excepthook(resumable={resumable})
failures.install_excepthook(resumable={resumable})
{then}
raise {error}
"""


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        ("errors.DataError('no such folder')", 1, "mobilesr: no such folder\n"),
        ("errors.VerificationError('3 pixels differ')", 3, "mobilesr: 3 pixels differ\n"),
        (
            "KeyboardInterrupt",
            1,
            "mobilesr: interrupted; to continue from the last saved state: "
            "python basicsr/train.py -opt a.yml --auto_resume\n",
        ),
    ],
)
def test_one_line_and_exit_code(tmp_path: Path, error: str, code: int, expected: str) -> None:
    process = run("-c", RAISE.format(error=error, resumable=True, then=""), cwd=tmp_path)
    assert (process.returncode, process.stderr) == (code, expected)


def test_interrupted_test_cannot_be_resumed(tmp_path: Path) -> None:
    process = run("-c", RAISE.format(error="KeyboardInterrupt", resumable=False, then=""), cwd=tmp_path)
    assert (process.returncode, process.stderr) == (1, "mobilesr: interrupted\n")


def test_other_errors_keep_their_traceback(tmp_path: Path) -> None:
    process = run("-c", RAISE.format(error="ValueError('mine')", resumable=True, then=""), cwd=tmp_path)
    assert process.returncode == 1
    assert process.stderr.startswith("Traceback")
    assert process.stderr.endswith("ValueError: mine\n")


@pytest.mark.parametrize(
    ("then", "error", "expected"),
    [
        ("", "errors.DataError('x')", ""),
        ("failures.starting_is_over()", "errors.CheckpointError('x')", ""),
        ("failures.starting_is_over()", "errors.DataError('x')", "mobilesr (rank 1): x\n"),
    ],
)
def test_other_ranks_speak_only_of_their_own_data(
    tmp_path: Path, then: str, error: str, expected: str
) -> None:
    process = run("-c", RAISE.format(error=error, resumable=True, then=then), cwd=tmp_path, RANK="1")
    assert (process.returncode, process.stderr) == (1, expected)


class Failing(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> torch.Tensor:
        raise DataError("a.png is empty: delete it")


def test_errors_of_loader_workers_become_one_line() -> None:
    with pytest.raises(DataError) as caught:
        next(iter(torch.utils.data.DataLoader(Failing(), num_workers=1)))
    assert "Traceback" in str(caught.value)
    assert failures.one_line(caught.value) == "a.png is empty: delete it"


def test_importing_basicsr_does_not_touch_the_excepthook(tmp_path: Path) -> None:
    code = "import sys, basicsr; print(sys.excepthook is sys.__excepthook__)"
    assert run("-c", code, cwd=tmp_path).stdout.strip() == "True"


def test_message_without_traceback_is_kept() -> None:
    assert failures.one_line(DataError("a b")) == "a b"
