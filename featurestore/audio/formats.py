"""What a file is by its first bytes: why libsndfile refused one that no fallback can take."""

from __future__ import annotations

from featurestore.errors import AudioError

SNIFF_BYTES = 64
# (name, offset, first bytes): containers that only the fallback reads, and those that libsndfile should have read
FOREIGN = (
    ("MP4 (AAC or ALAC)", 4, b"ftyp"),
    ("Windows Media", 0, b"\x30\x26\xb2\x75"),
    ("Matroska or WebM", 0, b"\x1a\x45\xdf\xa3"),
    ("AAC (ADTS)", 0, b"\xff\xf1"),
    ("AAC (ADTS)", 0, b"\xff\xf9"),
    ("Monkey's Audio", 0, b"MAC "),
    ("WavPack", 0, b"wvpk"),
    ("Musepack", 0, b"MPCK"),
    ("True Audio", 0, b"TTA1"),
)
KNOWN = (
    ("WAV", 0, b"RIFF"),
    ("FLAC", 0, b"fLaC"),
    ("Ogg", 0, b"OggS"),
    ("AIFF", 0, b"FORM"),
    ("MP3", 0, b"ID3"),
    ("MP3", 0, b"\xff\xfb"),
    ("MP3", 0, b"\xff\xf3"),
)


def refused(label: str, head: bytes, size: int) -> AudioError:
    """The error for a file that libsndfile does not open.

    Parameters
    ----------
    label : str
        What messages call the file.
    head : bytes
        Its first SNIFF_BYTES.
    size : int
        Its length in bytes.

    Returns
    -------
    AudioError
        unsupported (install ffmpeg), truncated (a known format without audio) or not_audio.
    """
    for name, offset, magic in FOREIGN:
        if head[offset : offset + len(magic)] == magic:
            text = f"{label}: {name}, which libsndfile does not read; install ffmpeg to decode it"
            return AudioError("open", "unsupported", text)
    for name, offset, magic in KNOWN:
        if head[offset : offset + len(magic)] == magic:
            text = f"{label}: begins as {name}, but no audio follows in its {size} bytes"
            return AudioError("open", "truncated", text)
    return AudioError("open", "not_audio", f"{label}: no decoder recognises it (first bytes {head[:12]!r})")
