"""The one home of statistics: accuracy and F1 with intervals over groups, confusions, paired tests."""

from analysis.evaluation.statistics import *  # noqa: F403
