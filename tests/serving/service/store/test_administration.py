"""Rules, keys and the audit log."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.service.store import ConflictError, InvalidError, NotFoundError, Store, open_store


def test_rules_have_revisions(store: Store) -> None:
    assert store.rules() == ("", 0)
    assert store.put_rules("pin: [1001]", "大輔") == 1
    assert store.put_rules("", "ana") == 2
    assert store.rules() == ("", 2)
    with pytest.raises(InvalidError, match="author"):
        store.put_rules("x", "")
    with pytest.raises(InvalidError, match="at most 1,048,576"):
        store.put_rules("x" * 1_048_577, "ana")


def test_two_authors_at_once_have_two_revisions(url: str) -> None:
    with open_store(url) as one, open_store(url) as two, ThreadPoolExecutor(4) as pool:
        revisions = list(pool.map(lambda n: (one, two)[n % 2].put_rules(str(n), "ana"), range(20)))
        text, revision = one.rules()
    assert sorted(revisions) == list(range(1, 21))
    assert (int(text), revision) == (revisions.index(20), 20)


def test_keys_are_added_and_revoked(store: Store) -> None:
    store.add_key("shop", "write", "hash 1")
    store.add_key("관리자", "admin", "hash 2")
    keys = store.keys()
    assert [(key.name, key.role, key.hash, key.revoked) for key in keys] == [
        ("shop", "write", "hash 1", None),
        ("관리자", "admin", "hash 2", None),
    ]
    store.revoke_key("shop")
    revoked = store.keys()[0]
    assert revoked.revoked is not None
    assert revoked.created <= revoked.revoked
    with pytest.raises(ConflictError, match="choose another name"):
        store.add_key("shop", "read", "hash 3")
    for name in ("shop", "unknown"):
        with pytest.raises(NotFoundError, match="no valid key"):
            store.revoke_key(name)
    with pytest.raises(InvalidError, match="`role` is empty"):
        store.add_key("new", "", "hash")


def test_the_audit_log_has_the_newest_first(store: Store) -> None:
    for number in range(5):
        store.audit("ana", "put_rules", f"rules {number}", "細節")
    log = store.audit_log(2)
    assert [(each.actor, each.action, each.target, each.detail) for each in log] == [
        ("ana", "put_rules", "rules 4", "細節"),
        ("ana", "put_rules", "rules 3", "細節"),
    ]
    assert len(store.audit_log()) == 5
    with pytest.raises(InvalidError, match="`detail`"):
        store.audit("ana", "x", "y", "z" * 2049)
