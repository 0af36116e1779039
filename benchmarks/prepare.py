"""Text to token shards with an existing tokenizer: Foundling, datatrove, and nanoGPT's way.

The texts are cut into documents of about 3,000 characters and repeated `--copies` times, each
document with a line of its own, so that none is a duplicate. All three read the same JSON lines
with the same tokenizer, on as many processes as there are cores:

- ours: `prepare`, which also drops duplicates, splits off validation text and hashes its files;
- datatrove: `JsonlReader` and `DocumentTokenizer`, one task a core;
- nanoGPT's way, `data/openwebtext/prepare.py`: `datasets.map` with `encode_ordinary` of tiktoken,
  then a memory map; where tiktoken gives other tokens than the tokenizer, that is said.

`library` is one core of the tokenizers library alone, in batches, without reading or writing. MB/s
count text in UTF-8.

    python benchmarks/prepare.py TEXT... --tokenizer FOLDER [--copies N] [--quick] [--json]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from pretrain import machine

from foundling.base.process import cores

WORKERS = cores()
DOCUMENT = 3000  # characters, about
GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


def write_documents(texts: list[Path], copies: int, out: Path) -> int:
    """Write the documents as JSON lines; the bytes of their text."""
    size = 0
    with out.open("w") as stream:
        for copy in range(copies):
            for text in texts:
                for number, document in enumerate(_documents(text)):
                    marked = f"{text.stem}, {number}, {copy}\n{document}"
                    stream.write(json.dumps({"text": marked}) + "\n")
                    size += len(marked.encode())
    return size


def _documents(text: Path) -> Iterator[str]:
    rest = text.read_text()
    while rest:
        at = rest.find("\n", DOCUMENT)
        at = len(rest) if at < 0 else at + 1
        yield rest[:at]
        rest = rest[at:]


# ---------------------------------------------------------------------- the ways, in processes


def ours(data: Path, tokenizer: Path, out: Path) -> None:
    from foundling.data.prepare import prepare

    prepare([data], out / "store", tokenizer=str(tokenizer), workers=WORKERS)


def datatrove(data: Path, tokenizer: Path, out: Path) -> None:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    parts = out / "parts"  # a task reads whole files
    parts.mkdir()
    lines = data.read_text().splitlines(keepends=True)
    for task in range(WORKERS):
        (parts / f"{task}.jsonl").write_text("".join(lines[task::WORKERS]))
    began = time.perf_counter()
    pipeline = [
        JsonlReader(str(parts)),
        DocumentTokenizer(
            str(out / "tokens"),
            tokenizer_name_or_path=str(tokenizer / "tokenizer.json"),
            eos_token=None,
            shuffle_documents=False,
        ),
    ]
    LocalPipelineExecutor(
        pipeline,
        tasks=WORKERS,
        workers=WORKERS,
        logging_dir=str(out / "logs"),
        skip_completed=False,
        start_method="fork",  # the CPU time of a fork server's children is not counted as ours
    ).run()
    print(json.dumps({"seconds": time.perf_counter() - began}))


def nanogpt(data: Path, tokenizer: Path, out: Path) -> None:
    import numpy as np
    from datasets import load_dataset

    encoding = tiktoken_of(tokenizer)
    # The wide cache is written too, as nanoGPT's script does.
    rows = load_dataset("json", data_files=str(data), cache_dir=str(out / "cache"))["train"]

    def process(row: dict[str, Any]) -> dict[str, Any]:
        ids = encoding.encode_ordinary(row["text"])
        return {"ids": ids, "len": len(ids)}

    tokenized = rows.map(process, remove_columns=["text"], num_proc=WORKERS)
    total = int(np.sum(tokenized["len"], dtype=np.uint64))
    memory = np.memmap(out / "train.bin", dtype=np.uint32, mode="w+", shape=(total,))
    at = 0
    for number in range(64):
        part = tokenized.shard(num_shards=64, index=number, contiguous=True).with_format("numpy")
        ids = np.concatenate(part["ids"])
        memory[at : at + len(ids)] = ids
        at += len(ids)
    memory.flush()


def tiktoken_of(tokenizer: Path) -> Any:
    """The same vocabulary for tiktoken, whose merges follow the ids."""
    import tiktoken

    from foundling.text.tokenizer import Tokenizer

    mine = Tokenizer.load(tokenizer)
    splitter = json.loads((tokenizer / "tokenizer.json").read_text())["pre_tokenizer"]
    steps = splitter.get("pretokenizers", [splitter])
    pattern = next((step["pattern"]["Regex"] for step in steps if step["type"] == "Split"), GPT2)
    ids = (id for id in range(mine.vocab_size) if id not in mine.special_ids)
    ranks = {raw: id for id in ids if (raw := mine.bytes_of(id))}
    return tiktoken.Encoding("same", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


def library(data: Path, tokenizer: Path, out: Path) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_file(str(tokenizer / "tokenizer.json"))
    texts = [json.loads(line)["text"] for line in data.open()][:2000]
    size = sum(len(text.encode()) for text in texts)
    began, cpu = time.perf_counter(), time.process_time()
    for first in range(0, len(texts), 300):
        for encoding in backend.encode_batch_fast(texts[first : first + 300]):
            _ = encoding.ids
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "bytes": size, "cpu_seconds": cpu}))


WAYS = {"ours": ours, "datatrove": datatrove, "nanogpt": nanogpt, "library": library}
NEEDS = {"datatrove": "datatrove", "nanogpt": "tiktoken"}


def measured(way: str, data: Path, tokenizer: Path, size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=data.parent) as folder:
        command = [sys.executable, __file__, "--way", way, str(data), "--tokenizer", str(tokenizer)]
        began = time.perf_counter()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([*command, "--out", folder], check=True, capture_output=True)
        seconds = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        lines = done.stdout.decode().splitlines()
        told = json.loads(lines[-1]) if lines and lines[-1].startswith('{"seconds"') else {}
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        counted = told.get("bytes", size)
        return {
            "mb_per_second": counted / 1e6 / told.get("seconds", seconds),
            "cpu_seconds_per_mb": told.get("cpu_seconds", cpu) / (counted / 1e6),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", nargs="+", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--quick", action="store_true", help="one copy, one round")
    parser.add_argument("--json", action="store_true", help="print nothing but the result")
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        WAYS[given.way](given.texts[0], given.tokenizer, given.out)
        return
    copies, rounds = (1, 1) if given.quick else (given.copies, given.rounds)
    ways = [way for way in given.ways if way not in NEEDS or find_spec(NEEDS[way])]
    left_out = [way for way in given.ways if way not in ways]
    files: list[Path] = []
    for text in given.texts:
        files += sorted(text.glob("*.txt")) if text.is_dir() else [text]
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "documents.jsonl"
        size = write_documents(files, copies, data)
        for _ in range(rounds):
            for way in ways:
                found[way].append(measured(way, data, given.tokenizer, size))
                if not given.json:
                    print(f"{way}: {found[way][-1]['mb_per_second']:.2f} MB/s", file=sys.stderr)
        agrees = None
        if "nanogpt" in ways:
            from foundling.text.tokenizer import Tokenizer

            mine, theirs = Tokenizer.load(given.tokenizer), tiktoken_of(given.tokenizer)
            with data.open() as stream:
                texts = [json.loads(next(stream))["text"] for _ in range(200)]
            same = [mine.encode(text) == theirs.encode_ordinary(text) for text in texts]
            agrees = sum(same) / len(same)
    figures = {
        way: {key: round(median(one[key] for one in some), 4) for key in some[0]}
        for way, some in found.items()
    }
    peers = {way: of["mb_per_second"] for way, of in figures.items() if way in NEEDS}
    best = max(peers, key=lambda way: peers[way], default=None)
    mine_rate = figures["ours"]["mb_per_second"] if "ours" in figures else None
    print(
        json.dumps(
            {
                "name": "data prepare, existing tokenizer",
                "unit": "MB/s of text",
                "ours": mine_rate,
                "peer": best and peers[best],
                "peer_name": best,
                "ratio": best and mine_rate and round(mine_rate / peers[best], 2),
                "figures": figures,
                "tiktoken_agrees": agrees,
                "left_out": left_out,
                "megabytes": round(size / 1e6, 1),
                "processes": WORKERS,
                "tokenizer": given.tokenizer.name,
                "machine": machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
