"""The errors written for people: the command line prints their one sentence and exits with their code."""


class UserError(ValueError):
    """The user's input is at fault: one sentence with the place and the way out; the command exits with 2."""

    exit_code = 2


class JobFailed(RuntimeError):
    """Work failed that was asked for rightly: one sentence with what happened; the command exits with 1."""

    exit_code = 1
