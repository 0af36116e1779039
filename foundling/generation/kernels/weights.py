"""Matrices as the kernels read them: whole, in bf16, or in few bits."""

import ctypes
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from foundling.generation.kernels.library import Matrix, library
from foundling.models.finite import NotFiniteError

Format = Literal["fp32", "bf16", "int8", "int4"]
FORMATS: tuple[Format, ...] = ("fp32", "bf16", "int8", "int4")


@dataclass(frozen=True)
class PackedMatrix:
    """A matrix of `rows` outputs and `columns` inputs, packed for the kernels; never changed.

    int8: a scale for each 32 columns of a row. int4: a scale and a minimum, in bf16, for each 32.
    """

    format: Format
    rows: int
    columns: int
    data: Int32[Tensor, " words"]

    @classmethod
    def pack(cls, weight: Float[Tensor, "rows columns"], format: Format) -> "PackedMatrix":
        """Raises NotFiniteError: a weight is NaN or infinite, which few bits cannot hold."""
        kernels = library()
        assert kernels is not None, "the caller asks whether they are available"
        rows, columns = weight.shape
        whole = weight.detach().float().contiguous()
        if format in ("int8", "int4") and not torch.stack(whole.aminmax()).isfinite().all():
            raise NotFiniteError(
                f"a weight is NaN or infinite, which {format} cannot hold: the model is damaged; "
                "check its weights."
            )
        kind = FORMATS.index(format)
        data = torch.zeros(kernels.words_of(kind, rows, columns), dtype=torch.int32)
        threads = torch.get_num_threads()
        kernels.pack(kind, whole.data_ptr(), rows, columns, data.data_ptr(), threads)
        return cls(format, rows, columns, data)

    def whole(self) -> Float[Tensor, "rows columns"]:
        """The matrix in fp32: the numbers that the products are exactly those of."""
        kernels, found = library(), torch.empty(self.rows, self.columns)
        assert kernels is not None
        kernels.unpack(ctypes.byref(self.pointers()), found.data_ptr())
        return found

    def pointers(self) -> Matrix:
        """For the kernels, as long as this matrix lives."""
        return Matrix(self.data.data_ptr(), self.rows, self.columns, FORMATS.index(self.format))
