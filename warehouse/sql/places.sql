-- Which batch's files hold each excerpt. {source} is the current rows of excerpts with the name of their file.
SELECT track_id, excerpt, parse_filename(filename, true) AS batch FROM {source}
