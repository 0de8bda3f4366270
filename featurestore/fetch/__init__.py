"""Get FMA: the metadata, a whole set of clips, or a sample of one without downloading the rest.

FMA's archives are BZIP2 zips whose SHA-1 its README publishes (github.com/mdeff/fma, commit 00599d2). A whole archive
is resumed, hashed while it arrives, and unpacked only if the hash is right. A sample is read out of the archive by
HTTP range requests; there the zip's CRC-32 and the SHA-1 in FMA's own `checksums` member vouch for each clip.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featurestore.errors import FeatureStoreError, UsageError
from featurestore.store import files, places
from featurestore.terminal import progress

BASE_URL = "https://os.unil.cloud.switch.ch/fma"
STATE_FILE = ".fetched.json"
CHECKSUMS = "checksums"
_MAX_PREFETCH = 1 << 26
_LOCAL_HEADER = 30 + 2 * 65535  # bytes in front of a member's data, at most


@dataclasses.dataclass(frozen=True)
class Archive:
    """One published zip: its SHA-1, its length in bytes (as published: rounded), and the subset it holds ("": none)."""

    sha1: str
    bytes: int
    subset: str = ""


ARCHIVES = {
    "fma_metadata": Archive("f0df49ffe5f2a6008d7dc83c6915b31835dfe733", 342 << 20),
    "fma_small": Archive("ade154f733639d52e35e32f5593efe5be76c6d70", int(7.2 * 2**30), "small"),
    "fma_medium": Archive("c67b69ea232021025fca9231fc1c7c1a063ab50b", 22 << 30, "medium"),
    "fma_large": Archive("497109f4dd721066b5ce5e5f250ec604dc78939e", 93 << 30, "large"),
    "fma_full": Archive("0f0ace23fbe9ba30ecb7e95f763e435ea802b8ab", 879 << 30, "full"),
}


@dataclasses.dataclass(frozen=True)
class FetchReport:
    """What a fetch did.

    folder    where the files are
    files     how many of those asked for are in place
    written   how many of them this run put there
    received  bytes that came over the network
    to_get    bytes a dry run would have asked for
    absent    track ids chosen that the archive does not hold
    """

    name: str
    folder: str
    files: int
    written: int
    received: int
    to_get: int = 0
    absent: tuple[int, ...] = ()


def fetch(
    name: str,
    *,
    output: str = "data/fma",
    metadata: str | None = None,
    base_url: str = BASE_URL,
    per_genre: int | None = None,
    seed: int = 0,
    whole_file: bool = False,
    keep_archive: bool = False,
    dry_run: bool = False,
    timeout_s: float = 30.0,
    retries: int = 4,
    backoff_s: float = 1.0,
) -> FetchReport:
    """Put FMA's archive `name`, unpacked, into the folder `output`/`name`; files already there are not fetched again.

    per_genre takes that many tracks of each top genre, chosen by seed from the labels in `metadata` (default:
    `output`/fma_metadata), through range requests; with whole_file the archive is downloaded whole and the same
    tracks are taken from it. A whole archive is deleted when everything in it is unpacked, unless keep_archive.
    A host may be silent for timeout_s; after a failure there are `retries` more tries in a row.

    Raises UsageError, MissingInput (no metadata to choose from), RangesRefused, FeatureStoreError (host, hash,
    archive, disk); nothing unverified is left in the folder.
    """
    archive = _check(name, output, per_genre, timeout_s, retries)
    place = Path(output).expanduser()
    folder, zip_path = place / name, place / f"{name}.zip"
    wanted = _chosen(archive, metadata or str(place / "fma_metadata"), per_genre, seed)
    done = _State.read(folder)
    if done.covers(wanted):
        return FetchReport(name, str(folder), len(done.files if wanted is None else wanted), 0, 0)
    by_ranges = wanted is not None and not whole_file
    if dry_run and not by_ranges and not zip_path.exists():
        return FetchReport(name, str(folder), 0, 0, 0, to_get=archive.bytes)
    from featurestore.fetch.web import Host, Patience

    host = Host(Patience(timeout_s=timeout_s, retries=retries, backoff_s=backoff_s))
    url = f"{base_url.rstrip('/')}/{name}.zip"
    with _opened(host, url, zip_path, archive, by_ranges) as file:
        report, complete = _take(file, url, folder, wanted, dry_run)
    if complete and not keep_archive:
        files.remove(*files.resolve(str(zip_path)))
    return dataclasses.replace(report, received=host.received)


@contextlib.contextmanager
def _opened(host: Any, url: str, zip_path: Path, archive: Archive, by_ranges: bool) -> Iterator[Any]:
    """The archive as a binary file: the one on disk if there is one or a whole one is wanted, else the host's."""
    from featurestore.fetch import download
    from featurestore.fetch.remote import RemoteFile

    if by_ranges and not zip_path.exists():
        with RemoteFile(host, url) as remote:
            yield remote
        return
    if not zip_path.exists():
        download.download(host, url, zip_path, sha1=archive.sha1, published_bytes=archive.bytes)
    else:
        download.check(zip_path, archive.sha1)
    with zip_path.open("rb") as file:
        yield file


