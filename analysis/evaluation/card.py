"""Kept models on disk: the model's file and `card.json`, which says what the model is, may be asked, and has scored.

Both kinds of models, classical and trained networks, are kept this way. The card holds the SHA-256 of the model's file
and a seal, the SHA-256 of its own content: a model and a card of different runs, and a card that was edited, are
refused. The seal protects from mistakes, not from forgery; what a model's file may hold is its reader's concern.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from featurestore.errors import FeatureStoreError, MissingInput, SpecMismatch
from featurestore.spec import Spec
from featurestore.store import files

CARD_FILE = "card.json"
FORMAT = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """What a kept model says about itself.

    Parameters
    ----------
    name : str
        The model: svm_rbf, cnn.
    kind : str
        What it is asked with: features, mel or wave.
    classes : tuple of str
        Names of the classes, by code.
    threshold : float
        0 to 1; a track whose best score is below it is answered "unknown".
    feature_set : str or None
        The set that its columns belong to; None where it is asked with mel or wave.
    columns : tuple of str
        Names of the feature columns, in order.
    spec : Spec or None
        The numbers that its input was measured with; None for an imported feature set.
    window, image : int or None
        Frames or samples that a network sees at once; the side of the square that spectrograms are resized to.
    evaluation : mapping
        What it scored on the split it was reported on, as `Evaluation.as_dict` gives it.
    versions : mapping of str
        Versions of the libraries that made it.
    facts : mapping
        What else a reader wants to know: settings, data, split. Nothing depends on it.
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    threshold: float
    feature_set: str | None
    columns: tuple[str, ...]
    spec: Spec | None
    window: int | None = None
    image: int | None = None
    evaluation: Mapping[str, Any]
    versions: Mapping[str, Any]
    facts: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Give the card as JSON can hold it.

        Returns
        -------
        dict
            By field; the spec as `Spec.as_dict` gives it, or None.
        """
        return dataclasses.asdict(self) | {"spec": self.spec.as_dict() if self.spec else None}

    def require_spec(self, store_spec: Spec | None = None, store: str = "") -> None:
        """Check that audio, and where given a store, is measured with the numbers that the model learnt from.

        Parameters
        ----------
        store_spec : Spec, optional
            The spec of a store whose values the model is to answer.
        store : str
            The store's name.

        Raises
        ------
        SpecMismatch
            If a number differs; the message names each.
        """
        if self.spec is None:
            return
        there = f"the model {self.name}"
        here = dataclasses.replace(self.spec, extractor=Spec().extractor)
        here.require(self.spec, here="this version of the toolkit", there=there)
        if store_spec is not None:
            store_spec.require(self.spec, here=f"store {store}", there=there)

    def positions(self, columns: Sequence[str]) -> list[int]:
        """Where the model's columns lie among others.

        Parameters
        ----------
        columns : sequence of str
            Columns at hand.

        Returns
        -------
        list of int
            One position for each of the card's columns.

        Raises
        ------
        SpecMismatch
            If one is not there.
        """
        at = {name: j for j, name in enumerate(columns)}
        missing = [name for name in self.columns if name not in at]
        if missing:
            raise SpecMismatch(
                f"the model {self.name} expects {len(self.columns)} columns; {len(missing)} are not there, "
                f"first {missing[0]!r}",
                "Answer with the store and set that it was made from, or make it again.",
            )
        return [at[name] for name in self.columns]


def save_model(folder: str, file: str, model: bytes, card: Card) -> list[str]:
    """Write a model and its card, the card last, each atomically.

    Parameters
    ----------
    folder : str
        Path or fsspec URL.
    file : str
        Name of the model's file in it.
    model : bytes
        Content of that file.
    card : Card
        What the model says about itself.

    Returns
    -------
    list of str
        The two paths.
    """
    content = {"format": FORMAT, "model_file": file, "model_sha256": hashlib.sha256(model).hexdigest()}
    content |= card.as_dict()
    text = json.dumps(content | {"seal": seal(content)}, indent=1, ensure_ascii=False) + "\n"
    fs, root = files.resolve(folder)
    files.write_bytes(fs, f"{root}/{file}", model)
    files.write_bytes(fs, f"{root}/{CARD_FILE}", text.encode())
    return [os.path.join(folder, name) for name in (file, CARD_FILE)]


def find_model(model: str, file: str, again: str) -> str:
    """The folder of a kept model.

    Parameters
    ----------
    model : str
        A folder, the path of the model's file, or a name under `models/`.
    file : str
        Name of the model's file.
    again : str
        The command that makes such a model, for messages.

    Returns
    -------
    str

    Raises
    ------
    MissingInput
        If there is none.
    """
    if os.path.isfile(model):
        return os.path.dirname(model) or "."
    for folder in (model, os.path.join("models", model)):
        if os.path.isdir(folder):
            return folder
    raise MissingInput(
        f"no model at {model}: expected a folder with {file} and {CARD_FILE}, or a name under models/",
        f"Make one with `{again}`.",
    )


def load_model(model: str, file: str, again: str) -> tuple[Card, bytes]:
    """Read a kept model's card, checked, and the content of its file.

    Parameters
    ----------
    model, file, again : str
        As for `find_model`.

    Returns
    -------
    card : Card
    content : bytes
        The model's file, as it was when the card was written.

    Raises
    ------
    MissingInput
        If the folder or one of the two files is not there.
    SpecMismatch
        If the card has the format of another version.
    FeatureStoreError
        If the card is damaged or edited, or belongs to another model.
    """
    folder = find_model(model, file, again)
    path = os.path.join(folder, CARD_FILE)
    values = _parse(path, again)
    card = _checked(path, values, again)
    place = os.path.join(folder, file)
    content = _read(place, again)
    found = hashlib.sha256(content).hexdigest()
    if found != values["model_sha256"]:
        raise FeatureStoreError(
            f"{place}: its card expects SHA-256 {values['model_sha256'][:16]}…, found {found[:16]}…",
            f"Model and card are not of one run, or the file is damaged: copy both, or run `{again}` again.",
        )
    return card, content


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of Python and of libraries.

    Parameters
    ----------
    packages : sequence of str
        Names of installed distributions.

    Returns
    -------
    dict of str
    """
    return {"python": platform.python_version(), **{p: importlib.metadata.version(p) for p in packages}}


