"""The run's YAML file -> one frozen, validated configuration.

Holds what every job shares (run directory, seed, Ray, models). Each job's own section is a pydantic class in that job's
module, passed in by the command line, so that this module imports no job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, create_model, model_validator

from cluster.config_errors import as_user_error
from cluster.configfile import read, with_overrides
from cluster.errors import UserError
from cluster.model_specs import HttpSpec as HttpSpec  # an older name, for code that imports it from here
from cluster.model_specs import ModelSpec, on_their_bases
from cluster.object_store import address_problem, below, is_address
from cluster.run_store import mirror_of
from cluster.strict import Strict


class RayConfig(Strict):
    """The Ray cluster to run on."""

    address: str | None = Field(
        None,
        description="address of an existing cluster, such as `auto`; none: RAY_ADDRESS (set in submitted jobs), or a "
        "local cluster started for this process",
    )
    num_cpus: int | None = Field(
        None, ge=2, description="CPUs of a local cluster; none: those of this machine, at least 2"
    )
    object_store_gib: float = Field(1.0, gt=0.08, description="object store of a local cluster, in GiB")


def _store_address(address: str) -> str:
    if problem := address_problem(address):
        raise ValueError(problem)
    return address


def _named(folder: Any) -> Any:
    """A folder as it is, an address of an object store as the folder that mirrors it."""
    if folder == "":
        raise ValueError("must be the path of a folder, not empty")
    return mirror_of(_store_address(str(folder))) if is_address(str(folder)) else folder


def _inside(run: str, path: str) -> str:
    return below(run, path) if is_address(run) else str(Path(run).absolute() / path)


class RunConfig(Strict):
    """Settings shared by all jobs of a run."""

    run: Annotated[Path, BeforeValidator(_named)] = Field(
        description="run directory; every job writes to a subfolder of it: a folder that all nodes mount, or an s3://, "
        "gs:// or file:// address, which only the driver reads and writes"
    )
    seed: int = Field(0, ge=0)
    ray: RayConfig = RayConfig()
    models: dict[str, ModelSpec] = Field(default_factory=dict)
    publish: Annotated[str, AfterValidator(_store_address)] | None = Field(
        None,
        description="s3://, gs:// or file:// address that finished jobs of the run are copied to; credentials "
        "come from the environment or the machine's role",
    )

    @model_validator(mode="before")
    @classmethod
    def _inside_the_run(cls, raw: Any) -> Any:
        """Resolve `run:PATH` and LoRA adapters, so that other code sees whole specifications."""
        if not isinstance(raw, Mapping) or not isinstance(raw.get("models"), Mapping):
            return raw
        run = str(raw.get("run", "."))
        return {**raw, "models": on_their_bases({name: _placed(spec, run) for name, spec in raw["models"].items()})}


def _placed(spec: Any, run: str) -> Any:
    if not isinstance(spec, Mapping):
        return spec
    inside = {key: str(spec[key]) for key in ("source", "adapter") if str(spec.get(key, "")).startswith("run:")}
    if "adapter" in inside and is_address(run):
        raise UserError(
            "An adapter is read from a folder that all nodes mount, so it cannot be in a run directory on an object "
            "store. Copy it to a folder.",
            code="unsupported",
            key="models",
        )
    return {**spec, **{key: _inside(run, path.removeprefix("run:")) for key, path in inside.items()}}


C = TypeVar("C", bound=BaseModel)


def load(path: Path, overrides: Sequence[str], sections: Mapping[str, type[BaseModel]]) -> RunConfig:
    """Load and validate a configuration.

    Args:
        path: the YAML file.
        overrides: `a.b=value` texts, applied in order.
        sections: section name -> its class; a section that the file omits is None.

    Raises:
        UserError: the file cannot be read, or a key or value is invalid; `key` is its path.
    """
    return build(with_overrides(read(path), overrides), sections, origin=str(path))


def section(run: RunConfig, name: str, kind: type[C]) -> C:
    """The section of that name.

    Args:
        run: the configuration.
        name: the section's key.
        kind: the section's class.

    Raises:
        UserError: the configuration has no such section.
    """
    found = getattr(run, name, None)
    if found is None:
        raise UserError(f"The configuration has no `{name}` section.", code="missing_section", key=name)
    assert isinstance(found, kind)
    return found


def section_or_default(run: RunConfig, name: str, kind: type[C]) -> C:
    """The section of that name, or its defaults if the configuration omits it.

    Args:
        run: the configuration.
        name: the section's key.
        kind: the section's class.
    """
    return kind() if getattr(run, name, None) is None else section(run, name, kind)


def build(raw: Mapping[str, Any], sections: Mapping[str, type[BaseModel]], *, origin: str) -> RunConfig:
    """Validate a configuration that has been read already.

    Args:
        raw: keys and values as in the YAML file.
        sections: section name -> its class.
        origin: where `raw` comes from, in front of an error's message.

    Raises:
        UserError: a key or value is invalid; `key` is its path.
    """
    whole = run_schema(sections)
    try:
        return whole.model_validate(raw)
    except ValidationError as error:
        raise as_user_error(error, whole, origin) from error


def run_schema(sections: Mapping[str, type[BaseModel]]) -> type[RunConfig]:
    """The class of the whole configuration, with the sections as optional fields."""
    fields: dict[str, Any] = {name: (section | None, None) for name, section in sections.items()}
    return create_model("RunConfig", __base__=RunConfig, **fields)
