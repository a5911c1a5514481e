"""Load skops files, with reviewed types beyond skops's own list.

scikit-learn's models need these types.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import Any

from app.errors import BundleError

MAX_BYTES = 2**31
"""Largest file that is read, and largest archive once unpacked."""

# skops checks types, not contents: these hold indices that compiled code follows without looking. A crafted one could
# crash the process, so a bundle's files are pinned by sha256, and golden rows are answered before the first request.
COMPILED = (
    "sklearn.tree._tree.Tree",  # forests, boosting, AdaBoost: arrays of nodes
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",  # HistGradientBoosting: arrays of nodes
    "sklearn.neighbors._kd_tree.KDTree",  # neighbours: arrays of points and nodes
    "sklearn.neighbors._ball_tree.BallTree",  # the same
    "sklearn.metrics._dist_metrics.EuclideanDistance64",  # a distance: no more than its parameters
    "sklearn.metrics._dist_metrics.ManhattanDistance64",  # the same
    "scipy.interpolate._bsplines.BSpline",  # SplineTransformer: knots and coefficients
    "scipy.interpolate._bsplines._BSpline",  # the same, inside BSpline from SciPy 1.18 on (Python 3.12 and newer)
)
# Plain Python that holds fitted numbers; nothing in it calls what it is given.
CONTAINERS = (
    "builtins.object",  # the bare class, as the dtype that make_column_selector looks for
    "numpy.dtype",  # ColumnTransformer and encoders note the dtypes that they were fitted on
    "sklearn.utils._bunch.Bunch",  # a dict with attributes, in voting and stacking
    "sklearn.calibration._CalibratedClassifier",  # a classifier beside its calibrators
    "sklearn.calibration._SigmoidCalibration",  # two numbers
    "sklearn.calibration._TemperatureScaling",  # one number
    "sklearn.compose._column_transformer.make_column_selector",  # a pattern for columns, applied when fitting
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",  # training rows and a kernel
    *(
        f"sklearn.gaussian_process.kernels.{kernel}"  # arithmetic on hyperparameters
        for kernel in (
            *("CompoundKernel", "ConstantKernel", "DotProduct", "ExpSineSquared", "Exponentiation", "Matern"),
            *("Product", "RBF", "RationalQuadratic", "Sum", "WhiteKernel"),
        )
    ),
    "sklearn._loss.loss.HalfTweedieLoss",  # the loss of a fit that is over
    "sklearn._loss.loss.HalfTweedieLossIdentity",  # the same
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",  # the state of a fit that is over
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",  # the same
    "sklearn.model_selection._split.StratifiedKFold",  # how a search split its rows, over as well
    "sklearn.model_selection._split.KFold",  # the same
    "sklearn.utils._metadata_requests.MetadataRequest",  # names of optional arguments
    "sklearn.utils._metadata_requests.MethodMetadataRequest",  # the same
)
# Functions of scikit-learn and SciPy without side effects: they convert or check arrays, or score a fit that is over.
FUNCTIONS = (
    "functools.partial",  # HistGradientBoosting binds arguments to check_array; what is bound is itself checked by type
    "scipy._lib.array_api_compat.numpy._aliases.asarray",  # numpy.asarray, inside BSpline
    "sklearn.utils.validation.check_array",  # raises, or gives the array back
    "sklearn.feature_selection._univariate_selection.f_classif",  # SelectKBest scores columns when fitting
    "sklearn.feature_selection._univariate_selection.f_regression",  # the same
    "sklearn.metrics._scorer._Scorer",  # a search's score: never called to predict
    "sklearn.metrics._scorer._CurveScorer",  # the same, over thresholds
    "sklearn.metrics._classification.accuracy_score",  # the same
    "sklearn.metrics._classification.balanced_accuracy_score",  # the same
    "sklearn.metrics._classification.f1_score",  # the same
    "sklearn.metrics._classification.log_loss",  # the same
    "sklearn.metrics._ranking.roc_auc_score",  # the same
    "sklearn.metrics._regression.r2_score",  # the same
    "sklearn.metrics._regression.mean_absolute_error",  # the same
    "sklearn.metrics._regression.mean_squared_error",  # the same
)
REVIEWED = frozenset(COMPILED + CONTAINERS + FUNCTIONS)


def load_skops(data: bytes, *, trusted_types: Sequence[str] = (), what: str = "the model") -> Any:
    """The object in a skops file, if every type in it is trusted.

    Args:
        trusted_types: names trusted beyond skops' own list and the reviewed one.
        what: names the file in errors.

    Raises:
        BundleError: it is no skops file, too large, or holds other types; nothing of it was built then.
    """
    import skops.io

    check_archive(data, what)
    try:
        found = skops.io.get_untrusted_types(data=data)
        missing = sorted(set(found) - REVIEWED - set(trusted_types))
        if not missing:
            return skops.io.loads(data, trusted=found)
    except Exception as error:
        raise BundleError(f"{what}: skops cannot read it ({one_line(error)}); bundle the model again") from error
    raise BundleError(
        f"{what}: holds types that are not trusted; if you trust its source, set "
        f"serving.trusted_types: [{', '.join(missing)}]"
    )


def check_archive(data: bytes, what: str) -> None:
    """Raise BundleError unless the bytes are a whole zip archive that stays small when unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise BundleError(f"{what}: is not a {what.rpartition('.')[2]} archive, whatever its name says") from error
    if unpacked > MAX_BYTES:
        raise BundleError(f"{what}: unpacks to {unpacked} bytes, more than the {MAX_BYTES} that are read")


def one_line(error: Exception) -> str:
    """The first line of an error's text, or its type where it has none."""
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
