-- What was measured: one row per excerpt, with its source file, decoder and levels.
SELECT * REPLACE (extracted_at AT TIME ZONE 'UTC' AS extracted_at) FROM {source}
