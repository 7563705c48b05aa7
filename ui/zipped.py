"""All files of a job as one archive."""

import tempfile
import zipfile
from pathlib import Path

from gradio.utils import get_upload_folder


def archive(folder: Path) -> Path:
    """A zip of all that lies in a job's folder, where the page keeps what it may give away and forget.
    Pictures are packed already, so they are stored as they are."""
    home = Path(get_upload_folder())
    home.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=home)) / f"{folder.name}.zip"
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as out:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                out.write(path, f"{folder.name}/{path.relative_to(folder).as_posix()}")
    return made
