-- Which features separate two genres best? By effect size (Cohen's d: difference of means in pooled deviations).
-- param a: name of the first genre
-- param b: name of the second genre
-- param k = 20: how many features to list
WITH asked AS (
    SELECT unnest(CASE WHEN known IS NULL OR list_has_all(known, [$a, $b]) THEN [$a, $b]
        ELSE error(format('no measured track has the genre {}; this store has {}',
            CASE WHEN list_contains(known, $a) THEN $b ELSE $a END, array_to_string(known, ', '))) END) AS genre
    FROM (SELECT list(DISTINCT genre ORDER BY genre) FILTER (genre IS NOT NULL) AS known FROM tracks WHERE excerpts > 0)
),
f AS NOT MATERIALIZED (
    SELECT t.genre, f.* EXCLUDE (track_id, excerpt)
    FROM features AS f JOIN tracks AS t USING (track_id)
    WHERE t.genre IN (FROM asked)
),
n AS (SELECT count(*) FILTER (genre = $a) AS n_a, count(*) FILTER (genre = $b) AS n_b FROM f),
means AS (UNPIVOT (SELECT genre, avg(COLUMNS(* EXCLUDE (genre))) FROM f GROUP BY genre)
    ON COLUMNS(* EXCLUDE (genre)) INTO NAME column_name VALUE value),
variances AS (UNPIVOT (SELECT genre, var_samp(COLUMNS(* EXCLUDE (genre))) FROM f GROUP BY genre)
    ON COLUMNS(* EXCLUDE (genre)) INTO NAME column_name VALUE value)
SELECT a.column_name, a.value AS mean_a, b.value AS mean_b,
    (b.value - a.value)
        / nullif(sqrt(((n_a - 1) * u.value + (n_b - 1) * v.value) / nullif(n_a + n_b - 2, 0)), 0) AS effect_size,
    n_a, n_b, c.description
FROM means AS a JOIN means AS b USING (column_name)
LEFT JOIN variances AS u ON u.column_name = a.column_name AND u.genre = a.genre
LEFT JOIN variances AS v ON v.column_name = b.column_name AND v.genre = b.genre
JOIN feature_columns AS c ON c.column_name = a.column_name AND c.feature_set = 'librosa', n
WHERE a.genre = $a AND b.genre = $b
ORDER BY abs(effect_size) DESC NULLS LAST, a.column_name
LIMIT $k::BIGINT
