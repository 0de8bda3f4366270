-- How the measured values were made: one row per spec, decoder and set of libraries. The spec's numbers are in `spec`.
CREATE VIEW provenance AS
SELECT spec, decoder, decoder_version, libraries, count(DISTINCT track_id) AS tracks, count(*) AS excerpts,
    count(DISTINCT batch) AS batches, sum(duration_s) / 3600 AS hours, min(extracted_at) AT TIME ZONE 'UTC' AS first_at,
    max(extracted_at) AT TIME ZONE 'UTC' AS last_at
FROM stored.excerpts()
GROUP BY spec, decoder, decoder_version, libraries;
COMMENT ON COLUMN provenance.spec IS 'fingerprint of the spec the rows were measured with';
COMMENT ON COLUMN provenance.decoder IS 'decoder that read the files';
COMMENT ON COLUMN provenance.decoder_version IS 'version of that decoder';
COMMENT ON COLUMN provenance.libraries IS 'versions of the libraries behind the values';
COMMENT ON COLUMN provenance.tracks IS 'tracks measured so';
COMMENT ON COLUMN provenance.excerpts IS 'excerpts measured so';
COMMENT ON COLUMN provenance.batches IS 'batches that hold them';
COMMENT ON COLUMN provenance.hours IS 'audio measured [h]';
COMMENT ON COLUMN provenance.first_at IS 'when the first of them was measured [UTC]';
COMMENT ON COLUMN provenance.last_at IS 'when the last of them was measured [UTC]';
