"""`python -m resnet_lib`."""

from .cli import main

raise SystemExit(main())
