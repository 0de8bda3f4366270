-- The genre hierarchy: one row per genre, with its path from the top-level genre down.
-- column top_level: name of the top-level genre that this one belongs to
-- column depth: levels below the top-level genre, 0 for a top-level genre
-- column path: names from the top-level genre down, joined by " > "
WITH RECURSIVE stored_genres AS (FROM {source}),
below AS (
    SELECT genre_id, title AS path, title AS top_level, 0 AS depth
    FROM stored_genres
    WHERE parent_id IS NULL OR parent_id NOT IN (SELECT genre_id FROM stored_genres)
    UNION ALL
    SELECT g.genre_id, b.path || ' > ' || g.title, b.top_level, b.depth + 1
    FROM stored_genres AS g JOIN below AS b ON g.parent_id = b.genre_id
)
SELECT g.*, b.top_level, b.depth, b.path
FROM stored_genres AS g LEFT JOIN below AS b USING (genre_id)
