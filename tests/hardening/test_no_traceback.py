"""No traceback, no hang, bounded memory: every error that a user can cause is one line."""


# ---------- C1


# ---------- C2


# ---------- C3


# ---------- C4


# ---------- C5


# ---------- C6


# ---------- C7


# ---------- C8


# ---------- C9


# ---------- C10


# ---------- C11


# ---------- C12


# ---------- C13


# ---------- C14
