"""Models in and out of GGUF files, tensor by tensor."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import numpy.typing as npt
import torch
from gguf import GGMLQuantizationType as Kind
from torch import Tensor

from foundling.base.config import ConfigError, load_json
from foundling.models import gguf_settings, interchange, layouts, skeleton, weight_files
from foundling.models.gguf_layouts import (
    GgufLayout,
    Values,
    from_file,
    layout_of,
    tensor_names,
    to_file,
    type_of,
)
from foundling.models.layouts import Name
from foundling.models.weight_files import Stored

FILE_TYPES = {
    "f32": (Kind.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (Kind.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (Kind.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": (Kind.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (Kind.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
}
SHARD_BYTES = 2 * 10**9
"""What is in memory at once while a file is imported."""
EMBEDDINGS = ("token_embd.weight", "output.weight")
BROKEN = (ValueError, IndexError, KeyError, OverflowError, OSError)
"""What the reader raises where a file is not whole."""


class Source(NamedTuple):
    """A model folder, and what its file will hold."""

    layout: GgufLayout
    config: Values
    tensors: dict[str, tuple[Stored, Name]]
    """By their names in the file: where they lie, and what they are in Hugging Face's layout."""


def source(folder: Path) -> Source:
    """What is written of a model folder.

    Raises:
        ConfigError: it holds no model, or one that a GGUF file cannot hold.
    """
    model_type, _ = interchange.read_config(folder)
    layout = layout_of(model_type)
    assert model_type is not None
    # Not our own entry, which may be older than a setting.
    spec = layouts.read_config(model_type, load_json(folder / "config.json"))
    config = layouts.write_config(model_type, spec)
    found = interchange.find_weights(folder, model_type, skeleton(spec))
    names = tensor_names(layout, found, spec["num_layers"])
    tensors = {names[name]: (stored, name) for name, stored in found.items()}
    if layout.has_head and EMBEDDINGS[1] not in tensors:
        tensors[EMBEDDINGS[1]] = tensors[EMBEDDINGS[0]]
    return Source(layout, config, tensors)


def write(file: Path, model: Source, file_type: str, fields: Mapping[str, Any]) -> None:
    """Write a GGUF file; `fields` are all its metadata but those of the architecture.

    Raises:
        ConfigError: llama.cpp cannot run the model, or a weight is not finite in this type.
    """
    layout, config = model.layout, model.config
    wanted, stands_for = FILE_TYPES[file_type]
    writer = gguf.GGUFWriter(file, layout.architecture)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_file_type(stands_for)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in {**gguf_settings.metadata(layout, config), **fields}.items():
        _add(writer, key, value)
    extra = gguf_settings.extra_tensors(layout, config)
    kinds = dict.fromkeys(extra, Kind.F32)
    for name, tensor in extra.items():
        writer.add_tensor_info(name, tensor.shape, np.dtype(np.float32), tensor.nbytes)
    for name, (stored, theirs) in model.tensors.items():
        shape = stored.shape[::-1] if theirs.transposed else stored.shape
        kinds[name] = _kind(name, shape, wanted)
        block, size = gguf.GGML_QUANT_SIZES[kinds[name]]
        num_bytes = int(np.prod(shape)) * size // block
        writer.add_tensor_info(name, shape, np.dtype(np.float16), num_bytes, kinds[name])
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in extra.values():
            writer.write_tensor_data(tensor.numpy())
        # One reader for all: what is read of a file is mapped once.
        stored_tensors = weight_files.read(stored for stored, _ in model.tensors.values())
        for (name, (_, theirs)), tensor in zip(model.tensors.items(), stored_tensors, strict=True):
            turned = to_file(layout, theirs, tensor, config).float().contiguous().numpy()
            writer.write_tensor_data(_quantised(name, turned, kinds[name]))
    finally:
        writer.close()


def _kind(name: str, shape: list[int], wanted: Kind) -> Kind:
    """As llama.cpp's converter: vectors, norms and positions in fp32, short rows in fp16."""
    if len(shape) == 1 or name.endswith("_norm.weight") or name == "position_embd.weight":
        return Kind.F32
    if wanted == Kind.Q4_0 and name in EMBEDDINGS:
        wanted = Kind.Q8_0  # 4 bits cost most here
    return Kind.F16 if shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0] else wanted


