"""Addresses of stores, and the passwords in them, which nobody but the store may see."""

import re

# As SQLAlchemy reads an address, with one difference. What is a port and a path before an @, as in
# http://host:5000/a@b, is no password. An @ that somebody left in a password belongs to it.
_USER = re.compile(r"(://[^\s/:@?#]*:)(?!\d+[/?#])[^\s@]+(?:@[^\s@/?#]+(?=@))*(?=@)")
_FIELD = re.compile(r"([?&](?:ssl)?(?:password|passwd|pwd)=)[^\s&#]+", re.IGNORECASE)


def has_password(address: str) -> bool:
    """Return whether an address holds a password."""
    return masked(address) != address


def masked(text: str) -> str:
    """Return a text with `***` in place of the passwords of all addresses in it."""
    return _FIELD.sub(r"\1***", _USER.sub(r"\1***", text))
