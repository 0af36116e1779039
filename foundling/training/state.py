"""All that changes during a run: the model, the optimizer, the guard, the progress."""

import json
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from foundling.base import sharded_files
from foundling.base.group import Group
from foundling.base.ranks import largest_over_ranks
from foundling.base.sharded import is_sharded, local
from foundling.models.language_model import LanguageModel
from foundling.runs.checkpoint import Checkpoint
from foundling.training.guard.guard import Guard
from foundling.training.optimizers import Optimizer
from foundling.training.shards import sharded_like

OPTIMIZER = "optimizer.safetensors"
GROWTH = 100.0
"""A weight this many times the largest of the last measured state is damage, not learning."""


@dataclass
class Progress:
    """Where a run stands; all that a checkpoint must remember beside tensors."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    validated_step: int = -1
    validation_loss_nats: float | None = None
    best_loss_nats: float | None = None
    best_step: int = 0
    metrics_bytes: int = 0


@dataclass(frozen=True)
class Snapshot:
    """A state in memory."""

    progress: Progress
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    guard: dict[str, Any]
    nbytes: int
    """On the rank where it takes most: all ranks keep the same steps."""


@dataclass
class TrainingState:
    """Kept in memory or on disk, and restored, as one."""

    model: LanguageModel
    optimizer: Optimizer
    stage_model: Callable[[Group, bool], Callable[[Path], None]]
    """Gives what writes the model into a folder; with True, as the model is now."""
    load_model: Callable[[Path], None]
    restart_model: Callable[[], None]
    """Gives the model the weights that it began with."""
    guard: Guard | None = None
    progress: Progress = field(default_factory=Progress)
    largest_weight: float = math.inf
    """The largest weight of the last state that was measured; infinite: none was."""

    def __post_init__(self) -> None:
        self._frozen = self._checksum() if self.guard is not None else 0

    def measure(self) -> None:
        """Remember the largest weight of this state, by which later ones are judged."""
        self.largest_weight = self._largest_weight()

    def stage(self, group: Group, *, copy: bool) -> Callable[[Path], None]:
        """What writes this state into the folder of a checkpoint.

        Args:
            group: the processes that write it together, of which each has to call this.
            copy: as it is now, whatever it becomes until then.
        """
        self.measure()
        write_model = self.stage_model(group, copy)
        tensors = self.optimizer.state()
        if copy:
            tensors = _copied(tensors)
        values = {"progress": vars(self.progress)}
        if self.guard is not None:
            values["guard"] = self.guard.state()
        contents = {f"{name}.json": json.dumps(value) for name, value in values.items()}

        def write_rest(state: Path) -> None:
            state.mkdir(exist_ok=True)
            if group.size == 1:
                save_file(tensors, state / OPTIMIZER)
            for name, content in contents.items():
                (state / name).write_text(content, "utf-8")

        def write(folder: Path) -> None:
            write_model(folder / "model")
            if group.size > 1:
                sharded_files.write(tensors, folder / "state", group)
            group.first(lambda: write_rest(folder / "state"))

        return write

    def read(self, checkpoint: Checkpoint) -> None:
        """From a checkpoint, however many processes wrote it."""
        self.load_model(checkpoint.model)
        self.optimizer.load_state(self._optimizer_state(checkpoint.state))
        progress = json.loads((checkpoint.state / "progress.json").read_text("utf-8"))
        self.progress = Progress(**progress)
        self.measure()
        if self.guard is not None:
            self.guard.reset()
            if (file := checkpoint.state / "guard.json").exists():
                self.guard.load_state(json.loads(file.read_text("utf-8")))

    def _optimizer_state(self, folder: Path) -> dict[str, Tensor]:
        """The optimizer's state in the folder of a checkpoint, sharded as the parameters are."""
        parameters = {name: parameter for parameter, name in self.optimizer.names.items()}
        if (folder / OPTIMIZER).exists() and not any(map(is_sharded, parameters.values())):
            return load_file(folder / OPTIMIZER)
        tensors = {}
        for name, (shape, dtype) in sharded_files.kinds(folder).items():
            parameter = parameters.get(name.split("/")[1])
            if parameter is not None and is_sharded(parameter) and parameter.shape == shape:
                tensors[name] = torch.empty_like(parameter.detach(), dtype=dtype)
            else:
                tensors[name] = torch.empty(shape, dtype=dtype)
        sharded_files.read(tensors, folder)
        return tensors

    def snapshot(self) -> Snapshot:
        """A copy in the host's memory."""
        assert self.guard is not None, "only the guard goes back"
        return Snapshot(
            Progress(**vars(self.progress)),
            _copied(self._changing()),
            _copied(self.optimizer.state()),
            self.guard.state(),
            self.snapshot_bytes(),
        )

    def restore(self, snapshot: Snapshot) -> None:
        assert self.guard is not None, "only the guard goes back"
        for name, value in self._changing().items():
            local(value).copy_(local(snapshot.model[name]))
        self.optimizer.load_state(snapshot.optimizer)
        self.guard.load_state(snapshot.guard)
        self.progress = Progress(**vars(snapshot.progress))
        self.measure()

    def reload_frozen(self) -> None:
        """Read again what no snapshot or checkpoint holds, if it is that which was damaged.

        A second model is in memory then, beside this one.
        """
        (differs,) = largest_over_ranks(float(self._checksum() != self._frozen))
        if differs:
            self.restart_model()

    def restart(self) -> None:
        """As before the first step."""
        self.restart_model()
        self.optimizer.load_state({})
        self.progress = Progress()
        self.measure()
        if self.guard is not None:
            self.guard.reset()

    def defect(self) -> str:
        """What is damaged beyond doubt, in words; empty: nothing is."""
        largest = self._largest_weight()
        state = map(local, self.optimizer.state().values())
        is_finite = all(bool(torch.isfinite(value).all()) for value in state)
        (broken,) = largest_over_ranks(0.0 if is_finite else 1.0)
        if not math.isfinite(largest):
            return "a weight is not finite"
        if largest > GROWTH * self.largest_weight:
            return f"a weight is {largest:.3g}, where {self.largest_weight:.3g} was the largest"
        return "the optimizer's state is not finite" if broken else ""

    def _checksum(self) -> int:
        """Of all that is frozen, tensor by tensor: this rank's parts."""
        checksum = 0
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            if not tensor.requires_grad:
                part = local(tensor).detach().cpu().flatten()
                content: Any = part.view(torch.uint8).numpy()
                checksum = zlib.crc32(content, checksum)
        return checksum

    def _changing(self) -> dict[str, Tensor]:
        """The model's tensors, but for frozen weights."""
        parameters = self.model.named_parameters(remove_duplicate=False)
        frozen = {name for name, parameter in parameters if not parameter.requires_grad}
        return {k: v for k, v in self.model.state_dict().items() if k not in frozen}

    def snapshot_bytes(self) -> int:
        """What a snapshot takes now, on the rank where it takes most.

        Before the first step the optimizer has nothing to keep.
        """
        tensors = [*self._changing().values(), *self.optimizer.state().values()]
        mine = sum(local(tensor).nbytes for tensor in tensors)
        return int(*largest_over_ranks(mine))

    def _largest_weight(self) -> float:
        """Over all ranks; one that is not a number is infinite."""
        parts = [local(parameter).detach() for parameter in self.model.parameters()]
        ends = [end.float() for part in parts if part.numel() for end in part.aminmax()]
        found = torch.stack(ends).abs().max().item() if ends else 0.0
        (largest,) = largest_over_ranks(math.inf if math.isnan(found) else found)
        return largest


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """In the host's memory; what is sharded stays so."""
    return {
        name: sharded_like(tensor, local(tensor).detach().to("cpu", copy=True))
        for name, tensor in tensors.items()
    }
