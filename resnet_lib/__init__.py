"""Helpers of the book *Residual Networks, by Experiment*. Importing this needs torch alone."""

from .checks import doctor
from .models import *  # noqa: F403
from .models import FACTORIES, ResNet, create

__version__ = "0.1.0"
__all__ = ["FACTORIES", "ResNet", "__version__", "create", "doctor", *FACTORIES]
