"""HTTP as a long download needs it: bounded waits, bounded retries, and errors that say what to do.

Two kinds of failure. `Interrupted` may pass (a cut connection, a host that is silent, slow or overloaded) and is
retried by `Tries`; everything else becomes a FeatureStoreError at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Iterator

import requests
import urllib3

from featurestore.errors import FeatureStoreError
from featurestore.terminal import words

BLOCK = 1 << 18
MIN_BYTES_PER_S = 1000  # slower than this over a whole time-out counts as silence
MAX_WAIT_S = 60.0
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)$")
_PASSING = (408, 425, 429, 500, 502, 503, 504)


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long to wait for a host (seconds, for the connection and for each answer), and how often to try again."""

    timeout_s: float = 30.0
    retries: int = 4
    backoff_s: float = 1.0


class Interrupted(Exception):
    """The transfer stopped for a reason that may pass."""


class Tries:
    """Counts failures in a row; waits longer after each."""

    def __init__(self, patience: Patience, url: str) -> None:
        self._patience, self._url, self._failures = patience, url, 0

    def succeeded(self) -> None:
        """Data arrived: the count starts over."""
        self._failures = 0

    def failed(self, reason: Interrupted) -> None:
        """Wait before the next try. Raises FeatureStoreError when there have been too many."""
        self._failures += 1
        if self._failures > self._patience.retries:
            raise FeatureStoreError(
                f"{self._url}: {reason} ({self._failures} tries)",
                "Check the network and the address; the same command goes on where this one stopped.",
            ) from None
        words.note(f"{self._url}: {reason}; trying again ({self._failures} of {self._patience.retries})")
        time.sleep(min(MAX_WAIT_S, self._patience.backoff_s * 2 ** (self._failures - 1)))


@dataclasses.dataclass(frozen=True)
class Answer:
    """A response whose body has not been read.

    status is 200 (the whole file), 206 (the range asked for) or 416 (no such range); start is the first byte's place
    in the file, total the file's size (None: not said), validator what identifies this version of it ("": nothing).
    """

    status: int
    start: int
    total: int | None
    validator: str
    _response: requests.Response
    _host: Host

    def blocks(self) -> Iterator[bytes]:
        """The body. Raises Interrupted where it ends early, or comes too slowly to ever finish."""
        timeout_s = self._host.patience.timeout_s
        with _as_interruption(str(self._response.url), timeout_s), self._response:
            mark, received = time.monotonic(), 0
            while block := self._response.raw.read1(BLOCK, decode_content=False):
                self._host.received += len(block)
                received += len(block)
                yield block
                elapsed = time.monotonic() - mark
                if elapsed > timeout_s:
                    if received < MIN_BYTES_PER_S * elapsed:
                        raise Interrupted(f"the host sent {received} bytes in {elapsed:.0f} s")
                    mark, received = time.monotonic(), 0

    def close(self) -> None:
        """Leave the body unread."""
        self._response.close()


class Host:
    """A connection that is kept open between requests. `received` counts the bytes of all bodies."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self.received = 0
        self._session = requests.Session()
        # a compressed transfer would make byte offsets mean something else
        self._session.headers["Accept-Encoding"] = "identity"

    def get(self, url: str, span: str = "", validator: str = "") -> Answer:
        """Ask for `url`, or for `span` of it (an HTTP range such as "0-99", "100-" or "-10").

        With a validator the host sends the whole file if it is no longer that version. Raises Interrupted,
        FeatureStoreError (not found, forbidden, not a web address, bad certificate).
        """
        headers = {"Range": f"bytes={span}"} if span else {}
        if span and validator:
            headers["If-Range"] = validator
        with _as_interruption(url, self.patience.timeout_s):
            response = self._session.get(url, headers=headers, stream=True, timeout=self.patience.timeout_s)
        if response.status_code in _PASSING:
            response.close()
            raise Interrupted(f"the host answered {response.status_code} {response.reason}")
        if response.status_code not in (200, 206, 416):
            response.close()
            raise FeatureStoreError(
                f"{url}: the host answered {response.status_code} {response.reason}; expected the file",
                "Check --base-url; FMA's README (github.com/mdeff/fma) gives the current addresses.",
            )
        start, total = _place(url, response)
        return Answer(response.status_code, start, total, _validator(response), response, self)


def _place(url: str, response: requests.Response) -> tuple[int, int | None]:
    """(first byte, size of the whole file) that a response announces."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    if found:
        return int(found[1] or 0), int(found[3])
    response.close()
    if response.status_code == 416:
        return 0, None
    raise FeatureStoreError(
        f"{url}: the host sent part of the file without saying which (no usable Content-Range)",
        "Try again with --whole-file, or name another host with --base-url.",
    )


def _validator(response: requests.Response) -> str:
    """A strong ETag, else the date; "" where there is neither (RFC 9110, 13.1.5: a weak ETag must not be used)."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


@contextlib.contextmanager
def _as_interruption(url: str, timeout_s: float) -> Iterator[None]:
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise FeatureStoreError(
            f"{url}: the host's certificate is not accepted ({error})", "Check the address and the system's clock."
        ) from None
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError):
        raise Interrupted(f"no answer within {timeout_s:g} s") from None
    except (requests.exceptions.ConnectionError, urllib3.exceptions.HTTPError, ConnectionError) as error:
        raise Interrupted(f"the connection failed ({_cause(error)})") from None
    except (requests.exceptions.RequestException, ValueError) as error:
        raise FeatureStoreError(f"{url}: {error}", "Give --base-url an http or https address.") from None


def _cause(error: BaseException) -> str:
    """The innermost reason, without the layers of objects that libraries print around it."""
    inner = error.args[0] if error.args else error
    text = str(getattr(inner, "reason", None) or inner)
    # urllib3 begins with the connection object: "HTTPConnection(host=..., port=...): Failed to ..."
    return text.rsplit("): ", 1)[-1] or type(error).__name__
