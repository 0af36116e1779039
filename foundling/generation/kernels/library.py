"""The kernels' library: compiled by the machine's own compiler when it is first needed."""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch  # its OpenMP runtime is loaded first, and the library finds this one by its name

SOURCES = ("vectors.h", "kernels.cpp")
COMPILERS = ("c++", "g++", "clang++")
NATIVE = "-mcpu=native" if platform.machine().lower() in ("arm64", "aarch64") else "-march=native"
FLAGS = ("-std=gnu++17", "-O3", NATIVE, "-ffp-contract=fast", "-fPIC", "-shared")
OPENMP = (
    ("-Xclang", "-fopenmp", "-Wl,-undefined,dynamic_lookup")  # symbols of torch's own libomp
    if platform.system() == "Darwin"
    else ("-fopenmp",)
)

_log = logging.getLogger(__name__)


def available() -> bool:
    """Whether the kernels run on this machine; the first call compiles them."""
    return library() is not None


@cache
def library() -> ctypes.CDLL | None:
    """The loaded kernels; None, and it is logged once why, where they cannot be compiled."""
    try:
        return _load(_compiled())
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        _log.warning(
            "Fast CPU kernels are not available, models run slower: %s", detail.strip()[-2000:]
        )
        return None


def _compiled() -> Path:
    """The library's file, in the user's cache under a name for all that it depends on."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise OSError(f"no C++ compiler ({', '.join(COMPILERS)}) was found; install one.")
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
    sources = [Path(__file__).with_name(name) for name in SOURCES]
    key = hashlib.sha256(repr((FLAGS, OPENMP, version, _processor(), torch.__version__)).encode())
    for source in sources:
        key.update(source.read_bytes())
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    target = Path(home, "foundling", "kernels", f"{key.hexdigest()[:32]}.so")
    if not target.exists():
        _log.info("Compiling the CPU kernels, once on this machine …")
        target.parent.mkdir(parents=True, exist_ok=True)
        # Compiled under another name, so that whoever comes at the same time sees all or nothing.
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder, "kernels.so")
            command = [compiler, *FLAGS, *OPENMP, str(sources[-1]), "-o", str(made)]
            subprocess.run(command, capture_output=True, text=True, check=True)
            made.replace(target)
    return target


def _processor() -> str:
    """What `native` means here."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    told = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU"))}
    return "\n".join(sorted(told)) or f"{platform.machine()} {platform.processor()}"


class Matrix(ctypes.Structure):
    """As in kernels.cpp."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("format", ctypes.c_int32),
    )


class Op(ctypes.Structure):
    """As in kernels.cpp."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in (
            "kind", "picked", "add", "activation", "gated",
            "heads", "kv_heads", "head_dim", "turning", "window", "block_size", "whole",
        )),
        *((name, ctypes.c_float) for name in ("scale", "eps", "softcap")),
        ("width", ctypes.c_int64),
        ("block_stride", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in (
            "input", "other", "out", "weight", "bias", "keys", "values",
        )),
        ("matrix", Matrix),
    )  # fmt: skip


class Batch(ctypes.Structure):
    """As in kernels.cpp."""

    _fields_ = (
        ("rows", ctypes.c_int64),
        ("picked", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in (
            "tokens", "positions", "picks", "tables", "blocks", "packed",
        )),
    )  # fmt: skip


def _load(path: Path) -> ctypes.CDLL:
    found = ctypes.CDLL(str(path))
    number, pointer, index = ctypes.c_int64, ctypes.c_void_p, ctypes.c_int
    found.words_of.argtypes, found.words_of.restype = [index, number, number], number
    found.rounds_inputs.argtypes, found.rounds_inputs.restype = [index], index
    found.padded_width.argtypes, found.padded_width.restype = [number], number
    found.pack.argtypes = [index, pointer, number, number, pointer, index]
    found.pack.restype = None
    found.unpack.argtypes, found.unpack.restype = [ctypes.POINTER(Matrix), pointer], None
    found.run.argtypes = [ctypes.POINTER(Op), number, ctypes.POINTER(Batch), index]
    found.run.restype = None
    return found
