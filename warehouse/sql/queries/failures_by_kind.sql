-- What went wrong, how often, and for example where?
SELECT stage, kind, count(*) AS files, min(path) AS example, arg_min(message, path) AS message
FROM failures
GROUP BY stage, kind
ORDER BY files DESC, stage, kind
