"""`foundling compare` as a process: killed, crowded, asked wrongly and ended politely."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from annotating import Script, Server

from foundling import cli
from foundling.preferences.store import PreferenceStore
from foundling.studio.desk import Desk
from foundling.studio.server import links
from foundling.web.listening import base_url, bind


@pytest.mark.slow
def test_no_acknowledged_vote_dies_with_the_server(start_server: Callable[..., Server]) -> None:
    server = start_server(400, fixed=("--overlap", "4"))
    acknowledged: dict[str, int] = {}
    enough = threading.Event()
    tokens = {}
    with httpx2.Client(base_url=server.base) as client:
        for name in "abcd":
            tokens[name] = Script(client, name).token

    def vote_on(name: str) -> None:
        with httpx2.Client(base_url=server.base, timeout=60) as client:
            script = Script(client, name, tokens[name])
            try:
                while True:
                    key = script.next()["item"]["key"]
                    acknowledged[key] = script.vote(key)["judgement_id"]
                    if len(acknowledged) > 40:
                        enough.set()
            except httpx2.TransportError:
                return

    with ThreadPoolExecutor(4) as threads:
        voters = [threads.submit(vote_on, name) for name in tokens]
        assert enough.wait(60)
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        for voter in voters:
            voter.result()
    server.start()
    with server.store() as store:
        kept = {judgement.key: judgement.id for judgement in store.judgements()}
        assert acknowledged.items() <= kept.items()
        assert len(kept) - len(acknowledged) <= 4  # kept, but its receipt was on the way
    with httpx2.Client(base_url=server.base) as client:
        script = Script(client, "a", tokens["a"])
        script.vote(script.next()["item"]["key"])
    with server.store() as store:
        assert len(store.judgements()) == len(kept) + 1
    assert server.stop(signal.SIGINT) in (0, 130)
    assert f"{len(kept) + 1} votes are kept in {server.place}, +1 now" in server.said
    assert "Traceback" not in server.said


@pytest.mark.slow
def test_fifty_annotators_at_once(start_server: Callable[..., Server]) -> None:
    server = start_server(200, fixed=("--overlap", "2"))  # enough that nobody finds none

    def vote_six_times(name: str) -> list[int]:
        with httpx2.Client(base_url=server.base, timeout=120) as client:
            script = Script(client, name)
            receipts = []
            for _ in range(6):
                key = script.next()["item"]["key"]
                receipts.append(script.vote(key, "tie")["judgement_id"])
                assert script.vote(key, "tie")["judgement_id"] == receipts[-1]
            return receipts

    with ThreadPoolExecutor(50) as threads:
        found = list(threads.map(vote_six_times, (f"annotator {n}" for n in range(50))))
    receipts = [receipt for some in found for receipt in some]
    with server.store() as store:
        kept = store.judgements()
        assert {judgement.id for judgement in kept} == set(receipts)
    assert len(receipts) == len(set(receipts)) == 300
    assert max(Counter(judgement.pair_id for judgement in kept).values()) == 2
    assert len({(judgement.annotator, judgement.pair_id) for judgement in kept}) == 300


def write_answers(path: Path, count: int, word: str) -> str:
    rows = [{"prompt": f"question {n}?", "answer": f"{word} {n}"} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "votes.db: no such file"),
        (["a.jsonl"], "compared with what?"),
        (["a.jsonl", "a.jsonl"], "same ready answers on both sides"),
        (["a.jsonl", "none.jsonl"], "none.jsonl"),
        (["a.jsonl", "empty.jsonl"], "empty"),
        (["a.jsonl", "bad.jsonl"], "bad.jsonl"),
        (["--prompts", "a.jsonl"], "give A and B"),
        (["runs/a", "runs/b"], "what is it to be asked?"),
        (["a.jsonl", "runs/b", "--temperature", "-1"], "temperature = -1"),
        (["a.jsonl", "good.jsonl", "--top-p", "0.5"], "--top-p: only models draw"),
        (["--host", "0.0.0.0"], "only printed links work"),
        (["--invited"], "--annotators NAME"),
        (["--new-links"], "--annotators NAME"),
        (["--annotators", "ann,ann"], "each name once"),
        (["--annotators", "ann, "], "printable"),
        (["--overlap", "0"], "overlap = 0"),
        (["--repeat-share", "2"], "repeat_share"),
        (["--rubric", "none.txt"], "none.txt"),
        (["--rubric", "latin.txt"], "not UTF-8"),
        (["--gold", "none.jsonl"], "none.jsonl"),
        (["a.jsonl", "good.jsonl", "--port", "70000"], "--port 70000: give one"),
        (["--annotators", "ann", "--host", "no such host"], "no such address"),
        (["--db", "nowhere/votes.db"], "nowhere/votes.db: no such file"),
        (["a.jsonl", "good.jsonl", "--db", "nowhere/votes.db"], "the folder nowhere is not there"),
        (["a.jsonl", "good.jsonl", "--rubric", "blank.txt"], "blank.txt: is blank"),
        (["a.jsonl", "good.jsonl", "--gold", "bad.jsonl"], "bad.jsonl"),
        (["--annotators", "Ann, ann"], "each name once"),
        (["--annotators", "ann", "--leads", "bob"], "name them among --annotators too"),
        (["--annotators", "ann", "--leads", "ann"], "without --invited everybody may change"),
        (["--annotators", "ann", "--public-url", "votes.example"], "https://HOST:PORT"),
        (["a.jsonl", "good.jsonl", "--set", "leasing.overlp=2"], 'Did you mean "overlap"?'),
        (["a.jsonl", "good.jsonl", "--config", "none.toml"], "none.toml: no such config file"),
    ],
)
def test_wrong_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_answers(tmp_path / "a.jsonl", 2, "yes")
    write_answers(tmp_path / "good.jsonl", 2, "no")
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "latin.txt").write_bytes("schön".encode("latin-1"))
    (tmp_path / "bad.jsonl").write_text('{"prompt": "question 0?", "text": "yes"}\n')
    if any("ann" in option for option in options):
        options = [*options, "a.jsonl", "good.jsonl"]
    command = ["compare", *options] + ([] if "--port" in options else ["--port", "0"])
    assert cli.exit_code(lambda: cli.app(command)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("votes.db*"))  # nothing is left behind


def test_links_last_until_they_are_renewed(store: PreferenceStore) -> None:
    desk = Desk(store)
    first = links(desk, "http://x", ["ann"], renew=False)["ann"]
    assert first is not None
    token = first.rpartition("=")[2]
    again = links(desk, "http://x", ["ann", "bob"], renew=False)
    assert again["ann"] is None
    assert again["bob"] is not None
    assert store.annotator_of(token) == "ann"
    assert links(desk, "http://x", ["ann"], renew=True)["ann"] is not None
    assert store.annotator_of(token) is None


def test_a_port_in_use_is_one_line(
    tmp_path: Path, store: PreferenceStore, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = ["compare", "--db", str(tmp_path / "votes.db"), "--port", str(port)]
        assert cli.exit_code(lambda: cli.app(command)) == 2
    assert f"--port {port}: is in use; give another one" in capsys.readouterr().err


def test_help_loads_no_web_server() -> None:
    code = (
        "import sys; from foundling import cli\n"
        "assert cli.exit_code(lambda: cli.app(['compare', '--help'])) == 0\n"
        "assert not {'nh3', 'fastapi', 'uvicorn', 'sqlalchemy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.slow
def test_settings_come_from_a_file_and_what_nobody_will_see_is_said(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    gold = [{"prompt": f"{n} + 1?", "chosen": str(n + 1), "rejected": "5"} for n in range(3)]
    (tmp_path / "gold.jsonl").write_text("".join(json.dumps(row) + "\n" for row in gold))
    (tmp_path / "c.toml").write_text(
        "gold = 'gold.jsonl'\nkind = 'rating'\n[leasing]\noverlap = 2\n"
    )
    server = start_server(8, fixed=("--config", "c.toml"))
    server.stop(signal.SIGINT)
    assert "no gold item will be shown: 8 items are too few for gold_share = 0.1" in server.said
    said = len(server.said)
    server.start("--set", "leasing.gold_share=0.5")
    with httpx2.Client(base_url=server.base) as client:
        scripts = [Script(client, name) for name in ("ann", "bob")]
        items = [script.next(kind="rating")["item"]["left"] for script in scripts for _ in "ab"]
        assert scripts[0].send("POST", "next").status_code == 422
    assert len(items) == 4
    assert "no gold item" not in server.said[said:]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_printed_address_can_be_reached(host: str) -> None:
    with bind(host, 0) as listening:
        parts = urlsplit(base_url(listening))
        assert parts.hostname not in ("0.0.0.0", None)
        with socket.create_connection((parts.hostname, parts.port), timeout=30):
            pass
        assert base_url(listening, "https://votes.example/") == "https://votes.example"
