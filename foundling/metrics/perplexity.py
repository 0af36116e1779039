"""How well a model predicts a text: nats per token, bits per byte, loss by position."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from foundling.base.precision import autocast
from foundling.base.ranks import sum_over_ranks
from foundling.base.sharded import measuring
from foundling.models.batch import TokenBatch, share_of
from foundling.models.language_model import LanguageModel
from foundling.models.token_rows import head_of
from foundling.objectives.losses import linear_cross_entropy


@dataclass(frozen=True)
class Perplexity:
    """Sums over all targets read.

    `bits_per_byte` counts the targets that stand for text (a document's end mark is none) and
    their bytes; None where the tokenizer does not keep text as it is.
    """

    nats: float
    count: int
    text_nats: float
    text_bytes: int | None
    nats_by_position: list[float]
    """The sums of the targets at each position of a document."""
    counts_by_position: list[int]

    @classmethod
    def together(cls, parts: Sequence["Perplexity"]) -> "Perplexity":
        """Of several texts as if they were one."""
        text_bytes = [part.text_bytes for part in parts]
        return cls(
            nats=sum(part.nats for part in parts),
            count=sum(part.count for part in parts),
            text_nats=sum(part.text_nats for part in parts),
            text_bytes=None if None in text_bytes else sum(filter(None, text_bytes)),
            nats_by_position=[
                sum(some) for some in zip(*(p.nats_by_position for p in parts), strict=True)
            ],
            counts_by_position=[
                sum(some) for some in zip(*(p.counts_by_position for p in parts), strict=True)
            ],
        )

    @property
    def by_position(self) -> list[float | None]:
        """Mean nats of the targets at each position; None where there was none."""
        return [
            total / count if count else None
            for total, count in zip(self.nats_by_position, self.counts_by_position, strict=True)
        ]

    @property
    def loss_nats(self) -> float:
        return self.nats / self.count

    @property
    def bits_per_byte(self) -> float | None:
        if not self.text_bytes:
            return None
        return self.text_nats / math.log(2) / self.text_bytes


def measure(
    model: LanguageModel,
    batches: Iterable[TokenBatch],
    *,
    token_bytes: Int[Tensor, " vocab"] | None,
    device: torch.device,
    precision: torch.dtype = torch.float32,
    check: Callable[[], None] = lambda: None,
) -> Perplexity:
    """Score every target of `batches`, each process its share of each.

    `check` is called between them and may raise.

    `token_bytes` is the number of bytes each token stands for, 0 for special tokens.
    """
    nats, counted, text = [], [], []
    with measuring(model), torch.no_grad():
        for batch in map(share_of, batches):
            check()
            targets = batch.targets.to(device)
            moved = batch.to(device)
            with autocast(device, precision):
                # Not compiled: odd shapes are not worth a graph of their own.
                hidden = model.hidden(moved.tokens, moved.view)
                _, rows, _ = linear_cross_entropy(
                    hidden.flatten(0, 1),
                    head_of(model),
                    targets.flatten(),
                    softcap=model.logit_softcap,
                )
            loss = rows.view(targets.shape).double()
            supervised = targets >= 0
            at = moved.positions.flatten()
            empty = torch.zeros(targets.shape[1], dtype=torch.float64, device=device)
            nats.append(empty.index_add(0, at, loss.flatten()))
            counted.append(empty.index_add(0, at, supervised.flatten().double()))
            if token_bytes is not None:
                spelled = token_bytes.to(device)[targets.clamp(min=0)] * supervised
                text.append(torch.stack(((loss * (spelled > 0)).sum(), spelled.sum().double())))
    by_place: Float[Tensor, " time"] = _over_ranks(torch.stack(nats).sum(0))
    counts = _over_ranks(torch.stack(counted).sum(0))
    text_nats, text_bytes = _over_ranks(torch.stack(text).sum(0)).tolist() if text else (0.0, None)
    return Perplexity(
        nats=by_place.sum().item(),
        count=int(counts.sum()),
        text_nats=text_nats,
        text_bytes=None if text_bytes is None else int(text_bytes),
        nats_by_position=by_place.tolist(),
        counts_by_position=[int(count) for count in counts.tolist()],
    )


def _over_ranks(values: Float[Tensor, " values"]) -> Float[Tensor, " values"]:
    return torch.tensor(sum_over_ranks(*values.tolist()), dtype=values.dtype)
