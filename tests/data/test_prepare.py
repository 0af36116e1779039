"""Preparing data: splits, duplicates, faults, flat memory, and nothing half-written."""

import errno
import io
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from foundling.base.config import ConfigError
from foundling.data import documents as documents_module
from foundling.data import encode
from foundling.data import prepare as module
from foundling.data.prepare import prepare
from foundling.data.progress import rich_progress
from foundling.data.readers import source_file
from foundling.data.store import TokenStore
from foundling.data.store_writer import StoreWriter
from foundling.data.text_sample import TextSample
from foundling.text.tokenizer import Tokenizer

LINE = "the cat sat on a mat while rain fell and every dog slept by the warm fire"
WORDS = LINE.split()


def sentence(number: int, length: int = 12) -> str:
    chance = random.Random(number)
    return f"{number}: " + " ".join(chance.choices(WORDS, k=length)) + ".\n"


def json_lines(path: Path, texts: Iterable[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def documents(out: Path, split: str) -> list[str]:
    """Every document of a split as text, by way of the reader."""
    store = TokenStore.open(out)
    tokens, tokenizer = store.split(split), store.tokenizer()
    found = []
    for number in range(tokens.num_documents):
        ids = tokens.read(*tokens.document_span(number)).tolist()
        assert ids[0] == tokenizer.begin_of_text
        assert ids[-1] == tokenizer.end_of_text
        assert not tokenizer.special_ids & set(ids[1:-1])
        found.append(tokenizer.decode(ids))
    return found


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    Tokenizer.train_bytes(map(sentence, range(50)), 300).save(folder)
    return str(folder)


# ---------------------------------------------------------------------- what goes where


def test_every_document_comes_back_in_order(tmp_path: Path) -> None:
    texts = [sentence(n) for n in range(300)]
    data = json_lines(tmp_path / "a.jsonl", texts)
    report = prepare([data], tmp_path / "s", vocab_size=300, validation_fraction=0.2, licence="CC0")
    train, validation = documents(tmp_path / "s", "train"), documents(tmp_path / "s", "validation")
    held = set(validation)
    assert train == [text for text in texts if text not in held]
    assert validation == [text for text in texts if text in held]
    assert 30 < len(validation) < 90
    manifest = TokenStore.open(tmp_path / "s").manifest
    assert manifest == report.manifest
    assert manifest.train.num_bytes == sum(map(len, train))
    assert manifest.validation.num_bytes == sum(map(len, validation))
    assert (manifest.lossless, manifest.licence, manifest.vocab_size) == (True, "CC0", 300)
    assert manifest.sources[0].num_bytes == data.stat().st_size
    TokenStore.open(tmp_path / "s").verify()
    shown = report.values()
    assert json.loads(json.dumps(shown)) == shown
    assert shown["train"] == {
        "documents": len(train),
        "tokens": manifest.train.num_tokens,
        "bytes": manifest.train.num_bytes,
    }


def test_the_split_of_a_document_does_not_change_when_files_are_added(
    tmp_path: Path, tokenizer_folder: str
) -> None:
    json_lines(tmp_path / "b.jsonl", map(sentence, range(100)))
    prepare(
        [tmp_path / "b.jsonl"],
        tmp_path / "s",
        tokenizer=tokenizer_folder,
        validation_fraction=0.2,
    )
    json_lines(tmp_path / "a.jsonl", map(sentence, range(100, 200)))
    both = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    prepare(both, tmp_path / "t", tokenizer=tokenizer_folder, validation_fraction=0.2)
    before, after = (set(documents(tmp_path / name, "validation")) for name in "st")
    assert before
    assert before < after
    assert not after & set(documents(tmp_path / "s", "train"))
    prepare(both, tmp_path / "u", tokenizer=tokenizer_folder, validation_fraction=0.2, seed=1)
    assert set(documents(tmp_path / "u", "validation")) != after


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("num_documents", [2, 3, 5, 10])
def test_of_a_few_documents_one_is_held_out_and_one_is_left(
    tmp_path: Path, tokenizer_folder: str, num_documents: int, fraction: float
) -> None:
    texts = [sentence(n) for n in range(num_documents)]
    for number, text in enumerate([*texts, texts[0]]):  # one of them twice
        (tmp_path / f"{number}.txt").write_text(text)
    for seed in range(4):
        out = tmp_path / f"s{seed}"
        settings = {"tokenizer": tokenizer_folder, "validation_fraction": fraction, "seed": seed}
        report = prepare([tmp_path / "*.txt"], out, **settings)  # type: ignore[arg-type]
        train, validation = documents(out, "train"), documents(out, "validation")
        assert train
        assert validation
        assert sorted(train + validation) == sorted(texts)
        assert report.manifest.duplicates == 1
        if fraction in (0.01, 0.99):  # chance alone would leave a split empty
            assert min(len(train), len(validation)) == 1


@pytest.mark.parametrize("tail", [0.1, 0.25, 1 / 3])
def test_the_tail_is_cut_as_nanogpt_cuts_it(tmp_path: Path, tail: float) -> None:
    text = "".join(map(sentence, range(101)))
    (tmp_path / "a.txt").write_text(text)
    prepare([tmp_path], tmp_path / "s", tokenizer="characters", validation_tail=tail)
    at = int(len(text) * (1 - tail))  # nanoGPT, data/shakespeare_char/prepare.py: int(n*0.9)
    assert documents(tmp_path / "s", "train") == [text[:at]]
    assert documents(tmp_path / "s", "validation") == [text[at:]]
    split = TokenStore.open(tmp_path / "s").split("validation")
    assert split.num_tokens == len(text) - at + 2


def test_named_validation_inputs_and_what_is_in_both(tmp_path: Path, tokenizer_folder: str) -> None:
    json_lines(tmp_path / "a.jsonl", map(sentence, range(20)))
    json_lines(tmp_path / "v.jsonl", map(sentence, range(18, 22)))
    report = prepare(
        [tmp_path / "a.jsonl"],
        tmp_path / "s",
        tokenizer=tokenizer_folder,
        validation=[tmp_path / "v.jsonl"],
    )
    assert documents(tmp_path / "s", "validation") == [sentence(n) for n in range(18, 22)]
    assert documents(tmp_path / "s", "train") == [sentence(n) for n in range(18)]
    assert report.manifest.duplicates == 2


def test_duplicates_are_dropped_and_counted(
    tmp_path: Path, tokenizer_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_file, "READ_BYTES", 512)
    monkeypatch.setattr(
        documents_module, "MEMORY_CHARACTERS", 1000
    )  # the long one goes by the disk
    long = "".join(map(sentence, range(100)))
    for name, text in (("a", long), ("b", "short\n"), ("c", long), ("d", "short\n"), ("e", "x")):
        (tmp_path / f"{name}.txt").write_text(text)
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "v.txt").write_text("validation")
    report = prepare(
        [tmp_path / "*.txt"],
        tmp_path / "s",
        tokenizer=tokenizer_folder,
        validation=[tmp_path / "v"],
    )
    assert documents(tmp_path / "s", "train") == [long, "short\n", "x"]
    assert report.manifest.duplicates == 2
    assert report.values()["duplicates"] == 2


def test_characters_come_from_validation_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc")
    (tmp_path / "v.md").write_text("abz")
    prepare(
        [tmp_path / "a.txt"],
        tmp_path / "s",
        tokenizer="characters",
        validation=[tmp_path / "v.md"],
    )
    assert TokenStore.open(tmp_path / "s").manifest.vocab_size == 7 + 4


def test_a_long_document_is_the_tokens_of_its_whole(
    tmp_path: Path, tokenizer_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(f"{n} {LINE}.\n" for n in range(3600))
    assert len(text) > 8 * documents_module.PIECE_CHARACTERS
    (tmp_path / "a.txt").write_text(text)
    monkeypatch.setattr(documents_module, "MEMORY_CHARACTERS", 100_000)
    monkeypatch.setattr(source_file, "READ_BYTES", 77_777)
    monkeypatch.setattr(encode, "BATCH_CHARACTERS", 50_000)
    prepare([tmp_path / "a.txt"], tmp_path / "s", tokenizer=tokenizer_folder, validation_tail=0.5)
    store = TokenStore.open(tmp_path / "s")
    half = text[: int(len(text) * 0.5)]
    expected = [0, *store.tokenizer().encode(half), 1]
    assert store.split("train").read(0, store.split("train").num_tokens).tolist() == expected


def test_the_same_input_gives_the_same_bytes_on_any_number_of_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    json_lines(tmp_path / "a.jsonl", map(sentence, range(400)))
    script = (
        "import sys\nfrom foundling.data.prepare import prepare\n"
        "prepare(['a.jsonl'], sys.argv[1], vocab_size=320, validation_fraction=0.1,"
        " shard_tokens=1000)"
    )
    cores = "4" if os.environ.get("RAYON_NUM_THREADS", str(os.cpu_count())) == "1" else "1"
    subprocess.run(
        [sys.executable, "-c", script, "theirs"],
        cwd=tmp_path,
        env={**python_path(), "RAYON_NUM_THREADS": cores, "PYTHONHASHSEED": "1"},
        check=True,
    )
    monkeypatch.chdir(tmp_path)
    prepare(["a.jsonl"], "ours", vocab_size=320, validation_fraction=0.1, shard_tokens=1000)
    assert tree(tmp_path / "ours") == tree(tmp_path / "theirs")
    assert len(TokenStore.open("ours").manifest.train.shards) > 1


def test_a_tokenizer_learns_from_a_bounded_sample_whatever_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [sentence(n) for n in range(400)]
    prints = []
    for limit, order in ((10_000, 1), (10_000, -1), (10**9, 1)):
        monkeypatch.setattr(module, "SAMPLE_BYTES", limit)
        json_lines(tmp_path / "a.jsonl", texts[::order])
        out = tmp_path / f"s{len(prints)}"
        prepare([tmp_path / "a.jsonl"], out, vocab_size=320, validation_fraction=0.1)
        prints.append(TokenStore.open(out).manifest.tokenizer_fingerprint)
    assert prints[0] == prints[1] != prints[2]
    with TextSample(tmp_path, limit=10_000) as sample:
        for number, text in enumerate(texts):
            sample.offer(random.Random(number).getrandbits(64), text)
        kept = list(sample.texts())
    assert 2_500 < sum(map(len, kept)) <= 10_000
    assert set(kept) < set(texts)


def test_the_size_that_a_vocabulary_reaches_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = json_lines(tmp_path / "a.jsonl", map(sentence, range(20)))
    with caplog.at_level(logging.INFO, "foundling"):
        report = prepare([data], tmp_path / "s", vocab_size=70_000, validation_fraction=0.2)
    size = report.manifest.vocab_size
    assert 263 < size < 1000
    assert f"The tokenizer has {size} tokens, fewer than --vocab-size 70,000" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "foundling"):
        prepare([data], tmp_path / "t", vocab_size=300, validation_fraction=0.2)
    assert "fewer than" not in caplog.text


# ---------------------------------------------------------------------- what is refused


def test_settings_that_contradict_or_leave_a_split_empty(
    tmp_path: Path, tokenizer_folder: str
) -> None:
    (tmp_path / "a.txt").write_text("one text")
    one, out = [tmp_path / "a.txt"], tmp_path / "s"
    with pytest.raises(ConfigError, match=r"one document.*use --validation-tail"):
        prepare(one, out, tokenizer=tokenizer_folder)
    with pytest.raises(ConfigError, match="Give one of"):
        prepare(one, out, validation_fraction=0.1, validation_tail=0.1)
    for fraction in (0.0, 1.0, -1.0):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            prepare(one, out, validation_tail=fraction)
    many = [json_lines(tmp_path / "b.jsonl", map(sentence, range(3)))]
    os.mkfifo(tmp_path / "pipe.jsonl")  # read once: nobody can know which documents are to come
    with ThreadPoolExecutor() as pool:
        pool.submit((tmp_path / "pipe.jsonl").write_bytes, many[0].read_bytes())
        pipe = [tmp_path / "pipe.jsonl"]
        with pytest.raises(ConfigError, match=r"left for validation: 3 in all"):
            prepare(pipe, out, tokenizer=tokenizer_folder, validation_fraction=1e-9)
    with pytest.raises(ConfigError, match=r"b\.jsonl:1: --validation-tail cuts files"):
        prepare(many, out, tokenizer=tokenizer_folder, validation_tail=0.1)
    with pytest.raises(ConfigError, match=r"left for train: 1 in all, 1 duplicates"):
        prepare(one, out, tokenizer=tokenizer_folder, validation=one)
    single = [json_lines(tmp_path / "c.jsonl", ["alone"])]
    with pytest.raises(ConfigError, match="one document"):
        prepare(single, out, tokenizer=tokenizer_folder)
    with pytest.raises(ConfigError, match="at least 263"):
        prepare(many, out, vocab_size=100, validation_fraction=0.5, seed=3)
    with pytest.raises(ConfigError, match="exists and is not a token store"):
        prepare(many, tmp_path, tokenizer=tokenizer_folder)
    with pytest.raises(ConfigError, match="no such tokenizer"):
        prepare(many, out, tokenizer="bites")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.txt",
        "b.jsonl",
        "c.jsonl",
        "pipe.jsonl",
    ]


