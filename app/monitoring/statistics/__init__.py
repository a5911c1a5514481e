"""Two-sample statistics on arrays: effect sizes, calibrated p-values, and their correction over many tests.

Pure functions of their arguments. Counts are non-negative integers per bin; samples are finite float64 arrays. Every
p-value is analytic or exact, since the verdict asks for tails near 1e-6 that resampling cannot resolve.
"""

from app.monitoring.statistics.arrays import FloatArray, IntArray
from app.monitoring.statistics.correction import benjamini_hochberg, smallest_p_value, widen
from app.monitoring.statistics.counts import (
    homogeneity_p_value,
    js_distance,
    js_noise_floor,
    psi,
    psi_noise_floor,
    psi_p_value,
    total_variation,
    total_variation_noise_floor,
)
from app.monitoring.statistics.kolmogorov import ks_noise_floor, ks_p_value, ks_statistic
from app.monitoring.statistics.order import (
    anderson_darling,
    anderson_darling_p_value,
    cramer_von_mises,
    cramer_von_mises_p_value,
    mood_p_value,
    mood_z,
)
from app.monitoring.statistics.pair import Pair
from app.monitoring.statistics.shares import normal_quantile, share_p_values, share_tails, wilson
from app.monitoring.statistics.wasserstein import RobustScale

__all__ = [
    "FloatArray",
    "IntArray",
    "Pair",
    "RobustScale",
    "anderson_darling",
    "anderson_darling_p_value",
    "benjamini_hochberg",
    "cramer_von_mises",
    "cramer_von_mises_p_value",
    "homogeneity_p_value",
    "js_distance",
    "js_noise_floor",
    "ks_noise_floor",
    "ks_p_value",
    "ks_statistic",
    "mood_p_value",
    "mood_z",
    "normal_quantile",
    "psi",
    "psi_noise_floor",
    "psi_p_value",
    "share_p_values",
    "share_tails",
    "smallest_p_value",
    "total_variation",
    "total_variation_noise_floor",
    "widen",
    "wilson",
]
