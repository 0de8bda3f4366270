-- mel_db(mel): the dB values of a stored mel spectrogram, in SQL alone (single-precision floats, little-endian).
CREATE MACRO stored.single(u) AS (
    CASE WHEN u >= 2147483648 THEN -1 ELSE 1 END
    * CASE WHEN (u >> 23) & 255 = 0 THEN (u & 8388607) * 2.0 ** -149
        ELSE (8388608 + (u & 8388607)) * 2.0 ** (((u >> 23) & 255) - 150) END
)::FLOAT;
CREATE MACRO stored.single_of_hex(h) AS stored.single(('0x' || h[7:8] || h[5:6] || h[3:4] || h[1:2])::BIGINT);
CREATE MACRO mel_db(mel) AS list_transform(
    regexp_extract_all(hex(mel), '........'), lambda h: stored.single_of_hex(h)
);
