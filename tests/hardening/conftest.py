"""These tests fork processes, limit their memory and stop them by signals, as Windows cannot."""

import os

collect_ignore_glob = [] if hasattr(os, "fork") else ["*"]
