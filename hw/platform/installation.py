"""How this installation of codesign gets an optional part: the command to say when one is missing.

An index knows codesign only where it was installed from one. pip records where else a package came
from (`direct_url.json`, PEP 610): from there the same command works again.
"""

import json
import shlex
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

PACKAGE = "codesign"


def install_command(extra: str) -> str:
    """The command that installs codesign's optional part `extra`, from where codesign came."""
    origin = _origin()
    url = str(origin.get("url", ""))
    editable = ""
    if "dir_info" in origin:
        folder = Path(unquote(urlsplit(url).path))
        if not (folder / "pyproject.toml").is_file():
            return f"pip install '.[{extra}]' in a clone of codesign"
        editable = "-e " if origin["dir_info"].get("editable") else ""
        what = f"{'.' if folder == Path.cwd() else folder}[{extra}]"
    elif "vcs_info" in origin:
        version = origin["vcs_info"]
        commit = version.get("requested_revision") or version["commit_id"]
        what = f"{PACKAGE}[{extra}] @ {version['vcs']}+{url}@{commit}"
    else:
        what = f"{PACKAGE}[{extra}]" + (f" @ {url}" if url else "")
    return f"pip install {editable}{shlex.quote(what)}"


def _origin() -> dict[str, Any]:
    """What pip recorded of where codesign came from; empty where it came from an index."""
    try:
        recorded = metadata.distribution(PACKAGE).read_text("direct_url.json")
        found = json.loads(recorded or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
