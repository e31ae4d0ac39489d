"""Mixing augmentations; one family a file."""

from zmanifold.mixers.linear import LinearMixer, mix
from zmanifold.mixers.mixup import Mixup
from zmanifold.mixers.zeta import ZetaMixup, gamma_from_lambda, gamma_min

__all__ = ["LinearMixer", "Mixup", "ZetaMixup", "gamma_from_lambda", "gamma_min", "mix"]
