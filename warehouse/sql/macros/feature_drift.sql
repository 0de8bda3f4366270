-- feature_drift(scheme): how far each feature column of the test split lies from the training split, in deviations.
CREATE MACRO feature_drift(scheme) AS TABLE
WITH f AS NOT MATERIALIZED (
    SELECT s.split, f.* EXCLUDE (track_id, excerpt)
    FROM features AS f JOIN splits AS s(track_id, drawn, split) USING (track_id)
    WHERE s.split IN ('training', 'test') AND s.drawn = (
        SELECT CASE WHEN known IS NULL OR list_contains(known, scheme::VARCHAR) THEN scheme::VARCHAR
            ELSE error(format('feature_drift: no split scheme {}; this store has {}',
                coalesce(scheme::VARCHAR, 'NULL'), array_to_string(known, ', '))) END
        FROM (SELECT list(DISTINCT c.drawn ORDER BY c.drawn) AS known FROM splits AS c(track_id, drawn, split))
    )
),
means AS (UNPIVOT (SELECT split, avg(COLUMNS(* EXCLUDE (split))) FROM f GROUP BY split)
    ON COLUMNS(* EXCLUDE (split)) INTO NAME column_name VALUE value),
deviations AS (UNPIVOT (SELECT split, stddev_samp(COLUMNS(* EXCLUDE (split))) FROM f GROUP BY split)
    ON COLUMNS(* EXCLUDE (split)) INTO NAME column_name VALUE value)
SELECT column_name, m.value AS training_mean, n.value AS test_mean, d.value AS training_deviation,
    e.value AS test_deviation, (n.value - m.value) / nullif(sqrt((d.value ^ 2 + e.value ^ 2) / 2), 0) AS shift
FROM means AS m JOIN means AS n USING (column_name)
LEFT JOIN deviations AS d ON d.column_name = m.column_name AND d.split = m.split
LEFT JOIN deviations AS e ON e.column_name = n.column_name AND e.split = n.split
WHERE m.split = 'training' AND n.split = 'test'
ORDER BY abs(shift) DESC NULLS LAST, column_name;
