"""`evaluate(...)`: rows, judges and settings -> a configuration, its jobs run in a run folder, and their result."""

from __future__ import annotations

import hashlib
import importlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from cluster.object_store import is_address
from inverdict.results import Evaluation
from inverdict.run_folder import CONFIG, MARK, ROWS, written
from judging.columns import as_text, is_missing
from judging.data_config import DataConfig
from judging.datasets import Empty, Rejected, read_rows
from judging.errors import InputError
from judging.in_memory import raw_rows
from judging.public_data.places import is_dataset
from judging.readers import RowError

Judges = str | Path | Sequence[str | Path] | Mapping[str, str | Path | Mapping[str, Any]]


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
    `inverdict run` does: completed steps are skipped, so the same call resumes an interrupted one. Rows in memory are
    checked as `judging.datasets.read_rows` does and written to `{run}/rows.jsonl`. No other file is overwritten.

    Args:
        rows: a data frame, a `datasets.Dataset`, an iterable of mappings, or the path of a data file (or several), with
            the columns of docs/data.md: `source`, `candidate`, and where known `group`, `system`, `task`, `scores`.
        judges: a model's source such as `embedded:smollm2-135m-instruct`, a folder or a name on the model hub; several
            of them; or by the judge's name a source, or its settings as in the configuration's `evaluate.judges`.
        task: of rows without one, such as `qa`, `dialogue`, `summarisation`.
        run: folder of the results. Default: one below `runs` that the settings and the content of all data determine.
        models: as in the configuration, where judges name them.
        data: further keys of the `data` section, such as `columns` or `scale`.
        **settings: further sections and keys as in the configuration (docs/config.md), such as `seed=1` or
            `report={"resamples": 500}`; keys of `evaluate`, such as `vote`, within `evaluate={...}`.

    Returns:
        The finished evaluation. Warns where more texts than `evaluate.max_unscored_share` have no score.

    Raises:
        InputError, UserError: rows or settings are invalid; nothing has been judged, and no folder is left behind. An
            invalid row in memory is named by its number: `row 17: ...`.
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
    if run is not None and (not isinstance(run, str | Path) or run == "" or is_address(str(run))):
        raise InputError(f"`run` must be the path of a folder, not {run!r}.", code="invalid_value", key="run")
    places = _places(rows)
    raw = _configuration(judges, task, models, data, settings)
    checked = _built({**raw, "run": ".", "data": {**raw["data"], "records": places or [ROWS]}})
    text = None if places else _as_lines(rows, checked.data)
    folder = Path(run or Path("runs") / f"python-{_digest(checked, places, text)}").resolve()
    records = places or [str(folder / ROWS)]
    _run({"run": str(folder), **raw, "data": {"records": records, **raw["data"]}}, folder, text)
    return Evaluation(folder)


# ---------------------------------------------------------------------- the configuration


def _configuration(judges: Judges, task: str | None, models: Any, data: Any, settings: Mapping[str, Any]) -> Any:
    """The configuration as plain values, without the run folder and the data files."""
    given, section = _mapping("data", data), _mapping("evaluate", settings.get("evaluate"))
    for taken, key, argument in (
        (given, "data.records", "rows"),
        (section, "evaluate.judges", "judges"),
        (given if task is not None else {}, "data.task", "task"),
    ):
        if key.partition(".")[2] in taken:
            words = f"`{key}` is given by the argument `{argument}` too. Remove one of the two."
            raise InputError(words, code="conflict", key=key)
    known, asked = _judges(judges, _mapping("models", models))
    config = {
        **settings,
        "data": {**({} if task is None else {"task": task}), **given},
        "models": known,
        "evaluate": {**section, "judges": asked},
    }
    try:
        return json.loads(json.dumps(config, default=_plain))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"A setting cannot be written to a configuration: {error}.", code="invalid_value") from error


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        words = f"`{name}` must be a mapping of settings, not {type(value).__name__}."
        raise InputError(words, code="invalid_value", key=name)
    return dict(value or {})


def _plain(value: Any) -> Any:
    """A value of numpy as one of Python, a path as text."""
    if type(value).__module__ == "numpy":
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is neither text, number, list nor mapping")


class _Judges(NamedTuple):
    """The configuration's `models` and `evaluate.judges`."""

    models: dict[str, Any]
    judges: dict[str, dict[str, Any]]


