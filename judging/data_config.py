"""The configuration's `data` section: which rated texts are read, and how they are split into test, dev and pool."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, field_validator, model_validator

from judging.columns import KNOWN
from judging.errors import InputError
from judging.public_data.places import Place
from judging.readers import Format
from judging.records import Record, content_id
from judging.tasks import is_task_file

NonEmpty = Annotated[str, StringConstraints(min_length=1)]
Share = Annotated[float, Field(gt=0, le=1)]


class DataConfig(BaseModel):
    """The configuration's `data` section: which rated texts a run reads, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    records: tuple[Place, ...] = Field(
        min_length=1,
        description="files, folders of files, `dataset:NAME` (`inverdict data list`), or `hf://OWNER/NAME:SPLIT`, of "
        "texts to judge",
    )
    pool: tuple[Place, ...] = Field((), description="files of rated texts used as few-shot examples")
    format: Format = "auto"
    columns: dict[str, str] = Field(
        default_factory=dict, description="column names in the files -> field names of a record"
    )
    systems: tuple[NonEmpty, ...] = Field(
        (),
        description="wide form: columns that each hold one system's text; a row becomes one record per system",
    )
    task: str | None = Field(None, description="task of rows without one")
    dataset: str | None = Field(None, description="data set of rows without one")
    scale: tuple[FiniteFloat, FiniteFloat] | None = Field(None, description="scale [low, high] of rows without one")
    group_by_source: bool = Field(
        False,
        description="make each source a group: of a group name used for several (false: an error), and of rows "
        "without a group",
    )
    labels: Literal["human", "constructed"] = Field("human", description="origin of the scores, shown in the report")
    aspects: dict[str, tuple[NonEmpty, ...]] = Field(
        default_factory=dict,
        description="rated aspects to use, by task; scores on other aspects are dropped",
    )
    groups_share: Share | dict[str, Share] = Field(
        1.0, description="share of groups to judge, chosen by hash; or by data set (others: all)"
    )
    pool_share: float | None = Field(
        None, gt=0, lt=1, description="share of groups used as the pool, by hash; only the others are judged"
    )
    dev: tuple[Place, ...] = Field(
        (), description="files of labelled texts for selecting prompts, judges and votes, instead of dev_share"
    )
    dev_share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of the other groups, by hash, for selecting prompts, judges and votes (`optimise`, "
        "`panel`); excluded from `evaluate`",
    )
    part: Literal["test", "dev"] = Field("test", description="the part to judge")
    max_rejected_share: float = Field(
        0.0, ge=0, lt=1, description="accepted share of invalid rows; above it the command exits with 2"
    )

    @field_validator("systems")
    @classmethod
    def _are_systems(cls, systems: tuple[str, ...]) -> tuple[str, ...]:
        if twice := [name for name in systems if systems.count(name) > 1]:
            raise ValueError(f"{twice[0]!r} is named twice")
        if taken := [name for name in systems if name.partition(".")[0] in KNOWN]:
            raise ValueError(f"{taken[0]!r} is a field of a record. Give the column another name in data.columns.")
        return systems

    @model_validator(mode="after")
    def _shares_something(self) -> DataConfig:
        if self.pool_share is not None and not self.pool:
            raise InputError("`pool_share` needs data.pool to be set", code="missing_key", key="pool")
        if self.dev and self.dev_share is not None:
            raise InputError("`dev` and `dev_share` exclude each other. Keep one of the two.", code="conflict")
        if self.part == "dev" and not self.has_dev:
            raise InputError("`part: dev` needs data.dev or data.dev_share to be set", code="missing_key", key="dev")
        return self

    @property
    def has_dev(self) -> bool:
        return bool(self.dev) or self.dev_share is not None

    @property
    def task_files(self) -> tuple[str, ...]:
        """The task's own file, where `task` is one and not a built-in task: an input like the texts."""
        return (self.task,) if self.task is not None and is_task_file(self.task) else ()

    @property
    def judged(self) -> tuple[str, ...]:
        """The files whose texts are judged."""
        return self.dev if self.dev and self.part == "dev" else self.records

    def takes(self, record: Record) -> bool:
        """Whether the record is judged: its group is in the configured part and share, and not in the pool."""
        if self.pool_share is not None and self.serves(record):
            return False
        share = (
            self.groups_share if isinstance(self.groups_share, float) else self.groups_share.get(record.dataset, 1.0)
        )
        is_of_part = bool(self.dev) or self.develops(record) == (self.part == "dev")
        return is_of_part and _share_of("group", record) < share

    def develops(self, record: Record) -> bool:
        """Whether the record's group is in dev_share: used for selection, so excluded from the test part."""
        if self.dev_share is None or (self.pool_share is not None and self.serves(record)):
            return False
        return _share_of("dev", record) < self.dev_share

    def serves(self, record: Record) -> bool:
        """Whether a record of the pool may be used for training or as an example: of all groups or of `pool_share`."""
        return self.pool_share is None or _share_of("pool", record) < self.pool_share

    def identity(self, *, include: set[str] | None = None, exclude: set[str] | None = None) -> dict[str, Any]:
        """The keys that decide which records are read, as plain values, for fingerprints.

        A key that came later is left out at its default, so that finished runs of before stay valid.

        Args:
            include: these keys only; None: all.
            exclude: all but these.
        """
        found: dict[str, Any] = json.loads(self.model_dump_json(include=include, exclude=exclude))
        return {name: value for name, value in found.items() if name != "systems" or value}

    def reading(self) -> dict[str, Any]:
        """The arguments of `read_records`: format, names, defaults, and which aspects count."""
        return {"format": self.format, **self.row_options()}

    def row_options(self) -> dict[str, Any]:
        """The arguments of `read_rows`."""
        known = {"task": self.task, "dataset": self.dataset, "scale": self.scale}
        defaults = {name: value for name, value in known.items() if value is not None}
        return {
            "defaults": defaults,
            "columns": self.columns,
            "systems": self.systems,
            "aspects": self.aspects,
            "group_by_source": self.group_by_source,
        }


def _share_of(what: str, record: Record) -> float:
    """0 to 1, from the group's key alone: the same in every run and for any other data."""
    return int(content_id(what, record.group_key), 16) / 16**16
