"""The curl lines of the documentation run as they stand."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from chat_templates import write
from live import Live, running
from tiny_models import save_tiny
from tool_templates import TOOLS

import foundling
from foundling.text.tokenizer import Tokenizer

ROOT = Path(foundling.__file__).parent.parent
BASE = "http://127.0.0.1:8000"
BLOCKS = [
    block
    for file in (ROOT / "docs" / "serving.md", ROOT / "README.md")
    for block in re.findall(r"```sh\n(.*?)```", file.read_text("utf-8"), re.DOTALL)
]
LINES = [
    line.strip()
    for block in BLOCKS
    for line in re.split(r"\n(?=\S*curl |\w+ )", block)
    if line.startswith("curl ")
]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The model "chat", whose template takes tools."""
    folder = tmp_path_factory.mktemp("documented")
    tokenizer = Tokenizer.load(write(folder / "tokenizer", TOOLS["tagged"]))
    with running([save_tiny(folder / "chat", context=1024, tokenizer=tokenizer)]) as server:
        yield server


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_a_curl_line_runs(line: str, live: Live) -> None:
    assert BASE in line
    command = line.replace(BASE, live.base).replace("curl ", "curl --silent --fail-with-body ", 1)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    if "metrics" in line:
        assert "foundling_requests_total" in done.stdout
    elif '"stream": true' in line:
        assert done.stdout.endswith("data: [DONE]\n\n")
    else:
        assert json.loads(done.stdout)


def test_every_endpoint_is_documented(live: Live) -> None:
    paths = httpx2.get(f"{live.base}/openapi.json").json()["paths"]
    text = (ROOT / "docs" / "serving.md").read_text("utf-8")
    assert [path for path in paths if path.partition("/{")[0] not in text] == []
