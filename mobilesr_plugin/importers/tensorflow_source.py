"""TensorFlow checkpoints by the names of their objects. Of the importers, the only module with tensorflow.

A checkpoint's own keys depend on how it was saved: Keras' ``model.save`` numbers a subclassed model's
variables (``variables/17``), ``save_weights`` writes paths. Both hold the graph of objects, and a path
through it (``linear_blocks/0/collapse/layer_with_weights-1/kernel``) is the same in either.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilesr_plugin.errors import CheckpointError, MissingExtraError
from mobilesr_plugin.importers.original import Judge
from mobilesr_plugin.native_output import silenced_native_output

_ALLOWED = "a SavedModel's folder, its variables folder, or the path before .index"
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_MAX_REASON = 160
# Children that Keras adds for itself: lists of what is a child already, and the training's state.
_BOOKKEEPING = (
    *("variables", "trainable_variables", "non_trainable_variables", "layers", "metrics"),
    *("regularization_losses", "keras_api", "optimizer", "signatures"),
)
_NUMBERED_LAYER = re.compile(r"layer-\d+")  # those with weights are layer_with_weights-0, -1, ... as well


@dataclass(frozen=True)
class Signature:
    """A SavedModel's serving function.

    Attributes:
        run: From (1, H, W, C) float32 to its output, in its own range of values.
        size: (height, width) of its input; None: any.
    """

    run: Judge
    size: tuple[int, int] | None


class TensorFlowSource:
    """A TensorFlow checkpoint, or the variables of a SavedModel.

    Args:
        path: A SavedModel's folder, its ``variables`` folder, a folder with one checkpoint, or a prefix.

    Attributes:
        path: As given, for messages.
        tensorflow: The package.
        variables: Path through the objects -> array.

    Raises:
        MissingExtraError: tensorflow is not installed.
        CheckpointError: nothing there, truncated, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._prefix = _find_prefix(path)
        with silenced_native_output():
            self.tensorflow = _import()
            with self._readable():
                self.variables = self._read()

    def signature(self) -> Signature | None:
        """Returns the serving function with one input and one output; None if there is none.

        A SavedModel is a program, and this loads it. A checkpoint without ``saved_model.pb`` is numbers only.
        """
        folder = self._prefix.parent.parent
        if self._prefix.parent.name != "variables" or not (folder / "saved_model.pb").is_file():
            return None
        with silenced_native_output(), self._readable():
            model = self.tensorflow.saved_model.load(str(folder))
            function = model.signatures.get("serving_default")
        if function is None:
            return None
        ends = function.structured_input_signature[1], function.structured_outputs
        if any(len(end) != 1 for end in ends):
            return None
        ((name, spec),), (result,) = ends[0].items(), ends[1]

        def run(image: np.ndarray) -> np.ndarray:
            assert model is not None  # its variables live as long as it does
            with silenced_native_output(), self._readable():
                return function(**{name: self.tensorflow.constant(image)})[result].numpy()

        _, height, width, _ = spec.shape
        return Signature(run, (height, width) if height and width else None)

    def _read(self) -> dict[str, np.ndarray]:
        from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

        reader = self.tensorflow.train.load_checkpoint(str(self._prefix))
        if not reader.has_tensor(_OBJECT_GRAPH):
            raise CheckpointError(
                f"{self.path} is a checkpoint of TensorFlow 1, without the names of objects; "
                "save the model with TensorFlow 2"
            )
        graph = TrackableObjectGraph.FromString(reader.get_tensor(_OBJECT_GRAPH))
        return {path: np.asarray(reader.get_tensor(key)) for path, key in _paths(graph.nodes).items()}

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:  # TensorFlow raises many types for damaged files
            reason = " ".join(str(getattr(error, "message", None) or error).split())[:_MAX_REASON]
            raise CheckpointError(f"{self.path} is truncated or damaged ({reason}); copy it again") from error


def _paths(nodes: Any) -> dict[str, str]:
    """Shortest path to each variable, and its key in the checkpoint."""
    found, seen, waiting = {}, {0}, deque([(0, "")])
    while waiting:
        index, path = waiting.popleft()
        for attribute in nodes[index].attributes:
            if attribute.name == "VARIABLE_VALUE":
                found[path.removesuffix("/")] = attribute.checkpoint_key
        for child in nodes[index].children:
            name, target = child.local_name, child.node_id
            if target not in seen and name not in _BOOKKEEPING and not _NUMBERED_LAYER.fullmatch(name):
                seen.add(target)
                waiting.append((target, f"{path}{name}/"))
    return found


def _find_prefix(path: Path) -> Path:
    """Returns the absolute path of a checkpoint without ``.index``."""
    path = path.absolute()
    stripped = path.with_name(re.sub(r"\.(index|data-\d+-of-\d+)$", "", path.name))
    if _has_index(stripped):
        return stripped
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; give {_ALLOWED}")
    if not path.is_dir():
        raise CheckpointError(f"{path} is not a TensorFlow checkpoint; give {_ALLOWED}")
    for prefix in (path / "variables" / "variables", path / "variables"):
        if _has_index(prefix):
            return prefix
    found = sorted(index.with_suffix("") for index in path.glob("*.index"))
    if len(found) > 1:
        raise CheckpointError(f"{path} holds {len(found)} checkpoints; give one of them, such as {found[0]}")
    if not found:
        raise CheckpointError(f"{path} holds no TensorFlow checkpoint; give {_ALLOWED}")
    return found[0]


def _has_index(prefix: Path) -> bool:
    return prefix.with_name(f"{prefix.name}.index").is_file()


def _import() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tensorflow
    except ImportError as error:
        raise MissingExtraError("tensorflow", "export") from error
    return tensorflow
