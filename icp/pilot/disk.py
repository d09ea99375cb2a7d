"""The few operations by which the pilot changes a file system, in one place, so that a test can drop what was not
synced (hides `os`).
"""

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Disk", "remove_tree", "tree_bytes"]


class Disk:
    """Writes, syncs and renames. A test puts its own in place of it: a simulation of a crash, or of a full disk."""

    def append_to(self, path: str, new: bool = True) -> int:
        """A descriptor that appends to a file of mode 0600; with ``new`` the file must not exist."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | (os.O_EXCL if new else 0)
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def write(self, fd: int, data: bytes) -> int:
        return os.write(fd, data)

    def sync(self, fd: int) -> None:
        """Makes the file's bytes durable."""
        os.fdatasync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def sync_folder(self, path: str) -> None:
        """Makes the names in a directory durable, where the file system can say so."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
                raise
        finally:
            os.close(fd)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def mkdir(self, path: str) -> None:
        os.mkdir(path, 0o700)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    # --- made of the above

    def create(self, path: str, data: bytes, sync: bool = True) -> None:
        """A file that did not exist, whole; FileExistsError where it did."""
        fd = self.append_to(path)
        try:
            view = memoryview(data)
            while view:
                view = view[self.write(fd, bytes(view) if len(view) < len(data) else data) :]
            if sync:
                self.sync(fd)
        finally:
            self.close(fd)

    def put(self, path: str, data: bytes) -> None:
        """Replaces a file: the old or the new one is there whatever happens, and the new one for good on return."""
        temporary = f"{path}.{os.getpid()}.tmp"
        try:
            self.unlink(temporary)
        except OSError:
            pass
        try:
            self.create(temporary, data)
            self.rename(temporary, path)
        except OSError:
            try:
                self.unlink(temporary)
            except OSError:
                pass
            raise
        self.sync_folder(os.path.dirname(path))


    def forget_unfinished(self, folder: str) -> None:
        """Removes what `put` left in a folder when it was killed; nobody else may be writing there."""
        for name in os.listdir(folder):
            if name.endswith(".tmp") and name[:-4].rpartition(".")[2].isdigit():
                self.unlink(f"{folder}/{name}")


def remove_tree(path: str) -> bool:
    """Removes a directory or file whatever its modes; whether nothing is left. Never follows a symbolic link."""
    try:
        os.unlink(path)
        return True
    except OSError as error:
        if error.errno == errno.ENOENT:
            return True
    try:
        os.chmod(path, 0o700)
    except OSError:
        pass
    for name in _names(path):
        inner = path + "/" + name
        try:
            os.unlink(inner)
        except OSError:
            remove_tree(inner)
    try:
        os.rmdir(path)
        return True
    except OSError as error:
        return error.errno == errno.ENOENT


def _names(path: str) -> "Iterable[str]":
    try:
        return os.listdir(path)
    except OSError:
        return ()


def tree_bytes(folder: str, most: int = 100000) -> int:
    """Bytes on disk below a folder, of the first ``most`` entries."""
    total, left, folders = 0, most, [folder]
    while folders and left > 0:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    left -= 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            pass
    return total
