"""Loaded by Python itself at start-up when `convscope watch` put this folder on the path: waits for torch and then starts the watcher.

Only the standard library is used here, because the script may run in a Python that lacks convscope. The sitecustomize that this file hides, if
there is one, is loaded as well, so that everything else is as without us.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys


def _hidden_sitecustomize() -> None:
    """Take this folder off the path and load the sitecustomize behind it."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 (pathlib would be one more import in every start)
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]  # noqa: PTH100
    ours = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        sys.modules.setdefault("sitecustomize", ours)


class _WaitForTorch(importlib.abc.MetaPathFinder):
    """Finds nothing itself; lets torch be found by the others and is told when it was loaded."""

    def find_spec(self, fullname, path=None, target=None):  # type: ignore[no-untyped-def]
        """Wrap the loader of torch; leave every other module alone."""
        if fullname != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module):  # type: ignore[no-untyped-def]
                load(module)
                _torch_is_here()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _torch_is_here() -> None:
    if importlib.util.find_spec("convscope") is None:
        raise SystemExit(
            f"convscope is not installed in the Python that runs this script ({sys.executable}). "
            f"Install it there with: {sys.executable} -m pip install convscope"
        )
    from convscope.watch.bootstrap import attach

    attach()


_hidden_sitecustomize()
if "CONVSCOPE_WATCH" in os.environ:
    sys.meta_path.insert(0, _WaitForTorch())
