"""The one error that is the user's to mend; the command line prints its sentence and exits with 2."""


class UserError(ValueError):
    """The user's input is at fault: one sentence with the place and the way out; the command exits with 2."""

    exit_code = 2
