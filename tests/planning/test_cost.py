"""Work, time, cost and the best sizes, by hand."""

import pytest

from foundling.base.config import ConfigError
from foundling.planning.cost import GPUS, RULES, ParametricLoss, gpu_of, read_bytes, read_count
from foundling.planning.plan import Means, plan, work
from foundling.planning.subject import Subject, subject_of
from foundling.stages.pretrain import PretrainConfig


def subject(**training: object) -> Subject:
    values = {"context": 64, "model": {"dim": 32, "num_layers": 2, "num_heads": 2},
              "training": {"batch_size": 8, "precision": "bf16", **training}}  # fmt: skip
    return subject_of(PretrainConfig.parse(values), 500)


def test_amounts_are_read() -> None:
    assert read_bytes("80GB") == 80e9
    assert read_bytes("79.6 GiB") == 79.6 * 2**30
    assert read_bytes("16000") == 16000
    assert read_count("300B", "--tokens") == 300e9
    assert read_count("1.5e12", "--tokens") == 1.5e12
    for wrong in ("", "GB", "-1GB", "0", "80 pounds", "1e999"):
        with pytest.raises(ConfigError, match="expected an amount such as"):
            read_bytes(wrong)
    with pytest.raises(ConfigError, match='Did you mean "h100"'):
        gpu_of("h10")


def test_time_and_cost_are_work_over_rate() -> None:
    one = subject()
    flops = one.skeleton().flops_per_token(64)
    means = Means(gpus=2, gpu=GPUS["a100"], utilisation=0.5, price=3.0)
    found = work(one, means, 1e12, recomputed=False)
    assert found["flops"] == flops * 1e12
    assert found["days"] == pytest.approx(flops * 1e12 / (2 * 312e12 * 0.5) / 86_400)
    assert found["tokens_a_day"] * found["days"] == pytest.approx(1e12)
    assert found["cost"] == pytest.approx(found["days"] * 24 * 2 * 3.0)
    again = work(one, means, 1e12, recomputed=True)
    assert again["days"] == pytest.approx(found["days"] * 4 / 3)


def test_the_best_sizes_are_where_the_loss_is_lowest() -> None:
    for rule in RULES:
        parameters, tokens = rule.optimum(1e21)
        assert 6 * parameters * tokens == pytest.approx(1e21)
        best = rule.loss_nats(parameters, tokens)
        for factor in (0.9, 1.1):
            assert rule.loss_nats(parameters * factor, tokens / factor) > best
    # By hand: with A = B and alpha = beta both grow alike.
    even = ParametricLoss("", 1.0, 100.0, 100.0, 0.5, 0.5)
    assert even.optimum(6e12) == pytest.approx((1e6, 1e6))


def test_chinchillas_budget_gives_about_twenty_tokens_a_parameter() -> None:
    _, refit = RULES
    parameters, tokens = refit.optimum(5.76e23)
    assert 15 < tokens / parameters < 25
    assert 60e9 < parameters < 80e9


def test_a_plan_says_what_fits() -> None:
    found = plan(subject(steps=10), Means(gpus=4, per_machine=2, memory=20e6, reserve=0.0))
    assert [row["shard"] for row in found["layouts"]] == ["none", "full", "hybrid"] * 2
    assert found["rows_a_gpu"] == 2
    assert found["work"]["tokens"] == 10 * 8 * 64
    assert "days" not in found["work"]
    for row in found["layouts"]:
        assert row["fits"] == (row["total_bytes"] <= 20e6)
        assert (row["largest_micro_batch"] == 2) == row["fits"]
    none, full = found["layouts"][:2]
    assert full["bytes"]["weights"] == pytest.approx(none["bytes"]["weights"] / 4, rel=0.01)
    with pytest.raises(ConfigError, match="9 GPUs cannot share so few rows"):
        plan(subject(), Means(gpus=9))
    with pytest.raises(ConfigError, match="--budget: give --gpu and --price"):
        plan(subject(), Means(), budget=100.0)


def test_a_plan_says_how_many_steps_it_counts_and_what_it_leaves_out() -> None:
    assert subject().num_steps == 1000, "pretraining's own default"
    assert subject(epochs=2).num_steps is None, "the data decide"
    with pytest.raises(ConfigError, match="several GPUs keep the weights in fp32"):
        plan(subject(weights="bf16"), Means(gpus=2))
