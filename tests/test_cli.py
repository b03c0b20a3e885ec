"""The whole command line: help, shared options, JSON, silence, completion, start-up, wrong usage."""

from __future__ import annotations

import inspect
import json
import os
import pty
import re
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from data_fixtures import hr_folder
from host_fixtures import environment
from test_importers import srvgg
from typer.main import get_command

from mobilesr_plugin import pipeline
from mobilesr_plugin.cli.command import Command
from mobilesr_plugin.cli.export import STAGES as EXPORT_STAGES
from mobilesr_plugin.cli.import_ import STAGES as IMPORT_STAGES
from mobilesr_plugin.cli.main import app, export_app, main
from mobilesr_plugin.importers.importing import import_checkpoint

BIN = Path(sys.executable).parent
PROGRAMS: dict[str, Any] = {"mobilesr": get_command(app), "mobilesr-export": get_command(export_app)}
HEAVY = (
    "torch",
    "tensorflow",
    "numpy",
    "cv2",
    "onnx",
    "basicsr",
    "scipy",
    "skimage",
    "PIL",
    "yaml",
    "jinja2",
)

# Every command once, on files that earlier ones made. A new command needs an entry here or in LONG.
RUNS = {
    "mobilesr data demo": "--out demo --scale 3",
    "mobilesr data prepare": "--hr hr --scale 2 --out set --as valid --skip-corrupt --workers 1",
    "mobilesr data options": "--out options --only demo",
    "mobilesr import": "srvgg srvgg.pth --out imported.pth",
    "mobilesr export": "--ckpt imported.pth --calib set/set_valid_LR_bicubic/X2 --size 24x32 --out export",
    "mobilesr report": "export --data set/set_valid_HR --no-latency",
    "mobilesr upscale": "set/set_valid_LR_bicubic/X2 --model imported.pth --out large --overwrite",
    "mobilesr bench accuracy": "--model imported.pth --data set/set_valid_HR",
    "mobilesr bench latency": "imported.pth --size 24x32 --runs 3",
    "mobilesr bench nodes": "--size 12x16 --channels 8 --scale 2 --runs 3",
    "mobilesr bench dataset": "--gt set/set_valid_HR --lq set/set_valid_LR_bicubic/X2 --scale 2 --batch 2 "
    "--patch 8 --runs 3",
}
# These train for long, or are another name of mobilesr export.
LONG = {"mobilesr bench training-step", "mobilesr bench training", "mobilesr-export"}
SLOW_TWICE = {"mobilesr export", "mobilesr bench nodes", "mobilesr bench latency"}


