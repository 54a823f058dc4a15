"""`inverdict gate CONFIG --require '...'`: checks requirements against a finished report, for continuous integration.

Reads `{run}/report/metrics.json`. A requirement holds where the end of the 95 % interval does, in every part of the
data (task, data set, aspect, scale) or in the named one; a part that lacks the figure, or has it of too few groups,
fails it:

    panel.group.spearman >= .4               agreement with the labels, of a judge or the panel
    panel.minus_length.group.spearman > 0    the same, less that of the texts' length
    panel.coverage >= .95                    share of texts with a score (no interval); `system B.coverage`: of B's
    system B - A > 0                         systems' means by the panel, or their difference; `powered`: by labels and
    powered B > 3.5 on qa/overall            judge together (PPI++), where some groups have labels

That a difference is above or below 0 also asks that the report can tell the two apart, with tests of all pairs.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from cluster.artifacts import Outcome, file_hash, read_json, write_text
from cluster.config import RunConfig
from cluster.terminal import shown as visible
from evaluation.judges.aggregation import PANEL
from evaluation.measure.formatting import part_title, share, shown, with_interval
from evaluation.measure.slices import FEW_GROUPS
from judging.errors import InputError
from judging.stats.additive_model import MIN_GROUPS

EXIT_FAILED = 4
COMPARED: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
SHAPE = re.compile(
    r"\s*(?P<what>.+?)\s*(?P<sign>>=|<=|>|<)\s*(?P<bar>[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)"
    r"(\s+on\s+(?P<part>.+?))?\s*"
)
MINUS_LENGTH = "minus_length."
OF_SYSTEMS = ("system ", "powered ")
COVERAGE = ".coverage"


class Found(NamedTuple):
    """A figure: an estimate's JSON, or a coverage. `num_groups`: that it is of. `is_told`: of a difference."""

    figure: Mapping[str, Any] | float
    num_groups: int = 0
    is_told: bool | None = None


class Requirement(NamedTuple):
    """`what` `sign` `bar`, on the parts of the data that `part` names; empty: all."""

    text: str
    what: str
    sign: str
    bar: float
    part: str


class Checked(NamedTuple):
    """A requirement on one part of the data: whether it holds, and its figure in words."""

    requirement: str
    part: str
    holds: bool
    found: str


def main(run: RunConfig, *, require: Sequence[str] = (), junit: Path | None = None) -> Outcome:
    """Check the requirements; exit code 4 if one does not hold.

    Args:
        run: the configuration.
        require: the requirements.
        junit: file to write the result to as JUnit XML.

    Raises:
        InputError: there is no report of the evaluation, or a requirement is not understood or names nothing.
    """
    if not require:
        raise InputError(
            "No requirement is given. Add, for example, --require 'panel.group.spearman >= .4'.", code="missing_value"
        )
    if junit is not None and (junit.is_dir() or not junit.parent.is_dir()):
        raise InputError(f"--junit: {junit} is no file in an existing folder.", code="invalid_value")
    wanted = [parsed(text) for text in require]
    metrics = _metrics(run.run)
    checked = [one for requirement in wanted for one in check(requirement, metrics)]
    if junit is not None:
        write_text(junit, _junit(checked))
    failed = sum(not one.holds for one in checked)
    summary = {"checked": [one._asdict() for one in checked], "num_failed": failed}
    return Outcome(EXIT_FAILED if failed else 0, summary)


def render(summary: Mapping[str, Any]) -> str:
    """A line for each requirement and part, and how many failed."""
    lines = [
        f"{'ok    ' if one['holds'] else 'FAILED'}  {one['requirement']}  ({one['part']}: {one['found']})"
        for one in summary["checked"]
    ]
    total = len(summary["checked"])
    return "\n".join([*lines, f"{total - summary['num_failed']} of {total} requirements hold"])


def parsed(text: str) -> Requirement:
    """A requirement from its text. Raises InputError where it is not understood."""
    match = SHAPE.fullmatch(text)
    if match is None:
        raise InputError(
            f"--require {text!r} is not understood. Write NAME SIGN NUMBER, such as 'panel.group.spearman >= .4' or "
            "'system B - A > 0', with `on TASK/ASPECT` for one part of the data.",
            code="invalid_value",
        )
    return Requirement(text.strip(), match["what"], match["sign"], float(match["bar"]), match["part"] or "")


