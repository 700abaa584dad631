"""Reads experiment files: YAML, compatible with Determined AI's, to the spec of an experiment."""

from ashwood.config.backend import parse_backend
from ashwood.config.fork import file_of_fork, read_fork
from ashwood.config.kinds import parse_duration, parse_length, parse_max_length, parse_size
from ashwood.config.overrides import parse_hparams, with_overrides
from ashwood.config.plain import plain_hparams
from ashwood.config.reader import (
    Loaded,
    build_experiment,
    parse_experiment,
    read_experiment,
    reread_experiment,
)
from ashwood.config.rewriting import replace_searcher, searcher_of, section_text, with_search
from ashwood.config.schema import experiment_schema
from ashwood.config.section import in_its_section
from ashwood.config.stop_when import BOUNDS, bound_overrides, parse_stop_when
from ashwood.config.storage import parse_max_size
from ashwood.config.tree import tree_of

__all__ = [
    "BOUNDS",
    "Loaded",
    "bound_overrides",
    "build_experiment",
    "experiment_schema",
    "file_of_fork",
    "in_its_section",
    "parse_backend",
    "parse_duration",
    "parse_experiment",
    "parse_hparams",
    "parse_length",
    "parse_max_length",
    "parse_max_size",
    "parse_size",
    "parse_stop_when",
    "plain_hparams",
    "read_experiment",
    "read_fork",
    "replace_searcher",
    "reread_experiment",
    "searcher_of",
    "section_text",
    "tree_of",
    "with_overrides",
    "with_search",
]
