"""Statistics of comparisons: intervals and tests, win rates, length control, and the audit of a critic.

Pure functions on numbers and frozen results; nothing here reads a file, a record or a setting.
"""

from understudy.statistics.agreement import (
    BothShowings,
    Ceiling,
    Choice,
    JudgedPair,
    MarginAgreement,
    agreement,
    agreement_by_margin,
    human_ceiling,
    krippendorff_alpha,
)
from understudy.statistics.bias import (
    Audit,
    Calibration,
    LengthBias,
    PositionBias,
    ReliabilityBin,
    SelfPreference,
    audit,
    calibration,
    length_bias,
    position_bias,
    self_preference,
)
from understudy.statistics.intervals import (
    Estimate,
    Interval,
    bootstrap_mean,
    holm,
    mcnemar,
    paired_bootstrap,
    proportion,
    share,
    sign_flip_test,
    wilson,
)
from understudy.statistics.logistic import LengthControlled, length_controlled_win_rate, length_slope
from understudy.statistics.winrates import WinRateReadings, WinTieLoss, soft_scores, win_rate_readings, win_tie_loss

__all__ = [
    "Audit",
    "BothShowings",
    "Calibration",
    "Ceiling",
    "Choice",
    "Estimate",
    "Interval",
    "JudgedPair",
    "LengthBias",
    "LengthControlled",
    "MarginAgreement",
    "PositionBias",
    "ReliabilityBin",
    "SelfPreference",
    "WinRateReadings",
    "WinTieLoss",
    "agreement",
    "agreement_by_margin",
    "audit",
    "bootstrap_mean",
    "calibration",
    "holm",
    "human_ceiling",
    "krippendorff_alpha",
    "length_bias",
    "length_controlled_win_rate",
    "length_slope",
    "mcnemar",
    "paired_bootstrap",
    "position_bias",
    "proportion",
    "self_preference",
    "share",
    "sign_flip_test",
    "soft_scores",
    "wilson",
    "win_rate_readings",
    "win_tie_loss",
]
