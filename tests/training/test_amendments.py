"""Amendments by hand, as settings, and through a file."""

from pathlib import Path

import pytest

from foundling.base.config import ConfigError, dump_toml, load_toml
from foundling.stages.pretrain import PretrainConfig
from foundling.training.amendments import Amendments


def test_a_cut_is_reached_again_from_nothing() -> None:
    amendments = Amendments().cut(10, 0.5, 3)
    shares = [amendments.rate_share(step) for step in range(8, 16)]
    assert shares == pytest.approx([1, 1, 0.125, 0.25, 0.375, 0.5, 0.5, 0.5])


def test_a_cut_without_warm_up_holds_at_once() -> None:
    amendments = Amendments().cut(0, 0.25, 0)
    assert [amendments.rate_share(step) for step in (0, 1, 99)] == [0.25, 0.25, 0.25]


def test_cuts_multiply_and_the_slower_warm_up_rules() -> None:
    amendments = Amendments().cut(10, 0.5, 3).cut(12, 0.4, 1)
    # At 12: the first has come 3/4 of its way and the second 1/2; at 13 both are there.
    assert amendments.rate_share(11) == pytest.approx(0.5 * 2 / 4)
    assert amendments.rate_share(12) == pytest.approx(0.5 * 0.4 * 1 / 2)
    assert amendments.rate_share(13) == pytest.approx(0.2)
    twice = Amendments().cut(10, 0.5, 3).cut(10, 0.5, 3)
    assert twice.rate_share(11) == pytest.approx(0.25 * 2 / 4)


def test_a_cut_further_on_does_not_change_what_comes_before() -> None:
    plain = Amendments().cut(10, 0.5, 3)
    cut = plain.cut(20, 0.5, 3)
    assert [cut.rate_share(s) for s in range(20)] == [plain.rate_share(s) for s in range(20)]


def test_skipping_merges_and_leaves_the_original_alone() -> None:
    plain = Amendments(skipped=((10, 12),))
    assert plain.skip(4, 6).skip(5, 10).skipped == ((4, 12),)
    assert plain.skipped == ((10, 12),)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"skipped": [[5, 2]]},
            r"^skipped = \[\[5, 2\]\]: \[5, 2\]: expected 0 ≤ first < one past",
        ),
        ({"skipped": [[-1, 2]]}, r"^skipped = .*\[-1, 2\]: expected 0 ≤ first"),
        ({"skipped": [[3, 3]]}, r"^skipped = .*\[3, 3\]: expected"),
        ({"skipped": [[1]]}, r"^skipped\.0\.1: this setting is required"),
        ({"skipped": [["a", 2]]}, r'^skipped\.0\.0 = "a": input should be a valid integer'),
        (
            {"rate_cuts": [[5, 1.0, 3]]},
            r"^rate_cuts = .*\[5, 1\.0, 3\]: expected .*between 0 and 1",
        ),
        ({"rate_cuts": [[5, 0.0, 3]]}, r"^rate_cuts = .*a factor between 0 and 1"),
        ({"rate_cuts": [[5, 2.0, 3]]}, r"^rate_cuts = .*a factor between 0 and 1"),
        ({"rate_cuts": [[-5, 0.5, 3]]}, r"^rate_cuts = .*a step from 0"),
        ({"rate_cuts": [[5, 0.5, -3]]}, r"^rate_cuts = .*warm-up steps from 0"),
        ({"rate_cuts": [[5, float("nan"), 3]]}, r"^rate_cuts\.0\.1 = NaN: .*finite number"),
        ({"rate_cut": []}, r'^rate_cut: no such setting .*Did you mean "rate_cuts"'),
    ],
)
def test_a_bad_value_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Amendments.parse(values)


def test_they_come_back_from_a_file(tmp_path: Path) -> None:
    amendments = Amendments(
        skipped=((9, 12), (2, 5), (4, 7)), rate_cuts=((100, 0.5, 20), (7, 1e-05, 0))
    )
    config = PretrainConfig(amendments=amendments)
    file = tmp_path / "config.toml"
    file.write_text(dump_toml(config.values()), "utf-8")
    found = PretrainConfig.parse(load_toml(file))
    assert found == config
    assert found.amendments.skipped == ((2, 7), (9, 12))
    assert found.amendments.rate_cuts == ((100, 0.5, 20), (7, 1e-05, 0))


def test_a_bad_value_in_a_file_is_named_with_its_section(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[amendments]\nskipped = [[5, 2]]\n", "utf-8")
    with pytest.raises(ConfigError, match=r"^amendments\.skipped = \[\[5, 2\]\]: \[5, 2\]: expect"):
        PretrainConfig.parse(load_toml(file))
