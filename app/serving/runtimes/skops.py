"""Load skops files, with reviewed types beyond skops's own list.

scikit-learn's models need these types.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import groupby
from typing import Any

import numpy as np

from app.errors import BundleError, one_line

MAX_BYTES = 2**31
"""Largest file that is read, and largest archive once unpacked."""

# skops checks types, not contents: these hold indices that compiled code follows without looking. A crafted one could
# crash the process, so a bundle's files are pinned by sha256, and golden rows are answered before the first request.
COMPILED = (
    "sklearn.tree._tree.Tree",  # forests, boosting, AdaBoost: arrays of nodes
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",  # HistGradientBoosting: arrays of nodes
    "sklearn.neighbors._kd_tree.KDTree",  # neighbours: arrays of points and nodes
    "sklearn.neighbors._ball_tree.BallTree",  # the same
    *(
        f"sklearn.metrics._dist_metrics.{distance}Distance64"  # parameters alone; PyFunc calls, and is not here
        for distance in (
            *("BrayCurtis", "Canberra", "Chebyshev", "Dice", "Euclidean", "Hamming", "Haversine", "Jaccard"),
            *("Mahalanobis", "Manhattan", "Minkowski", "RogersTanimoto", "RussellRao", "SEuclidean"),
            *("SokalMichener", "SokalSneath"),
        )
    ),
    "scipy.sparse._csr.csr_matrix",  # SparseRandomProjection: indices and numbers
    "scipy.interpolate._bsplines.BSpline",  # SplineTransformer: knots and coefficients
    "scipy.interpolate._bsplines._BSpline",  # the same, inside BSpline from SciPy 1.18 on (Python 3.12 and newer)
)
# Plain Python that holds fitted numbers; nothing in it calls what it is given.
CONTAINERS = (
    "collections.OrderedDict",  # a dict that keeps its order, in models of LightGBM
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
            *("PairwiseKernel", "Product", "RBF", "RationalQuadratic", "Sum", "WhiteKernel"),
        )
    ),
    "sklearn._loss.loss.HalfTweedieLoss",  # the loss of a fit that is over
    "sklearn._loss.loss.HalfTweedieLossIdentity",  # the same
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",  # the state of a fit that is over
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",  # the same
    "sklearn.cluster._bisect_k_means._BisectingTree",  # nodes with their centres
    *(
        f"sklearn.model_selection._split.{splitter}"  # how a search split its rows, over as well
        for splitter in (
            *("BaseShuffleSplit", "GroupKFold", "GroupShuffleSplit", "KFold", "LeaveOneGroupOut", "LeaveOneOut"),
            *("LeavePGroupsOut", "LeavePOut", "PredefinedSplit", "RepeatedKFold", "RepeatedStratifiedKFold"),
            *("ShuffleSplit", "StratifiedGroupKFold", "StratifiedKFold", "StratifiedShuffleSplit", "TimeSeriesSplit"),
        )
    ),
    *(
        f"sklearn.model_selection._search_successive_halving.{search}"  # an estimator that is still experimental
        for search in ("HalvingGridSearchCV", "HalvingRandomSearchCV", "_SubsampleMetaSplitter")
    ),
    "sklearn.multiclass._ConstantPredictor",  # one label, where a binary part of a task had no other
    "sklearn.utils._metadata_requests.MetadataRequest",  # names of optional arguments
    "sklearn.utils._metadata_requests.MethodMetadataRequest",  # the same
)
# Functions of scikit-learn and SciPy without side effects: they convert or check arrays, or score a fit that is over.
FUNCTIONS = (
    "functools.partial",  # HistGradientBoosting binds arguments to check_array; what is bound is itself checked by type
    "scipy._lib.array_api_compat.numpy._aliases.asarray",  # numpy.asarray, inside BSpline
    "sklearn.utils.validation.check_array",  # raises, or gives the array back
    "numpy.mean",  # FeatureAgglomeration pools columns by it
    "sklearn.cluster._kmeans._kmeans_single_lloyd",  # BisectingKMeans called it when it was fitted
    *(
        f"sklearn.feature_selection._{score}"  # SelectKBest and its kin score columns when fitting
        for score in (
            *("mutual_info.mutual_info_classif", "mutual_info.mutual_info_regression"),
            *("univariate_selection.chi2", "univariate_selection.f_classif", "univariate_selection.f_oneway"),
            *("univariate_selection.f_regression", "univariate_selection.r_regression"),
        )
    ),
    *(
        f"sklearn.metrics._scorer.{scorer}"  # a search's score: never called to predict
        for scorer in (
            *("_CurveScorer", "_MultimetricScorer", "_PassthroughScorer", "_Scorer"),
            *("negative_likelihood_ratio", "positive_likelihood_ratio"),
        )
    ),
    *(
        f"sklearn.metrics.{metric}"  # what a scorer computes
        for metric in (
            *("_classification.accuracy_score", "_classification.balanced_accuracy_score"),
            *("_classification.brier_score_loss", "_classification.cohen_kappa_score"),
            *("_classification.d2_brier_score", "_classification.d2_log_loss_score", "_classification.f1_score"),
            *("_classification.fbeta_score", "_classification.jaccard_score", "_classification.log_loss"),
            *("_classification.matthews_corrcoef", "_classification.precision_score", "_classification.recall_score"),
            *("_ranking.average_precision_score", "_ranking.roc_auc_score", "_ranking.top_k_accuracy_score"),
            *("_regression.d2_absolute_error_score", "_regression.explained_variance_score", "_regression.max_error"),
            *("_regression.mean_absolute_error", "_regression.mean_absolute_percentage_error"),
            *("_regression.mean_gamma_deviance", "_regression.mean_pinball_loss", "_regression.mean_poisson_deviance"),
            *("_regression.mean_squared_error", "_regression.mean_squared_log_error"),
            *("_regression.mean_tweedie_deviance", "_regression.median_absolute_error", "_regression.r2_score"),
            *("_regression.root_mean_squared_error", "_regression.root_mean_squared_log_error"),
            *("cluster._supervised.adjusted_mutual_info_score", "cluster._supervised.adjusted_rand_score"),
            *("cluster._supervised.completeness_score", "cluster._supervised.fowlkes_mallows_score"),
            *("cluster._supervised.homogeneity_score", "cluster._supervised.mutual_info_score"),
            *("cluster._supervised.normalized_mutual_info_score", "cluster._supervised.rand_score"),
            "cluster._supervised.v_measure_score",
        )
    ),
)
REVIEWED = frozenset(COMPILED + CONTAINERS + FUNCTIONS)


def load_skops(data: bytes, *, trusted_types: Sequence[str] = (), what: str = "the model") -> Any:
    """The object in a skops file, if every type in it is trusted.

    Args:
        trusted_types: names trusted beyond skops' own list and the reviewed one; ``package.*`` is all of a package.
        what: names the file in errors.

    Raises:
        BundleError: it is no skops file, too large, or holds other types; nothing of it was built then.
    """
    import skops.io

    check_archive(data, what)
    try:
        found = skops.io.get_untrusted_types(data=data)
        packages = tuple(name[:-1] for name in trusted_types if name.endswith(".*"))
        unknown = set(found) - REVIEWED - set(trusted_types)
        missing = sorted(name for name in unknown if not name.startswith(packages))
        if not missing:
            loaded = skops.io.loads(data, trusted=found)
            check_trees(loaded, what)
            return loaded
    except BundleError:
        raise
    except ModuleNotFoundError as error:
        raise BundleError(f"{what}: {own_code(error.name or '')}") from error
    except Exception as error:
        raise BundleError(f"{what}: skops cannot read it ({one_line(error)}); bundle the model again") from error
    raise BundleError(f"{what}: holds types that are not trusted; {_advise(missing)}")


SUGGESTED = ("numpy", "scipy", "sklearn", "imblearn", "category_encoders", "xgboost", "lightgbm", "catboost")
"""Packages whose types may be suggested: numerical code of known projects."""
_RUNS_CODE = re.compile(
    r"(^|\.)(scipy\.stats|scipy\.io|numpy\.(testing|f2py|distutils|ctypeslib|lib\._?npyio\w*|_core\._?\w*memmap)"
    r"|sklearn\.(datasets|externals|utils\._testing|utils\._joblib))(\.|$)"
    r"|\.(_?load\w*|_?save\w*|fromfile|tofile|memmap|DataSource|open\w*|exec\w*|eval\w*|run\w*|compile\w*|system"
    r"|\w*import\w*)$"
)
"""Parts of them that read files, start processes, or run text; never suggested."""


def _advise(missing: Sequence[str]) -> str:
    """Say which types can be set as trusted, and which ones run code."""
    foreign = [name for name in missing if name.split(".")[0] not in SUGGESTED or _RUNS_CODE.search(name)]
    known = [name for name in missing if name not in foreign]
    absent = [name for name in foreign if _is_absent(name)]
    foreign = [name for name in foreign if name not in absent]
    hint = "; or store the search's best_estimator_ alone" if any(map(_is_distribution, missing)) else ""
    flags = " ".join(f"--trust {name}" for name in known)
    listed = f"set serving.trusted_types: [{', '.join(known)}]"
    parts = [f"if you trust its source, bundle it with {flags}, and {listed} where it is served"] if known else []
    if absent:
        parts += [own_code(top, named) for top, named in groupby(absent, key=lambda name: name.partition(".")[0])]
    if foreign:
        parts.append(
            f"it names code that would run: {', '.join(foreign)}; find out who made the file, "
            "and bundle the model again without it, or with --format joblib if it is your own"
        )
    return "; ".join(parts) + hint


def _is_absent(name: str) -> bool:
    """Tell whether the package of a type is not installed here, as a user's own module is not."""
    top = name.partition(".")[0]
    try:
        return top == "__main__" or (top.isidentifier() and find_spec(top) is None)
    except (ImportError, ValueError):
        return False


