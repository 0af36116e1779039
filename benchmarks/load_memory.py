"""Memory and time to load a model of 1.5 billion parameters, beside `transformers`.

A folder with random bf16 weights in the shape of Qwen2.5-1.5B, in two shards, is made, opened by
each loader in a process of its own, and deleted. Compared is the peak of the resident memory above
what the process took before it loaded (Linux only: /proc/self/status), the pages of mapped files
included and, beside it, left out; every weight is looked at once, for a loader may leave them in
the mapped file until then.

    python benchmarks/load_memory.py [--quick] [--json] [--dtypes bf16 fp32]

--quick: a fortieth of the size.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

QWEN: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 151_936,
    "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
    "num_attention_heads": 12, "num_key_value_heads": 2, "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": True, "hidden_act": "silu",
    "use_sliding_window": False, "max_window_layers": 28, "sliding_window": None,
    "torch_dtype": "bfloat16",
}  # fmt: skip
QUICK = {"vocab_size": 16_384, "hidden_size": 512, "intermediate_size": 2048,
         "num_hidden_layers": 6, "num_attention_heads": 8}  # fmt: skip
LOADERS = ("ours", "transformers")


def make(folder: Path, config: dict[str, Any]) -> int:
    """Write the folder, layer by layer; the bytes of its weights."""
    import torch
    from safetensors.torch import save_file

    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers")
    dim, mlp, layers = (config[size] for size in sizes)
    kv = dim // config["num_attention_heads"] * config["num_key_value_heads"]
    draw = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=draw)

    weight_map: dict[str, str] = {}
    for shard in range(2):
        tensors = {}
        for layer in range(shard * layers // 2, (shard + 1) * layers // 2):
            at = f"model.layers.{layer}."
            for name, rows in (("q", dim), ("k", kv), ("v", kv)):
                tensors[f"{at}self_attn.{name}_proj.weight"] = drawn(rows, dim)
                tensors[f"{at}self_attn.{name}_proj.bias"] = drawn(rows)
            tensors[f"{at}self_attn.o_proj.weight"] = drawn(dim, dim)
            tensors[f"{at}mlp.gate_proj.weight"] = drawn(mlp, dim)
            tensors[f"{at}mlp.up_proj.weight"] = drawn(mlp, dim)
            tensors[f"{at}mlp.down_proj.weight"] = drawn(dim, mlp)
            for norm in ("input_layernorm", "post_attention_layernorm"):
                tensors[f"{at}{norm}.weight"] = 1 + drawn(dim)
        if shard == 0:
            tensors["model.embed_tokens.weight"] = drawn(config["vocab_size"], dim)
        else:
            tensors["model.norm.weight"] = 1 + drawn(dim)
        file = f"model-{shard + 1:05}-of-00002.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return size


def resident() -> tuple[int, int]:
    """MB in memory now: all, and without the pages of mapped files."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}
    return (found["RssAnon"] + found["RssFile"]) // 1000, found["RssAnon"] // 1000


def measure(loader: str, dtype: str, folder: Path) -> dict[str, float]:
    """Load once and say what it took, in this process."""
    import torch

    kind = {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    if loader == "ours":
        from foundling.models import interchange

        def load() -> object:
            return interchange.load(folder, kind)
    else:
        import transformers

        def load() -> object:
            return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=kind)

    before, done = resident(), threading.Event()
    peak = list(before)

    def watch() -> None:
        while not done.is_set():
            for index, now in enumerate(resident()):
                peak[index] = max(peak[index], now)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    model = load()
    seconds = time.perf_counter() - start
    for parameter in model.parameters():  # type: ignore[attr-defined]
        parameter.detach().flatten()[::64].sum()  # a weight of each page: mapped ones arrive
    done.set()
    watcher.join()
    held = sum(p.nbytes for p in model.parameters()) // 10**6  # type: ignore[attr-defined]
    return {
        "model_mb": held,
        "peak_mb": peak[0] - before[0],
        "peak_without_mapped_mb": peak[1] - before[1],
        "seconds": round(seconds, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true", help="accepted: the last line always is")
    parser.add_argument("--dtypes", nargs="+", choices=("bf16", "fp32"), default=["bf16", "fp32"])
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        loader, dtype, folder = given.measure
        print(json.dumps(measure(loader, dtype, Path(folder))))
        return
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        size = make(Path(folder), QWEN | (QUICK if given.quick else {}))
        for loader in LOADERS:
            for dtype in given.dtypes:
                command = [sys.executable, __file__, "--measure", loader, dtype, folder]
                found = subprocess.run(command, check=True, capture_output=True, text=True)
                figures[f"{loader}_{dtype}"] = json.loads(found.stdout.splitlines()[-1])
                print(f"{loader} {dtype}: {figures[f'{loader}_{dtype}']}", file=sys.stderr)
    ours, peer = (figures[f"{name}_{given.dtypes[0]}"]["peak_mb"] for name in LOADERS)
    print(json.dumps({
        "name": "load_memory", "unit": "MB", "ours": ours, "peer": peer,
        "peer_name": "transformers", "ratio": round(peer / ours, 2), "file_mb": size // 10**6,
        **figures,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
