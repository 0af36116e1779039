"""Mixtures of token stores: exact shares, schedules, and batches that depend on an index alone."""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest
import torch

from foundling import hamlet
from foundling.base.config import ConfigError
from foundling.base.object_store import ObjectStore
from foundling.data.mixed_text import MixedText
from foundling.data.mixture import Mixture, MixtureSettings
from foundling.data.mixture_plan import MixturePlan
from foundling.data.prepare import prepare
from foundling.data.store import TokenStore
from foundling.data.turns import Turns

CONTEXT = 16
Make = Callable[[str], Path]


@pytest.fixture(scope="session")
def fables(village: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second, smaller store of the same tokenizer."""
    folder = tmp_path_factory.mktemp("fables")
    hamlet.write_corpus(folder / "fables.jsonl", 40_000, seed=2)
    prepare(
        [folder / "fables.jsonl"],
        folder / "store",
        tokenizer=str(village),
        validation_fraction=0.1,
    )
    return folder / "store"


@pytest.fixture
def make(village: Path, fables: Path, tmp_path: Path) -> Make:
    """A mixture's file with both stores and what else is given."""

    def write(more: str = "", weights: tuple[float, float] | None = (0.7, 0.3)) -> Path:
        lines = []
        for number, (name, folder) in enumerate((("village", village), ("fables", fables))):
            lines += ["[[sources]]", f'name = "{name}"', f'data = "{folder}"']
            if weights is not None:
                lines.append(f"weight = {weights[number]}")
        path = tmp_path / "mixture.toml"
        path.write_text("\n".join([*lines, more]))
        return path

    return write


STAGED = """
[[stages]]
until = 0.5
length = 4
weights = { village = 0.9, fables = 0.1 }
[[stages]]
until = 0.75
ramp = true
weights = { village = 0.2, fables = 0.8 }
[[stages]]
until = 1.0
weights = { fables = 1 }
"""


def text(path: Path, *, samples: int = 400, batch_size: int = 4, seed: int = 1) -> MixedText:
    return MixedText(
        Mixture.open(path), context=CONTEXT, batch_size=batch_size, seed=seed, num_samples=samples
    )


def sources(data: MixedText, samples: range) -> list[str]:
    return [data.describe(sample)["source"] for sample in samples]


def test_weights_are_shares_of_samples(make: Make) -> None:
    data = text(make(""))
    found = sources(data, range(100))
    for count in range(1, 101):
        assert abs(found[:count].count("fables") - 0.3 * count) < 1
    assert found[:10] == found[10:20]


def test_without_weights_a_source_has_as_much_as_it_has_tokens(make: Make) -> None:
    mixture = Mixture.open(make("", weights=None))
    held = [store.manifest.train.num_tokens for store in mixture.stores.values()]
    (stretch,) = mixture.stretches(1000)
    (leg,) = stretch.legs
    for part, tokens in zip(leg.parts, held, strict=True):
        assert part / sum(leg.parts) == pytest.approx(tokens / sum(held), abs=1e-4)


def test_stages_and_ramps_change_the_weights(make: Make) -> None:
    data = text(make(STAGED), samples=400)
    counts = [data.turns.counts(samples) for samples in (0, 200, 300, 400)]
    taken = [b[1] - a[1] for a, b in pairwise(counts)]
    assert taken == pytest.approx([20, 45, 100], abs=1)
    first, second = (data.turns.counts(n)[1] for n in (225, 275))
    assert first - counts[1][1] < counts[2][1] - second  # more of it late in the ramp
    assert sources(data, range(400, 420)) == ["fables"] * 20  # the last stage goes on
    ramp = data.stretches[1].legs
    shares = [Fraction(leg.parts[1], sum(leg.parts)) for leg in ramp]
    assert shares == sorted(shares)
    assert 0.1 < shares[0] < 0.15
    assert 0.75 < shares[-1] < 0.8


def test_a_ramp_to_the_end_reaches_its_weights_there(make: Make) -> None:
    halves = """
[[stages]]
until = 0.5
weights = { village = 1 }
[[stages]]
until = 1
ramp = true
weights = { fables = 1 }
"""
    data = text(make(halves), samples=100)
    assert sources(data, range(50)) == ["village"] * 50
    assert data.turns.counts(100)[1] == pytest.approx(25, abs=1)
    assert sources(data, range(100, 110)) == ["fables"] * 10
    longer = MixturePlan.of(data.mixture, 150, CONTEXT, scheduled=100)
    assert longer.sources[1].taken == pytest.approx(75 * CONTEXT, abs=CONTEXT)
    shorter = MixturePlan.of(data.mixture, 40, CONTEXT, scheduled=100)
    assert [stage.until for stage in shorter.stages] == [1]
    for samples in (1, 2, 3):  # shorter than its stages
        assert text(make(halves), samples=samples).batch(0).tokens.shape == (4, CONTEXT)


def test_each_source_is_read_in_epochs_of_its_own(make: Make) -> None:
    data = text(make("", weights=(0.5, 0.5)))
    rows = data.texts[1].rows_per_epoch
    starts = [data.describe(sample) for sample in range(2 * rows)]
    own = [found["token"] for found in starts if found["source"] == "fables"]
    assert len(own) == len(set(own)) == rows


def test_a_batch_is_pure_in_seed_and_index(make: Make) -> None:
    path = make(STAGED)
    first, second = text(path), text(path)
    first.batch(3)
    for index in (0, 60, 99, 10**9):
        for one, other in zip(_tensors(first, index), _tensors(second, index), strict=True):
            assert torch.equal(one, other)
    small, large = text(path, batch_size=2), text(path, batch_size=6)
    rows = torch.cat([small.batch(index).tokens for index in range(3)])
    assert torch.equal(rows, large.batch(0).tokens)
    assert not torch.equal(text(path, seed=2).batch(0).tokens, first.batch(0).tokens)
    skipped = first.batch(0, ((1, 3),)).tokens
    expected = torch.cat([first.samples([n]).tokens for n in (0, 3, 4, 5)])
    assert torch.equal(skipped, expected)
    prints = {first.fingerprint, text(path, seed=2).fingerprint, text(path, samples=80).fingerprint}
    assert len(prints) == 3
    assert first.fingerprint == second.fingerprint


def _tensors(data: MixedText, index: int) -> list[torch.Tensor]:
    batch = data.batch(index)
    return [batch.tokens, batch.targets, batch.positions]


def test_early_rows_are_cut_into_short_contexts(make: Make) -> None:
    data = text(make(STAGED))
    whole = text(make(STAGED.replace("length = 4", "")))
    cut, same = data.batch(0), whole.batch(0)
    assert torch.equal(cut.tokens, same.tokens)
    assert torch.equal(cut.targets, same.targets)
    assert cut.positions.max() < 4
    assert cut.documents is not None
    assert (cut.documents[:, 4::4] > cut.documents[:, 3:-1:4]).all()
    assert torch.equal(data.batch(75).positions, whole.batch(75).positions)


def test_one_store_is_read_as_it_always_was(village: Path) -> None:
    mixture = Mixture.open(village)
    assert mixture.is_plain
    assert mixture.fingerprint == mixture.stores[village.name].fingerprint


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("[[stages]]\nuntil = 0.5", "the last at 1"),
        ("[[stages]]\nuntil = 1.0\nramp = true", "the first has no weights before it"),
        ("[[stages]]\nuntil = 1.0\nweights = { tales = 1 }", 'no source is called "tales"'),
        ("[[stages]]\nuntil = 1.0\nweights = { fables = 0 }", "more than 0 together"),
        ("[[stages]]\nuntil = 1.0\nlenght = 4", "lenght"),
    ],
)
def test_a_file_at_fault_is_named_with_its_fault(make: Make, more: str, message: str) -> None:
    path = make(more)
    with pytest.raises(ConfigError, match=message) as error:
        Mixture.open(path)
    assert str(error.value).startswith(str(path))


