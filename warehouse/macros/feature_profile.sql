-- feature_profile(feature): how the columns of one feature ('mfcc') or one column ('mfcc_mean_01') differ by genre.
CREATE MACRO feature_profile(feature) AS TABLE
SELECT u.column_name, t.genre, count(*) AS n, avg(u.value) AS mean, stddev_samp(u.value) AS deviation,
    quantile_cont(u.value, 0.25) AS q25, median(u.value) AS q50, quantile_cont(u.value, 0.75) AS q75
FROM (
    UNPIVOT (
        SELECT track_id, COLUMNS('^' || feature || '(_(mean|std|skew|kurtosis|median|min|max|value)_[0-9]+)?$')
        FROM features
    ) ON COLUMNS(* EXCLUDE (track_id)) INTO NAME column_name VALUE value
) AS u
JOIN stored.tracks() AS t USING (track_id)
GROUP BY u.column_name, t.genre
ORDER BY u.column_name, t.genre;
