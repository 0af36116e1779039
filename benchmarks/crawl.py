"""Near-duplicates in novels: how many are found and how many others go, by the share of edits.

Novels are cut into documents of `--characters`, and each is read a second time with a share of its
words replaced by others of the novels: a different share for each fourth of the documents. A pair
is found if one of the two is left; an original is lost if neither is. Beside it stands the
probability by theory, of the Jaccard similarity that the edits leave. The whole crawl runs, with
the rules switched off; with `--rules` the same documents go through the rules alone, for the speed.

    python benchmarks/crawl.py --data-root DIR [--documents N] [--set KEY=VALUE] [--rules] [--json]
"""

import argparse
import gzip
import json
import os
import random
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from pretrain import machine

from foundling.base.config import override
from foundling.data.crawl.crawl import crawl
from foundling.data.crawl.settings import CrawlConfig, NearDuplicatesSection

RATES = (0.01, 0.02, 0.03, 0.05)
RULES = ("language", "gopher_repetition", "gopher_quality", "c4", "fineweb")
OFF = {"store": {"enabled": False}, "personal_data": dict.fromkeys(
    ("emails", "ip_addresses", "phone_numbers"), False)}  # fmt: skip


def documents(root: Path, characters: int, count: int) -> list[str]:
    """The first `count` documents, taken from all novels in turn."""
    novels = [file.read_text("utf-8") for file in sorted((root / "novels").glob("*.txt"))]
    longest = max(map(len, novels))
    found = [
        novel[start : start + characters]
        for start in range(0, longest, characters)
        for novel in novels
        if start + characters <= len(novel)
    ]
    return found[:count]


def edited(text: str, rate: float, words: list[str], random: random.Random) -> str:
    """The text with this share of its words, drawn at random, replaced by random others."""
    parts = text.split(" ")
    for at in random.sample(range(len(parts)), round(rate * len(parts))):
        parts[at] = random.choice(words)
    return " ".join(parts)


def by_theory(rate: float, of: NearDuplicatesSection) -> float:
    """The probability that two texts are found of which one has this share of words edited."""
    same = (1 - rate) ** of.n_grams
    jaccard = same / (2 - same)
    return float(1 - (1 - jaccard**of.hashes_per_bucket) ** of.buckets)


def near_duplicates(texts: list[str], folder: Path, settings: list[str]) -> dict[str, Any]:
    draw = random.Random(0)
    words = [word for text in texts[:200] for word in text.split(" ") if word.isalpha()]
    with (folder / "texts.jsonl").open("w") as rows:
        for number, text in enumerate(texts):
            rows.write(json.dumps({"id": f"{number}", "text": text}) + "\n")
        for number, text in enumerate(texts):
            twin = edited(text, RATES[number % len(RATES)], words, draw)
            rows.write(json.dumps({"id": f"{number}", "text": twin}) + "\n")
    values = {"inputs": [str(folder / "texts.jsonl")], **OFF}
    values |= {name: {"enabled": False} for name in RULES}
    config = CrawlConfig.parse(override(values, settings))
    report = crawl(config, folder / "out")
    assert report is not None
    left = Counter[int]()
    for file in (folder / "out" / "documents").glob("*.gz"):
        with gzip.open(file, "rt") as lines:
            left.update(int(json.loads(line)["id"]) for line in lines)
    rates = []
    for index, rate in enumerate(RATES):
        numbers = range(index, len(texts), len(RATES))
        rates.append(
            {
                "edited": rate,
                "pairs": len(numbers),
                "found": sum(left[number] < 2 for number in numbers) / len(numbers),
                "by_theory": by_theory(rate, config.near_duplicates),
                "lost": sum(left[number] == 0 for number in numbers) / len(numbers),
            }
        )
    return {"rates": rates, "seconds": report["seconds"]}


def rules(texts: list[str], folder: Path, settings: list[str]) -> dict[str, Any]:
    with (folder / "rules.jsonl").open("w") as rows:
        for number, text in enumerate(texts):
            rows.write(json.dumps({"id": f"{number}", "text": text}) + "\n")
    values = {"inputs": [str(folder / "rules.jsonl")], **OFF, "near_duplicates": {"enabled": False}}
    began = time.perf_counter()
    report = crawl(CrawlConfig.parse(override(values, settings)), folder / "rules")
    assert report is not None
    megabytes = sum(map(len, texts)) / 1e6
    return {
        "megabytes": megabytes,
        "megabytes_per_second": megabytes / (time.perf_counter() - began),
        "removed": {step["title"]: step["removed"] for step in report["steps"]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", default=os.environ.get("FOUNDLING_DATA_ROOT"))
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--characters", type=int, default=3000)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--rules", action="store_true", help="the rules' speed too")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    args = parser.parse_args()
    if args.data_root is None:
        parser.error("--data-root: the folder of novels/; or set FOUNDLING_DATA_ROOT")
    texts = documents(Path(args.data_root), args.characters, args.documents)
    with tempfile.TemporaryDirectory() as name:
        found = near_duplicates(texts, Path(name), args.settings)
        if args.rules:
            found["rules"] = rules(texts[: len(texts) // 4], Path(name), args.settings)
    peak = max(resource.getrusage(who).ru_maxrss for who in (0, resource.RUSAGE_CHILDREN))
    found |= {"documents": 2 * len(texts), "peak_mib": peak // 1024, "machine": machine()}
    if not args.json:
        for row in found["rates"]:
            print(
                f"{row['edited']:.0%} of the words edited, {row['pairs']} pairs: "
                f"{row['found']:.1%} found ({row['by_theory']:.1%} by theory), "
                f"{row['lost']:.1%} lost"
            )
        print(f"seconds: {found['seconds']}; rules: {found.get('rules')}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
