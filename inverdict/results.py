"""`Evaluation`, a finished run as data frames, and `load(run)`. It reads files alone and runs no job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.artifacts import read_json
from judging.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

# Columns of the data frames; docs/python.md says what they hold.
PART = ("task", "dataset", "aspect")
BASIS = ("n", "coverage")
SYSTEM = (
    *("system", "mean", "low", "high", "rank", "rank_low", "rank_high"),
    *("share_of_groups_won", "share_of_groups_tied", "at_equal_length", *BASIS),
)
DIFFERENCE = (
    *("first", "second", "difference", "low", "high", "p_holm", "can_be_told_apart"),
    *("groups_won", "groups_tied", "groups_lost", "at_equal_length", *BASIS),
)
AGREEMENT = ("judge", "statistic", "value", "low", "high", *BASIS, "chance", "num_undefined", "dropped_share")
ESTIMATE = ("estimate", "value", "low", "high", *BASIS, "worth")
# An estimate with few labels -> its name in metrics.json.
ESTIMATES = {"labels alone": "labels_alone", "judge alone": "judge_alone", "both": "prediction_powered"}


def load(run: str | Path) -> Evaluation:
    """A finished evaluation with a report.

    Args:
        run: its folder.

    Raises:
        InputError: the folder has no report.
    """
    if not isinstance(run, str | Path):
        raise InputError(f"`run` must be the path of a folder, not {run!r}.", code="invalid_value", key="run")
    found = Evaluation(Path(run))
    if "systems" not in found.metrics:
        words = f"{run} has no report, or one of an earlier version. Run `inverdict report` with its configuration."
        raise InputError(words, code="no_report")
    return found


class Evaluation:
    """A finished evaluation. `run`: its folder, as of `inverdict run`. Columns of the data frames: docs/python.md."""

    def __init__(self, run: Path) -> None:
        self.run = run

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row per text and aspect: `id`, `group`, `system`, `aspect`, `label`; per judge `NAME.score`, ..."""
        import pandas as pd

        return pd.read_parquet(self.run / "evaluate" / "scores.parquet")

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The content of `report/metrics.json`."""
        return read_json(self.run / "report" / "metrics.json") or {}

    def systems(self, by: str = "panel") -> pd.DataFrame:
        """The systems from best to worst, one row for each task, aspect and system: mean, interval, ranks.

        Args:
            by: `panel`, a judge's name, or `people` where texts have labels.

        Raises:
            InputError: nothing of that name has scored texts of a named system.
        """
        rows = [
            {**_part(part), **one, **_estimate("mean", one["mean"]), **_controlled(one["length_controlled_mean"])}
            for part, ranking in self._rankings(by)
            for one in ranking["systems"]
        ]
        return _frame(rows, (*PART, *SYSTEM))

    def differences(self, by: str = "panel") -> pd.DataFrame:
        """All pairs of systems, one row for each task, aspect and pair: the difference, its interval, p after Holm.

        Args:
            by: as in `systems`.
        """
        rows = [
            {
                **_part(part),
                **one,
                **_estimate("difference", one["difference"]),
                **_controlled(one["length_controlled"]),
            }
            for part, ranking in self._rankings(by)
            for one in ranking["differences"]
        ]
        return _frame(rows, (*PART, *DIFFERENCE))

    def with_few_labels(self, by: str = "panel", *, pairs: bool = False) -> pd.DataFrame:
        """Each system's mean by the labels alone, by the judge alone, and by both together (docs/systems.md).

        Args:
            by: `panel` or a judge's name.
            pairs: the differences of all pairs of systems in place of the means.

        Returns:
            One row for each task, aspect, system or pair, and estimate. Empty where all groups have labels or none has;
            means are given only where every system is in every group.
        """
        names = ("first", "second") if pairs else ("system",)
        self._rankings(by)
        rows = [
            {
                **_part(part),
                **{name: one[name] for name in names},
                "estimate": words,
                **_estimate("value", one[key]),
                "worth": one["effective_labelled_groups"] if words == "both" else None,
            }
            for part in self.metrics["systems"]
            if by in part["with_few_labels"]
            for one in part["with_few_labels"][by]["differences" if pairs else "means"]
            for words, key in ESTIMATES.items()
        ]
        return _frame(rows, (*PART, *names, *ESTIMATE))

    def _rankings(self, by: str) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """Each part of the data that has a ranking by that column, with it; at least one."""
        parts = self.metrics["systems"]
        if found := [(part, part["rankings"][by]) for part in parts if by in part["rankings"]]:
            return found
        columns = sorted({name for part in parts for name in part["rankings"]})
        words = f"There is no ranking by {by!r}, only by {', '.join(columns) or 'none'}."
        raise InputError(words, code="invalid_value", key="by")

    def agreement(self) -> pd.DataFrame:
        """The agreement with the labels: one row for each task, aspect, judge and statistic; empty without labels."""
        rows = []
        for part in self.metrics["slices"]:
            for name, tree in part["agreement"].items():
                found = dict(_leaves(tree))
                rows += [
                    {
                        **_part(part),
                        "judge": name,
                        "statistic": statistic,
                        **one,
                        "chance": found.get(f"floor.{statistic}", {}).get("value"),
                    }
                    for statistic, one in found.items()
                    if not statistic.startswith("floor.")
                ]
        return _frame(rows, (*PART, *AGREEMENT))

    def report(self) -> Path:
        """The path of the report's page."""
        return self.run / "report" / "report.html"

    def __repr__(self) -> str:
        sentences = "\n".join(f"  {_title(part)}: {part['sentence']}" for part in self.metrics["systems"])
        return f"Evaluation({str(self.run)!r})\n{sentences}"

    def _repr_html_(self) -> str:
        """For notebooks: what was found, whether it can be trusted, and the table of systems."""
        from markupsafe import escape

        blocks = [
            f"<p><b>{escape(_title(part))}</b><br>{escape(part['sentence'])}<br>{escape(part['trust']['words'])}</p>"
            for part in self.metrics["systems"]
        ]
        has_ranking = any("panel" in part["rankings"] for part in self.metrics["systems"])
        table = self.systems().to_html(index=False, float_format="%.2f") if has_ranking else ""
        return "".join(blocks) + table


# ---------------------------------------------------------------------- the report's numbers as rows


def _frame(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=list(columns))


def _title(part: Mapping[str, Any]) -> str:
    from evaluation.measure.formatting import part_title

    return part_title(part["task"], part["dataset"], part["aspect"])


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part[name] for name in PART}


def _estimate(name: str, estimate: Mapping[str, Any]) -> dict[str, Any]:
    return {name: estimate["value"], **{key: estimate[key] for key in ("low", "high", *BASIS)}}


def _controlled(estimate: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"at_equal_length": estimate["value"] if estimate else None}


def _leaves(tree: Mapping[str, Any], place: str = "") -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Dotted name and JSON of every estimate."""
    for name, node in tree.items():
        path = f"{place}.{name}" if place else name
        if "low" in node:
            yield path, node
        else:
            yield from _leaves(node, path)
