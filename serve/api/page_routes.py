"""Health, metrics and the pages: `/healthz`, `/readyz`, `/metrics`, `/`, `/docs`, `/report`."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

from serve.api.error_handlers import ERRORS, error_answer
from serve.api.service import Service
from serve.api.web_pages import csp_of, docs_page, web_page

RECORDS_LINK = re.compile("<p class=records>.*?</p>\n")  # in evaluation/reporting/templates/report.html


def add_health(app: FastAPI, service: Service) -> None:
    """Add the endpoints for probes and for Prometheus.

    Args:
        app: the application.
        service: the panel.
    """

    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """Whether the server runs."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"], responses=ERRORS, response_model=None)
    async def readyz() -> Any:
        """Whether enough judges respond for a quorum."""
        alive = await service.judges_alive()
        if len(alive) < service.about.min_votes:
            message = f"{len(alive)} of {len(service.about.judges)} judges are responding."
            return error_answer(503, message, code="not_ready")
        return {"status": "ready", "judges": len(alive)}

    @app.get("/metrics", tags=["health"], response_class=Response)
    async def metrics() -> Response:
        """Metrics of all replicas in Prometheus' text format; they follow the counts by some ten seconds."""
        return Response(await service.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")


def add_pages(app: FastAPI, service: Service, report: Path | None) -> None:
    """Add the pages for browsers.

    Args:
        app: the application.
        service: the panel.
        report: a report.html to serve, or None.
    """
    page = web_page(service.about.tasks, [one["id"] for one in service.about.judges], has_report=report is not None)

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": csp_of(page)})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        text = docs_page(app.openapi())
        return HTMLResponse(text, headers={"content-security-policy": csp_of(text)})

    if report is not None:

        @app.get("/report", include_in_schema=False)
        async def report_page() -> HTMLResponse:
            policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
            text = await asyncio.to_thread(report.read_text, "utf-8")
            # records.html holds every judged text and is not served.
            text = RECORDS_LINK.sub("", text)
            return HTMLResponse(text, headers={"content-security-policy": policy})