def _take(file: Any, url: str, folder: Path, wanted: set[str] | None, dry_run: bool) -> tuple[FetchReport, bool]:
    """Unpack what is wanted and not there yet; the report, and whether the whole archive is now unpacked."""
    from featurestore.fetch import unpack

    name = folder.name
    with unpack.opened(file, url) as archive:
        everything = unpack.members(archive, name, url)
        chosen = {n: i for n, i in everything.items() if wanted is None or n in wanted}
        absent = tuple(sorted(int(Path(n).stem) for n in (wanted or set()) - everything.keys()))
        lacking = unpack.missing(chosen, folder)
        prefetch = _Prefetch(file, [*everything.values()], archive.start_dir) if hasattr(file, "prefetch") else None
        if dry_run:
            to_get = sum(i.compress_size for i in lacking.values()) if prefetch else 0
            return FetchReport(name, str(folder), len(chosen) - len(lacking), 0, 0, to_get, absent), False
        sums = everything.get(CHECKSUMS) if prefetch and lacking else None
        _unpack(archive, lacking, sums, folder, url, prefetch)
        there = {n: i.file_size for n, i in everything.items() if n in chosen or unpack.has(folder / n, i.file_size)}
    complete = len(there) == len(everything)
    _State(complete, there).write(folder)
    return FetchReport(name, str(folder), len(chosen), len(lacking), 0, absent=absent), complete


def _unpack(
    archive: zipfile.ZipFile,
    lacking: dict[str, zipfile.ZipInfo],
    sums: zipfile.ZipInfo | None,
    folder: Path,
    url: str,
    prefetch: _Prefetch | None,
) -> None:
    """Extract members, held to the hashes in the member `sums` where nothing has vouched for the whole archive."""
    from featurestore.fetch import unpack

    sha1: dict[str, str] = {}
    if sums:
        if prefetch:
            prefetch(sums)
        sha1 = unpack.read_checksums(archive, sums, folder.name, url)
    total_mb = sum(i.file_size for i in lacking.values()) / 1e6
    with progress.bar(f"unpacking {folder.name} (MB)", total_mb) as bar:
        for size in unpack.extract(archive, lacking, folder, label=url, sha1=sha1, before=prefetch):
            bar.advance(size / 1e6)


class _Prefetch:
    """Has a remote file fetch a member, from its header to the next one's, in one request."""

    def __init__(self, file: Any, infos: list[zipfile.ZipInfo], directory: int) -> None:
        self._file = file
        offsets = sorted(i.header_offset for i in infos)
        self._next = dict(zip(offsets, [*offsets[1:], directory], strict=True))

    def __call__(self, info: zipfile.ZipInfo) -> None:
        start = info.header_offset
        stop = min(self._next[start], start + _LOCAL_HEADER + info.compress_size)
        # very long tracks (fma_full has hours) come block by block instead
        if stop - start <= _MAX_PREFETCH:
            self._file.prefetch(start, stop)


@dataclasses.dataclass(frozen=True)
class _State:
    """What a folder holds of its archive, by earlier runs: sizes by path, and whether that is all of it."""

    complete: bool
    files: dict[str, int]
    folder: Path | None = None

    @classmethod
    def read(cls, folder: Path) -> _State:
        """The note in the folder; an empty state where there is none that can be read."""
        try:
            note = json.loads((folder / STATE_FILE).read_bytes())
            return cls(bool(note["complete"]), {str(k): int(v) for k, v in note["files"].items()}, folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(False, {})

    def covers(self, wanted: set[str] | None) -> bool:
        """Whether all that is wanted is there, in full."""
        from featurestore.fetch import unpack

        if self.folder is None or (wanted is None and not self.complete):
            return False
        names = self.files if wanted is None else wanted
        return all(n in self.files and unpack.has(self.folder / n, self.files[n]) for n in names)

    def write(self, folder: Path) -> None:
        """Leave the note, atomically."""
        note = {"complete": self.complete, "files": dict(sorted(self.files.items()))}
        fs, path = files.resolve(os.fspath(folder / STATE_FILE))
        files.write_bytes(fs, path, json.dumps(note, indent=0).encode())


def _check(name: str, output: str, per_genre: int | None, timeout_s: float, retries: int) -> Archive:
    places.refuse_inside(output, "--output")
    if name not in ARCHIVES:
        raise UsageError(f"there is no archive {name!r}", f"Take one of {', '.join(ARCHIVES)}.")
    if not files.is_local(files.resolve(output)[0]):
        raise UsageError(f"{output}: expected a folder on this machine", "Fetch to a local folder, then copy it.")
    if per_genre is not None and (per_genre < 1 or not ARCHIVES[name].subset):
        found = f"{per_genre} of {name}"
        raise UsageError(f"per genre: expected at least 1, of an archive with clips; found {found}")
    if not 0 < timeout_s <= 86400 or retries < 0:
        raise UsageError(f"expected a time-out above 0 s and retries from 0; found {timeout_s:g} s and {retries}")
    return ARCHIVES[name]


def _chosen(archive: Archive, metadata: str, per_genre: int | None, seed: int) -> set[str] | None:
    """Paths of the clips to take, None for all."""
    if per_genre is None:
        return None
    from featurestore.fetch.choose import choose

    ids = choose(metadata, subset=archive.subset, per_genre=per_genre, seed=seed)
    if not ids:
        raise FeatureStoreError(
            f"{metadata}: no track of the subset {archive.subset} has a top genre",
            "Get the metadata with `python -m featurestore fetch fma_metadata`.",
        )
    return {f"{i // 1000:03d}/{i:06d}.mp3" for i in ids}
