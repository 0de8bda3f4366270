-- Mel spectrograms: one row per excerpt. mel_db(mel) gives the dB values, band by band.
FROM {source}
