"""Who is visiting: the token to ask the Hub with, and the account that runs belong to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Visitor:
    """`token` is what the Hub's clients take: the visitor's own; None, the one stored on this machine; False, none.

    `owner` is the account that signed in, None where nobody has.
    """

    token: str | bool | None
    owner: str | None

    @property
    def own_token(self) -> str | None:
        """The visitor's own token, which a run may be given; None if there is none."""
        return self.token if isinstance(self.token, str) and self.token else None