def test_bad_input_stops_or_is_skipped_and_counted(tmp_path: Path, tokenizer_folder: str) -> None:
    data = json_lines(tmp_path / "a.jsonl", map(sentence, range(50)))
    with data.open("a") as stream:
        stream.write('{"body": "x"}\n{"text"\n')
    settings = {"tokenizer": tokenizer_folder, "validation_fraction": 0.2}
    with pytest.raises(ConfigError, match=r'a\.jsonl:51: no field "text"; it has: body'):
        prepare([data], tmp_path / "s", **settings)
    assert not (tmp_path / "s").exists()
    report = prepare([data], tmp_path / "s", on_error="skip", **settings)
    assert report.manifest.skipped == {"broken JSON": 1, "missing field": 1}
    assert report.values()["skipped"] == report.manifest.skipped
    total = report.manifest.train.num_documents + report.manifest.validation.num_documents
    assert total == 50


@pytest.mark.parametrize("number", range(4))
def test_looking_for_the_split_counts_nothing_twice(
    tmp_path: Path, tokenizer_folder: str, number: int
) -> None:
    """So few documents that the whole input is read to see which of them are held out."""
    data = json_lines(tmp_path / "a.jsonl", map(sentence, range(number, number + 3)))
    with data.open("a") as stream:
        stream.write('{"text"\n' * 4)
    settings = {"tokenizer": tokenizer_folder, "validation_fraction": 1e-6}
    report = prepare([data], tmp_path / "s", on_error="skip", **settings)
    assert report.manifest.skipped == {"broken JSON": 4}
    (tmp_path / "a.txt").write_text(sentence(number))
    (tmp_path / "b.txt").write_text(f"{sentence(5)}%{sentence(6)}")
    prepare([tmp_path / "*.txt"], tmp_path / "t", separator="%", **settings)
    read = documents(tmp_path / "t", "train") + documents(tmp_path / "t", "validation")
    assert sorted(read) == sorted(map(sentence, (number, 5, 6)))


