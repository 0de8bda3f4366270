"""From a store to shards: what is in them, same bytes, resuming, refusing, other people's readers."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import warehouse
from featurestore.errors import FeatureStoreError, MissingInput, UsageError
from featurestore.spec import Spec
from featurestore.store import files
from featurestore.store.store import Store
from tests.factories import make_store
from tests.training_cases import damage_record
from tests.training_cases import records_of as _records
from training import export_tfrecords
from training.shards import sidecar
from training.shards.check import folder_of, open_data
from training.shards.encoding import resize
from training.shards.export import export
from training.shards.sidecar import Sidecar

SPEC = Spec(n_mels=16, excerpt_seconds=0.5, wave_seconds=0.2, groups=("fma",))
TRACKS, EXCERPTS = 36, 2


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(
        str(tmp_path_factory.mktemp("store") / "s"), tracks=TRACKS, excerpts=EXCERPTS, spec=SPEC, batch_tracks=7
    )


def _bytes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize("kind", ["mel", "wave", "features"])
def test_shards_hold_the_stores_rows_and_splits(store: Store, tmp_path: Path, kind: str) -> None:
    export(store, kind=kind, output=str(tmp_path), dtype="float32", shards=3)
    found = {(r["track_id"], r["excerpt"]): r for r in _records(tmp_path / kind)}
    assert len(found) == TRACKS * EXCERPTS
    made = Sidecar.read(str(tmp_path / kind))
    truth = warehouse.examples(store, scheme="official", table="mel").to_pylist()
    tracks = warehouse.query(store, "SELECT track_id, artist_group FROM tracks")
    artist = dict(zip(*tracks.to_pydict().values(), strict=True))
    for row in truth:
        record = found[row["track_id"], row["excerpt"]]
        assert made.classes[record["label"]] == row["genre"]  # type: ignore[call-overload]
        assert record["split"] == row["split"]
        assert record["artist"] == artist[row["track_id"]]
    if kind == "features":
        X = warehouse.matrix(store)
        expected = {(int(t), int(e)): x for t, e, x in zip(X.track_ids, X.excerpts, X.X, strict=True)}
        assert made.columns == X.columns
    elif kind == "mel":
        batches = list(warehouse.iter_mels(store))
        expected = {
            (int(t), int(e)): m.T for b in batches for t, e, m in zip(b.track_ids, b.excerpts, b.mels, strict=True)
        }
    else:
        waves = list(warehouse.iter_waves(store))
        expected = {
            (int(t), int(e)): w for b in waves for t, e, w in zip(b.track_ids, b.excerpts, b.waves, strict=True)
        }
    for key, array in expected.items():
        assert np.array_equal(found[key]["array"], array)


def test_the_sidecar_counts_hashes_and_normalises_on_training_only(store: Store, tmp_path: Path) -> None:
    done = export(store, output=str(tmp_path), shards=2)
    made = done.sidecar
    assert made is not None
    assert made == Sidecar.read(str(tmp_path / "mel"))
    rows = _records(tmp_path / "mel")
    training = np.concatenate([r["array"] for r in rows if r["split"] == "training"])  # type: ignore[misc]
    assert np.allclose(made.normalisation["mean"], training.mean(axis=0), rtol=1e-4)
    assert np.allclose(made.normalisation["std"], training.std(axis=0), rtol=1e-3)
    for shard in made.shards:
        data = (tmp_path / "mel" / shard.name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.bytes, shard.sha256)
        assert shard.name.endswith(f"-{shard.records}.tfrec")
    assert sum(made.counts["test"].values()) == sum(r["split"] == "test" for r in rows)
    assert made.tracks["training"] == len({r["track_id"] for r in rows if r["split"] == "training"})
    assert made.spec == SPEC
    assert [row["records"] for row in done.table.to_pylist()] == [
        made.records(s) for s in ("training", "validation", "test")
    ]


def test_same_store_and_seed_same_bytes_whatever_the_jobs(store: Store, tmp_path: Path) -> None:
    export(store, output=str(tmp_path / "a"), shards=3, seed=1, jobs=1)
    export(store, output=str(tmp_path / "b"), shards=3, seed=1, jobs=2, small_bytes=0)
    export(store, output=str(tmp_path / "c"), shards=3, seed=2, jobs=1)
    assert _bytes(tmp_path / "a/mel") == _bytes(tmp_path / "b/mel")
    assert _bytes(tmp_path / "a/mel") != _bytes(tmp_path / "c/mel")


def _killed_export(store: Store, output: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Export, but die when the file whose path ends with `at` is to be written."""
    real = files.write_bytes

    def dying(fs: object, path: str, data: bytes) -> None:
        if path.endswith(at):
            raise KeyboardInterrupt
        real(fs, path, data)

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_bytes", dying)
        with pytest.raises(KeyboardInterrupt):
            export(store, output=str(output), shards=4)
    with pytest.raises(MissingInput, match="interrupted"):
        Sidecar.read(str(output / "mel"))