def seal(content: Mapping[str, Any]) -> str:
    """The SHA-256 of a card's content, whatever the order and spacing of its JSON.

    Parameters
    ----------
    content : mapping
        The card as JSON holds it; an entry `seal` is left out.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    values = {k: v for k, v in content.items() if k != "seal"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _read(path: str, again: str) -> bytes:
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError as error:
        raise MissingInput(f"{path}: cannot be read ({error.strerror})", f"Make it with `{again}`.") from None


def _parse(path: str, again: str) -> dict[str, Any]:
    try:
        values = json.loads(_read(path, again))
    except (ValueError, RecursionError) as error:
        _refuse(path, f"not a readable card ({error})", again)
    if not isinstance(values, dict):
        _refuse(path, f"expected a card (a JSON object), found {type(values).__name__}", again)
    if values.get("format") != FORMAT:
        raise SpecMismatch(
            f"{path}: expected card format {FORMAT}, found {values.get('format')}",
            f"Use the version of this toolkit that made it, or run `{again}` again.",
        )
    return values


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types) and not isinstance(value, bool)


_NOTHING = type(None)
_EXPECTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("name", "kind", "model_sha256", "seal"), ("text", _is(str))),
    **dict.fromkeys(("classes", "columns"), ("a list of names", _is_names)),
    **dict.fromkeys(("window", "image"), ("a whole number or null", _is(int, _NOTHING))),
    **dict.fromkeys(("evaluation", "versions", "facts"), ("an object", _is(dict))),
    "threshold": ("a number from 0 to 1", _is_share),
    "feature_set": ("text or null", _is(str, _NOTHING)),
    "spec": ("an object or null", _is(dict, _NOTHING)),
}


def _checked(path: str, values: dict[str, Any], again: str) -> Card:
    if missing := [name for name in _EXPECTED if name not in values]:
        _refuse(path, f"the card lacks {', '.join(missing)}", again)
    for name, (expected, is_valid) in _EXPECTED.items():
        if not is_valid(values[name]):
            _refuse(path, f"{name}: expected {expected}, found {json.dumps(values[name])[:60]}", again)
    if len(set(values["classes"])) < 2:
        _refuse(path, f"classes: expected at least two different names, found {values['classes']}", again)
    if values["seal"] != seal(values):
        _refuse(path, "the card was edited after the model was kept (its seal differs)", again)
    lists = {name: tuple(values[name]) for name in ("classes", "columns")}
    spec = None if values["spec"] is None else Spec.from_dict(values["spec"])
    given = {f.name: values[f.name] for f in dataclasses.fields(Card)}
    return Card(**(given | lists | {"spec": spec}))


def _refuse(path: str, what: str, again: str) -> NoReturn:
    raise FeatureStoreError(f"{path}: {what}", f"Run `{again}` again.")
