"""The experiment file: YAML, compatible with Determined AI's, to an experiment's spec."""

from ashwood.config.reader import Loaded, build_experiment, read_experiment
from ashwood.config.schema import experiment_schema

__all__ = ["Loaded", "build_experiment", "experiment_schema", "read_experiment"]
