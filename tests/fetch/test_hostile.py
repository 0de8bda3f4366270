"""Archives made to harm, and archives damaged at random."""

from __future__ import annotations

import io
import random
import stat
import zipfile

import pytest

from featurestore.errors import FeatureStoreError
from tests.fetch.site import clip, left_in, path_of, small_zip


def _member(name: str, data: bytes = b"x", mode: int = 0) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo("placeholder")
    info.filename = info.orig_filename = name
    info.external_attr = mode << 16
    info.compress_type = zipfile.ZIP_BZIP2
    return info, data


@pytest.mark.parametrize(
    "member",
    [
        _member("../evil.txt"),
        _member("fma_small/../../evil.txt"),
        _member("/evil.txt"),
        _member("fma_small//evil.txt"),
        _member("fma_small/./evil.txt"),
        _member("C:/evil.txt"),
        _member("fma_small\\..\\evil.txt"),
        _member("fma_small/a\nb.mp3"),
        _member("fma_small/nul\0.mp3"),
        _member("elsewhere/evil.txt"),
        _member("fma_small"),
        _member("fma_small/link", b"/etc/passwd", stat.S_IFLNK | 0o777),
        _member("fma_small/pipe", b"", stat.S_IFIFO | 0o777),
        _member("fma_small/README.txt"),
    ],
    ids=lambda member: repr(member[0].filename),
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_member_stops_everything_before_a_byte_is_written(publish, get, labels, tmp_path, member):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("fma_small/README.txt", "good")
        archive.writestr(f"fma_small/{path_of(2)}", clip(2))
        archive.writestr(*member)
    publish("fma_small", out.getvalue())
    before = left_in(tmp_path)
    with pytest.raises(
        FeatureStoreError, match=r"member '.*': expected files and folders inside fma_small/, each name once"
    ):
        get("fma_small", per_genre=1)
    assert left_in(tmp_path) == before
    with pytest.raises(
        FeatureStoreError, match=r"member '.*': expected files and folders inside fma_small/, each name once"
    ):
        get("fma_small")
    assert left_in(tmp_path) == sorted([*before, "fma/fma_small.zip"])


def test_a_size_that_no_disk_holds_stops_before_a_byte_is_written(publish, get, tmp_path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("fma_small/README.txt", "good")
        archive.infolist()[0].file_size = 1 << 60
    publish("fma_small", out.getvalue())
    with pytest.raises(FeatureStoreError, match="GB are needed"):
        get("fma_small")
    assert left_in(tmp_path) == ["fma/fma_small.zip"]


def test_an_encrypted_member_is_refused(publish, get, tmp_path) -> None:
    data = bytearray(small_zip())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    publish("fma_small", bytes(data))
    with pytest.raises(FeatureStoreError, match=r"member '\S+' is damaged .*is encrypted"):
        get("fma_small")
    assert left_in(tmp_path / "fma") == ["fma_small.zip"]


def test_a_page_instead_of_a_zip(publish, get, labels) -> None:
    publish("fma_small", b"<html>Not here any more</html>")
    with pytest.raises(FeatureStoreError, match="File is not a zip file"):
        get("fma_small", per_genre=1)


def test_mutated_archives_never_crash_or_write_elsewhere(publish, get, labels, tmp_path) -> None:
    """Bytes changed, cut and doubled, most often in the directory: a message or a correct result, nothing else."""
    good, draw = small_zip(), random.Random(0)
    directory = good.index(b"PK\x01\x02")
    outside = left_in(tmp_path)
    failed = 0
    for n in range(60):
        data = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(directory, len(data)) if draw.random() < 0.7 else draw.randrange(len(data))
            kind = draw.randrange(3)
            if kind == 0:
                data[at] = draw.randrange(256)
            elif kind == 1:
                del data[at : at + draw.randint(1, 40)]
            else:
                data[at:at] = draw.randbytes(draw.randint(1, 40))
        folder = tmp_path / f"out{n}" / "fma_small"
        publish("fma_small", bytes(data))
        try:
            get("fma_small", output=str(folder.parent), metadata=str(labels), per_genre=2, retries=0)
        except FeatureStoreError:
            failed += 1
        for path in folder.rglob("*.mp3"):
            assert path.read_bytes() == clip(int(path.stem))
        assert all(p.startswith(f"out{n}/fma_small/") for p in set(left_in(tmp_path)) - set(outside))
        outside = left_in(tmp_path)
    assert failed > 30
