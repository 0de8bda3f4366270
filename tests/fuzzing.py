"""Mutated bytes for hypothesis: few here, the same ones every time; $FUZZ_EXAMPLES asks for more, and for new ones."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

MORE = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def fuzz(examples: int) -> settings:
    """So many examples, always the same; with $FUZZ_EXAMPLES that many, and new ones in every run."""
    return settings(
        max_examples=MORE or examples,
        derandomize=not MORE,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def mutated(draw: st.DrawFn, bases: tuple[bytes, ...]) -> bytes:
    """One of `bases` with bytes changed, cut out, doubled or put in, at up to six places."""
    data = bytearray(draw(st.sampled_from(bases)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.sampled_from((1, 2, 4, 16, 300)))
        what = draw(st.sampled_from(("flip", "cut", "double", "put", "end")))
        if what == "flip" and at < len(data):
            data[at] ^= draw(st.integers(1, 255))
        elif what == "cut":
            del data[at : at + size]
        elif what == "double":
            data[at:at] = data[at : at + size]
        elif what == "put":
            data[at:at] = draw(st.sampled_from((b"\x00", b"\xff", b"\x80", b'"', b",", b"\n", b"{"))) * size
        else:
            del data[at:]
    return bytes(data)


def snapshot(*folders: Path) -> dict[str, tuple[int, int]]:
    """Every file below the folders, with its size and modification time."""
    found = (p for folder in folders for p in folder.rglob("*"))
    return {str(p): (p.lstat().st_size, p.lstat().st_mtime_ns) for p in found}
