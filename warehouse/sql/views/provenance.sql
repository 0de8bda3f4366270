-- How the measured values were made: one row per spec, decoder and set of libraries. The spec's numbers are in `spec`.
-- column spec: fingerprint of the spec the rows were measured with
-- column decoder: decoder that read the files
-- column decoder_version: version of that decoder
-- column libraries: versions of the libraries behind the values
-- column tracks: tracks measured so
-- column excerpts: excerpts measured so
-- column batches: batches that hold them
-- column hours: audio measured [h]
-- column first_at: when the first of them was measured [UTC]
-- column last_at: when the last of them was measured [UTC]
SELECT spec, decoder, decoder_version, libraries, count(DISTINCT track_id) AS tracks, count(*) AS excerpts,
    count(DISTINCT batch) AS batches, sum(duration_s) / 3600 AS hours, min(extracted_at) AT TIME ZONE 'UTC' AS first_at,
    max(extracted_at) AT TIME ZONE 'UTC' AS last_at
FROM excerpts
GROUP BY spec, decoder, decoder_version, libraries
