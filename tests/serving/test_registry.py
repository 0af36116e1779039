"""Models by name: loaded when they are asked for, evicted when they are not, never in use."""

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import save_tiny
from fastapi.testclient import TestClient
from tiny_models import save_tiny_adapter

from foundling.base.config import ConfigError
from foundling.generation.engine import Engine
from foundling.generation.packed_runner import PackedRunner
from foundling.generation.speculation import DraftModel
from foundling.runs.model_folder import open_model
from foundling.serving.errors import ApiError
from foundling.serving.opening import opener
from foundling.serving.registry import Registry, Served, Source, find_sources
from foundling.serving.settings import ServingSettings


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("several")
    return [save_tiny(root / name, seed) for seed, name in enumerate("abc")]


def registry_of(folders: Sequence[Path], max_loaded: int | None = None) -> Registry:
    settings = ServingSettings(device="cpu")
    return Registry(find_sources([str(one) for one in folders]), opener(settings), max_loaded)


def test_the_one_not_used_for_longest_is_evicted(folders: list[Path]) -> None:
    async def use() -> None:
        registry = registry_of(folders, 2)
        for name, in_memory in (("a", "a"), ("b", "ab"), ("a", "ba"), ("c", "ac"), ("c", "ac")):
            async with registry.use(name) as served:
                assert served.name == name
            assert "".join(registry.in_memory) == in_memory
        await registry.close()
        assert not registry.in_memory

    asyncio.run(use())


def test_a_model_in_use_stays(folders: list[Path]) -> None:
    async def use() -> None:
        registry = registry_of(folders, 1)
        first = await registry.take("a")
        waiting = asyncio.create_task(registry.take("b"))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        assert list(registry.in_memory) == ["a"]
        registry.give_back(first)
        second = await waiting
        assert list(registry.in_memory) == ["b"]
        registry.give_back(second)
        await registry.close()

    asyncio.run(use())


def test_the_wait_for_a_model_is_limited(
    open_client: Callable[..., TestClient], folders: list[Path]
) -> None:
    client = open_client(folders[:2], max_loaded=1, timeout=0.3)
    service = client.app.state.service  # type: ignore[attr-defined]
    client.post("/v1/completions", json={"model": "a", "prompt": "the"})
    service.registry._users["a"] += 1  # as if an answer of it went on
    answer = client.post("/v1/completions", json={"model": "b", "prompt": "the"})
    assert (answer.status_code, "0.3 seconds" in answer.text) == (408, True)
    service.registry._users["a"] -= 1