def check(requirement: Requirement, metrics: Mapping[str, Any]) -> list[Checked]:
    """The requirement on each part of the data that it concerns, at least one.

    Args:
        requirement: what must hold.
        metrics: the content of `metrics.json`.

    Raises:
        InputError: it names nothing in the report.
    """
    measured = {_key(part): part for part in metrics["slices"]}
    chosen = [part for part in metrics["systems"] if _is_named(part, requirement.part)]
    found = [(part, _found({**part, **measured.get(_key(part), {})}, requirement.what)) for part in chosen]
    if all(one is None for _, one in found):
        raise InputError(_names_nothing(requirement, metrics, chosen), code="unknown_name")
    return [_checked(requirement, part, one) for part, one in found]


def _metrics(run: Path) -> dict[str, Any]:
    file = run / "report" / "metrics.json"
    metrics = read_json(file)
    if metrics is None or "systems" not in metrics:
        raise InputError(f"{file} is missing or of an earlier version. Run `inverdict report` first.", code="no_report")
    scores = run / "evaluate" / "scores.parquet"
    if scores.exists() and file_hash(scores) != metrics["scores_sha256"]:
        raise InputError(
            f"{file} belongs to an earlier evaluation than {scores}. Run `inverdict report` again.", code="no_report"
        )
    return metrics


def _key(part: Mapping[str, Any]) -> tuple[Any, ...]:
    return (part["task"], part["dataset"], part["aspect"], *part["scale"])


def _title(part: Mapping[str, Any]) -> str:
    return part_title(part["task"], part["dataset"], part["aspect"], part["scale"])


def _is_named(part: Mapping[str, Any], name: str) -> bool:
    """Whether `name` is TASK/ASPECT or TASK/DATASET/ASPECT of the part, also with ` (LOW to HIGH)`, or empty."""
    scale = f" ({part['scale'][0]:g} to {part['scale'][1]:g})"
    words = _joined(name).removesuffix(scale)
    of = (part["task"], part["dataset"] or "records", part["aspect"])
    return not name or words in (_joined("/".join(of)), _joined(f"{of[0]}/{of[2]}"), _joined(part_title(*of)))


def _joined(name: str) -> str:
    """Without white space around slashes, which the names of data sets may hold themselves."""
    return re.sub(r"\s*/\s*", "/", name.strip())


def _found(part: Mapping[str, Any], what: str) -> Found | None:
    """The figure of that name; None if the part has none."""
    for prefix in OF_SYSTEMS:
        if what.startswith(prefix):
            return _of_systems(part, what.removeprefix(prefix).strip(), is_powered=prefix == "powered ")
    # A judge's name may have dots.
    for name in sorted({*part["rankings"], *part.get("agreement", ())}, key=len, reverse=True):
        if what.startswith(f"{name}."):
            return _of_judge(part, name, what[len(name) + 1 :])
    return None


def _of_judge(part: Mapping[str, Any], name: str, statistic: str) -> Found | None:
    known = name in part.get("agreement", ())
    if statistic == COVERAGE[1:]:
        if name in part["rankings"]:
            return Found(part["rankings"][name]["coverage"])
        return Found(part["agreement"][name]["dataset"]["spearman"]["coverage"]) if known else None
    if not known:
        return None
    table = "agreement"
    if statistic.startswith(MINUS_LENGTH):
        table, statistic = "difference_to_length", statistic.removeprefix(MINUS_LENGTH)
    node: Any = part[table].get(name)
    for step in statistic.split("."):
        node = node.get(step) if isinstance(node, Mapping) else None
    if not isinstance(node, Mapping) or "low" not in node:
        return None
    is_of_groups = statistic.startswith(("group.", "aeollm."))
    return Found(node, node["n"] if is_of_groups else part["num_groups"])


