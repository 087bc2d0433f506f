"""What the image needs of pyproject.toml, a requirement a line: the package's own and those of its `server` extra."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
builders = ["setuptools"]  # builds the package itself, in a layer of its own
sys.stdout.write(
    "\n".join(project["dependencies"] + project["optional-dependencies"]["server"] + builders) + "\n"
)
