"""Rows too long for a mask: read in parts they give what the mask gives, and take less memory."""

import itertools
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from foundling import models
from foundling.models.attending import LONG, Parts, attend, causal_mask, mask_of
from foundling.models.batch import BatchView, TokenBatch, whole_document
from foundling.models.block_sparse import BlockSparse
from foundling.objectives import Pretrain

TIME = 300
BORDERS = ((0, 140, 141, 300), (0, 299, 300))


def packed(time: int = TIME) -> BatchView:
    """Rows of documents of many lengths, one of them a single token."""
    positions, documents = torch.zeros(2, 2, time, dtype=torch.int64)
    for row, borders in enumerate(BORDERS):
        for number, (start, stop) in enumerate(itertools.pairwise(borders)):
            positions[row, start:stop] = torch.arange(stop - start)
            documents[row, start:stop] = number
    return BatchView(positions, documents)


def branched() -> BatchView:
    """The same where each document's last third is a branch beside its second."""
    view = packed()
    until = torch.zeros_like(view.positions)
    for row, borders in enumerate(BORDERS):
        for start, stop in itertools.pairwise(borders):
            third = (stop - start) // 3
            until[row, start:stop] = stop
            until[row, start + third : start + 2 * third] = start + 2 * third
            view.positions[row, start + 2 * third : stop] -= third
    return BatchView(view.positions, view.documents, until)


VIEWS = {
    "documents": packed(),
    "branches": branched(),
    "one document": whole_document(torch.zeros(2, TIME, dtype=torch.int64)),
}


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("window", [None, 1, 20, 128, 200])
@pytest.mark.parametrize("kind", VIEWS)
def test_parts_give_what_the_mask_gives(
    kind: str, window: int | None, softcap: float | None
) -> None:
    """Output and gradients, by the CPU's way; the GPU's kernel, run here, has no gradients."""
    if kind == "one document" and window is None:
        return  # plainly causal: there is no mask
    drawn = torch.randn(3, 2, 2, TIME, 16, generator=torch.manual_seed(0))
    view = VIEWS[kind]
    outputs, gradients = [], []
    for mask in (causal_mask(view, window, 0), Parts(view, window)):
        given = [x.clone().requires_grad_() for x in drawn]
        query, key, value = given
        outputs.append(attend(query, key, value, mask, scale=0.3, softcap=softcap))
        gradients.append(torch.autograd.grad(outputs[-1].square().sum(), given))
    torch.testing.assert_close(outputs[1], outputs[0])
    for found, expected in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    sparse = BlockSparse(view, window)
    assert torch.equal(sparse.whole(), Parts(view, window).whole())
    found = sparse.attend(*drawn, 0.3, softcap)
    torch.testing.assert_close(found, outputs[0].detach())


def trained(model: models.LanguageModel, batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """The loss and its gradient."""
    total = Pretrain(0.0)(model, batch).total
    gradients = torch.autograd.grad(total, list(model.parameters()))
    return total.detach(), torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize("softcap", [None, 20.0])
def test_a_long_packed_row_trains_as_its_documents_do_alone(softcap: float | None) -> None:
    """Layers with a window and without, over rows long enough to be read in parts."""
    torch.manual_seed(0)
    spec = {"rung": "transformer", "dim": 16, "num_layers": 2, "num_heads": 2, "window": 90,
            "full_layers": [1], "attention_softcap": softcap}  # fmt: skip
    model = models.build(spec, vocab_size=32, context=2 * LONG)
    lengths = (700, 3, 500)
    tokens = torch.randint(32, (1, sum(lengths)))
    # The last target of a document is the first token of the next, here and there.
    targets = tokens.roll(-1, 1)
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    documents = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))[None]
    batch = TokenBatch(tokens, targets, positions, documents)
    assert isinstance(mask_of(batch.view, 90, 0), Parts)
    total, gradient = trained(model, batch)
    pieces = [torch.split(x, lengths, dim=1) for x in (tokens, targets, positions)]
    alone = [trained(model, TokenBatch(*of)) for of in zip(*pieces, strict=True)]
    torch.testing.assert_close(total, sum(loss for loss, _ in alone), rtol=1e-5, atol=0)
    expected = torch.stack([gradient for _, gradient in alone]).sum(0)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-4)


PEAK = """
import sys, torch
from foundling import models
from foundling.models.batch import TokenBatch
from foundling.objectives import Pretrain
from foundling.training.activations import checkpoint_activations
torch.set_num_threads(1)
time, window = int(sys.argv[1]), int(sys.argv[2]) or None
spec = {"rung": "transformer", "dim": 32, "num_layers": 2, "num_heads": 2, "window": window,
        "full_layers": [1] if window else []}
model = models.build(spec, vocab_size=64, context=time)
checkpoint_activations(model)
tokens = torch.randint(64, (1, time))
half = time // 2
positions = torch.arange(time)[None] % half
documents = torch.arange(time)[None] // half
# Not getrusage's: that of a child begins with the most that its parent held.
most = lambda: int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
before = most()
Pretrain(0.0)(model, TokenBatch(tokens, tokens, positions, documents)).total.backward()
print(most() - before)
"""


def peak(time: int, window: int) -> float:
    """Mebibytes that a step of a packed row takes beyond what stands before it."""
    arguments = [sys.executable, "-c", PEAK, str(time), str(window)]
    return int(subprocess.check_output(arguments)) / 1024


@pytest.mark.slow
@pytest.mark.parametrize("window", [0, 256])
def test_memory_grows_in_line_with_the_length(window: int) -> None:
    """A mask of 16,384 × 16,384 alone takes 256 MiB, and 1 GiB as the kernel reads it."""
    short, long = peak(8192, window), peak(16384, window)
    assert long < 2.6 * short
    assert long < 250


def test_blocks_made_anew_give_what_kept_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for longest in (TIME, TIME - 1):
        monkeypatch.setattr("foundling.models.attending.LONG", longest)
        drawn = torch.randn(3, 2, 2, TIME, 16, generator=torch.manual_seed(0)).requires_grad_()
        mixed = attend(*drawn, None, softcap=5.0)
        found.append((mixed, torch.autograd.grad(mixed.square().sum(), drawn)[0]))
    torch.testing.assert_close(found[0], found[1])
