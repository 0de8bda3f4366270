-- The central window of each excerpt's mono waveform.
CREATE VIEW wave AS FROM stored.wave();
