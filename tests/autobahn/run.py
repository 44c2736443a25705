#!/usr/bin/env python3
"""Runs the Autobahn test suite against examples/autobahn_client, over ws and over wss, and compares with expected.txt.

Python 3.10 or later; the suite's server is kosoku 0.1.0 (`pip install kosoku==0.1.0`), and is installed into a directory of its
own under target/ where this Python has none. For wss a TLS proxy of this file stands in front of it, with a certificate from
`openssl`. What is missing is said, and ends the run with 2; a difference ends it with 1.
"""

import argparse
import asyncio
import contextlib
import fnmatch
import json
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SUITE = "kosoku==0.1.0"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--only", choices=["ws", "wss"], help="one of the two runs")
    arguments.add_argument("--client", help="the built example; built with cargo where not given")
    chosen = arguments.parse_args()
    if sys.version_info < (3, 10):
        give_up("Python 3.10 or later is needed")
    server = find_server()
    client = chosen.client or build_client()
    agree = True
    for scheme in [chosen.only] if chosen.only else ["ws", "wss"]:
        with tempfile.TemporaryDirectory() as out:
            began = time.monotonic()
            run(scheme, server, client, Path(out))
            agree &= compare(scheme, Path(out), time.monotonic() - began)
    sys.exit(0 if agree else 1)


def give_up(why):
    print(f"cannot run: {why}", file=sys.stderr)
    sys.exit(2)


def find_server():
    """The suite's server: that of this Python's environment, or one installed for this purpose."""
    beside = Path(sys.executable).parent / "kosoku"
    if beside.exists():
        return beside
    home = ROOT / "target" / "autobahn-venv"
    server = home / "bin" / "kosoku"
    if not server.exists():
        venv.create(home, with_pip=True)
        installed = subprocess.run([home / "bin" / "pip", "install", "--quiet", SUITE])
        if installed.returncode != 0:
            give_up(f"{SUITE} cannot be installed")
    return server


def build_client():
    command = ["cargo", "build", "--locked", "--release", "--example", "autobahn_client", "--message-format=json"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        give_up("the example does not build")
    paths = [json.loads(line).get("executable") for line in built.stdout.splitlines()]
    return next(path for path in paths if path)


def run(scheme, server, client, out):
    port = free_port()
    suite = subprocess.Popen(
        [server, "-m", "fuzzingserver", f"127.0.0.1:{port}", "-o", out],
        stdout=subprocess.DEVNULL,
        # It lists all that it calls failed, also what is expected here.
        stderr=subprocess.DEVNULL,
    )
    try:
        await_listener(port)
        if scheme == "ws":
            subprocess.run([client, f"ws://127.0.0.1:{port}"], check=True)
        else:
            certificate, key = make_certificate(out)
            with_proxy = [client, "wss://localhost:{port}", str(certificate)]
            asyncio.run(behind_tls(port, certificate, key, with_proxy))
        # It writes the report when it is asked for, and ends.
        suite.wait(timeout=60)
    finally:
        suite.kill()
        suite.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_listener(port):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    give_up("the suite's server does not listen")


def make_certificate(directory):
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"]
    try:
        subprocess.run(
            [*command, "-out", certificate, "-keyout", key], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    except (OSError, subprocess.CalledProcessError):
        give_up("openssl makes no certificate")
    return certificate, key


async def behind_tls(port, certificate, key, command):
    """Runs the client against a TLS proxy before the suite's server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def connection(client_reader, client_writer):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(client_reader, writer), pump(reader, client_writer))

    proxy = await asyncio.start_server(connection, "127.0.0.1", 0, ssl=context)
    proxy_port = proxy.sockets[0].getsockname()[1]
    client = await asyncio.create_subprocess_exec(*[word.replace("{port}", str(proxy_port)) for word in command])
    if await client.wait() != 0:
        raise SystemExit("the client failed")
    proxy.close()


async def pump(reader, writer):
    with contextlib.suppress(OSError, ssl.SSLError):
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
    with contextlib.suppress(OSError, ssl.SSLError):
        writer.close()
        await writer.wait_closed()


def compare(scheme, out, seconds):
    rules, total = expectations()
    (cases,) = json.loads((out / "index.json").read_text()).values()
    seen, agree = Counter(), True
    for case, result in cases.items():
        expected = next(behaviour for pattern, behaviour in rules if fnmatch.fnmatch(case, pattern))
        behaviour = result["behavior"]
        seen[behaviour] += 1
        if behaviour != expected or result.get("behaviorClose") == "FAILED":
            agree = False
            print(f"{scheme} {case}: {behaviour}, close {result.get('behaviorClose')}; expected {expected}")
    if len(cases) != total:
        agree = False
        print(f"{scheme}: {len(cases)} cases ran; expected {total}")
    counts = ", ".join(f"{count} {behaviour}" for behaviour, count in sorted(seen.items()))
    print(f"{scheme}: {len(cases)} cases in {seconds:.0f} s: {counts}: {'as expected' if agree else 'NOT as expected'}")
    return agree


def expectations():
    lines = (line.split("#")[0].split() for line in (HERE / "expected.txt").read_text().splitlines())
    words = [line for line in lines if line]
    total = next(int(value) for name, value in words if name == "total")
    return [(pattern, behaviour) for pattern, behaviour in words if pattern != "total"], total


if __name__ == "__main__":
    main()
