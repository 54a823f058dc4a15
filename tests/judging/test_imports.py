import subprocess
import sys

import pytest

HEAVY = ("ray", "torch", "transformers", "vllm", "faiss", "openai", "matplotlib", "pandas")
EVERY_MODULE = """
import importlib, pkgutil, judging
for module in pkgutil.walk_packages(judging.__path__, "judging."):
    importlib.import_module(module.name)
assert {"judging.records", "judging.stats.cli", "judging.voting.vote"} <= set(sys.modules)
"""


@pytest.mark.parametrize("imports", ["import judging", EVERY_MODULE], ids=["package", "every module"])
def test_judging_loads_nothing_heavy(imports: str) -> None:
    code = f"import sys\n{imports}\nprint(sorted(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
