"""The configuration's `data` section: which rated texts a run reads, and which of them are judged, teach or choose."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, model_validator

from judging.readers import Format
from judging.records import Record, content_id
from judging.tasks import is_task_file

NonEmpty = Annotated[str, StringConstraints(min_length=1)]
Share = Annotated[float, Field(gt=0, le=1)]


class DataConfig(BaseModel):
    """The configuration's `data` section: which rated texts a run reads, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    records: tuple[str, ...] = Field(min_length=1, description="files or Parquet folders of texts to judge")
    pool: tuple[str, ...] = Field((), description="files of rated texts that serve as in-context examples")
    format: Format = "auto"
    columns: dict[str, str] = Field(default_factory=dict, description="names in the files: our names")
    task: str | None = Field(None, description="task of rows that name none")
    dataset: str | None = Field(None, description="data set of rows that name none")
    scale: tuple[FiniteFloat, FiniteFloat] | None = Field(None, description="scale of rows that give none")
    group_by_source: bool = Field(
        False, description="a group's name that stands for several sources makes a group of each; else it is refused"
    )
    labels: Literal["human", "constructed"] = Field(
        "human", description="where the scores come from; the report says it"
    )
    aspects: dict[str, tuple[NonEmpty, ...]] = Field(
        default_factory=dict,
        description="by task, the rated aspects that count; others are dropped as if nobody had rated them",
    )
    groups_share: Share | dict[str, Share] = Field(
        1.0, description="share of the groups that is judged, chosen by their hash; or by data set (not named: all)"
    )
    pool_share: float | None = Field(
        None, gt=0, lt=1, description="share of the groups that may serve, by hash; the others alone are judged"
    )
    dev: tuple[str, ...] = Field(
        (), description="files of labelled texts on which prompts, judges and votes are chosen, instead of dev_share"
    )
    dev_share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of the other groups, by hash, on which prompts, judges and votes are chosen (`optimise`, "
        "`panel`); `evaluate` leaves them out",
    )
    part: Literal["test", "dev"] = Field("test", description="which part is judged: test, or dev alone")
    max_rejected_share: float = Field(0.0, ge=0, lt=1, description="share of rows that may not fit; above it: exit 2")

    @model_validator(mode="after")
    def _shares_something(self) -> DataConfig:
        if self.pool_share is not None and not self.pool:
            raise ValueError("pool_share: a share of which pool? set data.pool too")
        if self.dev and self.dev_share is not None:
            raise ValueError("dev and dev_share: the dev part is in files of its own or a share; keep one of the two")
        if self.part == "dev" and not self.has_dev:
            raise ValueError("part: dev is the part of data.dev_share or data.dev: set one of them too")
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
        """Whether the record is judged: its group is of the part and share that are, and not of those that serve."""
        if self.pool_share is not None and self.serves(record):
            return False
        share = (
            self.groups_share if isinstance(self.groups_share, float) else self.groups_share.get(record.dataset, 1.0)
        )
        is_of_part = bool(self.dev) or self.develops(record) == (self.part == "dev")
        return is_of_part and _share_of("group", record) < share

    def develops(self, record: Record) -> bool:
        """Whether the record's group is of dev_share: something is chosen by its labels, so it tests nothing."""
        if self.dev_share is None or (self.pool_share is not None and self.serves(record)):
            return False
        return _share_of("dev", record) < self.dev_share

    def serves(self, record: Record) -> bool:
        """Whether a record of the pool may teach or be shown: all, or those of the groups in `pool_share`."""
        return self.pool_share is None or _share_of("pool", record) < self.pool_share

    def reading(self) -> dict[str, Any]:
        """How `read_records` reads the files: their form, names, what fills gaps, and which aspects count."""
        known = {"task": self.task, "dataset": self.dataset, "scale": self.scale}
        defaults = {name: value for name, value in known.items() if value is not None}
        return {
            "format": self.format,
            "defaults": defaults,
            "columns": self.columns,
            "aspects": self.aspects,
            "group_by_source": self.group_by_source,
        }


def _share_of(what: str, record: Record) -> float:
    """0 to 1, from the group's key: the same in every run, whatever else is there."""
    return int(content_id(what, record.group_key), 16) / 16**16
