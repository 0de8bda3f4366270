-- Mel spectrograms: one row per excerpt. mel_db(mel) gives the dB values, band by band.
CREATE VIEW mel AS FROM stored.mel();
