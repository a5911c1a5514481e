"""Two-sample statistics on arrays: effect sizes, p-values and their correction.

Pure functions of their arguments. Counts are non-negative integers per bin; samples are finite float64 arrays. Every
p-value is analytic or exact, since the verdict asks for tails near 1e-6 that resampling cannot resolve.
"""

from app.statistics.distances import (
    RobustScale,
    homogeneity_p_value,
    js_distance,
    js_noise_floor,
    psi,
    psi_noise_floor,
    total_variation,
    total_variation_noise_floor,
)
from app.statistics.order import (
    FloatArray,
    IntArray,
    Pair,
    anderson_darling,
    anderson_darling_p_value,
    cramer_von_mises,
    ks_noise_floor,
    ks_statistic,
    mann_whitney,
    middle_ranks,
    mood_p_value,
    mood_z,
    rank_auc,
)
from app.statistics.proportions import (
    benjamini_hochberg,
    normal_quantile,
    share_p_values,
    share_tails,
    smallest_p_value,
    widen,
)

__all__ = [
    "FloatArray",
    "IntArray",
    "Pair",
    "RobustScale",
    "anderson_darling",
    "anderson_darling_p_value",
    "benjamini_hochberg",
    "cramer_von_mises",
    "homogeneity_p_value",
    "js_distance",
    "js_noise_floor",
    "ks_noise_floor",
    "ks_statistic",
    "mann_whitney",
    "middle_ranks",
    "mood_p_value",
    "mood_z",
    "normal_quantile",
    "psi",
    "psi_noise_floor",
    "rank_auc",
    "share_p_values",
    "share_tails",
    "smallest_p_value",
    "total_variation",
    "total_variation_noise_floor",
    "widen",
]
