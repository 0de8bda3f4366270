-- The central window of each excerpt's mono waveform.
FROM {source}