def _of_systems(part: Mapping[str, Any], names: str, *, is_powered: bool) -> Found | None:
    """The mean or coverage of a system, or the difference `A - B` of two; a system's name may hold ` - ` itself."""
    table = part["with_few_labels"].get(PANEL) if is_powered else part["rankings"].get(PANEL)
    if table is None:
        return None
    of_mean, of_pair = ("prediction_powered",) * 2 if is_powered else ("mean", "difference")
    rows = table["means" if is_powered else "systems"]
    groups = {one["system"]: (one["labels_alone"] if is_powered else one["mean"])["n"] for one in rows}
    found = [Found(one[of_mean], groups[names]) for one in rows if one["system"] == names]
    if not found and not is_powered:
        found = [Found(one["mean"]["coverage"]) for one in rows if f"{one['system']}{COVERAGE}" == names]
    for pair in table["differences"]:
        first, second, figure = pair["first"], pair["second"], pair[of_pair]
        # Systems that share no group are compared over others, or over the groups of each.
        shared = pair["labels_alone"]["n"] if is_powered else figure["n"] or min(groups[first], groups[second])
        if names == f"{first} - {second}":
            found.append(Found(figure, shared, pair["can_be_told_apart"]))
        elif names == f"{second} - {first}":
            value, low, high = (None if figure[end] is None else -figure[end] for end in ("value", "high", "low"))
            turned = {**figure, "value": value, "low": low, "high": high}
            found.append(Found(turned, shared, pair["can_be_told_apart"]))
    if len(found) > 1:
        words = (
            f"{names!r} is the name of a system and a difference, or of two differences. Rename a system in the data."
        )
        raise InputError(words, code="ambiguous_name")
    return found[0] if found else None


def _checked(requirement: Requirement, part: Mapping[str, Any], found: Found | None) -> Checked:
    if found is None:
        return Checked(requirement.text, _title(part), False, "no such figure")
    is_above, figure = requirement.sign.startswith(">"), found.figure
    if isinstance(figure, float):
        end, words = figure, shown(math.floor(round(1000 * figure, 9)) / 1000, 3)
    else:
        end = figure["low"] if is_above else figure["high"]
        words = f"{with_interval(figure)}, n = {figure['n']}, coverage {share(figure['coverage'], is_floored=True)}"
    holds = end is not None and COMPARED[requirement.sign](end, requirement.bar)
    is_signed = requirement.bar >= 0 if is_above else requirement.bar <= 0
    why_not = _why_not(found, is_told_asked=holds and is_signed)
    return Checked(requirement.text, _title(part), holds and not why_not, words + (f" ({why_not})" if why_not else ""))


def _why_not(found: Found, *, is_told_asked: bool) -> str:
    """Why the figure cannot meet any bar; empty if it can. `is_told_asked`: a difference must be one of all pairs."""
    if isinstance(found.figure, float):
        return ""
    if found.num_groups < MIN_GROUPS:
        return f"{found.num_groups} groups, fewer than the {MIN_GROUPS} for an interval"
    if found.num_groups < FEW_GROUPS:
        return f"{found.num_groups} groups, fewer than {FEW_GROUPS}"
    if found.figure["low"] is None:
        return "the interval is undefined"
    if is_told_asked and found.is_told is False:
        return "not adjusted for the number of pairs; the report cannot tell them apart"
    return ""


def _names_nothing(requirement: Requirement, metrics: Mapping[str, Any], chosen: Sequence[Mapping[str, Any]]) -> str:
    start = f"--require {requirement.text!r} names nothing in the report."
    if not chosen:
        return f"{start} Parts of the data: {', '.join(map(_title, metrics['systems']))}."
    if requirement.what.startswith(OF_SYSTEMS):
        systems = list(dict.fromkeys(name for part in chosen for name in part["systems"]))
        few = " Some groups, but not all, must have labels." if requirement.what.startswith("powered") else ""
        return f"{start} Systems: {', '.join(systems) or 'none'}.{few}"
    if not metrics["slices"]:
        return f"{start} It has no labels: require 'system B - A > 0' of systems, or 'panel.coverage >= .95'."
    judges = list(dict.fromkeys(name for part in metrics["slices"] for name in part["agreement"]))
    return f"{start} Judges: {', '.join(judges)}; a statistic is, for example, group.spearman or dataset.pearson."


def _xml(text: str) -> str:
    """The text with control characters made visible, and without the others that XML forbids."""
    return re.sub("[\ufffe\uffff]", "?", visible(text))


def _junit(checked: Sequence[Checked]) -> str:
    failed = sum(not one.holds for one in checked)
    suite = ET.Element("testsuite", name="inverdict gate", tests=str(len(checked)), failures=str(failed))
    for one in checked:
        # Control characters, which XML forbids, are made visible.
        case = ET.SubElement(suite, "testcase", classname=_xml(one.part), name=_xml(one.requirement))
        if not one.holds:
            ET.SubElement(case, "failure", message=_xml(f"{one.requirement}: {one.found}"))
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)
