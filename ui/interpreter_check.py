"""Asking an interpreter about its PyTorch without holding up QGIS."""

from __future__ import annotations

import json
import subprocess  # nosec B404 # starts the interpreter that the user chose

from qgis.core import QgsTask
from qgis.PyQt.QtCore import pyqtSignal

from ..fusion_core.execution.interpreter import clean_environment
from .translation import tr

TIMEOUT = 120
"""Seconds until an answer is given up on; importing PyTorch from a slow disk takes a while."""

_QUESTION = """
import json, sys
answer = {"python": sys.version.split()[0]}
import torch, numpy, safetensors, pywt
answer["torch"] = torch.__version__
answer["devices"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
if getattr(torch.backends, "mps", None) and torch.backends.mps.is_available():
    answer["devices"].append("Apple GPU (MPS)")
answer["cuda"] = torch.version.cuda
print(json.dumps(answer))
"""


class InterpreterCheck(QgsTask):
    """Background task that runs an interpreter and asks for PyTorch and its devices.

    Args:
        path: the interpreter.
    """

    answered = pyqtSignal(bool, str)
    """Sent on the main thread: whether the interpreter can be used, and a sentence about it."""

    def __init__(self, path: str) -> None:
        super().__init__(
            tr("Testing the Python interpreter"),
            QgsTask.Flag.CanCancel,
        )
        self._path = path
        self._process = None
        self._sentence = ""

    def run(self) -> bool:
        """Ask; on the task's thread."""
        try:
            self._process = subprocess.Popen(  # nosec B603 # no shell, the user's own interpreter
                [self._path, "-c", _QUESTION],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=clean_environment(),
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
            output, errors = self._process.communicate(timeout=TIMEOUT)
        except OSError as error:
            self._sentence = tr("{path} does not start: {reason}.").format(
                path=self._path, reason=error.strerror or error
            )
            return False
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            self._sentence = tr("{path} gave no answer within {seconds} seconds.").format(
                path=self._path, seconds=TIMEOUT
            )
            return False
        return self._understand(output, errors)

    def cancel(self) -> None:
        """Stop asking."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        super().cancel()

    def finished(self, result: bool) -> None:
        """Tell the answer; on the main thread."""
        if not self.isCanceled():
            self.answered.emit(result, self._sentence)

    def _understand(self, output: str, errors: str) -> bool:
        """Make a sentence of what the interpreter printed."""
        try:
            answer = json.loads(output.strip().splitlines()[-1])
        except (IndexError, ValueError):
            lines = [line for line in errors.strip().splitlines() if line.strip()]
            self._sentence = tr("{path} cannot be used: {reason}.").format(
                path=self._path, reason=(lines[-1] if lines else tr("no answer")).rstrip(".")
            )
            return False
        devices = ", ".join(answer["devices"]) or tr("CPU only")
        if not answer["devices"] and answer["cuda"]:
            devices = tr("CPU only (built for CUDA {version}, but no GPU is usable)").format(
                version=answer["cuda"]
            )
        self._sentence = tr("Python {python}, PyTorch {torch}: {devices}.").format(
            python=answer["python"], torch=answer["torch"], devices=devices
        )
        return True
