-- The genre hierarchy: one row per genre, with its path from the top-level genre down.
CREATE VIEW genres AS
WITH RECURSIVE below AS (
    SELECT genre_id, title AS path, title AS top_level, 0 AS depth
    FROM stored.genres()
    WHERE parent_id IS NULL OR parent_id NOT IN (SELECT genre_id FROM stored.genres())
    UNION ALL
    SELECT g.genre_id, b.path || ' > ' || g.title, b.top_level, b.depth + 1
    FROM stored.genres() AS g JOIN below AS b ON g.parent_id = b.genre_id
)
SELECT g.*, b.top_level, b.depth, b.path
FROM stored.genres() AS g LEFT JOIN below AS b USING (genre_id);
COMMENT ON COLUMN genres.top_level IS 'name of the top-level genre that this one belongs to';
COMMENT ON COLUMN genres.depth IS 'levels below the top-level genre, 0 for a top-level genre';
COMMENT ON COLUMN genres.path IS 'names from the top-level genre down, joined by " > "';
