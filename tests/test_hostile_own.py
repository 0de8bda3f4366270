"""Files of our own, damaged or made by others: refused with a message, never a traceback, never a file elsewhere."""

# ruff: noqa: PT017 - a mutated file may be sound or refused, and both are checked
from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore import schemas
from featurestore.errors import FeatureStoreError
from featurestore.store.manifest import MANIFEST
from featurestore.store.store import Store
from tests import factories
from tests.builds import SPEC
from tests.fuzzing import fuzz, mutated
from training.shards.sidecar import Sidecar


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return factories.make_store(str(tmp_path_factory.mktemp("store") / "s"), tracks=12, batch_tracks=6)


@fuzz(150)
@given(st.data())
def test_a_mutated_manifest_is_refused(
    store: Store, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "manifest"
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST).write_bytes(data.draw(mutated((Path(store.path(MANIFEST)).read_bytes(),))))
    try:
        opened = Store.open(str(folder))
    except FeatureStoreError as error:
        assert "manifest" in str(error) or MANIFEST in str(error)
        return
    assert opened.spec == store.spec  # what changed was white space


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def replaced(values: object, data: st.DataObject) -> object:
    """`values` with one thing in it, however deep, replaced by something else or left out."""
    if isinstance(values, dict) and values and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(values)))
        if data.draw(st.integers(0, 3)) == 0:
            return {k: v for k, v in values.items() if k != key}
        return {**values, key: replaced(values[key], data)}
    if isinstance(values, list) and values and data.draw(st.booleans()):
        i = data.draw(st.integers(0, len(values) - 1))
        return [*values[:i], replaced(values[i], data), *values[i + 1 :]]
    return data.draw(JSON)


@fuzz(200)
@given(st.data())
def test_a_manifest_that_was_sealed_with_other_values_is_refused(
    store: Store, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    values = replaced({k: v for k, v in store.manifest.items() if k != "seal"}, data)
    forged = dataclasses.replace(store, root=str(tmp_path_factory.getbasetemp() / "forged"), manifest={})
    if isinstance(values, dict) and all(isinstance(k, str) for k in values):
        forged.update_manifest(**values)
    else:
        Path(forged.root).mkdir(exist_ok=True)
        Path(forged.path(MANIFEST)).write_text(json.dumps(values))
    try:
        assert Store.open(forged.root).spec.fingerprint
    except FeatureStoreError as error:
        assert str(error)


def sidecar_values() -> dict[str, object]:
    shard = {"name": "training-00000-of-00001-2.tfrec", "split": "training", "records": 2, "bytes": 9, "sha256": "0"}
    return {
        "kind": "mel",
        "shape": [10, 32],
        "dtype": "float16",
        "low": -80.0,
        "high": 0.0,
        "compression": "none",
        "image": None,
        "classes": ["Ambient", "Blues"],
        "counts": {"training": {"Ambient": 1, "Blues": 1}},
        "tracks": {"training": 2},
        "artists": 2,
        "normalisation": {"mean": [0.0], "std": [1.0]},
        "columns": [],
        "seed": 0,
        "scheme": "artist",
        "subset": None,
        "feature_set": None,
        "plan": "abc",
        "shards": [shard],
        "format": 2,
        "store": {"url": "s", "content": "c"},
        "spec": SPEC.as_dict(),
        "spec_fingerprint": SPEC.fingerprint,
    }


def test_the_sidecar_used_here_is_a_sound_one() -> None:
    assert Sidecar.from_json(json.dumps(sidecar_values()).encode(), "dataset.json").spec == SPEC


@fuzz(200)
@given(st.data())
def test_a_mutated_sidecar_is_refused(data: st.DataObject) -> None:
    text = json.dumps(sidecar_values()).encode()
    if data.draw(st.booleans()):
        text = json.dumps(replaced(sidecar_values(), data)).encode()
    else:
        text = data.draw(mutated((text,)))
    try:
        sidecar = Sidecar.from_json(text, "dataset.json")
        for split in schemas.SPLITS:
            assert sidecar.records(split) >= 0
        assert sidecar.encoding
    except FeatureStoreError as error:
        assert "dataset.json" in str(error)


@pytest.mark.parametrize("name", ["../outside.tfrec", "/outside.tfrec", "a/../../outside.tfrec", "..", "", "a/b.tfrec"])
def test_a_sidecar_cannot_name_a_file_elsewhere(name: str) -> None:
    values = sidecar_values()
    values["shards"] = [{**values["shards"][0], "name": name}]  # type: ignore[index]
    with pytest.raises(FeatureStoreError, match=r"dataset\.json"):
        Sidecar.from_json(json.dumps(values).encode(), "dataset.json")


def test_a_deep_manifest_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("[" * (10 * sys.getrecursionlimit()))
    with pytest.raises(FeatureStoreError, match=MANIFEST):
        Store.open(str(tmp_path))


def test_a_deep_sidecar_is_no_traceback() -> None:
    with pytest.raises(FeatureStoreError, match=r"dataset\.json"):
        Sidecar.from_json(b"[" * (10 * sys.getrecursionlimit()), "dataset.json")
