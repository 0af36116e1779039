"""The precision that suits a machine: what is decided on given figures, and what is kept."""

import json
import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from foundling.base import precision
from foundling.base.config import ConfigError
from foundling.base.precision import (
    bounded,
    faster,
    measure_rates,
    pick_precision,
    remembered,
    shapes_of,
)

CPU = torch.device("cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "foundling" / "rates.json"


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 32), nn.Linear(32, 8), nn.Linear(8, 32), nn.Linear(3, 2))


@pytest.mark.parametrize(
    ("fp32", "bf16", "chosen"),
    [(0.34, 0.17, "fp32"), (0.34, 0.90, "bf16"), (1.0, 1.05, "fp32"), (1.0, 1.2, "bf16")],
)
def test_bf16_is_taken_where_it_is_clearly_faster(fp32: float, bf16: float, chosen: str) -> None:
    assert faster({"fp32": fp32 * 1e12, "bf16": bf16 * 1e12}) == chosen


def test_the_shapes_are_those_that_most_of_the_work_goes_to() -> None:
    assert list(shapes_of(model()).items()) == [((8, 32), 2), ((32, 8), 1), ((3, 2), 1)]
    wide = nn.ModuleList([model(), nn.Linear(50, 60)])
    assert list(shapes_of(wide)) == [(50, 60), (8, 32), (32, 8)]


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ({(64, 64): 4, (64, 170): 8}, ({(64, 64): 4, (64, 170): 8}, 1024)),
        ({(512, 1376): 8, (512, 512): 4}, ({(512, 1376): 8, (512, 512): 4}, 689)),
        ({(2048, 8192): 8, (2048, 2048): 4}, ({(2048, 5086): 8}, 64)),
    ],
)
def test_a_measurement_takes_little_work_of_any_model(
    shapes: dict[tuple[int, int], int], expected: tuple[dict[tuple[int, int], int], int]
) -> None:
    assert bounded(shapes, 4096, 1024, 4e9) == expected
    assert bounded(shapes, 32, 1024, 4e9)[1] == 32


def test_a_measurement_is_kept_and_never_made_again(cache: Path) -> None:
    rates = {"fp32": 3.0, "bf16": 2.0}
    assert remembered("here", lambda: rates) == rates
    assert remembered("there", lambda: {"fp32": 1.0, "bf16": 9.0})["bf16"] == 9.0
    assert remembered("here", pytest.fail) == rates
    assert [path.name for path in cache.parent.iterdir()] == ["rates.json"]


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"here": 3}', b'{"here": {"fp32": "x", "bf16": 1}}', b"\xff"]
)
def test_a_cache_that_cannot_be_read_is_no_error(content: bytes, cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_bytes(content)
    rates = {"fp32": 3.0, "bf16": 2.0}
    assert remembered("here", lambda: rates) == rates
    assert json.loads(cache.read_bytes()) == {"here": rates}


def test_a_cache_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert remembered("here", lambda: {"fp32": 3.0, "bf16": 2.0})["fp32"] == 3.0


def test_auto_takes_what_was_measured_and_says_both_figures(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "foundling")
    chosen = pick_precision("auto", CPU, model(), 64)
    (kept,) = json.loads(cache.read_bytes()).values()
    assert chosen == precision.PRECISIONS[faster(kept)]
    assert all(rate > 0 for rate in kept.values())
    (message,) = caplog.messages
    for name, rate in kept.items():
        assert f"{name} {rate / 1e12:.3g}" in message
    other = {"fp32": "bf16", "bf16": "fp32"}[faster(kept)]
    turned = {key: {"fp32": 1.0, "bf16": 1.0, other: 2.0} for key in json.loads(cache.read_bytes())}
    cache.write_text(json.dumps(turned))
    assert pick_precision("auto", CPU, model(), 64) == precision.PRECISIONS[other]


def test_a_measurement_draws_nothing_from_what_is_trained() -> None:
    before = torch.get_rng_state()
    measure_rates(CPU, {(8, 32): 2}, 16)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_named_precision_is_not_measured(cache: Path) -> None:
    assert pick_precision("bf16", CPU, model(), 64) == torch.bfloat16
    assert not cache.exists()
    with pytest.raises(ConfigError, match='Did you mean "fp32"'):
        pick_precision("fp31", CPU, model(), 64)
