"""Text encoded in processes of their own, and by tokenizers of models: the same bytes always."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_prepare import documents, json_lines, python_path, sentence, tree

from foundling.base.config import ConfigError
from foundling.data import encode
from foundling.data.encoders import EncoderProcesses
from foundling.data.prepare import prepare
from foundling.data.store import TokenStore
from foundling.data.text import TextData
from foundling.stages.pretrain import PretrainConfig, pretrain
from foundling.text.tokenizer import Tokenizer

WIDE = [*range(0x4E00, 0xA000), *range(0xAC00, 0xD7A4), *range(0x20000, 0x2A6E0)]
"""More characters than two bytes can number."""


def test_the_store_is_the_same_for_any_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "BATCH_CHARACTERS", 4000)
    Tokenizer.train_bytes(map(sentence, range(50)), 300).save(tmp_path / "t")
    data = json_lines(tmp_path / "a.jsonl", map(sentence, range(400)))
    long = tmp_path / "long.txt"
    long.write_text("".join(f"{sentence(n)}\n\n  {n}" for n in range(1500)))
    settings = {"tokenizer": str(tmp_path / "t"), "shard_tokens": 3000}
    for workers in (0, 1, 3):
        out = tmp_path / f"s{workers}"
        prepare([data, long], out, workers=workers, validation_fraction=0.1, **settings)
    assert tree(tmp_path / "s0") == tree(tmp_path / "s1") == tree(tmp_path / "s3")
    assert len(TokenStore.open(tmp_path / "s0").manifest.train.shards) > 3


def test_a_character_that_a_process_does_not_know_is_named_with_its_file(tmp_path: Path) -> None:
    Tokenizer.characters(["abc"]).save(tmp_path / "t")
    data = json_lines(tmp_path / "a.jsonl", [*("abc" * n for n in range(1, 30)), "abc€"])
    with pytest.raises(ConfigError, match=r"a\.jsonl:30: '€' \(U\+20AC\)"):
        prepare(
            [data], tmp_path / "s", tokenizer=str(tmp_path / "t"), validation_fraction=0.5,
            workers=1,
        )  # fmt: skip
    assert not (tmp_path / "s").exists()


def test_a_process_that_ends_by_itself_is_an_error(tmp_path: Path) -> None:
    Tokenizer.characters(["abc"]).save(tmp_path)
    with EncoderProcesses(tmp_path, "<u2", 1) as encoder:
        assert encoder.encode([("", "abc", "")]) == [bytes([7, 0, 8, 0, 9, 0])]
        encoder._processes[0].kill()
        with pytest.raises(ConfigError, match=r"ended by itself \(exit code -9\).*--workers"):
            encoder.encode([("", "abc", "")])


def test_a_process_that_ends_in_the_middle_of_an_answer_is_an_error(tmp_path: Path) -> None:
    Tokenizer.characters(["abc"]).save(tmp_path)
    half = (
        "import os, pickle, sys\npickle.load(sys.stdin.buffer)\n"
        "os.write(1, pickle.dumps([bytes(9000)])[:5000])\nos.kill(os.getpid(), 9)"
    )
    with EncoderProcesses(tmp_path, "<u2", 1) as encoder:
        pipe = subprocess.PIPE
        process = subprocess.Popen([sys.executable, "-c", half], stdin=pipe, stdout=pipe)
        encoder._processes.append(process)
        encoder._free.get()
        encoder._free.put(process)
        with pytest.raises(ConfigError, match=r"ended by itself \(exit code -9\)"):
            encoder.encode([("", "abc", "")])


def test_processes_end_with_one_that_is_killed(tmp_path: Path) -> None:
    Tokenizer.characters(["abc"]).save(tmp_path)
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from foundling.data.encoders import EncoderProcesses\n"
        "encoder = EncoderProcesses(Path(sys.argv[1]), '<u2', 2)\n"
        "encoder.encode([('', 'abc', '')])\nprint('ready', flush=True)\ntime.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        env=python_path(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGKILL)
    # They share its standard error, which ends when the last of them has.
    assert process.communicate(timeout=60)[1] == b""


def test_tokens_beyond_two_bytes(tmp_path: Path) -> None:
    text = "".join(map(chr, WIDE))
    Tokenizer.characters([text]).save(tmp_path / "t")
    texts = [text[n::40] for n in range(40)]
    data = json_lines(tmp_path / "a.jsonl", texts)
    prepare(
        [data], tmp_path / "s", tokenizer=str(tmp_path / "t"), validation_fraction=0.1,
        shard_tokens=10_000,
    )  # fmt: skip
    store = TokenStore.open(tmp_path / "s")
    assert (store.manifest.dtype, store.manifest.vocab_size) == ("uint32", len(WIDE) + 7)
    store.verify()
    assert sorted(documents(tmp_path / "s", "train") + documents(tmp_path / "s", "validation")) == (
        sorted(texts)
    )
    split = store.split("train")
    data_of = TextData(split, context=256, batch_size=64, seed=1)
    assert int(data_of.batch(0).tokens.max()) > 65_535


def test_the_tokenizer_of_a_run(tiny: Callable[..., PretrainConfig], tmp_path: Path) -> None:
    run = pretrain(tiny("training.steps=1"), tmp_path / "run")
    data = json_lines(tmp_path / "a.jsonl", map(sentence, range(20)))
    (checkpoint,) = run.checkpoints.glob("step-*")
    for number, source in enumerate((run.folder, checkpoint, checkpoint / "model")):
        out = tmp_path / f"s{number}"
        prepare([data], out, tokenizer=str(source), validation_fraction=0.2)
        found = TokenStore.open(out).manifest.tokenizer_fingerprint
        assert found == run.manifest["tokenizer_fingerprint"]


@pytest.mark.real
@pytest.mark.parametrize("name", ["gemma3", "llama3_1", "qwen3"])
def test_stores_of_large_vocabularies(
    real_tokenizer: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    texts = [f"{sentence(n)} 東京 ünd {n}" for n in range(40)]
    data = json_lines(tmp_path / "a.jsonl", texts)
    folder = real_tokenizer(name)
    prepare([data], tmp_path / "s", tokenizer=str(folder), validation_fraction=0.2)
    store = TokenStore.open(tmp_path / "s")
    assert store.manifest.dtype == "uint32"
    assert store.manifest.vocab_size > 65_536
    tokenizer, split = store.tokenizer(), store.split("train")
    found = [split.read(*split.document_span(n)).tolist() for n in range(split.num_documents)]
    begin, end = tokenizer.begin_ids, [tokenizer.end_of_text]
    held = {tuple(begin + tokenizer.encode(text) + end) for text in texts}
    assert set(map(tuple, found)) < held
