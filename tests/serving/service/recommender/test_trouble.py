"""Faults in the log."""

import logging
import time

import pytest

from serving.service.recommender.trouble import Trouble


def test_a_fault_is_reported_once_a_minute(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    fault = Trouble(logging.getLogger("test"), "Over.")
    with caplog.at_level(logging.INFO):
        fault.gone()
        for _ in range(1_000):
            fault.met("No %s.", "luck")
        fault.gone()
        fault.gone()
        assert caplog.messages == ["No luck.", "Over."]
        # It comes and goes.
        for _ in range(1_000):
            fault.met("No %s.", "luck")
            fault.gone()
        assert caplog.messages == ["No luck.", "Over."]
        clock[0] += 61
        fault.met("Still none.")
        assert caplog.messages[2:] == ["Still none."]
