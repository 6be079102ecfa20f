"""Statistics of comparisons: intervals and tests, win rates, length control, the audit of a critic, and its standing
beside people.

Pure functions on numbers and frozen results; nothing here reads a file, a record or a setting.
"""

from quipwright.core.statistics.agreement import (
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
from quipwright.core.statistics.alt_test import AltTest, LeftOut, alt_test
from quipwright.core.statistics.bias import (
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
from quipwright.core.statistics.corrected import CorrectedRate, Counts, corrected_rate
from quipwright.core.statistics.intervals import (
    RESAMPLES,
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
from quipwright.core.statistics.length_control import LengthControlled, length_controlled_win_rate, length_slope
from quipwright.core.statistics.logistic import fit_logistic
from quipwright.core.statistics.winrates import (
    WinRateReadings,
    WinTieLoss,
    sign,
    soft_scores,
    win_rate_readings,
    win_tie_loss,
)

__all__ = [
    "RESAMPLES",
    "AltTest",
    "Audit",
    "BothShowings",
    "Calibration",
    "Ceiling",
    "Choice",
    "CorrectedRate",
    "Counts",
    "Estimate",
    "Interval",
    "JudgedPair",
    "LeftOut",
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
    "alt_test",
    "audit",
    "bootstrap_mean",
    "calibration",
    "corrected_rate",
    "fit_logistic",
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
    "sign",
    "sign_flip_test",
    "soft_scores",
    "wilson",
    "win_rate_readings",
    "win_tie_loss",
]
