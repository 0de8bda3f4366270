-- How many tracks has each genre, in each subset (each contains the smaller ones), and how many are measured?
SELECT coalesce(genre, '(none)') AS genre, count(*) AS tracks,
    count(*) FILTER (subset = 'small') AS small,
    count(*) FILTER (subset IN ('small', 'medium')) AS medium,
    count(*) FILTER (subset IN ('small', 'medium', 'large')) AS large,
    count(*) FILTER (excerpts > 0) AS measured,
    count(*) FILTER (failure IS NOT NULL) AS failed
FROM tracks
GROUP BY ALL
ORDER BY tracks DESC, genre
