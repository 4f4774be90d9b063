"""What the application's response means: ``inspect`` sees whether it was a logout, ``no_logout`` is about all others.

``remember_login`` remembers, renews and forgets logins; ``ended_meanwhile`` drops the Set-Cookie of one that has ended,
and ``unseen_login`` those of a login that must not count.
"""

from __future__ import annotations
