"""The pages as files: what a browser may do with them, and where they lead."""

import pytest
from fastapi.testclient import TestClient

from foundling.studio.api import create_app
from foundling.studio.desk import Desk
from foundling.studio.pages import add_pages


@pytest.mark.parametrize("invited", [False, True])
def test_pages_load_nothing_from_elsewhere(desk: Desk, invited: bool) -> None:
    app = create_app(desk)
    add_pages(app, invited=invited)
    with TestClient(app, follow_redirects=False) as client:
        start, page, script = (client.get(path) for path in ("/", "/compare", "/assets/compare.js"))
        assert ("by invitation" in start.text) == invited
        assert "javascript" in script.headers["Content-Type"]
        for answer in (start, page, script):
            assert answer.status_code == 200
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["Cache-Control"] == "no-cache"
            assert "https://" not in answer.text
        assert client.get("/?token=a%26b").headers["Location"] == "/compare?token=a%26b"
        assert client.get("/assets/../pages.py").status_code == 404


def test_vue_comes_from_the_package_that_ships_it(desk: Desk) -> None:
    app = create_app(desk)
    add_pages(app, invited=False)
    with TestClient(app) as client:
        found = client.get("/assets/vue.js")
    assert found.status_code == 200
    assert "javascript" in found.headers["Content-Type"]
    assert "createApp" in found.text
