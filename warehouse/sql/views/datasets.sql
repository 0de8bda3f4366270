-- The collections in the catalog, and where their audio and labels were read from.
SELECT * REPLACE (updated_at AT TIME ZONE 'UTC' AS updated_at) FROM {source}
