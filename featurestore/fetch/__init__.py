"""Get FMA: the metadata, a whole set of clips, or a sample of one without downloading the rest.

FMA's archives are BZIP2 zips whose SHA-1 its README publishes (github.com/mdeff/fma, commit 00599d2). A whole archive
is downloaded, resumed where it stopped, and unpacked only if its hash is right. A sample is read out of the archive by
HTTP range requests; there the zip's CRC-32 and the SHA-1 in FMA's own `checksums` member vouch for each clip.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import IO

from featurestore.errors import FeatureStoreError, UsageError
from featurestore.store import files, places

BASE_URL = "https://os.unil.cloud.switch.ch/fma"
STATE_FILE = ".fetched.json"  # size in bytes of every file in the archive, by its path


@dataclasses.dataclass(frozen=True)
class Archive:
    """One published zip.

    Attributes
    ----------
    sha1 : str
        Of the whole file, hexadecimal, as FMA's README has it.
    bytes : int
        Length as published, which is rounded.
    subset : str
        FMA's subset whose clips it holds; empty where it holds none.
    """

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

    Attributes
    ----------
    folder : str
        Where the files are.
    files : int
        How many of those asked for are in place.
    written : int
        How many of them this run put there.
    received : int
        Bytes that came over the network.
    to_get : int
        Bytes that a dry run would have asked for.
    absent : tuple of int
        Track ids that were chosen and that the archive does not hold.
    """

    folder: str
    files: int
    written: int = 0
    received: int = 0
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

    Parameters
    ----------
    name : str
        One of `ARCHIVES`.
    output : str
        Local folder; the archive is unpacked into `output`/`name`.
    metadata : str, optional
        Folder with FMA's tables, from which `per_genre` chooses; `output`/fma_metadata by default.
    base_url : str
        The archive is at `base_url`/`name`.zip. Its hash stays FMA's.
    per_genre : int, optional
        Take this many tracks of each top genre, by range requests, instead of the whole archive.
    seed : int
        Which tracks `per_genre` draws. A larger `per_genre` keeps the tracks of a smaller one.
    whole_file : bool
        Download the whole archive for `per_genre` too, where a host does not serve ranges.
    keep_archive : bool
        Keep the zip when everything in it is unpacked.
    dry_run : bool
        Report how much would be downloaded and write nothing.
    timeout_s : float
        Seconds for which a host may be silent.
    retries : int
        Further tries in a row after a network fault.
    backoff_s : float
        Seconds before the first of them; each next one waits twice as long.

    Returns
    -------
    FetchReport

    Raises
    ------
    UsageError
        An unknown archive, or an argument out of range.
    MissingInput
        No metadata to choose from.
    RangesRefused
        The host sends whole files only.
    StoreBusy
        Another process downloads the same archive.
    FeatureStoreError
        Host, hash, archive or disk. Nothing unverified is left in the folder.
    """
    archive = _check(name, output, per_genre)
    place = Path(output).expanduser()
    folder, zip_path = place / name, place / f"{name}.zip"
    wanted = _sample(archive.subset, metadata or str(place / "fma_metadata"), per_genre, seed)
    in_place = _in_place(folder, wanted)
    if in_place is not None:
        return FetchReport(str(folder), files=in_place)
    by_ranges = wanted is not None and not whole_file and not zip_path.exists()
    if dry_run and not by_ranges:
        return FetchReport(str(folder), files=0, to_get=0 if zip_path.exists() else archive.bytes)
    from featurestore.fetch import web

    url = f"{base_url.rstrip('/')}/{name}.zip"
    remote = functools.partial(web.RemoteFile, url, timeout_s=timeout_s, retries=retries, backoff_s=backoff_s)
    try:
        received = 0 if by_ranges else web.download(remote, url, zip_path, archive.sha1)
        with remote() if by_ranges else zip_path.open("rb") as file:
            report = _take(file, url, folder, wanted, dry_run)
            received += getattr(file, "received", 0)
        if not (by_ranges or keep_archive) and _in_place(folder, None):
            zip_path.unlink()
    except OSError as error:
        raise FeatureStoreError(
            f"{error.filename or folder}: cannot be read or written ({error.strerror or error})",
            "Check free space and permissions: what is complete is kept, and the same command goes on from there.",
        ) from None
    return dataclasses.replace(report, received=received)


def _check(name: str, output: str, per_genre: int | None) -> Archive:
    places.refuse_inside(output, "--output")
    if name not in ARCHIVES:
        raise UsageError(f"there is no archive {name!r}", f"Take one of {', '.join(ARCHIVES)}.")
    if not files.is_local(files.resolve(output)[0]):
        raise UsageError(f"{output}: expected a folder on this machine", "Fetch to a local folder, then copy it.")
    if per_genre is not None and (per_genre < 1 or not ARCHIVES[name].subset):
        raise UsageError(f"per genre: expected at least 1, of an archive with clips; found {per_genre} of {name}")
    return ARCHIVES[name]


def _sample(subset: str, metadata: str, per_genre: int | None, seed: int) -> set[str] | None:
    """Paths of the clips to take, None for all."""
    if per_genre is None:
        return None
    from featurestore.fetch.choose import choose

    return {f"{i // 1000:03d}/{i:06d}.mp3" for i in choose(metadata, subset=subset, per_genre=per_genre, seed=seed)}


def _take(file: IO[bytes], url: str, folder: Path, wanted: set[str] | None, dry_run: bool) -> FetchReport:
    """Unpack what is wanted and not there yet, and note what the archive holds."""
    from featurestore.fetch import unpack

    archive = unpack.opened(file, url)
    everything = unpack.members(archive, folder.name, url)
    chosen = {n: i for n, i in everything.items() if wanted is None or n in wanted}
    lacking = {n: i for n, i in chosen.items() if not _has(folder / n, i.file_size)}
    absent = tuple(sorted(int(Path(n).stem) for n in (wanted or set()) - everything.keys()))
    report = FetchReport(str(folder), len(chosen), len(lacking), absent=absent)
    if dry_run:
        to_get = sum(i.compress_size for i in lacking.values())
        return dataclasses.replace(report, files=len(chosen) - len(lacking), written=0, to_get=to_get)
    unpack.extract(archive, lacking, folder, url)
    note = json.dumps({n: i.file_size for n, i in everything.items()}, indent=0)
    files.write_bytes(*files.resolve(str(folder / STATE_FILE)), note.encode())
    return report


def _in_place(folder: Path, wanted: set[str] | None) -> int | None:
    """How many files are wanted, if all are there with the sizes that an earlier run noted; else None."""
    try:
        sizes: dict[str, int] = json.loads((folder / STATE_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    names = sizes.keys() if wanted is None else wanted
    return len(names) if all(_has(folder / n, sizes.get(n, -1)) for n in names) else None


def _has(path: Path, size: int) -> bool:
    """Whether the file is there with this size; files get their names only when complete and checked."""
    return path.is_file() and path.stat().st_size == size
