"""The conformance kit: what any provider's declaration must stand, asked by its own recorded answers.

:func:`conform` checks a declaration against a folder of answers (:mod:`runops.conformance.answers` describes a file of
it), :mod:`runops.conformance.record` writes such a folder from a real run, and :mod:`runops.conformance.new_provider`
begins a declaration from two or three answers. It needs nothing but the core, and asks no service outside.
"""

from runops.conformance.answers import RecordedAnswer, read_folder
from runops.conformance.check import CHECKS, conform
from runops.conformance.report import Finding, Report

__all__ = ["CHECKS", "Finding", "RecordedAnswer", "Report", "conform", "read_folder"]
