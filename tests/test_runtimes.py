"""Running exported files: what native libraries say, and threads."""

from __future__ import annotations

import os
import threading

import pytest

from mobilesr_plugin.native_output import silenced_native_output


def test_native_output_is_dropped_and_what_follows_is_not(capfd: pytest.CaptureFixture[str]) -> None:
    os.write(2, b"before ")
    with silenced_native_output():
        os.write(2, b"noise ")
        with silenced_native_output():
            os.write(2, b"noise ")
    os.write(2, b"after")
    assert capfd.readouterr().err == "before after"


def test_threads_give_standard_error_back(capfd: pytest.CaptureFixture[str]) -> None:
    """The second thread comes while the first is inside, and leaves after it."""
    first_is_in, second_is_in, first_may_go = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with silenced_native_output():
            first_is_in.set()
            first_may_go.wait()

    def second() -> None:
        first_is_in.wait()
        with silenced_native_output():
            second_is_in.set()
            threads[0].join()

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    assert first_is_in.wait(10)
    assert not second_is_in.wait(0.2)
    first_may_go.set()
    for thread in threads:
        thread.join(10)
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"
