"""The registry and the shell of the Windows that this runs on; on other systems it knows nothing.

It must not know what the values mean.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import Any

SHELL_TIMEOUT_S = 1.0
"""How long the shell may take; it asks the drive."""
_TICKS_PER_S = 10_000_000
_EPOCH_S = 11_644_473_600
"""Seconds from 1601, where Windows begins to count, to 1970."""
_HIVES = {"HKLM": "HKEY_LOCAL_MACHINE", "HKCU": "HKEY_CURRENT_USER"}
_IID_SHELL_ITEM_2 = "7e9fb0d3-919f-4307-ab2e-9b1860310c93"
_RELEASE, _GET_INT32 = 2, 15
"""Places in IShellItem2's table of methods (shobjidl_core.h)."""


class ThisMachine:
    """What `windows.Machine` asks for."""

    def value(self, key: str, name: str) -> int | str | None:
        if sys.platform == "win32":
            with contextlib.suppress(OSError, ImportError), _opened(key) as handle:
                import winreg

                value = winreg.QueryValueEx(handle, name)[0]
                return value if isinstance(value, int | str) else None
        return None

    def changed_s(self, key: str) -> float | None:
        if sys.platform == "win32":
            with contextlib.suppress(OSError, ImportError), _opened(key) as handle:
                import winreg

                return winreg.QueryInfoKey(handle)[2] / _TICKS_PER_S - _EPOCH_S
        return None

    def system_drive_property(self, name: str) -> int | None:
        found: list[int | None] = []
        thread = threading.Thread(
            target=lambda: found.append(_drive_property(os.environ.get("SYSTEMDRIVE", "C:"), name)), daemon=True
        )
        thread.start()
        thread.join(SHELL_TIMEOUT_S)
        return found[0] if found else None

    def uptime_ms(self) -> int | None:
        if sys.platform == "win32":
            import ctypes

            with contextlib.suppress(OSError, AttributeError):
                count = ctypes.windll.kernel32.GetTickCount64
                count.restype = ctypes.c_uint64
                return int(count())
        return None


def _opened(key: str) -> Any:
    """A key of the registry, to be used in a `with`. Raises OSError, and ImportError where there is no registry."""
    import winreg

    if sys.platform == "win32":
        hive, _, path = key.partition("\\")
        # The 64-bit view, also for a 32-bit Python: Windows keeps its own settings there.
        access = winreg.KEY_READ | winreg.KEY_WOW64_64KEY
        return winreg.OpenKey(getattr(winreg, _HIVES[hive]), path, 0, access)
    raise ImportError("no registry")


def _drive_property(drive: str, name: str) -> int | None:
    """A number of the shell's; COM without a library, for one call. None where anything is amiss."""
    if sys.platform == "win32":
        import ctypes
        import uuid

        class PropertyKey(ctypes.Structure):
            _fields_ = (("format", ctypes.c_byte * 16), ("id", ctypes.c_uint32))

        key, item, number = PropertyKey(), ctypes.c_void_p(), ctypes.c_int32()
        interface = (ctypes.c_byte * 16).from_buffer_copy(uuid.UUID(_IID_SHELL_ITEM_2).bytes_le)
        with contextlib.suppress(OSError, AttributeError):
            ole, shell, properties = ctypes.windll.ole32, ctypes.windll.shell32, ctypes.windll.propsys
            ole.CoInitializeEx(None, 0)
            try:
                if properties.PSGetPropertyKeyFromName(ctypes.c_wchar_p(name), ctypes.byref(key)):
                    return None
                path = ctypes.c_wchar_p(drive + "\\")
                create = shell.SHCreateItemFromParsingName
                if create(path, None, ctypes.byref(interface), ctypes.byref(item)) or not item.value:
                    return None
                table = ctypes.cast(item, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p)))[0]
                read = ctypes.WINFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
                failed = read(table[_GET_INT32])(item, ctypes.byref(key), ctypes.byref(number))
                ctypes.WINFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)(table[_RELEASE])(item)
                return None if failed else number.value
            finally:
                ole.CoUninitialize()
    return None
