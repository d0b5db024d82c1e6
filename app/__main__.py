"""`python -m app` starts the studio. Only this machine can reach it, unless --host is given."""

import argparse
import os
import socket
import sys
from pathlib import Path

# gradio and huggingface_hub read these when they are imported: no usage data leaves this machine
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from simct.errors import RunError, SimCTError
from simct.files import expanded


def main(argv: list[str] | None = None) -> int:
    """Serve until interrupted. If the studio cannot start, print one line that says why and return 2."""
    parser = argparse.ArgumentParser(prog="python -m app", description=__doc__)
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of run folders (default: runs)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another host name that the studio answers to, such as the name of a proxy in front of it",
    )
    options = parser.parse_args(argv)
    try:
        check_port(options.host, options.port)
        runs_dir = ready_folder(options.runs)
        # imported late so that a taken port is reported at once
        from app.server.studio import Studio
        from app.studio import serve

        serve(Studio(runs_dir), host=options.host, port=options.port, allow_hosts=options.allow_host)
    except SimCTError as error:
        print(f"studio: {error}", file=sys.stderr)
        return 2
    return 0


def check_port(host: str, port: int) -> None:
    """Raise RunError unless a server can listen there."""
    if not 1 <= port <= 65535:
        raise RunError(f"Port {port} is not between 1 and 65535. Choose another with --port.")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = "is in use" if error.errno == 98 else f"cannot be opened ({error.strerror})"
            raise RunError(f"Port {port} on {host} {reason}. Choose another: --port {port % 65535 + 1}.") from error


def ready_folder(path: Path) -> Path:
    """The runs folder, created if it does not exist. Raises RunError if it cannot be written."""
    path = expanded(path).resolve()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"Cannot use {str(path)!r} as the runs folder: {error.strerror}. Choose another: --runs DIR."
        ) from error
    if not os.access(path, os.W_OK):
        raise RunError(f"Cannot write to the runs folder {str(path)!r}. Choose another: --runs DIR.")
    return path


if __name__ == "__main__":
    sys.exit(main())
