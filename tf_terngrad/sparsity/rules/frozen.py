"""Layers and operations whose widths stay, each with the reason. What no line names is frozen too, as unknown."""

import keras

from tf_terngrad.keras_internals import any_layers, any_operations
from tf_terngrad.sparsity.rules.base import Frozen, Unknown
from tf_terngrad.sparsity.rules.registry import register_rule


class OwnCode(Unknown):
    """Code of the user's, which may compute, and cost, anything."""

    def multiply_adds(self, layer, output, *args, **kwargs):
        return None


LAYERS = {
    "any feature may mask a step": ("Masking",),
    "it changes colours, or pixels at random": (
        *("AugMix", "AutoContrast", "ContrastLimitedAdaptiveHistogramEqualization", "CutMix", "Equalization", "MixUp"),
        *("RandAugment", "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter", "RandomContrast"),
        *("RandomCrop", "RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur"),
        *("RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective", "RandomPosterization"),
        *("RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom"),
        *("Solarization", "Pipeline"),
    ),
    "it takes words, indices, boxes or sounds": (
        *("CategoryEncoding", "Discretization", "HashedCrossing", "Hashing", "IntegerLookup", "StringLookup"),
        *("TextVectorization", "MaxNumBoundingBoxes", "MelSpectrogram", "STFTSpectrogram"),
    ),
}
"""By reason, the layers of Keras."""

OWN_CODE = {
    "it runs Python code that cannot be followed": ("Lambda",),
    "it runs the code of another framework": ("FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper"),
}
"""By reason, layers that run the user's code."""

OPERATIONS = {
    "it calls a function of the user's": (
        *("AssociativeScan", "Cond", "ForiLoop", "JVP", "Map", "Scan", "Switch", "VectorizedMap", "WhileLoop"),
    ),
    "other numbers say what it picks, counts or writes": (
        *("Bincount", "Choose", "Histogram", "InTopK", "MultiHot", "Nonzero", "OneHot", "Scatter", "ScatterUpdate"),
        *("SearchSorted", "SegmentMax", "SegmentMin", "SegmentProd", "SegmentReduction", "SegmentSum"),
        *("SliceUpdate", "TakeAlongAxis", "Unique", "UnravelIndex"),
    ),
    "it compares whole tensors": (
        *("AllClose", "BinaryCrossentropy", "CTCDecode", "CTCLoss", "CategoricalCrossentropy", "PSNR", "SSIM"),
        *("SparseCategoricalCrossentropy",),
    ),
    "its products run over all pairs": ("CDist", "Corrcoef", "Correlate", "Cross", "Kron", "Outer", "Vander", "Vdot"),
    "it runs along the diagonal of a matrix": ("Diag", "Diagflat", "Diagonal", "Trace"),
    "it flattens the batch": ("Append", "Ravel"),
    "it takes no batch of open size": ("Rearrange",),
    "it tells sizes": ("Ndim", "Size"),
    "it reads the same bytes as other numbers": ("View", "ViewAsComplex", "ViewAsReal", "Polar"),
    "it may give several quantiles": ("Nanpercentile", "Nanquantile", "Percentile", "Quantile"),
    "it weighs neighbours along an axis": ("Trapezoid",),
    "it solves or factorizes matrices": (
        *("Cholesky", "CholeskyInverse", "Det", "Eig", "Eigh", "Inv", "Logdet", "Lstsq", "LuFactor", "MatrixRank"),
        *("Pinv", "Qr", "SVD", "Slogdet", "Solve", "SolveTriangular"),
    ),
    "it turns a signal into frequencies, or cuts it into windows": (
        *("ExtractSequences", "FFT", "FFT2", "IFFT2", "IRFFT", "ISTFT", "RFFT", "STFT"),
    ),
    "it cuts images into patches": ("ExtractPatches", "ExtractPatches3D", "Fold", "Unfold"),
    "it changes colours": ("HSVToRGB", "RGBToGrayscale", "RGBToHSV"),
    "other numbers say where its pixels come from": (
        *("AffineTransform", "ElasticTransform", "MapCoordinates", "PerspectiveTransform", "ScaleAndTranslate"),
        *("SobelEdges",),
    ),
    "it makes numbers of its own": (
        *("Arange", "Array", "Empty", "EmptyLike", "Eye", "Full", "Geomspace", "Identity"),
        *("Linspace", "Logspace", "Meshgrid", "Ones", "Tri", "Zeros"),
        *("Bartlett", "Blackman", "Hamming", "Hanning", "Kaiser"),
    ),
    "its statistics are tensors, or run across channels": ("BatchNorm", "LayerNorm", "RMSNorm"),
    "it is quantized": ("FakeQuantWithMinMaxVars",),
}
"""By reason, the operations of Keras."""

for _kind, _table, _present in (
    (Frozen, LAYERS, any_layers),
    (OwnCode, OWN_CODE, any_layers),
    (Frozen, OPERATIONS, any_operations),
):
    for _reason, _names in _table.items():
        for _type in _present(*_names):
            register_rule(_type, _kind(_reason))
register_rule(keras.Function, Frozen("a graph of operations is no layer"))