def _judges(judges: Judges, models: Mapping[str, Any]) -> _Judges:
    known, asked = dict(models), dict[str, dict[str, Any]]()
    names: dict[str, str] = {}  # a source -> the name of its model
    for name, one in _by_name(judges).items():
        if isinstance(one, Mapping):
            asked[name] = dict(one)
            continue
        if not isinstance(one, str | Path):
            words = f"The judge {name!r} must be a model's source or a mapping of settings, not {type(one).__name__}."
            raise InputError(words, code="invalid_value", key="judges")
        source = str(one)
        if source not in models and source not in names:
            if name in known:
                words = f"`models` has a {name!r} already. Call the judge of {source} by another name."
                raise InputError(words, code="duplicate_name", key="judges")
            known[name], names[source] = {"source": source}, name
        asked[name] = {"model": names.get(source, source)}
    return _Judges(known, asked)


def _by_name(judges: Any) -> dict[str, Any]:
    if isinstance(judges, Mapping):
        return {str(name): one for name, one in judges.items()}
    sources = [judges] if isinstance(judges, str | Path) else judges
    if not isinstance(sources, list | tuple) or not all(isinstance(one, str | Path) for one in sources):
        words = "`judges` must be a model's source, a list of sources, or a mapping from names to sources or settings."
        raise InputError(words, code="invalid_value", key="judges")
    names = [_short(str(source)) for source in sources]
    if twice := [name for name in names if names.count(name) > 1]:
        words = f"Two judges would be called {twice[0]!r}. Pass a mapping from names to sources."
        raise InputError(words, code="duplicate_name", key="judges")
    return dict(zip(names, sources, strict=True))


def _short(source: str) -> str:
    """A judge's name from its model's source: the last part."""
    return source.rstrip("/").replace("embedded:", "").rsplit("/", 1)[-1]


def _built(config: Mapping[str, Any]) -> Any:
    """The validated configuration."""
    from cluster import config as configuration
    from cluster import jobs

    return configuration.build(config, jobs.sections(), origin="inverdict.evaluate")


def _digest(checked: Any, places: Sequence[str], text: str | None) -> str:
    """12 hexadecimal digits from the settings and the content of everything that `data` names."""
    from cluster.identity import input_hashes
    from judging.hub import hub_hashes

    data = checked.data
    inputs = [*places, *data.pool, *data.dev, *data.task_files]
    told = [json.loads(checked.model_dump_json(exclude={"run"})), input_hashes(inputs, hub_hashes(inputs)), text]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


# ---------------------------------------------------------------------- the rows


def _places(rows: Any) -> list[str]:
    """The places of data files; none where the rows are in memory."""
    places = [rows] if isinstance(rows, str | Path) else rows
    if not isinstance(places, list | tuple) or not all(isinstance(one, str | Path) for one in places):
        return []
    return [one if isinstance(one, str) and _is_name(one) else str(Path(one).resolve()) for one in places]


def _is_name(place: str) -> bool:
    """Whether the place is no path: an address, or the name of a public data set."""
    return "://" in place or is_dataset(place)


def _as_lines(rows: Any, data: DataConfig) -> str:
    """Rows in memory as JSON lines, from which the reader makes the same records as from the rows."""
    plain, lines = [], []
    for number, row in raw_rows(rows):
        try:
            if isinstance(row, RowError):
                raise row
            lines.append(json.dumps({name: _json(name, value) for name, value in row.items()}, ensure_ascii=False))
        except RowError as error:
            raise InputError(f"row {number}: {error}", code=error.code, key=error.key) from error
        plain.append(row)
    if not lines:
        raise InputError("There is no row to judge.", code="no_records", key="rows")
    if data.max_rejected_share == 0:
        for found in read_rows(plain, **data.row_options()):
            if isinstance(found, Rejected) and not isinstance(found, Empty):
                raise found.error()
    return "".join(f"{line}\n" for line in lines)


def _json(name: str, value: Any) -> Any:
    """The value as JSON has it; a kind of value that JSON lacks as the text that the reader makes of it."""
    if isinstance(value, Mapping):
        return {key: _json(name, one) for key, one in value.items()}
    if isinstance(value, list):
        return [_json(name, one) for one in value]
    if is_missing(value):
        return None
    return value if isinstance(value, bool | int | float | str) else as_text(name, value)


# ---------------------------------------------------------------------- the jobs


def _run(config: Mapping[str, Any], folder: Path, text: str | None) -> None:
    """Write the configuration and the rows to the run folder, and run the configuration's jobs."""
    from cluster import jobs, models

    run = _built(config)
    files = {} if text is None else {ROWS: text}
    files[CONFIG] = MARK + yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    try:
        with written(folder, files):
            for job in jobs.jobs_of(run):
                with models.looked_up_once():
                    module = importlib.import_module(jobs.JOBS[job][0])
                    code, summary = module.main(run)
                if code != 0:
                    warnings.warn(f"{job}: {module.render(summary)}", stacklevel=3)
    except InputError as error:
        words = str(error).replace(f"{folder / ROWS}, line ", "row ")
        if words == str(error):
            raise
        raise InputError(words, code=error.code, key=error.key) from error