def _quantised(name: str, values: npt.NDArray[np.float32], kind: Kind) -> npt.NDArray[Any]:
    with np.errstate(over="ignore"):
        made: npt.NDArray[Any] = gguf.quants.quantize(values, kind)
    is_finite = np.isfinite(made).all() if kind == Kind.F16 else np.isfinite(values).all()
    if not is_finite:
        raise ConfigError(f"{name}: {_not_finite(kind)}")
    return made


def _not_finite(kind: Kind | torch.dtype) -> str:
    name = kind.name if isinstance(kind, Kind) else str(kind).removeprefix("torch.")
    advice = "; f16 ends at 65,504: use bf16." if kind in (Kind.F16, torch.float16) else "."
    return f"holds values that are not finite as {name}{advice}"


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    add: dict[type, Callable[[str, Any], None]] = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
        list: writer.add_array,
    }
    add[type(value)](key, value)


class GgufFile:
    """A GGUF file that was opened: its metadata and its tensors.

    Raises:
        ConfigError: it is not one, or not whole.
    """

    def __init__(self, file: Path) -> None:
        self.path = file
        if not file.is_file():
            raise ConfigError(f"{file}: no such file.")
        try:
            reader = gguf.GGUFReader(file)
            self.fields = {key: field.contents() for key, field in reader.fields.items()}
        except BROKEN as error:
            raise ConfigError(
                f"{file}: not a whole GGUF file ({error}); copy or export it again."
            ) from None
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.layout, self.model_type = self._layout()
        self.config = self._config()

    def _layout(self) -> tuple[GgufLayout, str]:
        try:
            model_type = type_of(str(self.fields.get("general.architecture")))
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error}") from None
        return layout_of(model_type), model_type

    def _config(self) -> Values:
        """config.json, of Foundling's own keys."""
        tensors: Values = {name: t.shape[::-1] for name, t in self.tensors.items()}
        tensors |= {name: t.data for name, t in self.tensors.items() if name.startswith("rope_f")}
        try:
            read = gguf_settings.config_of(self.layout, self.model_type, self.fields, tensors)
            spec = layouts.read_config(self.model_type, read)
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error}") from None
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise ConfigError(
                f"{self.path}: a setting is missing or of a wrong kind: {error}"
            ) from None
        self.spec = spec
        return layouts.write_config(self.model_type, spec)

    def write_weights(self, folder: Path, dtype: torch.dtype) -> None:
        """Write the weights of a model folder in Hugging Face's layout.

        Raises:
            ConfigError: they are not all there, of another shape, of a type that cannot be read,
                or not finite in this one.
        """
        shapes = interchange.shapes(self.model_type, skeleton(self.spec))
        names = tensor_names(self.layout, shapes, self.spec["num_layers"])
        used = {*names.values(), *(EMBEDDINGS if self.layout.has_head else EMBEDDINGS[:1])}
        unknown = [name for name in self.tensors if name not in used and "rope_f" not in name]
        missing = [name for name in names.values() if name not in self.tensors]
        for what, which in (("lacks", missing), ("has also", unknown)):
            if which:
                raise ConfigError(f"{self.path}: {what} {which[0]} ({len(which)} in all).")
        for name, expected in shapes.items():
            shape = [int(size) for size in self.tensors[names[name]].shape[::-1]]
            expected = expected[::-1] if name.transposed else expected
            if shape != expected:
                raise ConfigError(f"{self.path}: {names[name]} is {shape}, not {expected}.")
        theirs = {name.theirs: name for name in shapes}
        sizes = {name.theirs: math.prod(shape) * dtype.itemsize for name, shape in shapes.items()}

        def make(name: str) -> Tensor:
            values = self._values(names[theirs[name]])
            turned = from_file(self.layout, theirs[name], values, self.config)
            made = turned.to(dtype).contiguous()
            if not made.isfinite().all():
                raise ConfigError(f"{self.path}: {names[theirs[name]]}: {_not_finite(dtype)}")
            return made

        weight_files.write(folder, sizes, make, SHARD_BYTES)

    def _values(self, name: str) -> Tensor:
        """A tensor in fp32."""
        tensor = self.tensors[name]
        try:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError:
            raise ConfigError(
                f"{self.path}: {name} is {tensor.tensor_type.name}, which cannot be read; convert "
                "the file to another type, such as Q8_0."
            ) from None
        return torch.from_numpy(np.array(values, np.float32))
