-- One row per track and genre: the genres the artist gave (distance 0) and all genres above them.
-- column track_id: identity of the track; FMA's own id for FMA
-- column genre_id: identity of the genre
-- column genre: name of the genre
-- column distance: 0 for a genre the artist gave, else levels above the nearest such genre
-- column top_level: name of the top-level genre that this one belongs to
WITH RECURSIVE above AS (
    SELECT genre_id, genre_id AS ancestor_id, 0 AS distance FROM genres
    UNION ALL
    SELECT a.genre_id, g.parent_id, a.distance + 1
    FROM above AS a JOIN genres AS g ON g.genre_id = a.ancestor_id
    WHERE g.parent_id IN (SELECT genre_id FROM genres) AND a.distance < 32
),
given AS (
    SELECT track_id, unnest(genre_ids) AS genre_id FROM tracks
    UNION
    SELECT t.track_id, g.genre_id
    FROM tracks AS t JOIN genres AS g ON g.title = t.genre AND g.genre_id = g.top_level_id
    WHERE t.genre_ids IS NULL
),
nearest AS (
    SELECT given.track_id, coalesce(a.ancestor_id, given.genre_id) AS genre_id, min(coalesce(a.distance, 0)) AS distance
    FROM given LEFT JOIN above AS a USING (genre_id)
    GROUP BY ALL
)
SELECT n.track_id, n.genre_id, g.title AS genre, n.distance, g.top_level
FROM nearest AS n LEFT JOIN genres AS g USING (genre_id)
