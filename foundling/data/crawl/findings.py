"""What a crawl found: datatrove's statistics of all tasks and our examples, as one report."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from foundling.base.config import load_json
from foundling.data.crawl.contamination import MATCHES
from foundling.data.crawl.layout import (
    FINAL,
    LOGS,
    MASKING,
    NEAR_DUPLICATES,
    RECORD,
    REMOVED,
    RULES,
)
from foundling.data.crawl.removed import OTHER, examples
from foundling.data.crawl.settings import CrawlConfig

STEPS = {
    "url": "addresses",
    "extraction": "text of HTML",
    "language": "language",
    "gopher_repetition": "Gopher: repetition",
    "gopher_quality": "Gopher: quality",
    "c4": "C4",
    "fineweb": "FineWeb",
    NEAR_DUPLICATES: "near-duplicates",
    "contamination": "contamination",
}
_DROPPED, _LINE, _FAULT = "dropped_", "line-filter-", "file at fault: "


def findings(
    config: CrawlConfig, steps_of: Mapping[str, Sequence[str]], out: Path
) -> dict[str, Any]:
    """The report in plain types; the folder holds all that it is made from.

    Args:
        steps_of: the names of each stage's steps, of all stages or of the rules alone.
    """
    by_stage = {name: _statistics(out / LOGS / name, of) for name, of in steps_of.items()}
    reading = by_stage[RULES][0][1]
    off = switched_off(config)
    on = [name for name, title in STEPS.items() if title not in off]
    # All but the reader at the start and the writer at the end; of the last stage, the check too.
    filters = by_stage[RULES][1:-1] + by_stage.get(FINAL, [])[2:-1]
    masked = next((values for name, values in filters if name == MASKING), {})
    removing = [values for name, values in filters if name != MASKING]
    steps = [
        _step(name, values, examples(out / REMOVED / name, config.report.examples))
        for name, values in zip(on, removing, strict=FINAL in by_stage)
    ]
    written = by_stage[FINAL][-1][1] if FINAL in by_stage else {}
    return {
        "files": int(_total(reading, "files")),
        "pages": int(_total(reading, "pages")),
        "ignored": load_json(out / RECORD).get("ignored", {}),
        "not_pages": _counts(reading, ("no page: ", "unreadable: ")),
        "faults": sorted(name.removeprefix(_FAULT) for name in reading if name.startswith(_FAULT)),
        "steps": steps,
        "off": off,
        "personal_data": {
            name: int(_total(masked, name)) for name in ("emails", "ip_addresses", "phone_numbers")
        },
        "documents_masked": int(_total(masked, "masked")),
        "documents": int(_total(written, "total")),
        "characters": int(_total(written, "doc_len")),
        "seconds": {
            stage: round(sum(_total(s, "seconds") for _, s in found), 3)
            for stage, found in by_stage.items()
        },
    }


def no_documents(found: Mapping[str, Any]) -> str:
    """Why nothing is left, for an error."""
    why = [f"{step['title']} removed {step['removed']:,}" for step in found["steps"]]
    if found["faults"]:
        why.append(f"{len(found['faults'])} files at fault, such as {found['faults'][0]}")
    read = f"{found['pages']:,} pages in {found['files']:,} files"
    return f"no document is left of {read}: {', '.join(why)}."


def switched_off(config: CrawlConfig) -> list[str]:
    """The titles of the steps that are left out."""
    on = {
        "url": config.url.enabled,
        "language": config.language.enabled,
        "gopher_repetition": config.gopher_repetition.enabled,
        "gopher_quality": config.gopher_quality.enabled,
        "c4": config.c4.enabled,
        "fineweb": config.fineweb.enabled,
        NEAR_DUPLICATES: config.near_duplicates.enabled,
        "contamination": bool(config.contamination.files),
    }
    return [STEPS[name] for name, is_on in on.items() if not is_on]


def _step(
    name: str, values: Mapping[str, Any], found: Mapping[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    total, kept = int(_total(values, "total")), int(_total(values, "forwarded"))
    counts = {
        key.removeprefix(_DROPPED): int(_total(values, key))
        for key in values
        if key.startswith(_DROPPED)
    }
    if total - kept - sum(counts.values()):
        counts[OTHER] = total - kept - sum(counts.values())
    shown: dict[str, Any] = {
        "name": name,
        "title": STEPS[name],
        "documents": total,
        "removed": total - kept,
        "reasons": [
            {"reason": reason, "removed": count, "examples": found.get(reason, [])}
            for reason, count in sorted(counts.items(), key=lambda item: -item[1])
        ],
        "lines_removed": _counts(values, (_LINE,)),
    }
    if name == NEAR_DUPLICATES:
        shown["pairs"] = _pairs(found)
    if name == "contamination":
        shown["matches"] = found.get(MATCHES, [])
    return shown


def _pairs(found: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Clusters of which an example of both sides is known."""
    kept = {example["cluster"]: example for example in found.get("kept", [])}
    return [
        {"kept": kept[example["cluster"]], "removed": example}
        for example in found.get("removed", [])
        if example["cluster"] in kept
    ]


def _statistics(folder: Path, names: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """Name and statistics of each step, summed over the tasks that are done."""
    summed: list[dict[str, Any]] = [{} for _ in names]
    for file in sorted((folder / "stats").glob("*.json")):
        for found, step in zip(summed, json.loads(file.read_bytes()), strict=True):
            for key, total in _totals(step):
                found[key] = found.get(key, 0) + total
    return list(zip(names, summed, strict=True))


def _totals(step: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in {**step["stats"], "seconds": step["time_stats"]}.items():
        yield key, value["total"] if isinstance(value, dict) else value


def _total(values: Mapping[str, Any], key: str) -> float:
    return float(values.get(key, 0))


def _counts(values: Mapping[str, Any], prefixes: tuple[str, ...]) -> dict[str, int]:
    return {
        key.removeprefix(prefix): int(values[key])
        for prefix in prefixes
        for key in sorted(values)
        if key.startswith(prefix)
    }
