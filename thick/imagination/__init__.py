"""Imagining from a belief, step by step: what an agent thinks will happen, decoded for people to look at."""

from thick.imagination.imagine import LEVELS, POLICIES, imagine
from thick.imagination.steps import HighStep, ImaginedStep, LowStep

__all__ = ["LEVELS", "POLICIES", "HighStep", "ImaginedStep", "LowStep", "imagine"]
