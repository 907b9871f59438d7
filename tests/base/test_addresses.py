"""Passwords in addresses."""

import pytest

from benchmark.base.addresses import has_password, masked


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql+psycopg://me:secret@host/db", "postgresql+psycopg://me:***@host/db"),
        ("http://me:secret@host:5000/a@b", "http://me:***@host:5000/a@b"),
        ("http://:secret@host", "http://:***@host"),
        ("http://me:se@cret@host", "http://me:***@host"),
        ("postgresql://me:se/cr?et#@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:7secret@host/db", "postgresql://me:***@host/db"),
        (
            "postgresql://host/db?user=me&password=secret&x=1",
            "postgresql://host/db?user=me&password=***&x=1",
        ),
        ("postgresql://host/db?sslpassword=secret", "postgresql://host/db?sslpassword=***"),
    ],
)
def test_a_password_is_masked(address, shown):
    assert has_password(address)
    assert masked(address) == shown
    assert masked(f"cannot reach {address} at all") == f"cannot reach {shown} at all"


@pytest.mark.parametrize(
    "address",
    [
        "sqlite:////tmp/a:b@c/mlflow.db",
        "http://host:5000/a@b",
        "http://me@host:5000",
        "postgresql+psycopg://me@host:5432/db?host=/run/x",
        "postgresql://me:@host/db",
        "nonsense",
    ],
)
def test_an_address_without_password_stays_as_it_is(address):
    assert not has_password(address)
    assert masked(address) == address
