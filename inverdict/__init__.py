"""Inverdict from Python: the same code, configuration and files as the command line.

>>> import inverdict
>>> found = inverdict.evaluate("answers.jsonl", judges="embedded:smollm2-135m-instruct")  # doctest: +SKIP
>>> found.systems()  # which system is better, and how sure  # doctest: +SKIP
"""

from inverdict.client import Client
from inverdict.evaluating import Evaluation, evaluate, load
from inverdict.statistics import SystemComparison, agreement, compare

__all__ = ["Client", "Evaluation", "SystemComparison", "agreement", "compare", "evaluate", "load"]
