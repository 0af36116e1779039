"""The models of a server by name: loaded on demand, and the one not used for longest evicted."""

import asyncio
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from foundling.base.config import ConfigError, load_json
from foundling.generation.engine import Engine
from foundling.generation.sampling import Sampling
from foundling.runs.model_folder import ADAPTER, is_adapter, max_context
from foundling.runs.run import find_model
from foundling.serving.errors import ApiError, too_busy
from foundling.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

GENERATION = "generation_config.json"
_DRAWN = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


@dataclass(frozen=True)
class Source:
    """A model that can be served."""

    name: str
    folder: Path
    base: str | None
    """The fingerprint of the base that it is an adapter of; None: it stands by itself."""
    created: int
    """When its files were written, in seconds since 1970."""
    max_context: int | None
    """The longest text that it reads, in tokens; None: any."""
    tokenizer: Tokenizer
    sampling: Sampling
    """How its tokens are drawn where a request does not say."""


@dataclass(frozen=True)
class Served:
    """A model in memory."""

    source: Source
    engine: Engine

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def tokenizer(self) -> Tokenizer:
        return self.source.tokenizer

    @property
    def max_context(self) -> int | None:
        return self.source.max_context

    def room(self, num_tokens: int) -> int:
        """The most tokens that can follow so many; the last one needs no room."""
        return sys.maxsize if self.max_context is None else self.max_context + 1 - num_tokens


def find_sources(
    runs: Sequence[str], names: Sequence[str] = (), template: str | None = None
) -> list[Source]:
    """What runs, model folders and models of the hub are served as.

    Args:
        names: of the runs, in their order; by default the names of their folders.
        template: the chat template of all of them; None: their own.

    Raises:
        ConfigError: there is no such model, or two have one name.
    """
    if names and len(names) != len(runs):
        raise ConfigError(f"--name: {len(names)} names for {len(runs)} models; name each.")
    sources = []
    for run, name in zip(runs, names or map(_name_of, runs), strict=True):
        folder = find_model(run)
        base = load_json(folder / ADAPTER)["base_fingerprint"] if is_adapter(folder) else None
        newest = max(int(path.stat().st_mtime) for path in folder.iterdir())
        tokenizer = Tokenizer.load(folder).with_known_template(template)
        read, sampling = max_context(folder), recommended_sampling(folder)
        sources.append(Source(name, folder, base, newest, read, tokenizer, sampling))
    for name, count in Counter(source.name for source in sources).items():
        if count > 1:
            raise ConfigError(f'"{name}": {count} models have this name; give --name for each.')
        if not name or name != name.strip():
            raise ConfigError(f'--name "{name}": give a name without spaces around it.')
    return sources


def recommended_sampling(folder: Path) -> Sampling:
    """How the model's generation_config.json says that tokens are drawn.

    Where it says nothing they are drawn from the whole distribution.
    """
    path = folder / GENERATION
    if not path.is_file():
        return Sampling()
    said = {key: value for key, value in load_json(path).items() if key in _DRAWN}
    if said.get("top_k") == 0:  # for transformers: off
        del said["top_k"]
    return Sampling.parse({key: one for key, one in said.items() if one is not None}, GENERATION)


def _name_of(run: str) -> str:
    return Path(run.removeprefix("hub:")).resolve().name


class Registry:
    """Lends models to requests; all of it is used from the server's event loop.

    Args:
        open_engine: brings a model into memory; it is called on another thread, with the models
            that are in memory already.
        max_loaded: models in memory at once; a model that is in use is never evicted.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        open_engine: Callable[[Source, Sequence[Served]], Engine],
        max_loaded: int | None = None,
    ) -> None:
        self.sources = {source.name: source for source in sources}
        self._open_engine, self._most = open_engine, max_loaded
        self._served: dict[str, Served] = {}  # the one used last is the last one
        self._opening: dict[str, asyncio.Task[Served]] = {}
        self._users = Counter[str]()
        self._is_closed = False
        self._one_at_a_time, self._released = asyncio.Lock(), asyncio.Event()

    def source(self, name: str | None) -> Source:
        """The model of this name; the only one where no name is given.

        Raises:
            ApiError: there is none.
        """
        known = ", ".join(self.sources)
        if name is None and len(self.sources) > 1:
            raise ApiError(400, f"Say which model: {known}.", param="model")
        found = next(iter(self.sources.values())) if name is None else self.sources.get(name)
        if found is None:
            message = f'The model "{name}" does not exist; served are: {known}.'
            raise ApiError(404, message, param="model", code="model_not_found")
        return found

    @property
    def first(self) -> str:
        return next(iter(self.sources))

    @property
    def in_memory(self) -> dict[str, Served]:
        return dict(self._served)

    def open_now(self, source: Source) -> None:
        """Bring a model into memory before anything is served.

        Raises:
            ConfigError: it cannot be opened.
        """
        self._keep(source, self._open_engine(source, ()))

    @asynccontextmanager
    async def use(self, name: str | None) -> AsyncIterator[Served]:
        """Lend a model, which stays in memory for as long.

        Raises:
            ApiError: there is none, or it cannot be loaded.
        """
        served = await self.take(name)
        try:
            yield served
        finally:
            self.give_back(served)

    async def take(self, name: str | None) -> Served:
        """`use`, up to `give_back`."""
        source = self.source(name)
        self._users[source.name] += 1
        try:
            served = self._served.pop(source.name, None)
            if served is None:
                return await asyncio.shield(self._opened(source))
            self._served[source.name] = served
            return served
        except BaseException:
            self._release(source.name)
            raise

    def give_back(self, served: Served) -> None:
        self._release(served.name)

    async def close(self) -> None:
        """End all engines; from now on no model is lent that is not in memory."""
        self._is_closed = True
        while self._served:
            _, served = self._served.popitem()
            await asyncio.to_thread(served.engine.close)

    # ------------------------------------------------------------------ inside

    def _release(self, name: str) -> None:
        self._users[name] -= 1
        self._released.set()

    def _opened(self, source: Source) -> asyncio.Task[Served]:
        task = self._opening.get(source.name)
        if task is None:
            task = asyncio.create_task(self._open(source))
            self._opening[source.name] = task
            task.add_done_callback(lambda _: self._opening.pop(source.name))
        return task

    async def _open(self, source: Source) -> Served:
        async with self._one_at_a_time:
            while self._most is not None and len(self._served) >= self._most:
                await self._evict_one()
            others = tuple(self._served.values())
            try:
                engine = await asyncio.to_thread(self._open_engine, source, others)
            except Exception:
                logger.exception(f"{source.name}: cannot be loaded")
                raise ApiError(
                    500, f'The model "{source.name}" cannot be loaded; the server\'s log says why.'
                ) from None
            if self._is_closed:
                await asyncio.to_thread(engine.close)
                raise too_busy("The server is shutting down.", 503)
            return self._keep(source, engine)

    def _keep(self, source: Source, engine: Engine) -> Served:
        engine.start()
        self._served[source.name] = served = Served(source, engine)
        logger.info(f"{source.name}: loaded")
        return served

    async def _evict_one(self) -> None:
        """Free the model that was not used for longest; wait until one is not in use."""
        idle = next((name for name in self._served if not self._users[name]), None)
        if idle is None:
            self._released.clear()
            await self._released.wait()
            return
        served = self._served.pop(idle)
        await asyncio.to_thread(served.engine.close)
        logger.info(f"{idle}: evicted")
