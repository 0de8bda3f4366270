-- similar_tracks(track, k): the k tracks nearest to the track with this id, by Euclidean distance of standardised
-- features (between the nearest excerpts of the two).
CREATE MACRO similar_tracks(track, k) AS TABLE
WITH asked AS (
    SELECT unnest(CASE
        WHEN k IS NULL THEN error('similar_tracks: k is NULL; it is how many tracks to list')
        WHEN found IS NOT NULL THEN found
        WHEN EXISTS (FROM vectors) THEN error(format(
            'similar_tracks: track {} is not measured in this store; the ids are in excerpts.track_id',
            coalesce(track::VARCHAR, 'NULL')))
        END) AS vector
    FROM (SELECT list(vector) AS found FROM vectors WHERE track_id = track)
),
nearest AS (
    SELECT v.track_id, min(array_distance(v.vector, asked.vector)) AS distance
    FROM vectors AS v, asked
    WHERE v.track_id IS DISTINCT FROM track
    GROUP BY v.track_id
)
SELECT n.track_id, n.distance, t.genre, t.artist, t.title
FROM nearest AS n LEFT JOIN tracks AS t USING (track_id)
ORDER BY n.distance, n.track_id
LIMIT k;