def walk(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every group and command with its words."""
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from walk(command, f"{path} {name}")


EVERY = dict(item for name, program in PROGRAMS.items() for item in walk(program, name))
COMMANDS = {path: command for path, command in EVERY.items() if not hasattr(command, "commands")}


def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """``mobilesr`` as a user starts it."""
    return subprocess.run(
        [BIN / "mobilesr", *map(str, arguments)],
        env=environment(COLUMNS="200", **variables),
        capture_output=True,
        text=True,
        check=False,
    )


def in_process(arguments: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(shlex.split(arguments))
    return int(done.value.code or 0)


# Help


def help_of(path: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> str:
    """What --help prints on a terminal of that width."""
    monkeypatch.setenv("COLUMNS", str(columns))
    program, *words = path.split()
    with pytest.raises(SystemExit) as done:
        PROGRAMS[program].main([*words, "--help"], prog_name=program)
    assert done.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("path", EVERY)
def test_help_is_readable(
    path: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of(path, 100, capsys, monkeypatch)
    assert f"Usage: {path} " in text
    assert not re.search(r"<[a-z]", text)  # raw types, as <list[int]>
    assert "\\b" not in text


@pytest.mark.parametrize("path", [path for path in EVERY if path not in ("mobilesr data", "mobilesr bench")])
def test_examples_parse_and_stay_on_one_line(
    path: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = help_of(path, 40, capsys, monkeypatch).splitlines()
    shown = [line.strip() for line in lines[lines.index("Examples:") + 1 :]]
    assert shown == EVERY[path].examples
    assert shown
    for example in shown:
        program, *words = shlex.split(example)
        found = PROGRAMS[program]
        while hasattr(found, "commands"):
            found = found.commands[words.pop(0)]
        found.make_context(program, words)  # every option is known, of the right type, and none is missing
        if path in COMMANDS:
            assert found.callback.__name__ == COMMANDS[path].callback.__name__


def options(path: str) -> dict[str, Any]:
    """The options of a command, as help shows them."""
    context = COMMANDS[path].make_context(path, [], resilient_parsing=True)
    params = COMMANDS[path].get_params(context)
    return {param.opts[0]: param for param in params if param.param_type_name == "option"}


@pytest.mark.parametrize("path", COMMANDS)
def test_shared_options_are_spelt_and_explained_alike(path: str) -> None:
    assert isinstance(COMMANDS[path], Command)
    own = options(path)
    for name, spelt in {"--quiet": ["--quiet", "-q"], "--json": ["--json"]}.items():
        assert own[name].opts == spelt
        assert own[name].is_flag
        assert own[name].help == options("mobilesr data demo")[name].help
    for other in COMMANDS:
        for name, same in options(other).items():
            if name in own:  # --kernels takes a NAME everywhere, or several
                values = [(each.metavar or "").removesuffix(" ...") for each in (own[name], same)]
                assert values[0] == values[1], (name, path, other)


# What is printed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that RUNS begins with."""
    folder = tmp_path_factory.mktemp("cli")
    hr_folder(folder / "hr", count=2, height=60, width=80)
    (folder / "hr" / "damaged.png").write_bytes((folder / "hr" / "0001.png").read_bytes()[:200])
    srvgg(folder / "srvgg.pth")
    return folder


DOCUMENTS: dict[str, tuple[int, str, str]] = {}


def document(path: str, folder: Path, capfd: Any, monkeypatch: Any) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command with --json, after those before it."""
    monkeypatch.chdir(folder)
    for earlier in list(RUNS)[: list(RUNS).index(path) + 1]:
        if earlier not in DOCUMENTS:
            code = in_process(f"{earlier.removeprefix('mobilesr ')} {RUNS[earlier]} --json")
            DOCUMENTS[earlier] = (code, *capfd.readouterr())
    return DOCUMENTS[path]


def test_every_command_is_run() -> None:
    assert {*RUNS, *LONG} == set(COMMANDS)


@pytest.mark.parametrize("path", RUNS)
def test_json_is_one_document_and_nothing_else(
    path: str, folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caught at the file descriptors: BasicSR and converters print, too."""
    code, out, err = document(path, folder, capfd, monkeypatch)
    assert (code, err) == (0, "")
    assert json.loads(out)


def test_documents_say_what_was_made(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in list(RUNS)[:6]:
        document(path, folder, capfd, monkeypatch)
    said = {path: json.loads(out) for path, (_, out, _) in DOCUMENTS.items()}
    for each in [*said["mobilesr data demo"]["sets"], *said["mobilesr data prepare"]["sets"]]:
        assert (folder / each["path"]).exists()
        assert each["made"]
    (skipped,) = said["mobilesr data prepare"]["skipped"]
    assert "damaged.png" in skipped
    files = [each["file"] for each in said["mobilesr data options"]["files"]]
    assert all((folder / file).is_file() for file in files)
    assert said["mobilesr import"]["network_g"]["type"] == "SRVGGNetCompact"
    exported = said["mobilesr export"]
    assert all((folder / exported["folder"] / file["name"]).is_file() for file in exported["files"])
    assert exported["verified"]
    assert said["mobilesr report"]["bytes"] == (folder / "export" / "report.html").stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in RUNS if path not in SLOW_TWICE])
