"""The stages of a crawl: what runs in how many tasks, each after the one before it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.readers.jsonl import JsonlReader
from datatrove.pipeline.writers.jsonl import JsonlWriter

from foundling.base.config import ConfigError
from foundling.data.crawl.contamination import HASHES, Contamination
from foundling.data.crawl.extraction import Extraction
from foundling.data.crawl.findings import findings, no_documents
from foundling.data.crawl.language import Language
from foundling.data.crawl.layout import (
    BUCKETS,
    CLUSTERS,
    DOCUMENTS,
    FINAL,
    KEPT,
    NEAR_DUPLICATES,
    REMOVED,
    RULES,
    SIGNATURES,
    WORK,
)
from foundling.data.crawl.pages import Pages
from foundling.data.crawl.personal_data import Masker, PersonalData
from foundling.data.crawl.quality import FILTERS
from foundling.data.crawl.removed import Removed
from foundling.data.crawl.settings import CrawlConfig, NearDuplicatesSection


@dataclass(frozen=True)
class Stage:
    """One datatrove pipeline."""

    name: str
    num_tasks: int
    steps: Sequence[PipelineStep]


def stages(config: CrawlConfig, files: Sequence[str], num_tasks: int, out: Path) -> list[Stage]:
    """The stages in their order, but for the one that makes the store."""
    work = out / WORK
    found = [Stage(RULES, num_tasks, _rules(config, files, out))]
    not_empty = NotEmpty(config, [step.name for step in found[0].steps], out)
    near = config.near_duplicates
    if near.enabled:
        of = minhash(near)
        found += [
            Stage(
                SIGNATURES,
                num_tasks,
                [
                    not_empty,
                    _reader(out),
                    MinhashDedupSignature(str(work / "signatures"), of, config.language.code),
                ],
            ),
            Stage(
                BUCKETS,
                near.buckets,
                [MinhashDedupBuckets(str(work / "signatures"), str(work / "buckets"), config=of)],
            ),
            Stage(
                CLUSTERS,
                1,
                [
                    MinhashDedupCluster(
                        str(work / "buckets"), str(work / "clusters"), of, save_cluster_id=True
                    )
                ],
            ),
        ]
    return [*found, Stage(FINAL, num_tasks, [not_empty, *_final(config, out)])]


def minhash(near: NearDuplicatesSection) -> MinhashConfig:
    return MinhashConfig(
        n_grams=near.n_grams,
        num_buckets=near.buckets,
        hashes_per_bucket=near.hashes_per_bucket,
        seed=near.seed,
        hash_config=HASHES,
    )


def removed(config: CrawlConfig, out: Path, step: str) -> Removed:
    """The examples of what a step removes, without personal data."""
    report, mask = config.report, Masker(config.personal_data)
    folder = out / REMOVED / step
    return Removed(folder, report.examples, report.example_characters, lambda text: mask(text)[0])


def _rules(config: CrawlConfig, files: Sequence[str], out: Path) -> list[PipelineStep]:
    def of(step: str) -> Removed:
        return removed(config, out, step)

    made = {
        name: make(getattr(config, name), config.language.code, of(name))
        for name, make in FILTERS.items()
        if getattr(config, name).enabled
    }
    steps: list[PipelineStep] = [Pages(files, config.reading)]
    steps += [made.pop("url")] if "url" in made else []
    steps.append(Extraction(config.extraction, of("extraction")))
    if config.language.enabled:
        steps.append(Language(config.language, of("language")))
    return [*steps, *made.values(), _writer(out / KEPT)]


def _final(config: CrawlConfig, out: Path) -> list[PipelineStep]:
    steps: list[PipelineStep] = [_reader(out)]
    if config.near_duplicates.enabled:
        steps.append(NearDuplicates(out / WORK / "clusters", removed(config, out, NEAR_DUPLICATES)))
    if config.contamination.files:
        steps.append(Contamination(config.contamination, removed(config, out, "contamination")))
    of = config.personal_data
    if of.emails or of.ip_addresses or of.phone_numbers:
        steps.append(PersonalData(of))
    return [*steps, _writer(out / DOCUMENTS)]


class NearDuplicates(PipelineStep):
    """datatrove's last stage of MinHash; of some clusters it keeps what stays beside what goes."""

    type, name = "DEDUP", "near-duplicates"

    def __init__(self, clusters: Path, removed: Removed) -> None:
        super().__init__()
        self._removed = removed
        self._filter = MinhashDedupFilter(
            str(clusters), exclusion_writer=_Pairs(removed, "removed"), load_cluster_ids=True
        )
        self.stats = self._filter.stats

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        kept = _Pairs(self._removed, "kept")
        with self._removed as writer:
            writer.start(rank)
            for document in self._filter.run(data, rank, world_size):
                self.update_doc_stats(document)
                kept.write(document, rank)
                document.metadata.pop("minhash_cluster_id", None)
                yield document


class _Pairs:
    """Writes an example under its cluster's name: the hash chooses clusters, not documents."""

    def __init__(self, removed: Removed, side: str) -> None:
        self._removed, self._side = removed, side

    def __enter__(self) -> "_Pairs":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, document: Document, rank: int = 0) -> None:
        cluster = document.metadata.get("minhash_cluster_id", -1)
        if cluster >= 0:
            self._removed.keep(
                self._side,
                f"cluster {cluster}",
                lambda: {"cluster": cluster, **self._removed.example(document)},
            )


class NotEmpty(PipelineStep):
    """Stops where the rules have left nothing; datatrove would end with success."""

    type, name = "CHECK", "something is left"

    def __init__(self, config: CrawlConfig, rules: Sequence[str], out: Path) -> None:
        super().__init__()
        self.config, self.rules, self.out = config, rules, out

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        if not any((self.out / KEPT).glob("*.jsonl.gz")):
            found = findings(self.config, {RULES: self.rules}, self.out)
            raise ConfigError(f"{self.out}: {no_documents(found)}")
        return data


def _reader(out: Path) -> JsonlReader:
    return JsonlReader(str(out / KEPT), add_file_path=False)


def _writer(folder: Path) -> JsonlWriter:
    return JsonlWriter(str(folder), output_filename="${rank}.jsonl")
