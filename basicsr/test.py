"""BasicSR's testing, with mobilesr-plugin, writing under the working directory.

Usage: python basicsr/test.py -opt options/abpn_x3_test.yml
"""

import sys
from pathlib import Path

# Python put this file's folder first, where train.py and test.py would pass for modules of that name. The
# checkout takes its place, so that this also runs where the plugin is not installed. `import basicsr` still
# finds the installed package, because this folder has no __init__.py.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

if __name__ == "__main__":
    import mobilesr_plugin

    mobilesr_plugin.register()

    from basicsr.test import test_pipeline

    test_pipeline(str(Path.cwd()))