def test_quiet_leaves_results_only(
    path: str, folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    document(path, folder, capfd, monkeypatch)
    assert in_process(f"{path.removeprefix('mobilesr ')} {RUNS[path]} --quiet") == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert out.count("|") > 9 if "bench" in path else out == ""  # a table was asked for


def test_errors_are_said_in_every_mode(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for mode in ("", "--quiet", "--json"):
        assert in_process(f"report {tmp_path / 'missing'} {mode}") == 1
        out, err = capfd.readouterr()
        assert out == ""
        assert err.startswith("mobilesr: ")
        assert err.count("\n") == 1


def terminal(*arguments: object, cwd: Path) -> str:
    """What ``mobilesr`` shows where standard error is a terminal."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [BIN / "mobilesr", *map(str, arguments)],
        cwd=cwd,
        env=environment(COLUMNS="120", TERM="xterm"),
        stdout=subprocess.DEVNULL,
        stderr=its,
    )
    os.close(its)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux tells that the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()


def test_progress_is_for_terminals(tmp_path: Path) -> None:
    hr_folder(tmp_path / "hr", count=4, height=400, width=500)
    arguments = ["data", "prepare", "--hr", "hr", "--scale", 2, "--as", "valid", "--workers", 1, "--out"]
    shown = terminal(*arguments, "a", cwd=tmp_path)
    assert re.search(r"valid .*4/4", shown)
    assert re.search(r"\d\.\d/s", shown), "no rate"
    assert re.search(r"\d:\d\d:\d\d \d:\d\d:\d\d", re.sub(r"\x1b\[[\d;?]*\w", "", shown)), "no times"
    assert terminal(*arguments, "b", "--quiet", cwd=tmp_path) == ""


def test_stages_are_counted(tmp_path: Path) -> None:
    begun: list[str] = []
    srvgg(tmp_path / "a.pth")
    import_checkpoint("srvgg", tmp_path / "a.pth", tmp_path / "b.pth", progress=begun.append)
    assert len(begun) == IMPORT_STAGES
    assert inspect.getsource(pipeline.export).count('progress("') == EXPORT_STAGES


# Wrong usage


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("export", "Missing option '--ckpt'; see mobilesr export --help"),
        ("exprot", "No such command 'exprot'. Did you mean 'export'"),
        ("data demo --scale three", "Invalid value for '--scale'"),
        ("bench latency a.tflite --threads 0", "Invalid value for '--threads'"),
        ("upscale a.png --modle x", "No such option: --modle"),
        ("import onnx a.onnx --out b.pth", "Invalid value for FORMAT: 'onnx' is not one of tf-abpn"),
        ("--nonsense", "No such option: --nonsense"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"mobilesr: {named}")
    assert " --help\n" in err
    assert err.count("\n") == 1


def test_no_command_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("", "data", "bench"):
        assert in_process(words) == 2
        out, err = capsys.readouterr()
        assert "Usage: mobilesr" in out
        assert err == ""


# Start-up


def test_help_starts_at_once() -> None:
    """Time on the processor, because others may use it; half a second is promised."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.5, times


@pytest.mark.parametrize("words", [["--help"], ["bench", "latency", "--help"], ["--version"], ["export"]])
def test_nothing_heavy_is_imported_for_words(words: list[str]) -> None:
    code = (
        "import sys; from mobilesr_plugin.cli.main import main\n"
        f"try: main({words!r})\nexcept SystemExit: pass\n"
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"


# Completion


def completed(line: str) -> list[str]:
    """What bash would offer at the end of a line."""
    words = line.split(" ")
    variables = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    complete = f"_{words[0].replace('-', '_').upper()}_COMPLETE"
    done = subprocess.run(
        [BIN / words[0]],
        env=environment(**variables, **{complete: "complete_bash"}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_completion_knows_commands_options_and_values() -> None:
    assert completed("mobilesr da") == ["data"]
    assert completed("mobilesr data ") == ["demo", "prepare", "options"]
    assert "--per-op" in completed("mobilesr bench latency --p")
    assert completed("mobilesr bench latency --kernels t") == ["tflite_builtin"]
    assert completed("mobilesr import tf") == ["tf-abpn", "tf-sesr"]
    assert completed("mobilesr-export --ca") == ["--calib"]


def test_completion_installs_in_bash(tmp_path: Path) -> None:
    """In a real bash: the option writes the files that bash reads, and then the key for completion works."""
    script = f"""
        PATH={BIN}:$PATH
        mobilesr --install-completion; mobilesr --show-completion >shown
        source ~/.bashrc
        COMP_WORDS=(mobilesr bench la) COMP_CWORD=2
        _mobilesr_completion mobilesr
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=tmp_path,
        env=environment(HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "latency"
    assert "complete -o default -F _mobilesr_completion mobilesr" in (tmp_path / "shown").read_text()


def test_completion_speaks_zsh() -> None:
    done = run(_MOBILESR_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="mobilesr ben")
    assert done.returncode == 0
    assert '"bench":"Measure checkpoints and exported files' in done.stdout
