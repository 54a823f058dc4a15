"""`inverdict gate CONFIG --require '...'`: checks requirements against a finished report, for continuous integration.

Reads `{run}/report/metrics.json`. A requirement holds where the end of the 95 % interval does, in every part of the
data (task, data set, aspect) or in the named one; a part that lacks the figure fails it:

    panel.group.spearman >= .4               agreement with the labels, of a judge or the panel
    panel.minus_length.group.spearman > 0    the same, less that of the texts' length
    panel.coverage >= .95                    share of labelled texts with a score (no interval)
    system B - A > 0                         systems' means by the panel, or their difference; `powered`: by labels and
    powered B > 3.5 on qa/overall            judge together (PPI++), where some groups have labels
"""

from __future__ import annotations

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
from evaluation.measure.formatting import part_title, shown, with_interval
from judging.errors import InputError

EXIT_FAILED = 4
COMPARED: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
SHAPE = re.compile(
    r"\s*(?P<what>.+?)\s*(?P<sign>>=|<=|>|<)\s*(?P<bar>[-+]?(\d+\.?\d*|\.\d+))(\s+on\s+(?P<part>.+?))?\s*"
)
MINUS_LENGTH = "minus_length."
OF_SYSTEMS = ("system ", "powered ")
Found = Mapping[str, Any] | float  # an estimate's JSON, or a plain number


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
    measured = {_title(part): part for part in metrics["slices"]}
    chosen = [part for part in metrics["systems"] if _is_named(part, requirement.part)]
    found = [(part, _found({**part, **measured.get(_title(part), {})}, requirement.what)) for part in chosen]
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


def _title(part: Mapping[str, Any]) -> str:
    low, high = part["scale"]
    return f"{part_title(part['task'], part['dataset'], part['aspect'])} ({low:g} to {high:g})"


def _is_named(part: Mapping[str, Any], name: str) -> bool:
    """Whether `name` is TASK/ASPECT or TASK/DATASET/ASPECT of the part, or empty."""
    names = tuple(one.strip() for one in name.split("/"))
    of = (part["task"], part["dataset"] or "records", part["aspect"])
    return not name or names in (of, (of[0], of[2]))


def _found(part: Mapping[str, Any], what: str) -> Found | None:
    """The figure of that name; None if the part has none."""
    for prefix in OF_SYSTEMS:
        if what.startswith(prefix):
            return _of_systems(part, what.removeprefix(prefix).strip(), is_powered=prefix == "powered ")
    # A judge's name may have dots.
    for name in sorted(part.get("agreement", ()), key=len, reverse=True):
        if what.startswith(f"{name}."):
            return _of_judge(part, name, what[len(name) + 1 :])
    return None


def _of_judge(part: Mapping[str, Any], name: str, statistic: str) -> Found | None:
    if statistic == "coverage":
        return float(part["agreement"][name]["dataset"]["spearman"]["coverage"])
    table = "agreement"
    if statistic.startswith(MINUS_LENGTH):
        table, statistic = "difference_to_length", statistic.removeprefix(MINUS_LENGTH)
    node: Any = part[table].get(name)
    for step in statistic.split("."):
        node = node.get(step) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) and "low" in node else None


def _of_systems(part: Mapping[str, Any], names: str, *, is_powered: bool) -> Found | None:
    """The mean of a system, or the difference `A - B` of two; a system's name may hold ` - ` itself."""
    table = part["with_few_labels"].get(PANEL) if is_powered else part["rankings"].get(PANEL)
    if table is None:
        return None
    figure = "prediction_powered" if is_powered else None
    found = [one[figure or "mean"] for one in table["means" if is_powered else "systems"] if one["system"] == names]
    for pair in table["differences"]:
        one = pair[figure or "difference"]
        if names == f"{pair['first']} - {pair['second']}":
            found.append(one)
        elif names == f"{pair['second']} - {pair['first']}":
            value, low, high = (None if one[end] is None else -one[end] for end in ("value", "high", "low"))
            found.append({**one, "value": value, "low": low, "high": high})
    if len(found) > 1:
        words = (
            f"{names!r} is the name of a system and a difference, or of two differences. Rename a system in the data."
        )
        raise InputError(words, code="ambiguous_name")
    return found[0] if found else None


def _checked(requirement: Requirement, part: Mapping[str, Any], found: Found | None) -> Checked:
    if found is None:
        return Checked(requirement.text, _title(part), False, "no such figure")
    if isinstance(found, float):
        end: float | None = found
        words = shown(found, 3)
    else:
        end = found["low"] if requirement.sign.startswith(">") else found["high"]
        words = f"{with_interval(found)}, n = {found['n']}"
    holds = end is not None and COMPARED[requirement.sign](end, requirement.bar)
    return Checked(requirement.text, _title(part), holds, words)


def _names_nothing(requirement: Requirement, metrics: Mapping[str, Any], chosen: Sequence[Mapping[str, Any]]) -> str:
    start = f"--require {requirement.text!r} names nothing in the report."
    if not chosen:
        return f"{start} Parts of the data: {', '.join(map(_title, metrics['systems']))}."
    if requirement.what.startswith(OF_SYSTEMS):
        systems = list(dict.fromkeys(name for part in chosen for name in part["systems"]))
        few = " Some groups, but not all, must have labels." if requirement.what.startswith("powered") else ""
        return f"{start} Systems: {', '.join(systems) or 'none'}.{few}"
    if not metrics["slices"]:
        return f"{start} It has no labels, so only systems can be required, such as 'system B - A > 0'."
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