def test_a_store_is_read_by_its_url(make: Make, village: Path) -> None:
    url = f"memory://{uuid4().hex}/village"
    for file in filter(Path.is_file, village.rglob("*")):
        ObjectStore(url).upload(file, str(file.relative_to(village)))
    mixture = Mixture.open(url)
    assert mixture.is_plain
    assert mixture.fingerprint == TokenStore.open(village).fingerprint
    path = make("")
    path.write_text(path.read_text().replace(str(village), url))
    assert Mixture.open(path).stores["village"].fingerprint == mixture.fingerprint
    assert Mixture.find(url) is not None
    assert Mixture.find(f"{url}/gone") is None


def test_of_what_is_gone_in_part_nothing_is_found(make: Make, fables: Path) -> None:
    path = make("")
    assert Mixture.find(str(path)) is not None
    saved = path.read_text()
    path.write_text(saved.replace(str(fables), "/nowhere"))
    assert Mixture.find(str(path)) is None
    assert Mixture.find("/nowhere/mixture.toml") is None
    path.write_text(saved.replace("0.7", "-1"))
    with pytest.raises(ConfigError, match="weight"):
        Mixture.find(str(path))


def test_weights_too_small_and_pieces_that_do_not_fit_are_refused(make: Make) -> None:
    with pytest.raises(ConfigError, match=r'"fables" is 1e-05 of the whole'):
        text(make("", weights=(1, 0.00001)))
    with pytest.raises(ConfigError, match="length = 5: the context of 16 tokens"):
        text(make("[[stages]]\nuntil = 1.0\nlength = 5"))


def test_sources_share_a_tokenizer(village: Path, tmp_path: Path) -> None:
    hamlet.write_corpus(tmp_path / "other.jsonl", 40_000, seed=3)
    prepare([tmp_path / "other.jsonl"], tmp_path / "other", vocab_size=300)
    sources = [{"name": "a", "data": str(village)}, {"name": "b", "data": str(tmp_path / "other")}]
    with pytest.raises(ConfigError, match=r'"a" and "b" have different tokenizers.*--tokenizer'):
        Mixture(MixtureSettings.parse({"sources": sources}))


def test_the_plan_tells_epochs_and_warns_of_many(make: Make) -> None:
    mixture = Mixture.open(make(STAGED))
    plan = MixturePlan.of(mixture, 400, CONTEXT)
    village, fables = plan.sources
    assert village.taken + fables.taken == plan.tokens == 400 * CONTEXT
    assert fables.epochs == fables.taken / fables.held < 1
    assert [stage.until for stage in plan.stages] == [0.5, 0.75, 1]
    assert sum(stage.sources[1].taken for stage in plan.stages) == fables.taken
    assert not plan.warnings
    often = MixturePlan.of(mixture, 16 * fables.held // CONTEXT, CONTEXT)
    (warning,) = often.warnings
    assert warning.startswith("fables: is read")
    assert "Muennighoff" in warning
    whole = Turns([leg for stretch in mixture.stretches(400) for leg in stretch.legs])
    assert [source.taken // CONTEXT for source in plan.sources] == whole.counts(400)
