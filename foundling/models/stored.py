"""Models whose matrices stay in their files until they are asked for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from foundling.models.adapters import merged_weight
from foundling.models.language_model import LanguageModel


class StoredModel:
    """A model that has memory for its vectors, and reads its matrices one by one.

    Args:
        model: its matrices may be on the meta device; those that are not count as they are.
        read: gives a matrix by its name, in fp32 and without adapters.
    """

    def __init__(self, model: LanguageModel, read: Callable[[str], Tensor]) -> None:
        self.model = model.eval()
        self.read = read

    def weight(self, name: str) -> Tensor:
        """A matrix by its name, adapters and learned rows merged into it.

        Raises:
            ConfigError: it cannot be read.
        """
        module = self.model.get_submodule(name.removesuffix(".weight"))
        bare = parameter_of(module)
        self._fill(module, name)
        try:
            return merged_weight(self.model, name)
        finally:
            module._parameters["weight"] = bare

    def keep(self, *names: str) -> None:
        """Read these matrices for good."""
        for name in names:
            self._fill(self.model.get_submodule(name.removesuffix(".weight")), name)
        if self.model.tied and "embed.weight" in names:
            self.model.unembed.weight = self.model.embed.weight

    @contextmanager
    def reading(self) -> Iterator[LanguageModel]:
        """The model, which for as long reads each matrix when it is used and lets it go again."""
        hooks = []
        for name, module in self.model.named_modules():
            if (bare := parameter_of(module)) is not None and bare.is_meta:
                path = "embed" if module is self.model.unembed and self.model.tied else name
                hooks += self._hooks(module, f"{path}.weight", bare)
        try:
            yield self.model
        finally:
            for hook in hooks:
                hook.remove()

    def _hooks(self, module: nn.Module, name: str, bare: nn.Parameter) -> list[RemovableHandle]:
        def let_go(*_: object) -> None:
            module._parameters["weight"] = bare

        return [
            module.register_forward_pre_hook(lambda *_: self._fill(module, name)),
            module.register_forward_hook(let_go, always_call=True),
        ]

    def _fill(self, module: nn.Module, name: str) -> None:
        bare = parameter_of(module)
        if bare is not None and bare.is_meta:
            module._parameters["weight"] = nn.Parameter(self.read(name), requires_grad=False)


def parameter_of(module: nn.Module) -> nn.Parameter | None:
    """The weight that a module owns, without the learned rows that stand in for some of it."""
    return module._parameters.get("weight")
