"""Rows of the embedding and of the head that learn while all others stay as they are."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from foundling.base.sharded import is_sharded
from foundling.models.language_model import LanguageModel

SPREAD = 0.1
"""Of a new row around the mean of the known ones, as a share of theirs: distinct from each other,
and near enough to the mean that a new token takes next to nothing of the others' probability."""


class Head(NamedTuple):
    """The matrix that scores tokens, and rows in place of some of its own."""

    matrix: Float[Tensor, "vocab dim"]
    ids: Int[Tensor, " tokens"] | None = None
    rows: Float[Tensor, "tokens dim"] | None = None

    def to(self, dtype: torch.dtype) -> "Head":
        rows = None if self.rows is None else self.rows.to(dtype)
        return Head(self.matrix.to(dtype), self.ids, rows)


class TokenRows(nn.Module):
    """The vectors that stand in for those of some tokens; the tokens' ids in rising order."""

    ids: Tensor

    def __init__(self, ids: Int[Tensor, " tokens"], rows: Float[Tensor, "tokens dim"]) -> None:
        super().__init__()
        self.register_buffer("ids", ids)
        self.rows = nn.Parameter(rows)
        self.enabled = True

    def put_into(self, matrix: Float[Tensor, "vocab dim"]) -> Float[Tensor, "vocab dim"]:
        """The matrix with these rows in place of its own."""
        return matrix.index_copy(0, self.ids, self.rows.to(matrix.dtype))


class _WithRows(nn.Module):
    """A matrix, frozen under its usual name `weight`, that reads as one with the learned rows."""

    def __init__(self, frozen: nn.Parameter, learned: TokenRows) -> None:
        nn.Module.__init__(self)
        self._parameters["weight"] = frozen  # reading `weight` gives the property below
        self.learned = learned

    @property
    def frozen(self) -> Tensor:
        return cast(Tensor, self._parameters["weight"])

    @property
    def weight(self) -> Float[Tensor, "vocab dim"]:
        """With the learned rows; a sharded matrix as it lies, for these are put into whole ones."""
        reads_whole = self.learned.enabled and not is_sharded(self.frozen)
        return self.learned.put_into(self.frozen) if reads_whole else self.frozen


class EmbeddingWithRows(_WithRows):
    """Looks up the learned rows where it is asked for their tokens, and the frozen ones elsewhere.

    Source: `TrainableTokensLayer` of `peft`.
    """

    def forward(self, tokens: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time dim"]:
        x = F.embedding(tokens, self.frozen)
        if not self.learned.enabled:
            return x
        ids = self.learned.ids
        place = torch.searchsorted(ids, tokens).clamp(max=len(ids) - 1)
        row = F.embedding(place, self.learned.rows).to(x.dtype)
        return torch.where((ids[place] == tokens)[..., None], row, x)


class HeadWithRows(_WithRows, nn.Linear):  # type: ignore[override]
    """Scores every token, the learned ones by their learned rows."""

    def __init__(self, frozen: nn.Parameter, learned: TokenRows) -> None:
        _WithRows.__init__(self, frozen, learned)
        self.out_features, self.in_features = frozen.shape
        self.register_parameter("bias", None)

    def forward(self, x: Float[Tensor, "... dim"]) -> Float[Tensor, "... vocab"]:
        logits = F.linear(x, self.frozen)
        if not self.learned.enabled:
            return logits
        scores = F.linear(x, self.learned.rows.to(x.dtype))
        return logits.index_copy(-1, self.learned.ids, scores.to(logits.dtype))


def learn_rows(model: LanguageModel, tokens: Sequence[int], *, head: bool = True) -> None:
    """Let the rows of these tokens learn beside a frozen model, whose logits stay the same.

    Embedding and head share them where the model is tied.

    Args:
        head: the rows of the head learn too, not those of the embedding alone.
    """
    embed, unembed = (cast(nn.Parameter, m.weight) for m in (model.embed, model.unembed))
    ids = torch.tensor(sorted(set(tokens)), device=embed.device)
    learned = TokenRows(ids, embed.detach()[ids].float())
    model.embed = cast(nn.Embedding, EmbeddingWithRows(embed, learned))
    if model.tied:
        model.unembed = HeadWithRows(unembed, learned)
    elif head:
        model.unembed = HeadWithRows(unembed, TokenRows(ids.clone(), unembed.detach()[ids].float()))


def head_of(model: LanguageModel) -> Head:
    """What the losses score tokens with: learned rows beside the frozen matrix, not in it.

    So no copy of the matrix is made, and no gradient of all of it.
    """
    head = model.unembed
    if isinstance(head, HeadWithRows) and head.learned.enabled:
        return Head(head.frozen, head.learned.ids, head.learned.rows)
    return Head(head.weight)


def rows_of(model: nn.Module) -> dict[str, TokenRows]:
    """The learned rows by the name of the matrix (`embed`, `unembed`); shared ones once."""
    found: dict[str, TokenRows] = {}
    for name, module in model.named_children():
        if isinstance(module, _WithRows) and module.learned not in found.values():
            found[name] = module.learned
    return found


def merge_rows(model: LanguageModel) -> None:
    """Write the learned rows into their matrices, which are plain again."""
    for name in rows_of(model):
        module = model.get_submodule(name)
        assert isinstance(module, _WithRows)
        with torch.no_grad():
            module.frozen.copy_(module.learned.put_into(module.frozen))
    for name, module in list(model.named_children()):
        if isinstance(module, _WithRows):
            size, dim = module.frozen.shape
            plain: nn.Embedding | nn.Linear
            if isinstance(module, HeadWithRows):
                plain = nn.Linear(dim, size, bias=False, device="meta")
            else:
                plain = nn.Embedding(size, dim, device="meta")
            plain.weight = cast(nn.Parameter, module.frozen)
            model.set_submodule(name, plain.train(module.training))


def new_rows(
    known: Float[Tensor, "vocab dim"], count: int, generator: torch.Generator
) -> Float[Tensor, "count dim"]:
    """Rows for new tokens: the mean of the known ones, with a little noise of their covariance.

    At the mean a new token is at most as likely as the others are on average, so that little is
    taken from them; the noise sets the new ones apart.

    Source: Hewitt 2021, Initializing New Word Embeddings for Pretrained Language Models.
    """
    mean = known.mean(dim=0)
    # A combination of the centred rows with normal weights has their covariance; no factor needed.
    weights = torch.randn(count, len(known), generator=generator) / len(known) ** 0.5
    weights = weights.to(known)
    noise = weights @ known - weights.sum(dim=1, keepdim=True) * mean
    rows: Tensor = mean + SPREAD * noise
    return rows
