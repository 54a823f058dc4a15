"""Inverdict from Python: the same code, configuration and files as the command line.

>>> import inverdict
>>> rows = [
...     {"group": group, "source": "Why is the sky blue?", "system": system, "candidate": f"Answer {group}{system}."}
...     for group in ("first", "second")
...     for system in ("old", "new")
... ]
>>> found = inverdict.evaluate(  # a real judge: judges="embedded:smollm2-135m-instruct"
...     rows, task="qa", judges={"fake": {"model": "fake"}}, models={"fake": {"backend": "scripted"}}
... )
>>> sorted(found.systems()["system"])  # which system is better, and how sure
['new', 'old']
"""

from inverdict.client import Client
from inverdict.evaluating import evaluate
from inverdict.results import Evaluation, load
from inverdict.statistics import SystemComparison, agreement, compare

__all__ = ["Client", "Evaluation", "SystemComparison", "agreement", "compare", "evaluate", "load"]
