"""What examples share with the console: a browser."""

from tests.console.conftest import browser  # noqa: F401
