"""Matrices under adapters: a shared one, and the small ones that change its products."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from foundling.generation.kernels.weights import PackedMatrix
from foundling.models.adapters import LoraLinear


@dataclass(frozen=True)
class AdaptedMatrix(PackedMatrix):
    """A matrix W whose products are W · x + B · (A · x), the adapter's scale in B.

    W is that of the base, in its format and memory; A and B are in fp32.
    """

    a: PackedMatrix
    b: PackedMatrix


def adapted(matrix: PackedMatrix, linears: Sequence[nn.Linear]) -> PackedMatrix:
    """The matrix with the adapters of the linears that it joins, one below the other."""
    adapters = [linear for linear in linears if isinstance(linear, LoraLinear)]
    if not adapters:
        return matrix
    a = torch.cat([each.lora_a.detach().float() for each in adapters])
    b, row, column = torch.zeros(matrix.rows, len(a)), 0, 0
    for linear in linears:
        if isinstance(linear, LoraLinear):
            rows, columns = row + linear.out_features, column + linear.rank
            b[row:rows, column:columns] = linear.scale * linear.lora_b.detach()
            column = columns
        row += linear.out_features
    own = (PackedMatrix.pack(a, "fp32"), PackedMatrix.pack(b, "fp32"))
    return AdaptedMatrix(matrix.format, matrix.rows, matrix.columns, matrix.data, *own)
