"""The kernels' products, beside the dequantised matrix in double precision."""

import ctypes
import logging
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from foundling.generation.kernels import library as kernels
from foundling.generation.kernels.weights import FORMATS, Format, PackedMatrix

pytestmark = pytest.mark.skipif(not kernels.available(), reason="needs a C++ compiler")

sizes = st.integers(1, 100)
formats = st.sampled_from(FORMATS)


def product(x: Tensor, matrix: PackedMatrix, threads: int = 1, **fields: object) -> Tensor:
    """x · matrixᵀ by the kernel, with the fields of the operation."""
    found = kernels.library()
    assert found is not None
    x = x.contiguous()
    out, packed = (
        torch.zeros(len(x), matrix.rows),
        torch.empty(len(x) + threads, matrix.columns + 32),
    )
    kept = {k: v for k, v in fields.items() if isinstance(v, Tensor)}
    op = kernels.Op(kind=3, scale=1.0, input=x.data_ptr(), out=out.data_ptr())
    op.matrix = matrix.pointers()
    for name, value in fields.items():
        setattr(op, name, kept[name].data_ptr() if name in kept else value)
    batch = kernels.Batch(rows=len(x), picked=len(x), packed=packed.data_ptr())
    found.run(ctypes.byref(op), 1, ctypes.byref(batch), threads)
    return out


def rounding(x: Tensor, format: Format) -> Tensor:
    """By how much an input may be rounded before it is multiplied."""
    found = kernels.library()
    assert found is not None
    if not found.rounds_inputs(FORMATS.index(format)):
        return torch.zeros_like(x)
    if format == "bf16":
        return x.abs() * 2**-8
    groups = torch.nn.functional.pad(x, (0, -x.shape[1] % 32)).view(len(x), -1, 32)
    steps = (groups.abs().amax(-1, keepdim=True) / 127).expand_as(groups)
    return 0.5001 * steps.reshape(len(x), -1)[:, : x.shape[1]]


@given(sizes, sizes, st.integers(1, 33), formats)
@settings(max_examples=60, deadline=None)
def test_a_product_is_that_of_the_dequantised_matrix(
    rows: int, columns: int, batch: int, format: Format
) -> None:
    weight, x = torch.randn(rows, columns), torch.randn(batch, columns)
    matrix = PackedMatrix.pack(weight, format)
    whole = matrix.whole().double()
    # A sum of n terms, one after the other, is wrong by at most n roundings of their sizes.
    bound = (columns + 4) * 2**-24 * (x.abs().double() @ whole.abs().T)
    if format == "int4":  # the minimum and the multiple of the scale may cancel each other
        bound = bound + columns * 2**-21 * x.abs().amax() * weight.abs().amax()
    bound = bound + rounding(x, format).double() @ whole.abs().T
    assert ((product(x, matrix) - x.double() @ whole.T).abs() <= bound + 1e-6).all()


@given(sizes, sizes, st.integers(1, 9), formats)
@settings(max_examples=30, deadline=None)
def test_a_product_of_inputs_that_need_no_rounding_is_exact(
    rows: int, columns: int, batch: int, format: Format
) -> None:
    x = torch.randint(-127, 128, (batch, columns)).float()
    x[:, ::32] = 127.0  # the scale of each group is one
    matrix = PackedMatrix.pack(torch.randn(rows, columns), format)
    exact = x.double() @ matrix.whole().double().T
    bound = columns * 2**-21 * 127 * matrix.whole().abs().amax()
    assert ((product(x, matrix) - exact).abs() <= bound + 1e-6).all()


@given(sizes, sizes, st.integers(2, 33), formats)
@settings(max_examples=60, deadline=None)
def test_a_row_does_not_depend_on_the_others(
    rows: int, columns: int, batch: int, format: Format
) -> None:
    matrix, x = PackedMatrix.pack(torch.randn(rows, columns), format), torch.randn(batch, columns)
    alone = torch.cat([product(row[None], matrix) for row in x])
    assert torch.equal(product(x, matrix), alone)
    assert torch.equal(product(x, matrix, threads=2), alone)
    assert torch.equal(product(x[batch // 2 :], matrix), alone[batch // 2 :])


def test_a_product_is_added_scaled_and_biased() -> None:
    weight, bias, x = torch.randn(37, 20), torch.randn(37), torch.randn(3, 20)
    out = product(x, PackedMatrix.pack(weight, "fp32"), bias=bias, scale=0.5, add=1)
    assert torch.allclose(out, 0.5 * (x @ weight.T + bias), atol=1e-5)


@given(sizes, sizes)
@settings(max_examples=30, deadline=None)
def test_each_format_is_as_near_as_its_bits_allow(rows: int, columns: int) -> None:
    weight = torch.randn(rows, columns)
    found = {format: PackedMatrix.pack(weight, format).whole() for format in FORMATS}
    assert torch.equal(found["fp32"], weight)
    assert torch.equal(found["bf16"], weight.bfloat16().float())
    for first in range(0, columns, 32):
        group = weight[:, first : first + 32]
        step = group.abs().amax(1, keepdim=True) / 127
        assert ((found["int8"][:, first : first + 32] - group).abs() <= 0.5001 * step).all()
        low, high = group.amin(1, keepdim=True), group.amax(1, keepdim=True)
        # Half a step, and what bf16 rounds off the scale and the minimum, at the full range: what
        # is chosen has no larger squared error.
        bound = (high - low) / 30 + ((high - low) + low.abs()) * 2**-8
        missed = (found["int4"][:, first : first + 32] - group).square().sum(1, keepdim=True)
        assert (missed <= bound.square() * group.shape[1] + 1e-6).all()


def test_zeros_stay_zeros_in_few_bits() -> None:
    for format in FORMATS:
        assert not PackedMatrix.pack(torch.zeros(40, 40), format).whole().any()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("format", FORMATS)
def test_what_is_not_finite_stays_so(format: Format, value: float) -> None:
    x = torch.randn(3, 40)
    x[1, 35] = value
    y = product(x, PackedMatrix.pack(torch.randn(33, 40), format))
    assert y.isfinite().all(1).tolist() == [True, False, True]


def test_no_compiler_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "")
    with caplog.at_level(logging.WARNING, "foundling"):
        assert kernels.library.__wrapped__() is None
    assert [record.message for record in caplog.records] == [
        "Fast CPU kernels are not available, models run slower: no C++ compiler (c++, g++, "
        "clang++) was found; install one."
    ]


def test_the_openmp_runtime_is_that_of_torch() -> None:
    maps, found = Path("/proc/self/maps"), kernels.library()
    if not maps.exists() or found is None:
        pytest.skip("needs /proc")
    address = ctypes.cast(found.omp_get_num_threads, ctypes.c_void_p).value
    assert address is not None
    for line in maps.read_text().splitlines():
        start, stop = (int(end, 16) for end in line.split()[0].split("-"))
        if start <= address < stop:
            assert Path(line.split()[-1]).is_relative_to(Path(torch.__file__).parent)
