"""Servers under 1, 8 and 32 clients at once, each in a process of its own on the loopback address.

A client asks `/v1/completions` for a greedy continuation of about 64 tokens of text, waits for the
answer and asks again; no two prompts are alike. Counted are the tokens that the answers' `usage`
names, since a model may end early. llama.cpp's server is `python -m llama_cpp.server`, which
answers one request at a time and is told not to interrupt one for the next; `transformers serve`
runs as it is and with continuous batching.
"""

import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from side_by_side import peak_gib

CLIENTS = {1: 4, 8: 16, 32: 32}
"""How many ask at once, and how many requests there are in all."""
START_SECONDS, ANSWER_SECONDS = 120, 600


class Server(NamedTuple):
    """The arguments of an interpreter; `{model}`, `{gguf}`, `{port}`, `{threads}` are filled in."""

    name: str
    command: Sequence[str]
    model: str = "model"
    """What it calls its model."""
    peer: bool = True


AT = ["--host", "127.0.0.1", "--port", "{port}"]
OURS = ["-m", "foundling", "serve", "{model}", "--name", "model", *AT]
LLAMA_CPP = ["-m", "llama_cpp.server", "--model", "{gguf}", "--model_alias", "model", *AT]
LLAMA_CPP += ["--n_threads", "{threads}", "--n_threads_batch", "{threads}"]
LLAMA_CPP += ["--n_ctx", "512", "--interrupt_requests", "false"]
TRANSFORMERS = ["-m", "transformers.cli.transformers", "serve", "{model}", *AT]
TRANSFORMERS += ["--device", "cpu", "--dtype", "float32"]
CONTINUOUS = [*TRANSFORMERS, "--continuous-batching"]
# Else its cache takes 13 GiB: room for 32 requests, as the others have.
CONTINUOUS += ["--cb-block-size", "32", "--cb-num-blocks", "256", "--cb-max-batch-tokens", "512"]
SERVERS = [
    Server("ours server", OURS, peer=False),
    Server("llama.cpp server", LLAMA_CPP),
    Server("transformers server", TRANSFORMERS, "{model}"),
    Server("transformers server continuous", CONTINUOUS, "{model}"),
]


def prompts_of(tokenizer: Any, num_tokens: int) -> list[str]:
    """Texts of about so many tokens, for every request of a load and some to warm up."""
    draw = random.Random(2)
    texts = []
    for _ in range(sum(CLIENTS.values()) + 8):
        ids = [draw.randrange(300, 8192) for _ in range(2 * num_tokens)]
        again = tokenizer.encode(tokenizer.decode(ids))[:num_tokens]
        texts.append(tokenizer.decode(again).replace("\ufffd", ""))
    return texts


def serve_and_load(
    folder: Path, servers: Sequence[Server], arguments: Namespace, environment: Mapping[str, str]
) -> dict[str, Any]:
    """Tokens/s, the median seconds of an answer, and the peak memory of each server."""
    found = {}
    for server in servers:
        python = arguments.peer_python if server.peer else sys.executable
        try:
            found[server.name] = load(server, python, folder, arguments, environment)
        except (OSError, RuntimeError) as error:
            print(f"{server.name} failed: {error}", file=sys.stderr)
            continue
        if not arguments.json:
            print(f"{server.name}: {json.dumps(found[server.name])}", file=sys.stderr)
    return found


def load(
    server: Server,
    python: str,
    folder: Path,
    arguments: Namespace,
    environment: Mapping[str, str],
) -> dict[str, Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    filled = {
        "model": folder / "model",
        "gguf": folder / "f32.gguf",
        "port": port,
        "threads": arguments.threads,
    }
    command = [python, *(part.format(**filled) for part in server.command)]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(environment))
    try:
        model = server.model.format(**filled)
        wait_for(port, process, folder / "server.log")
        texts = json.loads((folder / "prompts.json").read_text("utf-8"))
        ask(port, model, texts.pop(), 8)
        result: dict[str, Any] = {"tokens_per_s": {}, "seconds_an_answer": {}}
        for clients, requests in CLIENTS.items():
            some, texts = texts[:requests], texts[requests:]
            some = some[: clients if arguments.quick else requests]
            begin = time.perf_counter()
            answered = all_at_once(port, model, some, clients, arguments.tokens)
            seconds = time.perf_counter() - begin
            tokens = sum(made for made, _ in answered)
            result["tokens_per_s"][clients] = round(tokens / seconds, 1)
            result["seconds_an_answer"][clients] = round(median(s for _, s in answered), 2)
        return {**result, "peak_gib": round(peak_gib(process.pid), 2)}
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it answers, whatever that is: without a hub's cache transformers lists no models."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            call(port, "GET", "/v1/models")
            return
        except RuntimeError:
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"it did not start: {log.read_text()[-1500:]}")


def all_at_once(
    port: int, model: str, texts: Sequence[str], clients: int, count: int
) -> list[tuple[int, float]]:
    """So many clients share the texts; the tokens and the seconds of each answer."""
    waiting, answered, failed = list(texts), [], []

    def client() -> None:
        while waiting and not failed:
            try:
                text = waiting.pop()
            except IndexError:  # another client was quicker
                return
            begin = time.perf_counter()
            try:
                made = ask(port, model, text, count)
            except (OSError, RuntimeError) as error:
                failed.append(error)
                return
            answered.append((made, time.perf_counter() - begin))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return answered


def ask(port: int, model: str, text: str, count: int) -> int:
    """How many tokens the answer has."""
    body = {"model": model, "prompt": text, "max_tokens": count, "temperature": 0}
    return int(call(port, "POST", "/v1/completions", body)["usage"]["completion_tokens"])


def call(port: int, method: str, path: str, body: Any = None) -> Any:
    connection = HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {said[:300]!r}")
        return json.loads(said)
    finally:
        connection.close()
