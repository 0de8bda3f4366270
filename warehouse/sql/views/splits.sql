-- Which split a track is in, under each scheme: official, artist or random.
FROM {source}
