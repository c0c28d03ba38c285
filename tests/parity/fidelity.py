"""What torch-fidelity computes. It imports torchvision for networks that are not used here."""

import sys
from unittest.mock import MagicMock, patch

_PARTS = ("torchvision", "torchvision.datasets", "torchvision.transforms")
_PLACES = (*_PARTS, "torchvision.transforms.functional")

with patch.dict(sys.modules, {name: MagicMock() for name in _PLACES}):
    from torch_fidelity.feature_extractor_inceptionv3 import (
        FeatureExtractorInceptionV3 as FeatureExtractorInceptionV3,
    )
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x as interpolate_bilinear_2d_like_tensorflow1x,
    )
    from torch_fidelity.metric_fid import fid_features_to_statistics as fid_features_to_statistics
    from torch_fidelity.metric_fid import fid_statistics_to_metric as fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric as isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric as kid_features_to_metric
