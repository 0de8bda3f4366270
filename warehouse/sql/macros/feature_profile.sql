-- feature_profile(feature): how the columns of one feature ('mfcc') or one column ('mfcc_mean_01') differ by genre.
CREATE MACRO feature_profile(feature) AS TABLE
WITH chosen AS (
    UNPIVOT (
        -- a pattern that matches no column is an error that shows the pattern, so one column always matches
        SELECT track_id, COLUMNS('(?i)^(excerpt|' || regexp_escape(coalesce(feature::VARCHAR, ''))
            || '(_(mean|std|skew|kurtosis|median|min|max|value)_[0-9]+)?)$')
        FROM features
    ) ON COLUMNS(* EXCLUDE (track_id)) INTO NAME column_name VALUE value
),
names AS (
    SELECT list(DISTINCT c.feature ORDER BY c.feature) AS features, list(c.column_name) AS columns
    FROM feature_columns AS c WHERE c.feature_set = 'librosa'
),
profile AS (
    SELECT u.column_name, t.genre, count(*) AS n, avg(u.value) AS mean, stddev_samp(u.value) AS deviation,
        quantile_cont(u.value, 0.25) AS q25, median(u.value) AS q50, quantile_cont(u.value, 0.75) AS q75
    FROM chosen AS u JOIN tracks AS t USING (track_id)
    WHERE u.column_name <> 'excerpt'
    GROUP BY u.column_name, t.genre
)
FROM profile
UNION ALL BY NAME
SELECT NULL AS column_name FROM names
WHERE NOT CASE WHEN list_contains(features || columns, lower(feature::VARCHAR)) THEN true
    ELSE error(format('feature_profile: no feature or column {}; the features are {}',
        coalesce(feature::VARCHAR, 'NULL'), array_to_string(features, ', '))) END
ORDER BY column_name, genre;
