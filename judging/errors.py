"""The one exception that means "the user's input is at fault". It knows no input and no output."""


class InputError(ValueError):
    """The user's input is at fault; the message is one sentence with place and way out. Commands exit with 2."""

    exit_code = 2
