"""What tells the synthetic genres apart: rhythm, harmony and timbre, one row each.

Patterns are one bar in steps of a sixteenth note: `x` plays, `o` plays softly, `.` rests. Append new styles at the
end: a style's place in the table is part of the seed of its clips.
"""

from __future__ import annotations

import dataclasses

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "pentatonic": (0, 2, 4, 7, 9),
    "blues": (0, 3, 5, 6, 7, 10),
}


@dataclasses.dataclass(frozen=True)
class Style:
    """One genre.

    Attributes
    ----------
    name : str
    tempo : float
        Mean, in quarter notes per minute.
    swing : float
        Share of an eighth that its first sixteenth takes; 0.5 is straight.
    scale : str
        A key of `SCALES`.
    progression : tuple of int
        Scale degrees of the chord roots, one a bar.
    kick, snare, hat, bass, chords, lead : str
        Patterns; the lead's are places where a note may fall.
    tilt : float
        Harmonic k of a tone has amplitude k ** -tilt.
    odd : float
        How far even harmonics are left out; 1: all of them, as in a square wave.
    attack_s, decay_s : float
        Rise of the chords; time constant of chords and lead.
    mix : tuple of float
        Level of drums, bass, chords and lead.
    wet : float
        Level of the reflections (a room).
    """

    name: str
    tempo: float
    swing: float
    scale: str
    progression: tuple[int, ...]
    kick: str
    snare: str
    hat: str
    bass: str
    chords: str
    lead: str
    tilt: float
    odd: float
    attack_s: float
    decay_s: float
    mix: tuple[float, float, float, float]
    wet: float

    @property
    def steps(self) -> int:
        """Sixteenth notes in a bar."""
        return len(self.kick)


# fmt: off
STYLES = (
    Style("House", 124, .50, "minor", (0, 5, 2, 6), "x...x...x...x...", "....x.......x...", "..x...x...x...x.",
          "..x...x...x...x.", "..x..x....x..x..", "x..x..x.x..x..x.", 1.1, .2, .01, .25, (1.0, .8, .5, .4), .25),
    Style("Swing", 150, .64, "mixolydian", (0, 3, 0, 4), "x.......o.......", "....o.......o...", "x...x.o.x...x.o.",
          "x...x...x...x...", "......x.......x.", "x..xx.x.x..xx.x.", 1.5, .3, .02, .22, (.5, .9, .5, .7), .30),
    Style("Waltz", 156, .50, "major", (0, 3, 4, 0), "x...........", "....o...o...", "............",
          "x...........", "....x...x...", "x...x.x.x...", 1.8, .1, .04, .35, (.3, .9, .7, .8), .45),
    Style("Breakbeat", 166, .52, "dorian", (0, 0, 5, 3), "x.....x...x.....", "....x..o.o..x..o", "x.x.x.x.x.x.x.x.",
          "x.....x..x......", "x...............", "...x......x..x..", 0.9, .1, .05, .60, (1.2, 1.0, .4, .3), .20),
    Style("Ambient", 76, .50, "dorian", (0, 4, 3, 6), "................", "................", "................",
          "x...............", "x...............", "x.....x.....x...", 2.0, .2, .60, 1.8, (.0, .6, 1.0, .4), .70),
    Style("Chiptune", 140, .50, "major", (0, 4, 5, 3), "x.......x.......", "....x.......x...", "x.x.x.x.x.x.x.x.",
          "x.x.x.x.x.x.x.x.", "x.xxx.xxx.xxx.xx", "x.xxx.x.x.xxx.x.", 0.8, .9, .00, .10, (.6, .7, .4, .8), .05),
    Style("Reggae", 78, .56, "minor", (0, 3, 0, 6), "........x.......", "........x.......", "x.o.x.o.x.o.x.o.",
          "x..x....x.x.....", "....x.......x...", "....x..x....x...", 1.5, .4, .01, .12, (.8, 1.2, .7, .3), .35),
    Style("March", 112, .50, "major", (0, 0, 4, 0), "x.......x.......", "x.xxx.x.x.xxxxxx", "................",
          "x.......x.......", "....x.......x...", "x...x..xx...x...", 1.0, .0, .03, .30, (.8, .7, .5, 1.0), .40),
    Style("Doom", 62, .50, "phrygian", (0, 1, 0, 5), "x.....x...x.....", "........x.......", "x...x...x...x...",
          "x.....x...x.....", "x.....x...x.....", "............x...", 0.6, .0, .01, .90, (.9, .9, 1.0, .3), .30),
    Style("Samba", 104, .47, "pentatonic", (0, 3, 1, 4), "x..xx..xx..xx..x", "x.x..x.xx.x..x.x", "xoxxxoxxxoxxxoxx",
          "x......xx......x", "x.x..x.x..x.x..x", "..x.x..x.x..x.x.", 1.4, .1, .01, .18, (.9, .6, .6, .5), .20),
    Style("Boogie", 176, .66, "blues", (0, 0, 2, 4), "x.......x.......", "....x.......x...", "x.x.x.x.x.x.x.x.",
          "x.x.x.x.x.x.x.x.", "x.......x.......", "x.xx..x.xx..x.x.", 1.2, .2, .01, .30, (.7, 1.0, .4, .6), .20),
    Style("Ballad", 68, .50, "major", (0, 5, 3, 4), "x.........x.....", "....x.......x...", "x.o.x.o.x.o.x.o.",
          "x.........x.....", "x...x...x...x...", "x.....x.x...x...", 1.6, .0, .05, .80, (.4, .7, .8, .8), .55),
)
# fmt: on
