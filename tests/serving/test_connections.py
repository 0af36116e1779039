"""Real sockets: clients that go away, read slowly or come in crowds, and the end of the server."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from live import running, until

import foundling

LONG = {"prompt": "the mill", "max_tokens": 8000, "ignore_eos": True, "seed": 1}
SHORT = {"prompt": "the mill", "max_tokens": 4, "seed": 1}


def raw_request(base: str, body: dict[str, Any]) -> socket.socket:
    """Sends a completion's request and reads nothing."""
    host, port = base.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, int(port)))
    content = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return connection


@pytest.mark.parametrize("stream", [False, True])
def test_the_work_of_a_client_that_is_gone_is_stopped(
    long_model: Path, said: list[str], stream: bool
) -> None:
    with running([long_model]) as live:
        httpx2.post(f"{live.base}/v1/completions", json=SHORT, timeout=60)
        connection = raw_request(live.base, {**LONG, "stream": stream})
        until(lambda: live.engine.stats()["blocks_held"] >= 4)
        connection.close()
        until(lambda: not live.busy)
        until(lambda: not live.service.active)
        until(lambda: any("POST /v1/completions 499" in line for line in said))
        [line] = [line for line in said if "POST /v1/completions 499" in line]
        written = re.search(r"long: \d+ tokens read .* (\d+) written, unfinished", line)
        assert written, line
        assert 64 <= int(written[1]) < 8000
        pages = httpx2.get(f"{live.base}/metrics").text
        counted = re.search(r"foundling_completion_tokens_total\S* ([0-9.]+)", pages)
        assert counted
        assert float(counted[1]) == int(written[1]) + 4
        assert not any(live.service.registry._users.values())


