"""Settings that stand in files, as Kubernetes mounts secrets: `NOTIFIER_JOURNAL__URL_FILE` names that of the URL."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

SUFFIX: Final = "_FILE"
LIMIT_BYTES: Final = 1024 * 1024
"""What Kubernetes allows a secret to hold."""


def read_value(path: Path) -> str:
    """The text of a file, without the newline that editors put at its end. Symbolic links are followed.

    Raises ValueError, with the path and never the content, when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > LIMIT_BYTES:
        raise ValueError(f"{path} is over {LIMIT_BYTES} bytes")
    try:
        return content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8") from None


def with_files(given: Mapping[str, str], known: Collection[str]) -> tuple[dict[str, str], dict[str, Path], list[str]]:
    """Read the files that stand for settings.

    Args:
        given: what the environment has, by name.
        known: the names of settings.

    Returns:
        The values by name; the file of each that has one; and a sentence for each mistake.
    """
    values, files, problems = dict(given), dict[str, Path](), list[str]()
    for name_of_file in given:
        name = name_of_file.removesuffix(SUFFIX)
        if name == name_of_file or name not in known:
            continue
        path = files[name] = Path(values.pop(name_of_file))
        if name in given:
            problems.append(f"{name} and {name_of_file} are both given: leave one of them out")
            continue
        try:
            values[name] = read_value(path)
        except ValueError as error:
            problems.append(f"{name_of_file}: {error}")
    return values, files, problems
