"""No lost line: writers exclude each other, and readers never write."""


# ---------- B1


# ---------- B2


# ---------- B3


# ---------- B4
