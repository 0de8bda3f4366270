"""The command `verify`: what it measures again without being asked, and what it says of that."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from featurestore.__main__ import main
from featurestore.store.store import Store
from tests.builds import SPEC, render_clips, run_build
from tests.test_maintenance import rewrite


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    return render_clips(tmp_path / "music", tracks=2)


@pytest.fixture
def store(audio: Path, tmp_path: Path) -> Path:
    run_build(tmp_path / "s", audio)
    return tmp_path / "s"


def test_a_few_tracks_are_measured_again_unless_told_otherwise(
    store: Path, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["verify", "--store", str(store)]
    assert main(command) == 0
    assert f"{2 * SPEC.excerpts} excerpts measured again" in capsys.readouterr().err
    assert main([*command, "--sample", "0"]) == 0
    assert "0 excerpts measured again" in capsys.readouterr().err
    rewrite(store, "features", Store.open(str(store)).batches()[0], _shifted)
    assert main(command) == 1
    assert "features differ from its audio" in capsys.readouterr().out
    audio.rename(audio.with_name("elsewhere"))
    assert main(command) == 0
    err = capsys.readouterr().err
    assert err.count("not measured again") == 2
    assert "no such file" in err
    assert "0 excerpts measured again" in err


def _shifted(table: pa.Table) -> pa.Table:
    name = "spectral_centroid_mean_01"
    at = table.column_names.index(name)
    return table.set_column(at, table.field(at), pa.array([1234.5] * len(table), pa.float32()))


def test_a_place_that_cannot_be_reached_is_a_note(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = Store.open(str(store))
    rows = opened.read_catalog("datasets")
    at = rows.column_names.index("audio")
    opened.write_catalog("datasets", rows.set_column(at, rows.field(at), pa.array(["nosuch://bucket/music"])))
    assert main(["verify", "--store", str(store)]) == 0
    assert "not measured again: nosuch://bucket" in capsys.readouterr().err


def test_a_sample_is_not_negative(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["verify", "--store", str(store), "--sample", "-1"])
    assert stopped.value.code == 2
    assert "at least 0" in capsys.readouterr().err
