"""Positions against their formulas, worked one number at a time."""

import math

import pytest
import torch

from foundling.models.positions import rotary_angles, rotate, sinusoids


@pytest.mark.parametrize("dim", [2, 7, 16])
def test_sinusoids_are_the_formula(dim: int) -> None:
    positions = torch.tensor([[0, 1, 2], [5, 100, 1023]])
    found = sinusoids(positions, dim)
    assert found.shape == (2, 3, dim)
    for row in range(2):
        for column in range(3):
            position = positions[row, column].item()
            for place in range(dim):
                angle = position / 10_000 ** (2 * (place // 2) / dim)
                expected = math.cos(angle) if place % 2 else math.sin(angle)
                # fp32 holds an angle near 1023 to 6e-5, and a frequency to 1e-7 of itself.
                assert found[row, column, place].item() == pytest.approx(expected, abs=2e-4)
                if position <= 5:
                    assert found[row, column, place].item() == pytest.approx(expected, abs=2e-6)


def turned(x: torch.Tensor, position: int, theta: float = 10_000.0) -> torch.Tensor:
    """One vector turned as at `position`."""
    angles = rotary_angles(torch.tensor([[position]]), x.shape[-1], theta)
    return rotate(x[None, None, None], *(angle.to(x.dtype) for angle in angles))[0, 0, 0]


@pytest.mark.parametrize("theta", [10_000.0, 1e6])
def test_rotation_is_the_formula(theta: float) -> None:
    x = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for position in (0, 1, 17):
        found = turned(x, position, theta)
        for i in range(4):
            angle = position * theta ** (-2 * i / 8)
            cos, sin, a, b = math.cos(angle), math.sin(angle), x[i].item(), x[i + 4].item()
            assert found[i].item() == pytest.approx(a * cos - b * sin, abs=1e-5)
            assert found[i + 4].item() == pytest.approx(b * cos + a * sin, abs=1e-5)


def test_rotation_at_position_0_is_the_identity() -> None:
    x = torch.randn(12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(turned(x, 0), x)


def test_rotation_keeps_the_norm_of_every_pair() -> None:
    x = torch.randn(12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for position in (1, 10, 1000):
        pairs = turned(x, position).view(2, 6).norm(dim=0)
        torch.testing.assert_close(pairs, x.view(2, 6).norm(dim=0), rtol=1e-6, atol=0)


def test_rotated_dot_products_depend_on_the_distance_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 16, dtype=torch.float64, generator=generator)
    near = [(turned(query, p + 3) @ turned(key, p)).item() for p in (0, 1, 50, 900)]
    assert near == pytest.approx([near[0]] * 4, abs=2e-3)  # angles are fp32: 900 is held to 6e-5
    assert near[:3] == pytest.approx([near[0]] * 3, abs=5e-5)
    far = (turned(query, 9) @ turned(key, 0)).item()
    assert abs(far - near[0]) > 0.01


def test_each_row_and_document_has_its_own_positions() -> None:
    positions = torch.tensor([[0, 1, 0, 1], [3, 4, 5, 6]])
    cos, sin = rotary_angles(positions, 6, 10_000.0)
    assert cos.shape == sin.shape == (2, 1, 4, 3)
    assert torch.equal(cos[0, 0, :2], cos[0, 0, 2:])
    x = torch.randn(2, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    found = rotate(x, cos, sin)
    torch.testing.assert_close(found[1, 2, 3], turned(x[1, 2, 3], 6))


def test_half_precision_is_turned_in_fp32() -> None:
    x = torch.randn(1, 1, 1, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    angles = rotary_angles(torch.tensor([[11]]), 8, 10_000.0)
    found = rotate(x, *angles)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, rotate(x.float(), *angles).bfloat16())
