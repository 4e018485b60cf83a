"""Who gets the canary: stable, balanced, independent of other roll-outs."""

from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from serving.service.rollout.assignment import place

_IDS = [f"{name} {number}" for name in ("사용자", "ผู้ใช้", "مستخدم", "👩‍👩‍👧‍👦") for number in range(2_500)]


@given(salt=st.text(), user=st.text(min_size=1), session=st.text())
def test_a_place_is_in_its_range_and_always_the_same(salt: str, user: str, session: str) -> None:
    try:
        (salt + user).encode()
    except UnicodeEncodeError:
        return
    found = place(salt, user, session)
    assert found is not None
    assert 0.0 <= found < 1.0
    # Somebody who has logged in is the same person in any session.
    assert place(salt, user, "another") == found


def test_places_are_uniform() -> None:
    places = [place("모델\0001", each, "") for each in _IDS]
    assert stats.kstest(places, "uniform").pvalue > 0.001


def test_another_roll_out_tries_it_on_others() -> None:
    first, second = ([place(salt, "", each) or 0.0 for each in _IDS] for salt in ("a\0001", "a\0002"))
    assert abs(stats.spearmanr(first, second).statistic) < 0.05
    users = [place("a\0001", each, "") or 0.0 for each in _IDS]
    assert abs(stats.spearmanr(first, users).statistic) < 0.05


def test_nobody_has_no_place() -> None:
    assert place("salt", "", "") is None
