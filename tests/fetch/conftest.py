"""What the tests of fetch share: a site, a way to publish on it, a way to fetch from it, and labels."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurestore.fetch import ARCHIVES, Archive, FetchReport, fetch
from tests.fetch.site import Site, tracks_csv


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Site()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def publish(site: Site, monkeypatch: pytest.MonkeyPatch) -> object:
    """Serve bytes as one of FMA's archives, with the hash they have unless another is given."""

    def _publish(name: str, data: bytes, sha1: str = "") -> None:
        site.files[f"{name}.zip"] = data
        known = Archive(sha1 or hashlib.sha1(data).hexdigest(), len(data), ARCHIVES[name].subset)
        monkeypatch.setitem(ARCHIVES, name, known)

    return _publish


@pytest.fixture
def get(site: Site, tmp_path: Path) -> object:
    """`fetch` from the site to a folder of this test, without long waits."""

    def _get(name: str, **changes: object) -> FetchReport:
        quick: dict[str, object] = {"output": str(tmp_path / "fma"), "base_url": site.url, "timeout_s": 5.0}
        return fetch(name, **{**quick, "retries": 2, "backoff_s": 0.01, **changes})  # type: ignore[arg-type]

    return _get


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    folder = tmp_path / "fma" / "fma_metadata"
    folder.mkdir(parents=True)
    (folder / "tracks.csv").write_text(tracks_csv())
    (folder / "genres.csv").write_text("genre_id,#tracks,parent,title,top_level\n17,0,0,Folk,17\n")
    return folder