def test_a_character_that_the_tokenizer_lacks_is_named_with_its_file(tmp_path: Path) -> None:
    Tokenizer.characters(["abc"]).save(tmp_path / "t")
    data = json_lines(tmp_path / "a.jsonl", [*("abc" * n for n in range(1, 30)), "abc€"])
    with pytest.raises(ConfigError, match=r"a\.jsonl:30: '€' \(U\+20AC\)"):
        prepare([data], tmp_path / "s", tokenizer=str(tmp_path / "t"), validation_fraction=0.5)


def test_a_lossy_tokenizer_is_marked(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, normalizers, pre_tokenizers

    backend = Backend(models.WordLevel({"<unk>": 0, "</s>": 1, "the": 2}, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.save(str(tmp_path / "tokenizer.json"))
    data = json_lines(tmp_path / "a.jsonl", map(sentence, range(50)))
    path = str(tmp_path / "tokenizer.json")
    report = prepare([data], tmp_path / "s", tokenizer=path, validation_fraction=0.2)
    assert not report.manifest.lossless
    split = TokenStore.open(tmp_path / "s").split("train")
    assert split.read(0, 1)[0] != 1  # it has no begin of text: a document begins with its text


# ---------------------------------------------------------------------- nothing half-written


class FullDisk(io.FileIO):
    """A file on a disk that has room for 4 KiB, as the operating system would report it."""

    def write(self, raw: object) -> int:
        if self.tell() + memoryview(raw).nbytes > 4096:  # type: ignore[call-overload]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.name)
        return super().write(raw)  # type: ignore[arg-type]


@pytest.mark.parametrize("when", ["train-00000.bin", "train.documents.bin"])
def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, tokenizer_folder: str, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    data = json_lines(tmp_path / "a.jsonl", (sentence(n) for n in range(1000)))
    open_path = Path.open

    def opened(self: Path, mode: str = "r", *rest: object, **named: object) -> object:
        if self.name == when and mode == "xb":
            return io.BufferedWriter(FullDisk(str(self), "x"))  # type: ignore[arg-type]
        return open_path(self, mode, *rest, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(ConfigError, match=r"s: the disk is full; nothing was kept"):
        prepare([data], tmp_path / "s", tokenizer=tokenizer_folder, validation_fraction=0.2)
    assert list(tmp_path.iterdir()) == [data]


def test_a_killed_run_leaves_nothing_that_looks_whole(
    tmp_path: Path, tokenizer_folder: str
) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    script = (
        "import sys\nfrom foundling.data.prepare import prepare\n"
        "prepare(['a.jsonl'], 's', tokenizer=sys.argv[1], validation_fraction=0.2)"
    )
    command = [sys.executable, "-c", script, tokenizer_folder]
    with (
        subprocess.Popen(command, cwd=tmp_path, env=python_path()) as process,
        (tmp_path / "a.jsonl").open("w") as pipe,
    ):
        for number in range(6000):  # more than two batches, so that a shard is begun
            pipe.write(json.dumps({"text": f"{number} {LINE * 8}"}) + "\n")
        pipe.flush()
        partial = tmp_path / f"s.partial-{process.pid}"
        shard = partial / "train-00000.bin"
        deadline = time.monotonic() + 20
        while not (shard.exists() and shard.stat().st_size):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert partial.exists()
    assert not (tmp_path / "s").exists()
    data = json_lines(tmp_path / "b.jsonl", map(sentence, range(50)))
    report = prepare([data], tmp_path / "s", tokenizer=tokenizer_folder, validation_fraction=0.2)
    assert report.leftovers == (partial,)
    TokenStore.open(tmp_path / "s").verify()


def test_a_second_process_cannot_write_the_same_store(
    tmp_path: Path, tokenizer_folder: str
) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    script = (
        "import sys\nfrom foundling.data.prepare import prepare\n"
        "prepare(['a.jsonl'], 's', tokenizer=sys.argv[1], validation_fraction=0.2)"
    )
    command = [sys.executable, "-c", script, tokenizer_folder]
    data = json_lines(tmp_path / "b.jsonl", map(sentence, range(50)))
    with subprocess.Popen(command, cwd=tmp_path, env=python_path()) as process:
        with (tmp_path / "a.jsonl").open("w") as pipe:  # open once the process reads
            with pytest.raises(ConfigError, match=r"s: another process is writing it"):
                prepare([data], tmp_path / "s", tokenizer=tokenizer_folder)
            assert [path.name for path in tmp_path.glob("s*")] == [f"s.partial-{process.pid}"]
            pipe.write(data.read_text())
        process.wait()
    assert process.returncode == 0
    TokenStore.open(tmp_path / "s").verify()
    report = prepare([data], tmp_path / "s", tokenizer=tokenizer_folder, overwrite=True)
    assert report.leftovers == ()
    with StoreWriter(tmp_path / "t"), pytest.raises(ConfigError, match="another process"):
        prepare([data], tmp_path / "t", tokenizer=tokenizer_folder)


def test_a_pipe_needs_a_tokenizer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(ConfigError, match=r"a\.jsonl: can be read only once"):
        prepare([tmp_path / "a.jsonl"], tmp_path / "s")


# ---------------------------------------------------------------------- memory and progress

# Not getrusage's ru_maxrss, which begins at the peak of the process that started this one.
MEASURE = """
import re
from foundling.data import encode
from foundling.data.prepare import prepare
from foundling.data.readers import source_file
encode.BATCH_CHARACTERS, source_file.READ_BYTES = 1 << 17, 1 << 16  # few buffers, little noise
for name in ('small', 'large'):
    prepare([f'{name}.jsonl'], name, tokenizer='t', validation_fraction=0.01)
    print(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux")
def test_memory_is_flat_on_a_stream(tmp_path: Path) -> None:
    """13 MB of text more, which exist nowhere as a whole: kept, they would show."""
    Tokenizer.characters(["".join(WORDS) + " 0123456789"]).save(tmp_path / "t")
    sizes = {"small": 500, "large": 3500}
    for name in sizes:
        os.mkfifo(tmp_path / f"{name}.jsonl")
    with subprocess.Popen(
        [sys.executable, "-c", MEASURE],
        cwd=tmp_path,
        env=python_path(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        for name, num_documents in sizes.items():
            with (tmp_path / f"{name}.jsonl").open("w") as pipe:
                for number in range(num_documents):
                    pipe.write(f'{{"text": "{number} {LINE * 60}"}}\n')
        shown, _ = process.communicate()
    assert process.returncode == 0
    small, large = map(int, shown.split())
    assert TokenStore.open(tmp_path / "large").split("train").num_bytes > 15_000_000
    assert large - small < 8  # measured: 3 to 4; 18 with the text kept, 118 with the tokens


def test_progress_tells_bytes_of_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_file, "READ_BYTES", 1 << 16)
    data = json_lines(tmp_path / "a.jsonl", (f"{n} {LINE * 20}" for n in range(600)))
    told: list[tuple[str, int, int | None]] = []
    prepare(
        [data],
        tmp_path / "s",
        tokenizer="characters",
        validation_fraction=0.1,
        progress=lambda *news: told.append(news),
    )
    size = data.stat().st_size
    for stage in ("tokenizer", "tokens"):
        done = [done for name, done, total in told if name == stage and total == size]
        assert done == sorted(done)
        assert len(done) > 2
        assert done[-1] == size
    with rich_progress() as progress:
        progress("tokens", 5, None)
        progress("tokens", 10, 10)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "tokens" in captured.err


def python_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
