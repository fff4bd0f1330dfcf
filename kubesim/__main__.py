"""``python -m kubesim``."""

from kubesim.cli import main

main()