def test_who_gives_up_waiting_holds_nothing(folders: list[Path]) -> None:
    async def use() -> None:
        registry = registry_of(folders, 1)
        first = await registry.take("a")
        waiting = asyncio.create_task(registry.take("b"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        registry.give_back(first)
        async with registry.use("c"):
            assert "c" in registry.in_memory
        await registry.close()

    asyncio.run(use())


def test_many_who_ask_at_once_load_it_once(folders: list[Path]) -> None:
    opened: list[str] = []
    open_engine = opener(ServingSettings(device="cpu"))

    def counted(source: Source, in_memory: Sequence[Served]) -> Engine:
        opened.append(source.name)
        return open_engine(source, in_memory)

    async def use() -> None:
        registry = Registry(find_sources([str(folders[0])]), counted)
        lent = await asyncio.gather(*(registry.take("a") for _ in range(5)))
        assert opened == ["a"]
        assert len({id(one.engine) for one in lent}) == 1
        await registry.close()

    asyncio.run(use())


def test_what_cannot_be_loaded_is_said_without_its_path(
    open_client: Callable[..., TestClient], folders: list[Path], tmp_path: Path
) -> None:
    broken = save_tiny(tmp_path / "broken")
    client = open_client([folders[0], broken])
    weights = broken / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    body = {"model": "broken", "prompt": "a"}
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 500
    assert str(tmp_path) not in answer.text
    assert client.post("/v1/completions", json={**body, "model": "a"}).status_code == 200
    weights.write_bytes(whole)
    assert client.post("/v1/completions", json=body).status_code == 200


def test_names_are_the_folders_or_given(folders: list[Path]) -> None:
    paths = [str(one) for one in folders]
    assert [one.name for one in find_sources(paths)] == ["a", "b", "c"]
    assert [one.name for one in find_sources(paths[:2], ["base", "chat"])] == ["base", "chat"]
    wrong: list[tuple[list[str], list[str]]] = [([paths[0]] * 2, []), (paths, ["x"])]
    wrong += [(paths[:2], ["x", "x"]), (paths[:1], [" "])]
    for runs, names in wrong:
        with pytest.raises(ConfigError, match="--name"):
            find_sources(runs, names)
    with pytest.raises(ConfigError):
        find_sources(["nowhere"])


def test_an_unknown_name_is_refused(folders: list[Path]) -> None:
    registry = registry_of(folders)
    with pytest.raises(ApiError, match="does not exist"):
        registry.source("none")
    with pytest.raises(ApiError, match="Say which model"):
        registry.source(None)


def test_the_model_s_own_way_of_drawing_is_the_default(
    open_client: Callable[..., TestClient], tmp_path: Path
) -> None:
    folder = save_tiny(tmp_path / "greedy")
    said = {"temperature": 0.7, "top_k": 1, "top_p": None, "max_length": 20, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(said))
    client = open_client([folder])
    assert client.get("/v1/models/greedy").json()["default_sampling"] == {
        "temperature": 0.7, "top_k": 1
    }  # fmt: skip
    texts = []
    for changes in ({}, {}, {"temperature": 0}, {"top_k": 0, "temperature": 2, "seed": 1}):
        answer = client.post("/v1/completions", json={"prompt": "the", **changes})
        texts.append(answer.json()["choices"][0]["text"])
    assert texts[0] == texts[1] == texts[2] != texts[3]


@pytest.mark.parametrize("order", ["base one two", "one two base", "two base one"])
def test_adapters_of_one_base_share_it(tmp_path: Path, order: str) -> None:
    base = save_tiny(tmp_path / "base", 1)
    save_tiny_adapter(tmp_path / "one", base, 2)
    save_tiny_adapter(tmp_path / "two", base, 3, tokens=(4, 5))
    save_tiny(tmp_path / "other", 4)
    names = ["other", *order.split()]

    async def use() -> None:
        registry = registry_of([tmp_path / name for name in names])
        engines = {}
        for name in names:
            async with registry.use(name) as served:
                engines[name] = served.engine
        packed = {}
        for name, engine in engines.items():
            alone = Engine(open_model(tmp_path / name), engine.tokenizer)
            options = {"max_tokens": 20, "temperature": 0}
            assert engine.generate("the miller", **options) == alone.generate(
                "the miller", **options
            )
            assert isinstance(engine.runner, PackedRunner)
            packed[name] = engine.runner.packed.layers[0].qkv.data
        assert packed["one"] is packed["two"] is packed["base"] is not packed["other"]
        for engine in engines.values():  # what is packed is the only copy
            assert engine.model.get_parameter("context.blocks.0.mlp.up.weight").is_meta
        await registry.close()

    asyncio.run(use())


def test_a_draft_model_is_in_memory_once(folders: list[Path]) -> None:
    settings = ServingSettings.parse({"device": "cpu", "engine": {"draft": str(folders[2])}})

    async def use() -> None:
        sources = find_sources([str(one) for one in folders[:2]])
        registry = Registry(sources, opener(settings))
        drafts, texts = [], []
        for name in "ab":
            async with registry.use(name) as served:
                engine = served.engine
                texts.append(engine.generate("the miller", max_tokens=20, temperature=0))
                speculation = engine._speculation
                assert speculation is not None
                assert isinstance(speculation.guesser, DraftModel)
                drafts.append(speculation.guesser.runner)
        await registry.close()
        first, second = drafts
        assert first is not second  # each has keys and values of its own
        assert isinstance(first, PackedRunner)
        assert isinstance(second, PackedRunner)
        assert first.packed is second.packed
        for name, text in zip("ab", texts, strict=True):
            alone = Engine(open_model(folders["ab".index(name)]), sources[0].tokenizer)
            assert text == alone.generate("the miller", max_tokens=20, temperature=0)

    asyncio.run(use())


def test_to_list_adapters_no_weights_are_read(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    over = save_tiny_adapter(tmp_path / "over", base, 2)
    (base / "model.safetensors").unlink()
    [source] = find_sources([str(over)])
    assert source.max_context == 64


def test_a_model_opened_after_the_end_is_closed(folders: list[Path]) -> None:
    opened: list[Engine] = []
    begun, may_end = threading.Event(), threading.Event()
    open_engine = opener(ServingSettings(device="cpu"))

    def held(source: Source, in_memory: Sequence[Served]) -> Engine:
        begun.set()
        assert may_end.wait(60)
        opened.append(open_engine(source, in_memory))
        return opened[-1]

    async def use() -> None:
        registry = Registry(find_sources([str(folders[0])]), held)
        waiting = asyncio.create_task(registry.take("a"))
        await asyncio.to_thread(begun.wait, 60)
        await registry.close()
        may_end.set()
        with pytest.raises(ApiError, match="shutting down"):
            await waiting
        assert not registry.in_memory
        assert [engine._closing for engine in opened] == [True]

    asyncio.run(use())
