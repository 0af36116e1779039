"""Pairs whose sources must stay hidden, servers that are real processes, and scripts that vote."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from fastapi.testclient import TestClient

import foundling
from foundling.preferences.records import Answer, Pair, Verdict
from foundling.preferences.store import PreferenceStore
from foundling.text.chat import Message

SECRETS = ("secret-old", "secret-new", "c0ffee", "prompt-file", "temperature", "golden")
ROOT = Path(foundling.__file__).parents[1]


def pair_of(number: int, gold: Verdict | None = None) -> Pair:
    return Pair(
        (Message("system", "Be brief."), Message("user", f"question {number}?")),
        Answer(f"old answer {number}", "secret-old", checkpoint="c0ffee1"),
        Answer(f"new answer {number}", "secret-new", checkpoint="c0ffee2", seed=7),
        prompt_source="prompt-file.jsonl",
        sampling={"temperature": 0.5},
        gold=gold,
    )


@dataclass
class Server:
    """`foundling compare` as a process; killed and started again it has the same address."""

    folder: Path
    options: tuple[str, ...] = ()
    port: int = 0
    process: "subprocess.Popen[str] | None" = None
    links: dict[str, str] = field(default_factory=dict)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def place(self) -> Path:
        return self.folder / "votes.db"

    def start(self, *options: str) -> None:
        """Wait until the links are printed; the first line says where the page is."""
        command = [sys.executable, "-m", "foundling", "compare", "--db", str(self.place)]
        command += ["--port", str(self.port), *self.options, *options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with (self.folder / "said.txt").open("a") as said:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment,
                cwd=self.folder,
            )  # fmt: skip
        assert self.process.stdout is not None
        names = options[options.index("--annotators") + 1] if "--annotators" in options else ""
        count = len(names.split(",")) if names else 0
        lines = [
            self.process.stdout.readline() for _ in range(count + ("--invited" not in command))
        ]
        for line in lines:
            name, _, link = line.strip().partition(": ")
            if link.startswith("http"):
                self.links[name] = link
        found = re.search(r"http://127\.0\.0\.1:(\d+)", "".join(lines))
        assert found, self.said
        self.port = int(found[1])

    def stop(self, how: signal.Signals = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    @property
    def said(self) -> str:
        return (self.folder / "said.txt").read_text()

    def store(self) -> PreferenceStore:
        return PreferenceStore.open(self.place)


class Script:
    """An annotator's script over HTTP."""

    def __init__(self, client: "httpx2.Client | TestClient", name: str, token: str = "") -> None:
        self.client = client
        self.token = token or client.post("/api/annotators", json={"name": name}).json()["token"]

    def send(self, method: str, path: str, **body: object) -> "httpx2.Response":
        headers = {"Authorization": f"Bearer {self.token}"}
        content = {"json": body} if method != "GET" else {}
        return self.client.request(method, f"/api/{path}", headers=headers, **content)  # type: ignore[arg-type]

    def next(self, **body: object) -> dict:
        answer = self.send("POST", "next", **body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def vote(self, key: str, verdict: str = "left", **body: object) -> dict:
        answer = self.send("POST", "votes", key=key, verdict=verdict, **body)
        assert answer.status_code == 200, answer.text
        return answer.json()
