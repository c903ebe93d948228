"""`python -m tf_terngrad.cli`, where `tf-terngrad` is not on the PATH."""

import sys

from tf_terngrad.cli import main

sys.exit(main())
