"""Noise schedule, objectives, noise field and samplers."""

from __future__ import annotations

from .noise import noise_field
from .samplers import sample
from .schedule import Schedule

__all__ = ["Schedule", "noise_field", "sample"]
