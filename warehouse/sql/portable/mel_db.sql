-- mel_db(mel): the dB values of a stored mel spectrogram, in SQL alone (half-precision floats, little-endian).
CREATE MACRO stored.half(u) AS (
    CASE WHEN u >= 32768 THEN -1 ELSE 1 END
    * CASE WHEN (u >> 10) & 31 = 0 THEN (u & 1023) * 2.0 ** -24
        ELSE (1024 + (u & 1023)) * 2.0 ** (((u >> 10) & 31) - 25) END
)::FLOAT;
CREATE MACRO mel_db(mel) AS list_transform(
    regexp_extract_all(hex(mel), '....'), lambda h: stored.half(('0x' || h[3:4] || h[1:2])::INTEGER)
);
