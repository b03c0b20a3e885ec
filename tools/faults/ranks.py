"""Two processes of a distributed training, of which one is killed."""

from __future__ import annotations

import random
import shutil
import socket
import time
from pathlib import Path

from faults import world
from faults.outcome import Row, kind_of_fault
from faults.processes import Running, wait_until

LIMIT = 60.0  # seconds in which the other one must end


def start_ranks(words: list[str], folder: Path, log: str, ranks: int) -> list[Running]:
    """Starts the processes of a distributed run, as torchrun does it, with a log for each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    meeting = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    words = [*words, "--launcher", "pytorch"]
    return [
        Running(words, folder, f"{log}.{rank}.err", RANK=str(rank), LOCAL_RANK=str(rank), **meeting)
        for rank in range(ranks)
    ]


def run(source: Path, folder: Path, rounds: int, seed: int) -> Row:
    """Kills rank 0 and rank 1 in turn; the other must end within a minute and say so in one line."""
    row = Row("one of two processes killed")
    started = time.monotonic()
    shutil.copytree(source, folder)
    generator = random.Random(f"{seed} ranks")
    for number in range(rounds):
        name = f"ranks{number}"
        opt = world.qat_options(name) if number % 4 > 1 else world.options(name)
        opt["train"]["total_iter"] = 10**6
        opt["logger"] |= {"print_freq": 5, "save_checkpoint_freq": 10**6, "use_tb_logger": False}
        opt["val"]["val_freq"] = 20
        world.write_options(folder / f"{name}.yml", opt)
        words = [*world.script("train"), "-opt", f"{name}.yml"]
        running = start_ranks(words, folder, name, 2)
        log = folder / f"{name}.0.err"
        row.rounds += 1
        if not wait_until(lambda log=log: "iter:       5" in log.read_text(), running[0]):
            row.losses += 1
            row.notes.append(f"round {number}: it did not start; see {log}")
        time.sleep(generator.uniform(0, 3))
        killed = number % 2
        running[killed].kill()
        outcome = running[1 - killed].end(LIMIT)
        fault = kind_of_fault(outcome, only_ours=False)
        if fault is None and f"rank {killed} has ended" not in outcome.err:
            fault = "unstated"
        if fault:
            setattr(row, fault, getattr(row, fault) + 1)
            row.notes.append(f"round {number}, rank {killed} killed: {fault}; see {running[1 - killed].log}")
    row.seconds = time.monotonic() - started
    return row
