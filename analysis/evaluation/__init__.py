"""The one home of statistics, for the studies and for trained networks: how good answers are, and how surely.

Conventions. An excerpt's scores are averaged into its track's, so n always counts tracks. Classes are integer codes,
0 to c - 1. Intervals are 95 % percentile bootstraps over *groups* (artists; a track whose artist is unknown is its own
group), because tracks of one artist resemble each other. Arrays in, numbers out; nothing is fitted here. What a kept
model says about itself (`Card`) and what it answers (`answer`) are here too, so that both kinds of models say it alike.
"""

from analysis.evaluation.answers import UNKNOWN, Answers, answer
from analysis.evaluation.card import Card, find_model, load_model, save_model, versions
from analysis.evaluation.classes import class_scores, confusion, f1_by_class, macro_f1_interval
from analysis.evaluation.intervals import (
    RESAMPLES,
    Interval,
    accuracy_interval,
    bootstrap_mean,
    group_weights,
    interval,
)
from analysis.evaluation.paired import holm, mcnemar, paired_difference
from analysis.evaluation.reading import Evaluation, evaluate
from analysis.evaluation.scored import Scored, by_track, concat, cross_entropy

__all__ = [
    "RESAMPLES",
    "UNKNOWN",
    "Answers",
    "Card",
    "Evaluation",
    "Interval",
    "Scored",
    "accuracy_interval",
    "answer",
    "bootstrap_mean",
    "by_track",
    "class_scores",
    "concat",
    "confusion",
    "cross_entropy",
    "evaluate",
    "f1_by_class",
    "find_model",
    "group_weights",
    "holm",
    "interval",
    "load_model",
    "macro_f1_interval",
    "mcnemar",
    "paired_difference",
    "save_model",
    "versions",
]
