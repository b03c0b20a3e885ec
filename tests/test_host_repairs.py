"""Each repair of BasicSR: the fault is gone, and what was right is left alone."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from basicsr.archs.srvgg_arch import SRVGGNetCompact
from basicsr.data.prefetch_dataloader import CPUPrefetcher, PrefetchDataLoader
from basicsr.models.base_model import BaseModel
from host_fixtures import run

import basicsr.train
from mobilesr_plugin.errors import CheckpointError, DataError
from mobilesr_plugin.host import replacing, resuming, torchvision_repairs


def network(num_feat: int = 8) -> SRVGGNetCompact:
    torch.manual_seed(0)
    return SRVGGNetCompact(num_feat=num_feat, num_conv=2, upscale=2)


def model(folder: Path) -> BaseModel:
    """A BasicSR model with an optimizer that has state, saving into ``folder``."""
    paths = {"models": str(folder), "training_states": str(folder)}
    made = BaseModel({"num_gpu": 0, "is_train": True, "path": paths, "dist": False})
    net = network()
    made.optimizers = [torch.optim.Adam(net.parameters())]
    net(torch.zeros(1, 3, 4, 4)).sum().backward()
    made.optimizers[0].step()
    return made


def resume_options(folder: Path, **changes: Any) -> dict[str, Any]:
    paths = {"training_states": str(folder), "models": str(folder), "resume_state": None}
    return {"root_path": str(folder), "auto_resume": True, "num_gpu": 0, "path": paths, **changes}


# torchvision


@pytest.mark.slow
def test_import_without_the_repair_fails_where_the_fault_is(tmp_path: Path) -> None:
    code = "import torchvision.transforms.functional_tensor"
    without = run("-c", code, cwd=tmp_path, MOBILESR_AUTOLOAD="0")
    if without.returncode == 0:
        pytest.skip("this torchvision has no fault to repair")
    after = run("-c", f"import basicsr; {code}", cwd=tmp_path)
    assert after.returncode == 0, after.stderr


@pytest.mark.slow
def test_cuda_torchvision_beside_cpu_torch(tmp_path: Path) -> None:
    without = run("-c", "import torchvision", cwd=tmp_path)
    if "operator torchvision::nms does not exist" not in without.stderr:
        pytest.skip("this torchvision fits this torch")
    code = (
        "from mobilesr_plugin.host import torchvision_repairs as repairs\n"
        "repairs.define_missing_operators(); repairs.define_missing_operators()\n"
        "from torchvision.transforms.functional import rgb_to_grayscale\n"
        "import torch; print(rgb_to_grayscale(torch.ones(3, 1, 1)).item(), len(repairs._libraries))\n"
    )
    process = run("-c", code, cwd=tmp_path)
    value, libraries = process.stdout.split()
    assert (round(float(value), 3), libraries) == (1.0, "1"), process.stderr


def test_a_present_functional_tensor_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "torchvision.transforms.functional_tensor"
    own = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, own)
    torchvision_repairs.restore_functional_tensor()
    assert sys.modules[name] is own


# Saving


def test_states_and_networks_come_back(tmp_path: Path) -> None:
    saving = model(tmp_path)
    saving.save_network(network(), "net_g", 8)
    saving.save_training_state(3, 8)
    saving.save_training_state(-1, -1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["8.state", "net_g_8.pth"]
    loaded = network(num_feat=8)
    loaded.load_state_dict({name: torch.zeros_like(value) for name, value in loaded.state_dict().items()})
    saving.load_network(loaded, str(tmp_path / "net_g_8.pth"))
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), network().parameters(), strict=True))


def test_a_failing_save_stops_the_training(tmp_path: Path) -> None:
    saving = model(tmp_path / "missing")
    for save in (
        lambda: saving.save_network(network(), "net_g", 8),
        lambda: saving.save_training_state(1, 8),
    ):
        with pytest.raises(CheckpointError, match="missing/") as caught:
            save()
        assert "\n" not in str(caught.value)


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path) -> None:
    saving = model(tmp_path)
    saving.save_training_state(1, 8)
    before = (tmp_path / "8.state").read_bytes()

    class Interrupting:
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    saving.schedulers = [SimpleNamespace(state_dict=Interrupting)]
    with pytest.raises(KeyboardInterrupt):
        saving.save_training_state(2, 8)
    assert (tmp_path / "8.state").read_bytes() == before
    assert os.listdir(tmp_path) == ["8.state"]  # noqa: PTH208  (hidden files too)


def test_only_rank_0_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("basicsr.utils.dist_util.get_dist_info", lambda: (1, 2))
    model(tmp_path).save_network(network(), "net_g", 8)
    assert list(tmp_path.iterdir()) == []


# Loading


def test_loading_names_the_file_and_what_differs(tmp_path: Path) -> None:
    saving = model(tmp_path)
    saving.save_network(network(num_feat=12), "net_g", 8)
    whole = (tmp_path / "net_g_8.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pth").write_text("not weights", encoding="utf-8")
    torch.save({"params": {"x": torch.nn.ReLU()}}, tmp_path / "code.pth")
    for name, expected in {
        "net_g_8.pth": "body.0.weight",
        "half.pth": "damaged|cannot be read",
        "text.pth": "not a checkpoint",
        "code.pth": "would run code",
        "none.pth": "does not exist",
    }.items():
        with pytest.raises(CheckpointError, match=expected) as caught:
            saving.load_network(network(), str(tmp_path / name))
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_basicsr_rules_of_loading_are_kept(tmp_path: Path) -> None:
    saving = model(tmp_path)
    weights = network().state_dict()
    path = str(tmp_path / "a.pth")
    torch.save({"params": {f"module.{name}": value for name, value in weights.items()}}, path)
    saving.load_network(network(), path, True, "params_ema")
    torch.save(weights, path)
    saving.load_network(network(), path, True, None)
    other = network(num_feat=12)
    before = other.state_dict()["body.1.weight"].clone()
    saving.load_network(other, path, False, None)
    assert torch.equal(other.state_dict()["body.1.weight"], before)


# Resuming


def test_resume_takes_the_newest_state_and_its_network(tmp_path: Path) -> None:
    saving = model(tmp_path)
    for iteration in (2, 10, 4):
        saving.save_training_state(0, iteration)
    (tmp_path / "notes.state").touch()
    opt = resume_options(tmp_path, network_g={})
    state = basicsr.train.load_resume_state(opt)
    assert state is not None
    assert state["iter"] == 10
    assert opt["path"]["pretrain_network_g"] == str(tmp_path / "net_g_10.pth")
    assert basicsr.train.load_resume_state(resume_options(tmp_path / "empty")) is None


def test_damaged_and_foreign_states(tmp_path: Path) -> None:
    saving = model(tmp_path)
    saving.save_training_state(0, 4)
    whole = (tmp_path / "4.state").read_bytes()
    (tmp_path / "6.state").write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match=r"6\.state .*delete it"):
        basicsr.train.load_resume_state(resume_options(tmp_path))
    torch.save({"iter": 8, "code": network()}, tmp_path / "8.state")
    with pytest.raises(CheckpointError, match=r"8\.state .*not plain data"):
        basicsr.train.load_resume_state(resume_options(tmp_path))
    torch.save({"params": {}}, tmp_path / "9.state")
    with pytest.raises(CheckpointError, match=r"9\.state is not a training state"):
        basicsr.train.load_resume_state(resume_options(tmp_path))
    opt = resume_options(tmp_path, auto_resume=False)
    opt["path"]["resume_state"] = str(tmp_path / "5.state")
    with pytest.raises(CheckpointError, match=r"there is no training state .*5\.state"):
        basicsr.train.load_resume_state(opt)


def test_main_script_gets_the_repair_too(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(basicsr.train.__file__).read_text(encoding="utf-8")
    main = ModuleType("launched")  # not yet __main__, which would start a training
    exec(compile(source, basicsr.train.__file__, "exec"), vars(main))
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert replacing.mentions(vars(main)["load_resume_state"], "current_device")
    resuming.repair_main_script()
    assert vars(main)["load_resume_state"] is resuming.load_resume_state


# Data loading


class Failing(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == 2:
            raise DataError("image 2 is damaged")
        return torch.zeros(1)


def test_prefetcher_hands_over_errors_and_ends() -> None:
    prefetcher = CPUPrefetcher(PrefetchDataLoader(num_prefetch_queue=1, dataset=Failing(), batch_size=1))
    taken: list[Any] = []

    def take() -> None:
        try:
            while (batch := prefetcher.next()) is not None:
                taken.append(batch)
        except DataError as error:
            taken.append(error)

    thread = threading.Thread(target=take, daemon=True)  # without the repair it would wait forever
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert [isinstance(item, torch.Tensor) for item in taken] == [True, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("repaired", [False, True])
def test_prefetcher_is_no_longer_at_work_when_python_ends(tmp_path: Path, repaired: bool) -> None:
    """A thread that is in a kernel of torch all the time, which without the repair aborts the process."""
    code = (
        "import atexit, itertools, time, torch\n"
        "from basicsr.data.prefetch_dataloader import PrefetchGenerator\n"
        "from mobilesr_plugin.host import prefetch\n"
        f"{'' if repaired else 'atexit.unregister(prefetch._end_threads)'}\n"
        "image = torch.rand(500, 500)\n"
        "PrefetchGenerator((image @ image for _ in itertools.count()), 0)\n"
        "time.sleep(0.1)\n"
    )
    done = run("-c", code, cwd=tmp_path)
    assert (done.returncode == 0) is repaired
    assert ("terminate called" in done.stderr) is not repaired


# Distributed training


def test_slurm_on_cpu(tmp_path: Path) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\necho 127.0.0.1\necho 127.0.0.2\n", encoding="utf-8")
    scontrol.chmod(0o755)
    code = (
        "from basicsr.utils.options import init_dist\n"
        "import torch.distributed as dist\n"
        "init_dist('slurm', backend='nccl', port=29513)\n"
        "print(dist.get_rank(), dist.get_world_size(), dist.get_backend())\n"
        "dist.destroy_process_group()\n"
    )
    process = run(
        *("-c", code),
        cwd=tmp_path,
        PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        SLURM_PROCID="0",
        SLURM_NTASKS="1",
        SLURM_NODELIST="node[1-2]",
        CUDA_VISIBLE_DEVICES="",
    )
    assert process.stdout.split() == ["0", "1", "gloo"], process.stderr
