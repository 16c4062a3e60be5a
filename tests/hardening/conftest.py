"""Left out on Windows: what forks processes, limits their memory, or stops them by signals."""

import os

FORKING = ["test_hostile_files.py", "test_kills.py", "test_limits.py", "test_soak.py"]
collect_ignore = [] if hasattr(os, "fork") else FORKING
