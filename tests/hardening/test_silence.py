"""No wrong result without a word: for each defect, the wrong number that used to come out."""


# ---------- A1


# ---------- A2


# ---------- A5


# ---------- A6


# ---------- A7


# ---------- A8


# ---------- A9


# ---------- A10


# ---------- A11
