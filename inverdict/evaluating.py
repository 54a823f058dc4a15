"""`evaluate(...)` and `load(...)`: judge texts and read the result as data frames."""

from __future__ import annotations

import hashlib
import importlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cluster.artifacts import file_hash, read_json, write_text
from judging.errors import InputError
from judging.in_memory import raw_rows
from judging.readers import RowError

if TYPE_CHECKING:
    import pandas as pd

Judges = str | Path | Sequence[str | Path] | Mapping[str, str | Path | Mapping[str, Any]]
CONFIG, ROWS = "inverdict.yaml", "rows.jsonl"  # in the folder of a run that Python started


# Long because of its documentation and example.
def evaluate(
    rows: Any,
    *,
    judges: Judges,
    task: str | None = None,
    run: str | Path | None = None,
    models: Mapping[str, Mapping[str, Any]] | None = None,
    data: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Evaluation:
    """Judge texts with one judge or several, and compare their systems.

    Writes the configuration to `{run}/inverdict.yaml`, which every command takes, and runs its jobs as
    `inverdict run` does: completed steps are skipped, so the same call resumes an interrupted one.

    Args:
        rows: a data frame, a `datasets.Dataset`, an iterable of mappings, or the path of a data file (or several), with
            the columns of docs/data.md: `source`, `candidate`, and where known `group`, `system`, `task`, `scores`.
        judges: a model's source such as `embedded:smollm2-135m-instruct`, a folder or a name on the model hub; several
            of them; or by the judge's name a source, or its settings as in the configuration's `evaluate.judges`.
        task: of rows without one, such as `qa`, `dialogue`, `summarisation`.
        run: folder of the results. Default: one below `runs` that the rows' content and the settings determine.
        models: as in the configuration, where judges name them.
        data: further keys of the `data` section, such as `columns` or `scale`.
        **settings: further sections and keys as in the configuration (docs/config.md), such as `seed=1` or
            `report={"resamples": 500}`; keys of `evaluate`, such as `vote`, within `evaluate={...}`.

    Returns:
        The finished evaluation. Warns where more texts than `evaluate.max_unscored_share` have no score.

    Raises:
        InputError, UserError: rows or settings are invalid; nothing has been judged.
        JobFailed: a model or the cluster failed.

    Example:
        >>> import inverdict
        >>> rows = [
        ...     {"group": 1, "source": "Why is the sky blue?", "system": "a", "candidate": "Air scatters blue light."},
        ...     {"group": 1, "source": "Why is the sky blue?", "system": "b", "candidate": "Because of the sea."},
        ... ]
        >>> found = inverdict.evaluate(
        ...     rows, task="qa", judges={"fake": {"model": "fake"}}, models={"fake": {"backend": "scripted"}}
        ... )
        >>> found.scores[["system", "fake.score"]].shape
        (2, 2)
    """
    known, asked = _judges(judges, dict(models or {}))
    config: dict[str, Any] = {
        "data": {**({"task": task} if task else {}), **dict(data or {})},
        "models": known,
        **settings,
        "evaluate": {**settings.get("evaluate", {}), "judges": asked},
    }
    files, text = _files(rows)
    contents = [file_hash(Path(one)) if Path(one).is_file() else one for one in files]
    digest = hashlib.sha256(json.dumps([config, contents, text], sort_keys=True, default=str).encode()).hexdigest()
    folder = Path(run or Path("runs") / f"python-{digest[:12]}").resolve()
    files = [str(folder / ROWS)] if text is not None else files
    config = {"run": str(folder), **config, "data": {"records": files, **config["data"]}}
    _run(json.loads(json.dumps(config, default=_plain)), text)
    return Evaluation(folder)


def load(run: str | Path) -> Evaluation:
    """A finished evaluation with a report.

    Args:
        run: its folder.

    Raises:
        InputError: the folder has no report.
    """
    found = Evaluation(Path(run))
    if "systems" not in found.metrics:
        words = f"{run} has no report, or one of an earlier version. Run `inverdict report` with its configuration."
        raise InputError(words, code="no_report")
    return found


class Evaluation:
    """A finished evaluation. `run`: its folder, as of `inverdict run`."""

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
        import pandas as pd

        rows = [
            {**_part(part), "system": one["system"], **_flat(one["mean"]), **_rest(one)}
            for part, ranking in self._rankings(by)
            for one in ranking["systems"]
        ]
        return pd.DataFrame(rows)

    def differences(self, by: str = "panel") -> pd.DataFrame:
        """All pairs of systems, one row for each task, aspect and pair: the difference, its interval, p after Holm.

        Args:
            by: as in `systems`.
        """
        import pandas as pd

        names = ("first", "second", "p_holm", "can_be_told_apart", "groups_won", "groups_tied", "groups_lost")
        rows = [
            {**_part(part), **{name: one[name] for name in names}, **_flat(one["difference"]), **_at_equal_length(one)}
            for part, ranking in self._rankings(by)
            for one in ranking["differences"]
        ]
        return pd.DataFrame(rows)

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
        import pandas as pd

        rows = [
            {**_part(part), "judge": name, "statistic": statistic, **_flat(estimate)}
            for part in self.metrics["slices"]
            for name, tree in part["agreement"].items()
            for statistic, estimate in _leaves(tree)
            if not statistic.startswith("floor.")
        ]
        return pd.DataFrame(rows)

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


def _judges(judges: Judges, models: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration's `models` and `evaluate.judges`."""
    if isinstance(judges, str | Path):
        judges = [judges]
    if not isinstance(judges, Mapping):
        names = [_short(str(source)) for source in judges]
        if twice := [name for name in names if names.count(name) > 1]:
            words = f"Two judges would be called {twice[0]!r}. Pass a mapping from names to sources."
            raise InputError(words, code="duplicate_name", key="judges")
        judges = dict(zip(names, map(str, judges), strict=True))
    asked: dict[str, Any] = {}
    for name, one in judges.items():
        if isinstance(one, str | Path) and str(one) not in models:
            if name in models:
                words = f"`models` has a {name!r} already. Call the judge of {one} by another name."
                raise InputError(words, code="duplicate_name", key="judges")
            models[name] = {"source": str(one)}
            one = name
        asked[name] = dict(one) if isinstance(one, Mapping) else {"model": str(one)}
    return models, asked


def _short(source: str) -> str:
    """A judge's name from its model's source: the last part."""
    return source.rstrip("/").replace("embedded:", "").rsplit("/", 1)[-1]


def _files(rows: Any) -> tuple[list[str], str | None]:
    """Places of data files; or none, and rows as JSON lines."""
    places = [rows] if isinstance(rows, str | Path) else rows
    if isinstance(places, list | tuple) and places and all(isinstance(one, str | Path) for one in places):
        return [one if isinstance(one, str) and "://" in one else str(Path(one).resolve()) for one in places], None
    lines = []
    for number, row in raw_rows(rows):
        if isinstance(row, RowError):
            raise InputError(f"Row {number}: {row}.", code=row.code, key=row.key)
        lines.append(json.dumps(_without_missing(row), ensure_ascii=False, default=str) + "\n")
    if not lines:
        raise InputError("There is no row to judge.", code="no_records", key="rows")
    return [], "".join(lines)


def _without_missing(value: Any) -> Any:
    """The value without the entries of mappings that are null, or NaN as pandas writes missing values."""
    if isinstance(value, Mapping):
        return {key: _without_missing(one) for key, one in value.items() if one is not None and one == one}
    return value


def _plain(value: Any) -> Any:
    """A number of numpy as one of Python, a path as text."""
    return value.item() if hasattr(value, "item") else str(value)


def _run(config: Mapping[str, Any], text: str | None) -> None:
    """Validate the configuration, write it (and the rows) to its run folder, and run its jobs."""
    from cluster import config as configuration
    from cluster import jobs, models

    folder = Path(config["run"])
    run = configuration.build(config, jobs.sections(), origin="inverdict.evaluate")
    rows = folder / ROWS
    if text is not None and (folder / "evaluate").exists() and rows.exists() and rows.read_text("utf-8") != text:
        words = f"{folder} holds the evaluation of other rows. Choose another `run`."
        raise InputError(words, code="other_rows", key="run")
    folder.mkdir(parents=True, exist_ok=True)
    if text is not None:
        write_text(rows, text)
    write_text(folder / CONFIG, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
    for job in jobs.jobs_of(run):
        with models.looked_up_once():
            module = importlib.import_module(jobs.JOBS[job][0])
            code, summary = module.main(run)
        if code != 0:
            warnings.warn(f"{job}: {module.render(summary)}", stacklevel=3)


# ---------------------------------------------------------------------- the report's numbers as rows


def _title(part: Mapping[str, Any]) -> str:
    from evaluation.measure.formatting import part_title

    return part_title(part["task"], part["dataset"], part["aspect"])


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part[name] for name in ("task", "dataset", "aspect")}


def _flat(estimate: Mapping[str, Any]) -> dict[str, Any]:
    return {name: estimate[name] for name in ("value", "low", "high", "n", "coverage")}


def _rest(system: Mapping[str, Any]) -> dict[str, Any]:
    names = ("rank", "rank_low", "rank_high", "share_of_groups_won", "share_of_groups_tied")
    controlled = system["length_controlled_mean"]
    return {**{name: system[name] for name in names}, "at_equal_length": controlled["value"] if controlled else None}


def _at_equal_length(pair: Mapping[str, Any]) -> dict[str, Any]:
    controlled = pair["length_controlled"]
    return {"at_equal_length": controlled["value"] if controlled else None}


def _leaves(tree: Mapping[str, Any], place: str = "") -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Dotted name and JSON of every estimate."""
    for name, node in tree.items():
        path = f"{place}.{name}" if place else name
        if "low" in node:
            yield path, node
        else:
            yield from _leaves(node, path)