def own_code(module: str, names: Iterable[str] = ()) -> str:
    """Say how a model gets a module that it needs, which is not installed."""
    top = module.partition(".")[0]
    what = ", ".join(names) or f"the module {top}"
    if top == "__main__":
        return f"{what} was defined in a script or a notebook: move it into a module, and fit the model again"
    return f"{what} is not installed here: if it is your own code, bundle the model with --code-path {top}.py"


def _is_distribution(name: str) -> bool:
    """Tell a distribution of SciPy, which is never reviewed.

    It runs text out of its own state when it is loaded.
    """
    return name.startswith("scipy.stats.")


def check_archive(data: bytes, what: str) -> None:
    """Raise BundleError unless the bytes are a whole zip archive that stays small when unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise BundleError(f"{what}: is not a {what.rpartition('.')[2]} archive, whatever its name says") from error
    if unpacked > MAX_BYTES:
        raise BundleError(f"{what}: unpacks to {unpacked} bytes, more than the {MAX_BYTES} that are read")


def check_trees(loaded: Any, what: str) -> None:
    """See whether the nodes of every tree lead to nodes, and split by features, that are there.

    Raises:
        BundleError: one does not; compiled code would follow it out of its arrays.
    """
    seen: set[int] = set()
    waiting = [loaded]
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, (str, bytes, int, float, type(None), type)):
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, (list, tuple, set)):
            waiting += item
        elif isinstance(item, np.ndarray):
            waiting += item.ravel().tolist() if item.dtype == object else []
        elif not _is_sound(item):
            raise BundleError(
                f"{what}: a tree in it points out of its own nodes: it is damaged or crafted; bundle the model again"
            )
        else:
            waiting.append(getattr(item, "__dict__", None))


def _is_sound(item: Any) -> bool:
    """Tell whether the nodes of a tree, where this is one, lead on to later nodes."""
    match type(item).__name__:
        case "Tree":
            left, right, feature = item.children_left, item.children_right, item.feature
            inner = left != -1
            return _lead_on(left, right, inner) and _within(feature[inner], item.n_features)
        case "TreePredictor":
            nodes = item.nodes
            inner = nodes["is_leaf"] == 0
            return _lead_on(nodes["left"], nodes["right"], inner)
        case "KDTree" | "BallTree":
            data, index, nodes, _ = item.get_arrays()
            ends = [nodes[name] for name in ("idx_start", "idx_end")]
            return _within(index, len(data)) and all(_within(end, len(index) + 1) for end in ends)
    return True


def _lead_on(left: Any, right: Any, inner: Any) -> bool:
    """Tell whether inner nodes have two children behind them, so that every path ends."""
    places = np.flatnonzero(inner)
    return all(
        bool((child[inner].astype(np.int64) > places).all()) and _within(child[inner], len(inner))
        for child in (left, right)
    )


def _within(indices: Any, size: int) -> bool:
    return bool(((indices >= 0) & (indices < size)).all())
