-- Which split a track is in, under each scheme: official, artist or random.
CREATE VIEW splits AS FROM stored.splits();
