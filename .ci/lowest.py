"""Print the lowest versions that pyproject.toml states, one `name==version` a line.

Of the dependencies and of the named extras; of a package that several name, the lowest.
"""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
requirements = list(project["dependencies"])
for extra in sys.argv[1:]:
    requirements += project["optional-dependencies"][extra]

lowest: dict[str, str] = {}
for requirement in requirements:
    if requirement.startswith(f"{project['name']}["):
        continue  # extras of ours: named on their own
    name, bound = re.fullmatch(r"([\w.-]+)>=([\d.]+)(?:,.*)?", requirement).groups()
    lowest.setdefault(name, bound)
for name, bound in lowest.items():
    print(f"{name}=={bound}")