def test_a_killed_export_goes_on_at_the_first_unfinished_task(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(store, output=str(tmp_path / "whole"), shards=4)
    _killed_export(store, tmp_path / "killed", monkeypatch, "unfinished-00001.json")
    shard = next((tmp_path / "killed/mel").glob("training-00000-*"))
    before = shard.stat().st_mtime_ns
    finished = len(json.loads((tmp_path / "killed/mel/unfinished-00000.json").read_text())[0])
    done = export(store, output=str(tmp_path / "killed"), shards=4)
    assert done.kept == finished
    assert shard.stat().st_mtime_ns == before
    assert _bytes(tmp_path / "killed/mel") == _bytes(tmp_path / "whole/mel")


@pytest.mark.parametrize("damage", ["shard", "receipt"])
def test_a_damaged_task_of_a_killed_export_is_written_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    export(store, output=str(tmp_path / "whole"), shards=4)
    _killed_export(store, tmp_path, monkeypatch, sidecar.NAME)
    receipt = tmp_path / "mel/unfinished-00001.json"
    shards = json.loads(receipt.read_text())[0]
    path = receipt if damage == "receipt" else tmp_path / "mel" / shards[0]["name"]
    path.write_bytes(path.read_bytes()[:-1])
    done = export(store, output=str(tmp_path), shards=4)
    assert done.kept == len(done.sidecar.shards) - len(shards)  # type: ignore[union-attr]
    assert _bytes(tmp_path / "mel") == _bytes(tmp_path / "whole/mel")


def test_a_complete_export_is_left_alone_and_other_choices_replace_it(store: Store, tmp_path: Path) -> None:
    first = export(store, output=str(tmp_path), shards=2)
    again = export(store, output=str(tmp_path), shards=2)
    assert again.kept == len(again.sidecar.shards)  # type: ignore[union-attr]
    other = export(store, output=str(tmp_path), shards=1, dtype="uint8")
    names = {p.name for p in (tmp_path / "mel").glob("*.tfrec")}
    assert names == {s.name for s in other.sidecar.shards}  # type: ignore[union-attr]
    assert other.sidecar.plan != first.sidecar.plan  # type: ignore[union-attr]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("stranger", ["training-00000-of-00001-5.tfrec", "dataset.json"])
def test_a_folder_of_other_files_is_refused_and_left_alone(
    store: Store, tmp_path: Path, stranger: str, force: bool
) -> None:
    file = tmp_path / "mel" / stranger
    file.parent.mkdir()
    file.write_bytes(b"{}")
    with pytest.raises(UsageError, match="no data set of ours") as caught:
        export(store, output=str(tmp_path), force=force)
    assert "--output" in str(caught.value)
    assert _bytes(tmp_path / "mel") == {stranger: hashlib.sha256(b"{}").hexdigest()}


def test_a_sidecar_of_another_version_is_replaced(store: Store, tmp_path: Path) -> None:
    made = export(store, output=str(tmp_path), shards=1).sidecar
    file = tmp_path / "mel" / sidecar.NAME
    file.write_text(file.read_text().replace('"format": 2', '"format": 1'))
    (tmp_path / "mel" / "mine.txt").write_text("notes")
    assert export(store, output=str(tmp_path), shards=1).sidecar == made
    assert (tmp_path / "mel" / "mine.txt").read_text() == "notes"


def test_a_dry_run_writes_nothing(store: Store, tmp_path: Path) -> None:
    done = export(store, output=str(tmp_path / "x"), dry_run=True)
    assert sum(r["records"] for r in done.table.to_pylist()) == TRACKS * EXCERPTS
    assert not (tmp_path / "x").exists()


def test_images_are_the_resized_mels(store: Store, tmp_path: Path) -> None:
    export(store, output=str(tmp_path), image=24, dtype="float32")
    made = Sidecar.read(str(tmp_path / "mel-24"))
    assert (made.shape, made.image) == ((24, 24), 24)
    found = {(r["track_id"], r["excerpt"]): r["array"] for r in _records(tmp_path / "mel-24")}
    batch = next(iter(warehouse.iter_mels(store)))
    key = (int(batch.track_ids[0]), int(batch.excerpts[0]))
    assert np.array_equal(found[key], resize(batch.mels[0].T, 24, 24))


def test_export_to_an_object_store_and_back(store: Store, tmp_path: Path) -> None:
    export(store, output=str(tmp_path / "local"), shards=2)
    done = export(store, output="memory://bucket/shards", shards=2)
    assert done.sidecar == Sidecar.read(str(tmp_path / "local/mel"))
    data = open_data("memory://bucket/shards/mel", cache=str(tmp_path / "cache"))
    for split in ("training", "test"):
        for path, shard in zip(data.paths[split], data.sidecar.of_split(split), strict=True):
            assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == shard.sha256
    broken = Path(data.paths["training"][0])
    damage_record(broken, 2)  # of the right size: it is fetched again
    assert open_data("memory://bucket/shards/mel", cache=str(tmp_path / "cache")).lost["training"] == 0
    assert hashlib.sha256(broken.read_bytes()).hexdigest() == data.sidecar.of_split("training")[0].sha256
    assert folder_of("memory://bucket/shards", "mel") == "memory://bucket/shards/mel"
    assert folder_of("memory://bucket/shards/mel", "mel") == "memory://bucket/shards/mel"


def test_gzip_shards_are_reproducible_and_smaller(store: Store, tmp_path: Path) -> None:
    plain = export(store, output=str(tmp_path / "p"), dtype="uint8", shards=1).sidecar
    first = export(store, output=str(tmp_path / "z"), dtype="uint8", shards=1, compression="gzip").sidecar
    again = export(store, output=str(tmp_path / "z"), dtype="uint8", shards=1, compression="gzip", force=True).sidecar
    assert first == again
    assert sum(s.bytes for s in first.shards) < sum(s.bytes for s in plain.shards)  # type: ignore[union-attr]
    assert first.normalisation == plain.normalisation  # type: ignore[union-attr]


def test_the_packages_reader_reads_our_files(store: Store, tmp_path: Path) -> None:
    """The PyPI package `tfrecord`, by other people; in a process of its own, for it brings its own Example message."""
    export(store, output=str(tmp_path), dtype="float32", shards=1)
    ours = [r for r in _records(tmp_path / "mel") if r["split"] == "training"]
    path = next((tmp_path / "mel").glob("training-*"))
    code = (
        "import json, sys; import numpy as np; from tfrecord.reader import tfrecord_loader\n"
        "kinds = {'array': 'byte', 'label': 'int', 'track_id': 'int', 'shape': 'int'}\n"
        "for r in tfrecord_loader(sys.argv[1], None, kinds):\n"
        "    array = np.frombuffer(r['array'], '<f4').reshape(r['shape'])\n"
        "    print(json.dumps([int(r['track_id'][0]), int(r['label'][0]), array.tolist()]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(theirs) == len(ours)
    for a, (track_id, label, array) in zip(ours, theirs, strict=True):
        assert (a["track_id"], a["label"]) == (track_id, label)
        assert np.array_equal(np.array(array, np.float32), a["array"])  # type: ignore[arg-type]


def test_writing_imports_no_tensorflow(store: Store, tmp_path: Path) -> None:
    code = (
        "import sys; from training import export_tfrecords;"
        f"code = export_tfrecords.main(['--store', {store.url!r}, '--output', {str(tmp_path)!r},"
        " '--kind', 'mel', 'wave', 'features', '--jobs', '1']); assert 'tensorflow' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["features", "mel", "wave"]
    assert "official split" in done.stderr


def test_an_artist_is_known_by_number_or_by_name_and_else_no_split_is_by_artist(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "s"), tracks=TRACKS, spec=SPEC, arrays_too=False)
    artists = []
    for lost in ("", "artist_id", "artist"):
        tracks = store.read_catalog("tracks")
        if lost:
            at, field = tracks.column_names.index(lost), tracks.schema.field(lost)
            store.write_catalog("tracks", tracks.set_column(at, field, pa.nulls(tracks.num_rows, field.type)))
        side = export(store, kind="features", output=str(tmp_path), scheme="artist").sidecar
        assert side is not None
        artists.append(side.artists)
        assert side.scheme_text == ("artist (no artist is known: by track)" if lost == "artist" else "artist")
    assert artists[0] == artists[1] > artists[2] == 0


def test_a_full_disk_leaves_no_data_set(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.open

    def full(path: object, mode: str = "r", *args: object, **kwargs: object) -> object:
        if "w" in mode and ".tfrec" in str(path):
            raise OSError(28, "No space left on device")
        return real(path, mode, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(builtins, "open", full)
    with pytest.raises(FeatureStoreError, match="No space left on device") as caught:
        export(store, output=str(tmp_path))
    assert "Check free space" in str(caught.value)
    monkeypatch.setattr(builtins, "open", real)
    assert not list((tmp_path / "mel").glob("*.tfrec"))
    with pytest.raises(MissingInput, match="interrupted"):
        open_data(str(tmp_path / "mel"))


def test_an_empty_split_is_said_and_refused(tmp_path: Path) -> None:
    small = make_store(str(tmp_path / "s"), tracks=6, artists_per_genre=2, spec=SPEC, arrays_too=True)
    done = export(small, output=str(tmp_path))
    empty = [s for s in ("training", "validation", "test") if not done.sidecar.records(s)]  # type: ignore[union-attr]
    assert empty
    assert any(f"{empty[0]!r} has no records" in line for line in done.notes())
    with pytest.raises(MissingInput, match=f"the {empty[0]} split has no records"):
        open_data(str(tmp_path / "mel")).require("training", "validation", "test")


def test_choices_that_do_not_fit(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--image resizes mel"):
        export(store, kind="wave", image=24, output=str(tmp_path))
    with pytest.raises(UsageError, match="features are exported as float32"):
        export(store, kind="features", dtype="float16", output=str(tmp_path))
    bare = make_store(str(tmp_path / "bare"), tracks=6, spec=SPEC)
    bare.write_catalog("splits", bare.read_catalog("splits").slice(0, 0))
    with pytest.raises(MissingInput, match="splits"):
        export(bare, output=str(tmp_path))


def test_the_command_names_the_next_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from featurestore.terminal import cli

    assert cli.run(export_tfrecords.main, ["--store", str(tmp_path / "none")]) == 1
    assert "python -m featurestore build" in capsys.readouterr().err
    with pytest.raises(MissingInput, match="no TFRecord data set there") as caught:
        open_data(str(tmp_path / "wave"))
    assert "export_tfrecords --kind wave" in str(caught.value)
