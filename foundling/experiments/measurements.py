"""The measurements of a task in a file, which only the same settings may resume."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundling.base import durable
from foundling.base.config import ConfigError, load_json
from foundling.statistics.learning_curve import curves_of, gaps, hit_of, verdict

logger = logging.getLogger(__name__)


@dataclass
class Measurements:
    """All measurements of one task, in a file that is rewritten after each of them."""

    path: Path
    content: dict[str, Any]

    @classmethod
    def open(
        cls,
        out: Path,
        identity: Mapping[str, Any],
        facts: Mapping[str, Any],
        *,
        free: Sequence[str] = (),
    ) -> "Measurements":
        """Resume those in `out`, or begin.

        Args:
            identity: all that a measurement depends on.
            free: what may be another; only to name it in the error.

        Raises:
            ConfigError: `out` holds measurements of another identity, or something else.
        """
        path = out / "adapt.json"
        measurements: list[dict[str, Any]] = []
        if path.is_file():
            before = load_json(path)
            if not isinstance(before.get("identity"), dict) or "measurements" not in before:
                raise ConfigError(f"{path}: holds no measurements; give another --out.")
            for key in sorted(identity.keys() | before["identity"].keys()):
                if before["identity"].get(key) != identity.get(key):
                    raise ConfigError(
                        f"{out}: holds measurements with another {key.replace('_', ' ')}; only "
                        f"{', '.join(free)} may change; give another --out."
                    )
            measurements = before["measurements"]
        elif out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"{out}: is not empty and holds no adapt.json; give another --out.")
        out.mkdir(parents=True, exist_ok=True)
        book = cls(path, {"identity": identity, **facts, "measurements": measurements})
        book.write()
        return book

    def has(self, way: str, number: int, seed: int) -> bool:
        wanted = (way, number, seed)
        return wanted in {(m["way"], m["number"], m["seed"]) for m in self.content["measurements"]}

    def add(
        self, number: int, seed: int, ways: Mapping[str, Sequence[float]], seconds: float
    ) -> None:
        """Record the accuracy of each test item by each way; all ways or none."""
        for way, hits in ways.items():
            self.content["measurements"].append(
                {
                    "way": way,
                    "number": number,
                    "seed": seed,
                    "correct": sum(hits),
                    "items": len(hits),
                    "seconds": round(seconds, 3),
                    "hits": "".join(map(hit_of, hits)),
                }
            )
        self.write()

    def note(self, kind: str, note: str) -> None:
        """Note that something was `left_out`, or its prompts `shortened`."""
        logger.info(note)
        self.content[kind].append(note)
        self.write()

    def write(self) -> None:
        content = self.content
        curves = curves_of(content["measurements"])
        content["curves"] = {way: [p.values() for p in points] for way, points in curves.items()}
        apart = gaps(content["measurements"])
        content["gaps"] = [gap.values() for gap in apart]
        task = content["task"]
        content["verdict"] = verdict(curves, task["majority"], task["template"], apart)
        text = json.dumps(content, indent=1, ensure_ascii=False)
        durable.replace(self.path, text.encode())
