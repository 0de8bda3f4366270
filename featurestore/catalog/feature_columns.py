"""Which columns of anyone's table are the id, the label and the features, and how the features are called in SQL.

A column that says where a row stands in its file is no feature, however a program wrote it: an index without a name,
and whole numbers that count the rows. It would tell a model the order of the file, which is often that of the genres.
Such columns are left out, and the report names them.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from featurestore.datasets import tables
from featurestore.datasets.tables import TableFile
from featurestore.errors import FeatureStoreError, UsageError
from featurestore.terminal.words import examples

ID_NAMES = ("track_id", "__index_level_0__", "")  # FMA's, and the unnamed index that pandas writes
KEYS = ("track_id", "excerpt")  # what the store itself calls its keys
INDEX = re.compile(r"|__index_level_\d+__|Unnamed: \d+(_level_\d+)?")
MIN_ROWS = 20  # of a column of whole numbers, before it is said to count something
NOT_NUMBERS, ROW_NUMBERS, LABEL_CODES = "not numbers", "numbers of rows", "the label in numbers"
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+\s*")


@dataclasses.dataclass(frozen=True)
class FeatureTable:
    """A table of features.

    Attributes
    ----------
    file : TableFile
        Where it is read from.
    id, label : int
        Positions of the id column and of the label column; label is None where none was asked for.
    features : dict of int to str
        Position and name in the store of each feature.
    left_out : dict of str to str
        Columns that are no features, and why.
    """

    file: TableFile
    id: int
    label: int | None
    features: Mapping[int, str]
    left_out: Mapping[str, str]

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """The set's columns: track_id and one float32 column per feature.

        Returns
        -------
        pyarrow.Schema
            Each feature is described by the table's own name for it.
        """
        source = os.path.basename(self.file.path)
        key = pa.field("track_id", pa.int64(), False, {"description": "identity of the track"})
        described = {c: f"{self.file.names[i].replace('/', ', ')} ({source})" for i, c in self.features.items()}
        return pa.schema([key, *(pa.field(c, pa.float32(), True, {"description": d}) for c, d in described.items())])

    @property
    def renamed(self) -> dict[str, str]:
        """The features that were called like a key of the store.

        Returns
        -------
        dict of str to str
            Column of the table, and its name in the store.
        """
        return {self.file.names[i]: c for i, c in self.features.items() if _plain(self.file.names[i]) in KEYS}

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows.

        Yields
        ------
        pyarrow.RecordBatch
            The ids as text, then the features, float32.

        Raises
        ------
        FeatureStoreError, MissingInput
            As `TableFile.batches`.
        """
        types, done = {self.id: pa.string(), **dict.fromkeys(self.features, pa.float32())}, 0
        try:
            # most tables leave an empty cell empty, and to look for every spelling of that takes a quarter longer
            for batch in self.file.batches(types, nulls=("",)):
                yield batch
                done += len(batch)
        except FeatureStoreError:
            for batch in self.file.batches(types):
                seen = min(done, len(batch))
                yield batch.slice(seen)
                done -= seen

    def labels(self) -> Iterator[pa.RecordBatch]:
        """Read the ids and the labels; only for a table with a label column.

        Yields
        ------
        pyarrow.RecordBatch
            Two columns of text.
        """
        assert self.label is not None
        return self.file.batches({self.id: pa.string(), self.label: pa.string()})


def inspect(
    path: str, *, id_column: str | None = None, label_column: str | None = None, skip_columns: Sequence[str] = ()
) -> FeatureTable:
    """Read the head of a table and decide what its columns are.

    Parameters
    ----------
    path : str
        CSV or Parquet, a file or URL.
    id_column, label_column : str, optional
        Columns of the table; the id is `track_id` or the unnamed index by itself.
    skip_columns : sequence of str
        Columns to leave out.

    Returns
    -------
    FeatureTable

    Raises
    ------
    MissingInput
        The file is not there, or is no table.
    UsageError
        A column is not there, there is no id, or columns are not numbers. Only a table with FMA's several header rows
        may have such columns (its echonest.csv has texts beside the features).
    """
    file = tables.inspect(path)
    key = file.position(id_column) if id_column is not None else _find_id(file)
    label = None if label_column is None else file.position(label_column)
    taken = {key, label, *(file.position(c) for c in skip_columns)}
    others = {i for i in range(len(file.names)) if i not in taken}
    reasons = {i: why for i in sorted(others) if (why := _no_feature(file, i))}
    text = [i for i, why in reasons.items() if why == NOT_NUMBERS]
    if text and (file.dialect is None or file.dialect.header_rows == 1):
        _refuse_text(file, text)
    features = sorted(others - reasons.keys())
    if label is not None:
        reasons |= dict.fromkeys(_label_codes(file, label, features), LABEL_CODES)
        features = sorted(others - reasons.keys())
    if not features:
        raise UsageError(f"{file.path}: no column of numbers beside the id {file.names[key]!r}", "Name another table.")
    names = column_names([file.names[i] for i in features])
    left_out = {file.names[i]: why for i, why in reasons.items()}
    return FeatureTable(file, key, label, dict(zip(features, names, strict=True)), left_out)


