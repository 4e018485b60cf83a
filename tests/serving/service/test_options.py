"""Options of the command line."""

import argparse

import pytest

from serving.service.options import default_options, parse_options


def test_options_of_outcomes() -> None:
    given = parse_options(argparse.ArgumentParser(), ["--rating_scale", "1,10", "--outcome_seconds", "30"])
    assert (given.rating_scale, given.outcome_seconds) == ((1.0, 10.0), 30.0)
    assert default_options().outcome_seconds == 0.0
    for arguments in (
        ["--rating_scale", "5"],
        ["--rating_scale", "5,1"],
        ["--rating_scale", "1,inf"],
        ["--outcome_seconds", "0.5"],
        ["--outcome_seconds", "nan"],
        ["--outcome_hours", "0"],
        ["--click_days", "93"],
    ):
        with pytest.raises(SystemExit):
            parse_options(argparse.ArgumentParser(), arguments)
