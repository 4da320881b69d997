"""The mounts that are made before bubblewrap makes a sandbox: they reach what is closed, and hide where it is."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from grading.sandbox.backend import UID
from grading.sandbox.layers import FILE, LAYER, MERGED, PRIVATE_MOUNTS, VEIL, can_veil, private_mounts
from grading.sandbox.temporary import prefix

BIND, VEILED = "bind", "veil"
"""How a path is mounted for the user UID. A number instead is the size of a layer in bytes."""

MOUNT = f"""{LAYER}{VEIL}
while [ "$1" != -- ]; do
  case "$3" in
    {BIND}) mount --rbind "$1" "$2" ;;
    {VEILED}) veil "$1" "$2" ;;
    *) layer "$1" "$2" "$3" ;;
  esac || exit 1
  shift 3
done
shift
"""

STEP_DOWN = f'{MOUNT}exec setpriv --reuid={UID} --regid={UID} --clear-groups --no-new-privs "$@"'
GO_ON = f'{MOUNT}exec "$@"'
"""After the mounts, root becomes UID, and any other user becomes itself again in the sandbox."""

Bind = tuple[str, Path, str]
"""bubblewrap's option, the path outside and the path inside."""


def step_down(
    binds: Iterable[Bind], layers: Mapping[str, int], read_only: Collection[str], resources: ExitStack
) -> tuple[list[str], list[Bind]]:
    """The command that turns root into UID, and the binds with paths that UID can reach.

    Files in folders that are closed to other users are mounted at a path that UID can reach, in a mount namespace that
    no other process sees. layers: {path inside: bytes} of those that get an overlay. read_only: paths inside whose
    places on the host the command must not learn, as far as overlays can hide them.
    """
    arguments = [*PRIVATE_MOUNTS, STEP_DOWN, "sh"]
    reachable: list[Bind] = []
    for how, path, inside in binds:
        if inside in layers:
            point = _mount_point(path, resources)
            arguments += [str(path.resolve()), str(point), str(layers[inside])]
            reachable.append((how, point / MERGED, inside))
        elif inside in read_only and can_veil(path):
            mount, place = _veiled(path, resources)
            arguments += mount
            reachable.append((how, place, inside))
        elif _is_closed(path):
            point = _mount_point(path, resources)
            arguments += [str(path.resolve()), str(point), BIND]
            reachable.append((how, point, inside))
        else:
            reachable.append((how, path, inside))
    return [*arguments, "--"], reachable


def veil(binds: Iterable[Bind], read_only: Collection[str], resources: ExitStack) -> tuple[list[str], list[Bind]]:
    """The command that mounts for a user who is not root, empty if nothing can be, and the binds after it.

    read_only: paths inside whose places on the host are hidden, as far as overlays can be made.
    """
    arguments: list[str] = []
    reachable: list[Bind] = []
    for how, path, inside in binds:
        place = path
        if inside in read_only and can_veil(path):
            mount, place = _veiled(path, resources)
            arguments += mount
        reachable.append((how, place, inside))
    return [*private_mounts(), GO_ON, "sh", *arguments, "--"] if arguments else [], reachable


def _veiled(path: Path, resources: ExitStack) -> tuple[list[str], Path]:
    """What the script of the mounts is given to veil a path, and where the path is then."""
    real = path.resolve()
    point = _mount_point(real if real.is_dir() else real.parent, resources)
    return [str(real), str(point), VEILED], point / (MERGED if real.is_dir() else FILE)


def _is_closed(path: Path) -> bool:
    return any(not parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def _mount_point(path: Path, resources: ExitStack) -> Path:
    """An empty file or folder that every user can reach. Cleanup removes only this, never what was mounted on it."""
    folder = Path(tempfile.mkdtemp(prefix=prefix("grade"), dir="/tmp"))
    resources.callback(folder.rmdir)
    folder.chmod(0o711)
    point = folder / "mount"
    if path.is_dir():
        point.mkdir()
        resources.callback(point.rmdir)
    else:
        point.touch()
        resources.callback(point.unlink)
    return point
