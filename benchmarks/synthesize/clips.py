"""One synthetic clip as samples: the style's table row, changed by the artist, then by the track.

Speed comes from rendering each sound once (a drum, a note of an instrument) and adding it wherever it is played.
The artist's equaliser acts on harmonic amplitudes and on the drum sounds, so no filter runs over the whole clip.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from benchmarks.synthesize.styles import SCALES, STYLES, Style

TABLE = 4096  # samples of one wave cycle
MAX_HARMONICS = 64
TAPS = 10  # reflections of the room, per ear
KICK, SNARE, HAT = range(3)
ARTIST, TRACK = 1, 2  # first word of a seed: NumPy pads seeds with zeros, so (s, 1) and (s, 1, 0) would be the same


@dataclasses.dataclass(frozen=True)
class Clip:
    """What was decided about one clip before a sample is rendered: the truth that an estimator can be held to.

    Attributes
    ----------
    seed : int
    style : int
        Place in `STYLES`.
    artist, number : int
        The artist within the style, and the clip within the artist's.
    tempo : float
        Quarter notes per minute.
    key : int
        Pitch class of the tonic, 0: C.
    tuning : float
        Deviation from A = 440 Hz in cents.
    swing : float
        Share of an eighth that its first sixteenth takes; 0.5 is straight.
    """

    seed: int
    style: int
    artist: int
    number: int
    tempo: float
    key: int
    tuning: float
    swing: float


@dataclasses.dataclass(frozen=True)
class _Artist:
    """The signature. All the timbre offsets are drawn once and shared by every track of the artist."""

    bumps: np.ndarray  # (4, 3): centre in octaves above 50 Hz, width in octaves, gain in dB
    tuning: float
    tempo_factor: float
    swing: float
    tilt: float
    odd: float
    decay_factor: float
    mix_db: np.ndarray  # (4,)
    wet_factor: float
    hiss_db: float
    level_db: float
    register: int  # octaves
    drums: np.ndarray  # (6,) in [0, 1): pitch and length of kick, snare and hat


def plan(seed: int, style: int, artist: int, number: int) -> Clip:
    """Decide tempo, key, tuning and swing of one clip, from the arguments alone.

    Parameters
    ----------
    seed, style, artist, number : int
        As in `Clip`.

    Returns
    -------
    Clip
    """
    who, what = _artist(seed, style, artist), STYLES[style]
    rng = np.random.default_rng((TRACK, seed, style, artist, number))
    return Clip(
        seed=seed,
        style=style,
        artist=artist,
        number=number,
        tempo=round(what.tempo * who.tempo_factor * float(np.exp(rng.normal(0, 0.05))), 2),
        key=int(rng.integers(12)),
        tuning=round(who.tuning, 2),
        swing=round(float(np.clip(what.swing + who.swing + rng.normal(0, 0.01), 0.45, 0.70)), 4),
    )


def render(clip: Clip, *, seconds: float, sample_rate: int, channels: int) -> np.ndarray:
    """Render the samples of a clip, from the arguments alone.

    Parameters
    ----------
    clip : Clip
    seconds : float
    sample_rate : int
        In Hz.
    channels : int
        1 or 2.

    Returns
    -------
    numpy.ndarray, shape (round(seconds * sample_rate), channels), float32
        Between -0.999 and 0.999.
    """
    n = round(seconds * sample_rate)
    band = _Band(clip, sample_rate)
    centre, wide = np.zeros(n, np.float32), np.zeros(n, np.float32)
    band.play(centre, wide)
    ears = _room(centre, wide, band, channels)
    peak = max(float(np.abs(ears).max()), 1e-9)
    ears *= np.float32(10 ** (band.who.level_db / 20) / peak)
    hiss = band.rng.standard_normal(n, dtype=np.float32)
    hiss *= np.float32(10 ** ((band.who.hiss_db + band.who.level_db) / 20))
    ears += hiss[:, None]
    return np.clip(ears, -0.999, 0.999, out=ears)


@functools.lru_cache(maxsize=256)
def _artist(seed: int, style: int, artist: int) -> _Artist:
    rng = np.random.default_rng((ARTIST, seed, style, artist))
    return _Artist(
        bumps=np.column_stack([rng.uniform(0, 8, 4), rng.uniform(0.4, 1.2, 4), rng.normal(0, 7, 4)]),
        tuning=float(rng.uniform(-40, 40)),
        tempo_factor=float(np.exp(rng.normal(0, 0.08))),
        swing=float(rng.normal(0, 0.015)),
        tilt=float(rng.normal(0, 0.30)),
        odd=float(rng.uniform(0, 0.5)),
        decay_factor=float(np.exp(rng.normal(0, 0.4))),
        mix_db=rng.normal(0, 4, 4),
        wet_factor=float(np.exp(rng.normal(0, 0.5))),
        hiss_db=float(rng.uniform(-75, -45)),
        level_db=float(rng.uniform(-9, -0.5)),
        register=int(rng.integers(0, 2)),
        drums=rng.random(6),
    )


class _Band:
    """The players of one clip: their sounds, rendered once each, and what they play."""

    def __init__(self, clip: Clip, rate: int) -> None:
        self.clip, self.rate = clip, rate
        self.style: Style = STYLES[clip.style]
        self.who = _artist(clip.seed, clip.style, clip.artist)
        # the plan used the first numbers of the track's stream; what is played has a stream of its own
        self.rng = np.random.default_rng((TRACK, clip.seed, clip.style, clip.artist, clip.number, 1))
        jitter = self.rng.normal(0, 1, 7)
        self.tilt = max(0.4, self.style.tilt + self.who.tilt + 0.10 * jitter[0])
        self.odd = float(np.clip(self.style.odd + self.who.odd + 0.05 * jitter[1], 0, 0.98))
        self.decay_s = self.style.decay_s * self.who.decay_factor * float(np.exp(0.1 * jitter[2]))
        self.mix = np.array(self.style.mix) * 10 ** ((self.who.mix_db + 1.5 * jitter[3:]) / 20)
        self.step_s = 60 / clip.tempo / 4
        self._notes: dict[tuple[str, int], np.ndarray] = {}
        kit = np.random.default_rng((ARTIST, clip.seed, clip.style, clip.artist, 1))
        drums = [_drum(kind, self.who.drums, rate, kit) for kind in (KICK, SNARE, HAT)]
        self._drums = [_equalise(drum, rate, self.who.bumps) for drum in drums]

    def play(self, centre: np.ndarray, wide: np.ndarray) -> None:
        """Add every bar of the clip to the two buses: drums and bass in the centre, chords and lead wide."""
        bar_s = self.style.steps * self.step_s
        motif = self.rng.integers(-2, 3, self.style.steps)
        for bar in range(int(len(centre) / self.rate / bar_s) + 1):
            root = self.style.progression[bar % len(self.style.progression)]
            self._drum_bar(centre, wide, bar * bar_s)
            self._bass_bar(centre, bar * bar_s, root)
            self._chord_bar(wide, bar * bar_s, root)
            self._lead_bar(wide, bar * bar_s, root, motif)

    def _drum_bar(self, centre: np.ndarray, wide: np.ndarray, start_s: float) -> None:
        if not self.mix[0]:
            return
        for pattern, kind, bus in (
            (self.style.kick, KICK, centre),
            (self.style.snare, SNARE, centre),
            (self.style.hat, HAT, wide),
        ):
            for step, gain in _hits(pattern):
                self._add(bus, self._drums[kind], start_s, step, gain * float(self.mix[0]))

    def _bass_bar(self, centre: np.ndarray, start_s: float, root: int) -> None:
        for step, gain in _hits(self.style.bass):
            degree = root + (4 if step and self.rng.random() < 0.25 else 0)
            self._add(centre, self._note("bass", self._pitch(degree, 36)), start_s, step, gain * float(self.mix[1]))

    def _chord_bar(self, wide: np.ndarray, start_s: float, root: int) -> None:
        for step, gain in _hits(self.style.chords):
            for third in (0, 2, 4):
                note = self._note("chords", self._pitch(root + third, 60))
                self._add(wide, note, start_s, step, gain * 0.5 * float(self.mix[2]))

    def _lead_bar(self, wide: np.ndarray, start_s: float, root: int, motif: np.ndarray) -> None:
        degree = root
        for step, gain in _hits(self.style.lead):
            # mostly the motif, so that the clip has a tune; now and then something else
            degree += int(motif[step] if self.rng.random() < 0.8 else self.rng.integers(-2, 3))
            degree = int(np.clip(degree, -3, 10))
            if self.rng.random() < 0.85:
                self._add(wide, self._note("lead", self._pitch(degree, 72)), start_s, step, gain * float(self.mix[3]))

    def _pitch(self, degree: int, base: int) -> int:
        """MIDI number of a scale degree above the tonic nearest below `base` + 12."""
        scale = SCALES[self.style.scale]
        octave, place = divmod(degree, len(scale))
        return base - 12 * self.who.register * (base > 40) + self.clip.key + 12 * octave + scale[place]

    def _note(self, player: str, midi: int) -> np.ndarray:
        if (player, midi) not in self._notes:
            decay_s = {"bass": max(0.15, self.decay_s), "chords": self.decay_s, "lead": 0.7 * self.decay_s}[player]
            attack_s = self.style.attack_s if player == "chords" else 0.004
            tone = self._tone(midi, min(4.0, attack_s + 5 * decay_s), detune=1.004 if player == "chords" else 0.0)
            t = np.arange(len(tone), dtype=np.float32) / np.float32(self.rate)
            tone *= np.exp(-t / np.float32(decay_s)) * np.minimum(1, t / np.float32(max(attack_s, 1e-3)))
            fade = min(len(tone), self.rate // 200)
            tone[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
            self._notes[player, midi] = tone
        return self._notes[player, midi]

    def _tone(self, midi: int, seconds: float, detune: float) -> np.ndarray:
        """A steady periodic tone, band-limited: one cycle is tabulated, then read at the pitch's rate."""
        hertz = 440 * 2 ** ((midi - 69 + self.clip.tuning / 100) / 12)
        k = np.arange(1, max(2, min(MAX_HARMONICS, int(0.45 * self.rate / hertz)) + 1))
        amplitude = k**-self.tilt * np.where(k % 2, 1.0, 1.0 - self.odd) * _gain(k * hertz, self.who.bumps)
        spectrum = np.zeros(TABLE // 2 + 1, complex)
        # fixed scattered phases: in-phase harmonics would make a click of every cycle
        spectrum[k] = amplitude * np.exp(2j * np.pi * (0.61803 * k * k % 1))
        cycle = np.fft.irfft(spectrum)
        cycle = (cycle / np.sqrt(np.mean(cycle**2)) * 0.2).astype(np.float32)
        at = np.arange(round(seconds * self.rate))
        tone = cycle[(at * (hertz * TABLE / self.rate)).astype(np.int64) % TABLE]
        if detune:
            tone = (tone + cycle[(at * (detune * hertz * TABLE / self.rate)).astype(np.int64) % TABLE]) * np.float32(
                0.7
            )
        return tone

    def _add(self, bus: np.ndarray, sound: np.ndarray, start_s: float, step: int, gain: float) -> None:
        late = (self.clip.swing - 0.5) * 2 * self.step_s if step % 2 else 0.0
        onset_s = start_s + step * self.step_s + late + abs(self.rng.normal(0, 0.003))
        at = round(onset_s * self.rate)
        part = sound[: max(0, len(bus) - at)]
        if len(part):
            bus[at : at + len(part)] += part * np.float32(gain * self.rng.uniform(0.85, 1.0))


def _hits(pattern: str) -> list[tuple[int, float]]:
    return [(i, 1.0 if c == "x" else 0.4) for i, c in enumerate(pattern) if c != "."]


def _gain(hertz: np.ndarray, bumps: np.ndarray) -> np.ndarray:
    """The artist's equaliser: amplitude factors at these frequencies."""
    octaves = np.log2(np.maximum(hertz, 1.0) / 50)
    centre, width, gain_db = bumps.T
    curve = np.exp(-0.5 * ((octaves[:, None] - centre) / width) ** 2) @ gain_db
    return 10 ** (curve / 20)


def _equalise(sound: np.ndarray, rate: int, bumps: np.ndarray) -> np.ndarray:
    spectrum = np.fft.rfft(sound)
    spectrum *= _gain(np.fft.rfftfreq(len(sound), 1 / rate), bumps)
    return np.fft.irfft(spectrum, len(sound)).astype(np.float32)


def _drum(kind: int, character: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    pitch, length = character[2 * kind : 2 * kind + 2]
    decay_s = (0.08, 0.05, 0.015)[kind] * (0.6 + 1.2 * length)
    t = np.arange(int(6 * decay_s * rate)) / rate
    envelope = np.exp(-t / decay_s)
    if kind == KICK:
        low = 40 + 25 * pitch
        sweep = low * t + 3 * low * 0.02 * (1 - np.exp(-t / 0.02))
        return np.sin(2 * np.pi * sweep) * envelope
    noise = rng.standard_normal(len(t))
    if kind == SNARE:
        body = np.sin(2 * np.pi * (150 + 120 * pitch) * t)
        return (0.35 * noise + 0.4 * body) * envelope
    bright = np.diff(noise, prepend=0.0) * (0.5 + pitch)
    return 0.2 * bright * envelope


def _room(centre: np.ndarray, wide: np.ndarray, band: _Band, channels: int) -> np.ndarray:
    """Both buses and the reflections of the wide one, (n, channels)."""
    wet = min(0.9, band.style.wet * band.who.wet_factor)
    room = np.random.default_rng((ARTIST, band.clip.seed, band.clip.style, band.clip.artist, 2))
    ears = np.empty((len(centre), channels), np.float32)
    for ear in range(channels):
        out = centre + wide
        delays = np.sort(room.uniform(0.011, 0.35, TAPS))
        for delay_s, sign in zip(delays, room.choice((-1, 1), TAPS), strict=True):
            at = int(delay_s * band.rate)
            if at < len(out):
                out[at:] += wide[: len(out) - at] * np.float32(sign * wet * np.exp(-delay_s / 0.15))
        ears[:, ear] = out
    return ears
