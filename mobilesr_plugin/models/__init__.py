"""BasicSR models. Importing this package registers them in BasicSR's MODEL_REGISTRY."""

from mobilesr_plugin.models.mobile_sr_model import MobileSRModel
from mobilesr_plugin.models.qat_sr_model import QATSRModel
from mobilesr_plugin.models.tflite_sr_model import TFLiteSRModel

__all__ = ["MobileSRModel", "QATSRModel", "TFLiteSRModel"]
