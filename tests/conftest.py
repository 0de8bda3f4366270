"""Shared fixtures. Audio for the tests is rendered here; real recordings are used only where they are at hand."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.factories import make_store

ROOT = Path(__file__).resolve().parent.parent

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # begun in the background: a program started from here would ignore the Ctrl-C that a test sends it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # a test must never touch the store that its user works with, be it the default one
    monkeypatch.setenv("FEATURESTORE", str(tmp_path / "nobodys-store"))


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store with the tracks 1 to 40, without arrays."""
    return make_store(str(tmp_path / "store"), tracks=40, arrays_too=False).url


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data ($MUSIC_TEST_DATA, else ../shared/data); skips the test where there is none."""
    folder = Path(os.environ.get("MUSIC_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("real data is not at hand: set MUSIC_TEST_DATA to its folder")
    return folder
