-- Whose nearest neighbours have other genres? Candidates for a wrong label, least agreement first. Asked of a sample.
-- param k = 10: neighbours to ask
-- param sample = 500: how many excerpts to check (chosen by a hash of the key, the same every time)
-- param limit = 25: how many to list
WITH labelled AS MATERIALIZED (
    SELECT v.track_id, v.excerpt, v.vector, t.genre, t.artist_group, t.title
    FROM vectors AS v JOIN tracks AS t USING (track_id)
    WHERE t.genre IS NOT NULL
),
asked AS (FROM labelled ORDER BY hash(track_id, excerpt) LIMIT $sample::BIGINT),
near AS (
    SELECT a.track_id, a.excerpt, any_value(a.genre) AS genre, any_value(a.title) AS title,
        min_by(o.genre, array_distance(a.vector, o.vector), $k::BIGINT) AS genres
    FROM asked AS a, labelled AS o
    -- an artist's own tracks agree with each other whatever their label
    WHERE a.artist_group <> o.artist_group
    GROUP BY a.track_id, a.excerpt
)
SELECT track_id, excerpt, title, genre, len(list_filter(genres, lambda g: g = genre)) / len(genres) AS agreement,
    list_aggregate(genres, 'mode') AS neighbours_say
FROM near
WHERE neighbours_say <> genre
ORDER BY agreement, track_id, excerpt
LIMIT $limit::BIGINT