def test_a_crowd_that_goes_away_leaves_nothing(long_model: Path) -> None:
    with running([long_model]) as live:
        alone = httpx2.post(f"{live.base}/v1/completions", json=SHORT, timeout=60).json()
        connections = [raw_request(live.base, {**LONG, "stream": n % 2, "n": 2}) for n in range(8)]
        until(lambda: live.busy)
        again = httpx2.post(f"{live.base}/v1/completions", json=SHORT, timeout=60).json()
        assert again["choices"] == alone["choices"]
        for connection in connections:
            connection.close()
        until(lambda: not (live.service.active or live.busy))
        assert not any(live.service.registry._users.values())


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_read_for_a_client_that_is_gone_is_not_read_again(
    long_model: Path, stream: bool
) -> None:
    prompt = {"prompt": "the miller met the baker by the bridge " * 20}
    with running([long_model]) as live:
        httpx2.post(f"{live.base}/v1/completions", json=SHORT, timeout=60)
        connection = raw_request(
            live.base, {**LONG, **prompt, "max_tokens": 6000, "stream": stream}
        )
        until(lambda: live.busy)
        until(lambda: live.engine.stats()["blocks_held"] > 20)
        connection.close()
        until(lambda: not live.busy)
        again = httpx2.post(
            f"{live.base}/v1/completions", json={**SHORT, **prompt}, timeout=60
        ).json()
        usage = again["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        assert usage["prompt_tokens"] - 64 < cached < usage["prompt_tokens"]


def test_a_slow_reader_does_not_stall_others(long_model: Path) -> None:
    with running([long_model]) as live:
        slow = raw_request(live.base, {**LONG, "stream": True, "logprobs": 20})
        until(lambda: live.busy)
        for _ in range(3):
            answer = httpx2.post(f"{live.base}/v1/completions", json=SHORT, timeout=60)
            assert answer.status_code == 200
        slow.close()
        until(lambda: not live.busy)


def test_a_full_queue_says_when_to_come_again(long_model: Path) -> None:
    with running([long_model], engine={"max_batch": 1, "queue_size": 1}) as live:
        httpx2.post(f"{live.base}/v1/completions", json=SHORT, timeout=60)
        until(lambda: not live.busy)
        held = [raw_request(live.base, LONG)]
        until(lambda: live.engine.stats()["running"] == 1)
        held.append(raw_request(live.base, LONG))
        until(lambda: live.engine.stats()["waiting"] == 1)
        for body in (SHORT, {**SHORT, "stream": True}, {**SHORT, "n": 2}):
            answer = httpx2.post(f"{live.base}/v1/completions", json=body, timeout=60)
            assert answer.status_code == 429
            assert answer.json()["error"]["type"] == "rate_limit_error"
            assert int(answer.headers["retry-after"]) > 0
        for connection in held:
            connection.close()
        until(lambda: not live.busy)
        assert httpx2.post(f"{live.base}/v1/completions", json=SHORT, timeout=60).status_code == 200


def test_one_request_for_more_texts_than_are_ever_taken_is_refused(long_model: Path) -> None:
    with running([long_model], engine={"max_batch": 2, "queue_size": 1}) as live:
        three = {**SHORT, "prompt": ["a", "b", "c"]}
        assert httpx2.post(f"{live.base}/v1/completions", json=three, timeout=60).status_code == 200
        answer = httpx2.post(f"{live.base}/v1/completions", json={**three, "n": 2}, timeout=60)
        assert answer.status_code == 400
        assert "6 texts are asked for" in answer.json()["error"]["message"]
        assert "at most 3 at a time" in answer.json()["error"]["message"]
        until(lambda: not live.busy)


@pytest.mark.parametrize("stream", [False, True])
def test_time_is_limited(long_model: Path, stream: bool) -> None:
    with running([long_model], timeout=0.5) as live:
        body = {**LONG, "stream": stream}
        answer = httpx2.post(f"{live.base}/v1/completions", json=body, timeout=60)
        assert answer.status_code == (200 if stream else 408)
        assert "0.5 seconds" in answer.text
        if stream:
            assert answer.text.rpartition("data: {")[2].startswith('"error"')
            assert answer.text.endswith("data: [DONE]\n\n")
        else:
            assert answer.headers["x-should-retry"] == "false"
        until(lambda: not live.busy)


class Process:
    """`foundling serve` as a process."""

    def __init__(self, folder: Path, said: Path, *options: str) -> None:
        command = [sys.executable, "-m", "foundling", "serve", str(folder)]
        root = Path(foundling.__file__).parents[1]
        environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        self.said = said
        with said.open("w") as file:
            self.process = subprocess.Popen(
                [*command, "--device", "cpu", *options],
                stdout=subprocess.PIPE, stderr=file, text=True, env=environment,
            )  # fmt: skip
        assert self.process.stdout is not None
        found = re.search(r"http://[0-9.:]+", self.process.stdout.readline())
        assert found, said.read_text()
        self.base = found[0]

    def end(self) -> int:
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        assert "Traceback" not in self.said.read_text()
        return code


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start_one(folder: Path, *options: str) -> Process:
        where = () if "--port" in options else ("--port", "0")
        started.append(Process(folder, tmp_path / "said.txt", *where, *options))
        return started[-1]

    yield start_one
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
            assert one.process.stdout is not None
            one.process.stdout.close()


@pytest.mark.slow
def test_running_requests_are_finished_at_sigterm(
    start: Callable[..., Process], long_model: Path
) -> None:
    server = start(long_model, "--log-json")
    body = {**LONG, "max_tokens": 2000, "stream": True, "stream_options": {"include_usage": True}}
    with (
        httpx2.Client(base_url=server.base, timeout=60) as client,
        client.stream("POST", "/v1/completions", json=body) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        server.process.send_signal(signal.SIGTERM)
        refusals = []
        while not refusals:  # the signal is on its way
            refused = httpx2.post(f"{server.base}/v1/completions", json=SHORT, timeout=60)
            refusals += [refused] if refused.status_code == 503 else []
        assert int(refusals[0].headers["retry-after"]) > 0
        assert httpx2.get(f"{server.base}/health").status_code == 503
        said = [line.removeprefix("data: ") for line in lines if line]
    assert said[-1] == "[DONE]"
    assert json.loads(said[-2])["usage"]["completion_tokens"] == 2000
    assert server.end() == 0
    made = [json.loads(line) for line in server.said.read_text().splitlines()]
    assert [one["finish"] for one in made if one.get("stream")] == ["length"]


@pytest.mark.slow
def test_the_time_to_finish_is_limited(start: Callable[..., Process], long_model: Path) -> None:
    server = start(long_model, "--drain", "0.5")
    with (
        httpx2.Client(base_url=server.base, timeout=60) as client,
        client.stream("POST", "/v1/completions", json={**LONG, "stream": True}) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        server.process.send_signal(signal.SIGTERM)
        said = [line.removeprefix("data: ") for line in lines if line]
    assert "shutting down" in json.loads(said[-2])["error"]["message"]
    assert server.end() == 0


@pytest.mark.slow
def test_after_a_kill_it_starts_again(start: Callable[..., Process], long_model: Path) -> None:
    server = start(long_model)
    port = server.base.rpartition(":")[2]
    first = httpx2.post(f"{server.base}/v1/completions", json=SHORT, timeout=60).json()
    held = raw_request(server.base, {**LONG, "stream": True})
    server.process.kill()
    assert server.end() == -signal.SIGKILL
    held.close()
    server = start(long_model, "--port", port)
    again = httpx2.post(f"{server.base}/v1/completions", json=SHORT, timeout=60).json()
    assert again["choices"] == first["choices"]
    server.process.send_signal(signal.SIGINT)
    server.end()
