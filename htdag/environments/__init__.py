"""Environments of stages: where the Python of a job and its packages come from."""

from htdag.environments.environment import Environment, EnvironmentWarning, Prepared, parse

__all__ = ["Environment", "EnvironmentWarning", "Prepared", "parse"]
