import subprocess
import sys

import pytest

HEAVY = "{'ray', 'torch', 'transformers', 'vllm', 'faiss', 'openai'}"
ONE = "import judging"
ALL = "import importlib, pkgutil, judging\nfor m in pkgutil.walk_packages(judging.__path__, 'judging.'):\n    importlib.import_module(m.name)"  # noqa: E501


@pytest.mark.parametrize("imports", [ONE, ALL], ids=["package", "every module"])
def test_judging_loads_nothing_heavy(imports: str) -> None:
    code = f"{imports}\nimport sys\nprint(sorted({HEAVY} & set(sys.modules)), 'judging' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("[] True\n", "")


def test_every_module_is_walked() -> None:
    code = f"{ALL}\nimport sys\nprint({{'judging.records', 'judging.scorefile', 'judging.vote'}} <= set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "True\n"
