#!/usr/bin/env bash
# The whole path on the demo collection: audio -> Parquet -> SQL -> studies -> TFRecords -> a trained network.
# Run it through `make demo`, which sets up the environment first. Every command below is one a user types.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
go() { say "$@"; "$@"; }
ask() { say "python -m warehouse \"$1\""; python -m warehouse "$1"; }

started=$SECONDS
go python -m featurestore build --dataset demo
go python -m featurestore status

ask "SELECT genre, count(*) AS tracks, round(sum(duration_s) / 60, 1) AS minutes FROM tracks GROUP BY genre ORDER BY genre"
ask "SELECT genre, round(avg(tempo_value_01)) AS tempo_bpm, round(avg(spectral_centroid_mean_01)) AS centroid_hz, round(avg(rms_mean_01), 3) AS rms FROM tracks JOIN features USING (track_id) GROUP BY genre ORDER BY centroid_hz"
ask "SELECT split, genre, count(*) AS tracks FROM tracks JOIN splits USING (track_id) WHERE scheme = 'artist' GROUP BY ALL ORDER BY ALL"

go python -m analysis.compare
go python -m analysis.pca_study
go python -m training.export_tfrecords
go python -m training.fit cnn

printf '\nMade in %d s, from 28 short generated tracks: a demonstration, not a result.\n' $((SECONDS - started))
printf 'What is where:\n'
for place in "data/store:the feature store (ask it: python -m warehouse)" \
  "data/tfrecords:TFRecord shards and their dataset.json" \
  "reports:tables and plots of the studies" \
  "models:trained models with their cards, curves and metrics"; do
  path=${place%%:*}
  printf '  %-16s %6s  %s\n' "$path" "$(du -sh "$path" | cut -f1)" "${place#*:}"
done
find reports models -type f \( -name '*.png' -o -name '*.csv' -o -name '*.json' -o -name '*.keras' \) | sort | sed 's/^/    /'
