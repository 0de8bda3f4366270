-- genre_path(id): the names from the top-level genre down to this one: 'Rock > Psych-Rock > Krautrock'.
CREATE MACRO genre_path(id) AS (SELECT any_value(g.path) FROM genres AS g WHERE g.genre_id = id);
