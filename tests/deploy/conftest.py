"""The Ray objects that the tests of the manifests run over."""

from typing import Any

import pytest

from tests.deploy.manifests import RAY, ray_object


@pytest.fixture(params=RAY)
def ray(request: pytest.FixtureRequest) -> dict[str, Any]:
    return ray_object(request.param)
