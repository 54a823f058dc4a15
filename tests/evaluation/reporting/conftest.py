"""The tests of reports skip the drawing of plots, three quarters of their time, unless they are marked `draws`."""

import pytest

from evaluation.reporting import plots

# A transparent PNG of one pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


@pytest.fixture(autouse=True)
def no_drawing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plots' code still runs up to the finished figure."""
    if request.node.get_closest_marker("draws") is None:
        from matplotlib import pyplot as plt

        def pixel(figure: plt.Figure) -> str:
            plt.close(figure)
            return PIXEL

        monkeypatch.setattr(plots, "_png", pixel)
