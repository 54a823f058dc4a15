"""What pydantic, YAML and the file system report, as one code, key and line each."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from judging import strictyaml
from judging.errors import InputError
from judging.file_errors import first_problem, invalid_file


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    a: int
    b: int = 0

    @field_validator("b")
    @classmethod
    def _small(cls, b: int) -> int:
        if b > 9:
            raise ValueError("too large")
        return b

    @model_validator(mode="after")
    def _fits(self) -> "Inner":
        if self.a == self.b:
            raise InputError("`a` and `b` exclude each other", code="conflict", key="b")
        return self


class Outer(BaseModel):
    inner: Inner


@pytest.mark.parametrize(
    ("inner", "code", "key", "message"),
    [
        ({}, "missing_key", "inner.a", "inner.a: Field required"),
        ({"a": 1, "c": 2}, "unknown_key", "inner.c", "inner.c: Extra inputs are not permitted"),
        ({"a": 1, "b": 10}, "invalid_value", "inner.b", "inner.b: too large"),
        # A validator's own code and key, below the place where pydantic met it.
        ({"a": 1, "b": 1}, "conflict", "inner.b", "inner: `a` and `b` exclude each other"),
    ],
)
def test_errors_of_pydantic(inner: dict[str, int], code: str, key: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Outer.model_validate({"inner": inner})
    assert first_problem(caught.value) == (message, code, key)


def test_errors_of_yaml_and_files(tmp_path: Path) -> None:
    found = {}
    for text in ("a: 1\na: 2", "a: ["):
        with pytest.raises(Exception) as caught:
            strictyaml.load(text)
        found[text] = first_problem(caught.value)
    assert (found["a: 1\na: 2"].code, found["a: 1\na: 2"].message) == ("duplicate_key", "duplicate key 'a', line 2")
    assert found["a: ["].code == "invalid_yaml" and "line 1" in found["a: ["].message
    for path, code in ((tmp_path / "none", "missing_file"), (tmp_path, "unreadable_file")):
        with pytest.raises(OSError) as caught_:
            path.read_text()
        assert first_problem(caught_.value).code == code
    assert first_problem(ValueError("")).message == "ValueError"


def test_the_error_names_the_file_and_keeps_code_and_key() -> None:
    error = invalid_file(Path("x.txt"), InputError("no head", code="invalid_template", key="k"), "a template file")
    assert (str(error), error.code, error.key) == ("x.txt is not a template file: no head", "invalid_template", "k")
    assert str(invalid_file(Path("x.txt"), ValueError("two\nlines"))) == "x.txt: two"
