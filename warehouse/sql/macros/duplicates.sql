-- duplicates(): tracks whose audio files have the same bytes, one row per group.
CREATE MACRO duplicates() AS TABLE
SELECT source_hash, count(*) AS tracks, list(track_id ORDER BY track_id) AS track_ids,
    list(path ORDER BY track_id) AS paths, list(DISTINCT genre) AS genres
FROM (
    SELECT e.track_id, any_value(e.source_hash) AS source_hash, any_value(e.path) AS path, any_value(t.genre) AS genre
    FROM excerpts AS e LEFT JOIN tracks AS t USING (track_id)
    GROUP BY e.track_id
)
GROUP BY source_hash
HAVING count(*) > 1
ORDER BY tracks DESC, source_hash;
