"""Messages are true, and say a thing once."""


# ---------- D1


# ---------- D2


# ---------- D3


# ---------- D4


# ---------- D5


# ---------- D6
