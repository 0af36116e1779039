"""Runs the comparison page: checks all settings and sources first, then opens the database."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foundling.base.config import ConfigError, Section
from foundling.data.readers.source_file import read_text
from foundling.preferences.checks import check_name, check_pair, same_name
from foundling.preferences.database import shown
from foundling.preferences.leasing import Leasing
from foundling.preferences.producing import Producer
from foundling.preferences.prompts import Prompt, read_prompts
from foundling.preferences.records import KINDS
from foundling.preferences.sources import Answering, open_sources
from foundling.preferences.store import PreferenceStore
from foundling.studio.desk import Desk
from foundling.studio.gold import gold_pairs
from foundling.studio.production import Production
from foundling.studio.server import links, serve
from foundling.web.listening import base_url, bind, is_loopback

logger = logging.getLogger(__name__)


class CompareConfig(Section):
    """Settings of a comparison: what is compared, by whom, and where the page is served."""

    db: str = "votes.db"
    prompts: str | None = None
    kind: Literal["comparison", "rating", "both"] = "comparison"
    gold: str | None = None
    rubric: str | None = None
    annotators: tuple[str, ...] = ()
    leads: tuple[str, ...] = ()  # annotators who may change the rubric, with `invited`
    invited: bool = False
    host: str = "127.0.0.1"
    port: int = 8420
    public_url: str | None = None
    seed: int = 0  # of answers, and of the sides of gold items
    device: str = "auto"
    template: str | None = None
    """The chat template of models, by name or as a file; None: their own."""
    leasing: Leasing = Leasing()
    answers: Answering = Answering()


@dataclass(frozen=True)
class Opened:
    """How the served page is reached."""

    base: str
    invited: bool
    links: dict[str, str | None]  # by annotator; None for one who has a link already
    stop: Callable[[], None]
    """Ends the page, from any thread."""


def compare(
    a: str | None,
    b: str | None,
    config: CompareConfig,
    opened: Callable[[Opened], None],
    *,
    new_links: bool = False,
) -> None:
    """Serve the page until it is interrupted; `opened` is called once it can be opened.

    Args:
        a: one source of answers; None to use the pairs of the database.
        new_links: make new links for all annotators; earlier ones stop working.

    Raises:
        ConfigError: the settings, a file or a source is at fault; no database is left behind.
        HttpError: the server of a source cannot be reached.
    """
    names, invited = _names(config, new_links)
    golds = gold_pairs(Path(config.gold), config.seed) if config.gold is not None else []
    for pair in golds:
        check_pair(pair)
    rubric = _rubric(Path(config.rubric)) if config.rubric is not None else None
    asked = _prompts(a, b, config)
    if Path(config.db).exists():
        PreferenceStore.open(config.db, create=False).close()  # a wrong one is said at once
    elif a is None and "://" not in config.db:
        raise ConfigError(f"{config.db}: no such file; give A and B, whose answers it is to hold.")
    with bind(config.host, config.port) as listening:
        base = base_url(listening, config.public_url)
        sources = (
            open_sources(a, b, device=config.device, template=config.template) if a and b else None
        )
        with PreferenceStore.open(config.db) as store:
            known = store.pairs().values()
            if sources is None and not known:
                raise ConfigError(
                    f"{config.db}: holds no pairs yet; give A and B, whose answers to compare."
                )
            production = None
            if sources is not None:
                producer = Producer(
                    *sources, asked, settings=config.answers, seed=config.seed, known=known
                )
                production = Production(store, producer)
            num_items = max(sum(pair.gold is None for pair in known), len(asked))
            store.add_pairs(golds)
            num_gold = sum(pair.gold is not None for pair in store.pairs().values())
            for note in config.leasing.never_shown(num_items, num_gold):
                logger.warning(note)
            if rubric is not None:
                store.set_rubric(rubric)
            kinds = KINDS if config.kind == "both" else (config.kind,)
            desk = Desk(store, config.leasing, kinds, invited, _leads(config), production)
            personal = links(desk, base, names, renew=new_links)
            before = len(store.judgements())
            with suppress(KeyboardInterrupt):
                serve(
                    desk, listening, base, config.host,
                    lambda stop: opened(Opened(base, invited, personal, stop)),
                )  # fmt: skip
            kept = len(store.judgements())
            logger.info(f"{kept:,} votes are kept in {shown(config.db)}, {kept - before:+,} now")


def _names(config: CompareConfig, new_links: bool) -> tuple[list[str], bool]:
    """Who gets a link, and whether only such links work."""
    names = [name.strip() for name in config.annotators]
    for name in names:
        check_name(name)
    for listed, key in ((names, "annotators"), (config.leads, "leads")):
        if len({same_name(name) for name in listed}) < len(listed):
            raise ConfigError(f"--{key} {','.join(listed)}: give each name once.")
    strangers = {same_name(lead) for lead in config.leads} - {same_name(name) for name in names}
    if strangers:
        raise ConfigError(f"--leads {','.join(config.leads)}: name them among --annotators too.")
    loopback = is_loopback(config.host)
    invited = config.invited or not loopback
    if invited and not names:
        which = "--invited" if loopback else f"--host {config.host}"
        raise ConfigError(
            f"{which}: only printed links work; name who gets one: --annotators NAME,..."
        )
    if config.leads and not invited:
        raise ConfigError(
            "--leads: without --invited everybody may change the rubric; add --invited."
        )
    if new_links and not names:
        raise ConfigError("--new-links: say for whom: --annotators NAME,...")
    return names, invited


def _leads(config: CompareConfig) -> frozenset[str]:
    return frozenset(same_name(lead) for lead in config.leads)


def _rubric(file: Path) -> str:
    text = read_text(file).strip()
    if not text:
        raise ConfigError(f"{file}: is blank; say what makes an answer better.")
    return text


def _prompts(a: str | None, b: str | None, config: CompareConfig) -> list[Prompt]:
    """What the sources are asked; nothing where the database's own pairs are compared.

    Raises:
        ConfigError: one source alone, nothing says what models are to be asked, or settings of
            drawn answers where nothing is drawn.
    """
    drawing = sorted(config.answers.model_fields_set)
    if drawing and all(source is None or Path(source).is_file() for source in (a, b)):
        name = drawing[0].replace("_", "-")
        raise ConfigError(f"--{name}: only models draw their answers; leave it out.")
    if a is None or b is None:
        if a is not None:
            raise ConfigError(f"{a}: compared with what? Give two, A and B.")
        if config.prompts is not None:
            raise ConfigError(f"--prompts {config.prompts}: give A and B, who are to answer.")
        return []
    if config.prompts is None and not Path(a).is_file():
        raise ConfigError(f"{a}: what is it to be asked? Give --prompts FILE.")
    return read_prompts(config.prompts or a)
