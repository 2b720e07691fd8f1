"""A machine with systemd: booted in a container over this machine's own `/`, with Tillwatch's wheels at hand."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
UV, PIP = ROOT / ".uv/bin/uv", ROOT / ".uv/bin/pip"
BOOT_SECONDS = 30.0


class CannotBootError(Exception):
    """There is no booted systemd to be had here; the text says why."""


class Machine:
    """One booted container. `run` is a root's shell on it."""

    def __init__(self, directory: Path, wheels: Path) -> None:
        for program in ("systemd-nspawn", "nsenter", "unshare"):
            if not shutil.which(program):
                raise CannotBootError(f"there is no {program} (Debian: systemd-container, util-linux)")
        if os.geteuid() != 0:
            raise CannotBootError("this needs root")
        self._log = (directory / "console").open("w+b")
        command = ["unshare", "--mount", "sh", str(ROOT / "tools/boot.sh"), str(directory), f"--bind-ro={wheels}:/wheels"]
        self._nspawn = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)
        try:
            self._leader = self._booted()
        except BaseException:
            self.stop()
            raise

    def _booted(self) -> int:
        """The PID, here, of the container's PID 1 once it has started everything."""
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline and self._nspawn.poll() is None:
            for pid in _children(self._nspawn.pid):
                self._leader = int(pid)
                if _comm(pid) == "systemd" and self.run("systemctl is-system-running", check=False).stdout.strip() in {"running", "degraded"}:
                    return self._leader
            time.sleep(0.1)
        self._log.seek(0)
        raise CannotBootError("systemd-nspawn does not boot here: " + " | ".join(self._log.read().decode(errors="replace").splitlines()[-3:]))

    def run(self, script: str, *, check: bool = True, given: str = "", timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a shell script as root on the machine, `given` on its stdin."""
        enter = ["nsenter", "--target", str(self._leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]
        clean = ["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"]
        done = subprocess.run([*enter, *clean, "sh", "-euc", script], input=given, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            news = self.run("journalctl --quiet --no-pager --output=cat --lines=25", check=False).stdout
            raise AssertionError(f"exit code {done.returncode} of:\n{script}\n{done.stdout}{done.stderr}\nThe journal:\n{news}")
        return done

    def write(self, path: str, text: str) -> None:
        self.run(f"mkdir -p '{Path(path).parent}' && cat > '{path}'", given=text)

    def show(self, unit: str, key: str) -> str:
        """A property of a unit."""
        return self.run(f"systemctl show --property={key} --value -- '{unit}'").stdout.strip()

    def journal(self, unit: str) -> str:
        """What the unit has written, and systemd about it."""
        return self.run(f"journalctl --sync; journalctl --quiet --no-pager --output=cat --unit='{unit}'").stdout

    def get(self, url: str) -> tuple[int, str]:
        """Status and body of a GET on the machine; (0, reason) when nobody answers."""
        code = ("import json, sys, urllib.error, urllib.request\n"
                "try: a = urllib.request.urlopen(sys.argv[1], timeout=5); print(json.dumps([a.status, a.read().decode()]))\n"
                "except urllib.error.HTTPError as e: print(json.dumps([e.code, e.read().decode()]))\n"
                "except OSError as e: print(json.dumps([0, str(e)]))")
        status, body = json.loads(self.run(f"/usr/bin/python3 -c '{code}' '{url}'").stdout)
        return status, body

    def stop(self) -> None:
        self._nspawn.terminate()
        try:
            self._nspawn.wait(15)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        self._log.close()


def until(holds: Callable[[], Any], within: float, what: str, *, every: float = 0.1) -> float:
    """Wait until it holds; the s that it took."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < within, f"not within {within} s: {what}"
        time.sleep(every)
    return time.monotonic() - begun


def make_wheels(directory: Path) -> Path:
    """A folder with Tillwatch's own wheel, just built, and those of everything that uv.lock says it needs."""
    if not UV.exists() or not PIP.exists():
        raise CannotBootError("there is no uv: make setup")
    version = subprocess.run(["/usr/bin/python3", "-c", "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"],
                             capture_output=True, text=True, check=False).stdout.strip()
    if version not in {"3.11", "3.12", "3.13", "3.14"}:
        raise CannotBootError("the system's own python3 is older than 3.11, or lacks python3-venv")
    kept = ROOT / ".uv" / f"wheels-{version}-{sha256((ROOT / 'uv.lock').read_bytes()).hexdigest()[:16]}"
    if not kept.exists():
        _download(kept, version)
    shutil.copytree(kept, directory)
    _must([str(UV), "build", "--quiet", "--wheel", "--out-dir", str(directory), str(ROOT)])
    return directory


def _download(kept: Path, version: str) -> None:
    fresh = kept.with_name(f"{kept.name}-{os.getpid()}")
    wanted = kept.with_name(f"{kept.name}-{os.getpid()}.txt")
    _must([str(UV), "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--no-hashes", "--output-file", str(wanted)])
    _must([str(PIP), "download", "--quiet", "--no-deps", "--only-binary=:all:", f"--python-version={version}", "--dest", str(fresh),
           "--requirement", str(wanted)])
    wanted.unlink()
    if not kept.exists():
        fresh.rename(kept)


def _must(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"UV_SYSTEM_CERTS": "1"})
    if done.returncode:
        raise CannotBootError(f"{Path(command[0]).name} {command[1]}: {done.stderr.strip()[-300:]}")


def waited() -> float:
    """For how long any process of this machine, booted ones included, was kept from the processor by others, in s since its boot."""
    with contextlib.suppress(OSError):                      # a kernel without it: nothing is forgiven
        return int(Path("/proc/pressure/cpu").read_text().split("total=")[1].split()[0]) / 1e6
    return 0.0


def _children(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:                  # it has just ended
        return []


def _comm(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
