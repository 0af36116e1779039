"""A language model: embed → context → unembed, whatever the context module remembers."""

from collections.abc import Iterator
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from foundling.models.batch import BatchView, whole_document


@runtime_checkable
class State(Protocol):
    """What a context module remembers of the tokens it has seen, for streaming."""

    length: int
    """How many tokens it has seen."""


@runtime_checkable
class ContextModule(Protocol):
    """Turns the embedding of each token into a vector that knows (part of) its context.

    One with `supports_indices = True` also takes `indices` of the flattened rows and computes those
    alone.
    """

    def __call__(
        self,
        x: Float[Tensor, "batch time dim"],
        view: BatchView,
        state: Any = None,
    ) -> Float[Tensor, "batch time dim"]:
        """With a `state`, `x` continues what the state has seen, and the state moves on."""
        ...

    def new_state(self, batch: int, max_time: int) -> State: ...


class LanguageModel(nn.Module):
    """Gives the hidden vectors and the logits of the next token; never sees targets.

    `max_context` is the longest document it can read, or None where there is no limit.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        dim: int,
        context: nn.Module,
        max_context: int | None,
        tied: bool,
        spec: dict[str, Any],
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, dim)
        self.context = context
        self.unembed = nn.Linear(dim, vocab_size, bias=False)
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.normal_(self.unembed.weight, std=0.02)
        if tied:
            self.unembed.weight = self.embed.weight
        self.compiled = False
        self.vocab_size = vocab_size
        self.max_context = max_context
        self.tied = tied
        self.spec = spec
        """The rung's name and settings, from which `models.build` makes the same model."""
        self.logit_softcap: float | None = spec.get("logit_softcap")
        """c: the logits l are c · tanh(l / c) of the unembedding's l; None: they are these."""

    def hidden(
        self,
        tokens: Int[Tensor, "batch time"],
        view: BatchView | None = None,
        state: Any = None,
        indices: Int[Tensor, " indices"] | None = None,
    ) -> Float[Tensor, "batch time dim"] | Float[Tensor, "indices dim"]:
        """The vectors after the final norm; without a view each row is one document.

        With `indices`, those of the flattened rows alone: a context module that supports indices
        leaves out what no other vector depends on.
        """
        if view is None:
            view = whole_document(tokens, state.length if state is not None else 0)
        assert view.seen_until is None or self.supports_tree_mask, (
            "its branches would see each other"
        )
        x = self.embed(tokens)
        if torch.is_autocast_enabled(x.device.type):
            # Products alone are rounded: what they are added to stays wide.
            x = x.to(torch.promote_types(x.dtype, torch.float32))
        result: Tensor
        if indices is None:
            result = self.context(x, view, state)
        elif getattr(self.context, "supports_indices", False):
            result = self.context(x, view, indices=indices)
        else:
            result = self.context(x, view).flatten(0, 1).index_select(0, indices)
        return result

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the blocks, which share one graph, or the whole of a model without any.

        So a model of 30 layers compiles as fast as one of 2, where the graph of the whole grows
        with its layers. Takes what `torch.compile` takes.
        """
        for part in getattr(self.context, "blocks", None) or [super()]:
            part.compile(*args, **kwargs)
        self.compiled = True

    def at(
        self, tokens: Int[Tensor, "batch time"], view: BatchView, indices: Int[Tensor, " indices"]
    ) -> Float[Tensor, "indices dim"]:
        """The vectors at these indices of the flattened rows; one compiled graph for any number."""
        if self.compiled:
            torch._dynamo.maybe_mark_dynamic(indices, 0)
        result: Tensor = self(tokens, view, indices=indices)
        return result

    def logits(self, hidden: Float[Tensor, "... dim"]) -> Float[Tensor, "... vocab"]:
        """Unnormalised log-probabilities of the next token, in fp32 at least."""
        logits: Tensor = self.unembed(hidden)
        logits = logits if logits.element_size() >= 4 else logits.float()
        cap = self.logit_softcap
        return logits if cap is None else (logits / cap).tanh() * cap

    forward = hidden

    @property
    def device(self) -> torch.device:
        """Where it computes; a model whose matrices are still in their files: on the CPU."""
        found = self.embed.weight.device
        return torch.device("cpu") if found.type == "meta" else found

    @property
    def supports_tree_mask(self) -> bool:
        """Whether the context module keeps apart the branches of a document; see BatchView."""
        return bool(getattr(self.context, "supports_tree_mask", False))

    def new_state(self, batch: int, max_time: int) -> State:
        """An empty state for `batch` streams of at most `max_time` tokens."""
        return cast(ContextModule, self.context).new_state(batch, max_time)

    def num_parameters(self) -> int:
        size = sum(parameter.numel() for parameter in self.parameters())
        return size + sum(a * b for a, b, trains in self._products() if trains is None)

    def num_trained_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def flops_per_token(self, time: int) -> int:
        """Floating-point operations of one token's forward and backward pass.

        Six for each weight that multiplies (an embedding only looks up), four where it is frozen,
        and for attention twelve for each unit of width and token of the context, halved by the
        causal mask.
        """
        products = sum((6 if trains else 4) * a * b for a, b, trains in self._products())
        attended = getattr(self.context, "attended_width", lambda time: 0)(time)
        return products + 12 * int(attended)

    def _products(self) -> Iterator[tuple[int, int, bool | None]]:
        """The shape of every matrix that multiplies, and whether it trains; None: no parameter."""
        for linear in (module for module in self.modules() if isinstance(module, nn.Linear)):
            own = dict(linear.named_parameters(recurse=False))
            if "weight" not in own:
                yield linear.out_features, linear.in_features, None
            for parameter in own.values():
                if parameter.ndim == 2:
                    yield *parameter.shape, parameter.requires_grad