def column_names(names: Sequence[str]) -> list[str]:
    """Names for SQL from any names.

    Parameters
    ----------
    names : sequence of str
        As the table has them.

    Returns
    -------
    list of str
        Lower-case letters, digits and underscores, beginning with a letter; unique, and never a key of the store. Of
        levels (`mfcc/mean/01`) the last is enough where it is a name and the only such one.

    Examples
    --------
    >>> column_names(["mfcc/mean/01", "Spectral Centroid (Hz)", "excerpt"])
    ['mfcc_mean_01', 'spectral_centroid_hz', 'excerpt_2']
    """
    last = [n.rpartition("/")[2] for n in names]
    count = Counter(last)
    result, taken = [], set(KEYS)
    for name, short in zip(names, last, strict=True):
        text = _plain(short if short[:1].isalpha() and count[short] == 1 else name)
        text = text if text[:1].isalpha() else f"f_{text}".rstrip("_")
        unique, n = text, 1
        while unique in taken:
            n += 1
            unique = f"{text}_{n}"
        taken.add(unique)
        result.append(unique)
    return result


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _find_id(file: TableFile) -> int:
    for name in ID_NAMES:
        if name in file.names:
            return file.position(name)
    raise UsageError(
        f"{file.path}: which column holds the track id? Expected one named track_id; found {', '.join(file.names[:8])}"
        + (", ..." if len(file.names) > 8 else ""),
        "Name it with --id-column: numbers are track ids, texts are file names.",
    )


def _no_feature(file: TableFile, position: int) -> str | None:
    """Why a column is no feature; None where it is one."""
    if INDEX.fullmatch(file.names[position]) or _counts_rows(file.head.column(position)):
        return ROW_NUMBERS
    return None if file.is_number(position) else NOT_NUMBERS


def _counts_rows(head: pa.Array) -> bool:
    if not pa.types.is_integer(head.type) or head.null_count or len(head) < MIN_ROWS:
        return False
    values = head.to_numpy()
    return values[0] in (0, 1) and bool((np.diff(values) == 1).all())


def _label_codes(file: TableFile, label: int, features: list[int]) -> list[int]:
    """The columns of whole numbers that say the label again, one number for each label, over the whole table."""
    whole = [i for i in features if pa.types.is_integer(file.head.schema.field(i).type)]
    frame = file.read({label: pa.string(), **dict.fromkeys(whole, pa.float64())}).to_pandas().dropna(subset=str(label))
    if len(frame) < MIN_ROWS or frame[str(label)].value_counts().min() < 2:
        return []
    pairs = {i: frame[[str(label), str(i)]].drop_duplicates() for i in whole}
    return [i for i, p in pairs.items() if len(p) > 1 and all(p[c].is_unique for c in p)]


def _refuse_text(file: TableFile, text: list[int]) -> None:
    names = [file.names[i] for i in text]
    for i in text:
        first = next((str(v) for v in file.head.column(i).to_pylist() if v is not None), "")
        if _DECIMAL_COMMA.fullmatch(first):
            raise UsageError(
                f"{file.path}: column {file.names[i]!r} has numbers with a decimal comma ({first})",
                "Write them with a decimal point: 0.5, not 0,5.",
            )
    raise UsageError(
        f"{file.path}: columns that are not numbers: {examples(names)}",
        f"Leave them out with --skip {','.join(names[:3])}, or name one as --id-column or --label-column.",
    )
