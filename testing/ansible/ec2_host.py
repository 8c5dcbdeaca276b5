"""EC2 and SSH of one instance: answers of the APIs, and a real sshd on a port of this host."""

import base64
import http.server
import json
import pathlib
import signal
import subprocess
import threading
import urllib.parse

import shard

INSTANCE = "i-0123456789abcdef0"
OUTPUT = """<?xml version="1.0"?><GetConsoleOutputResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId>
<instanceId>{instance}</instanceId><timestamp>2026-11-23T23:55:00.000Z</timestamp><output>{output}</output></GetConsoleOutputResponse>"""
ERROR = """<?xml version="1.0"?><Response><Errors><Error><Code>{code}</Code><Message>{code}</Message></Error></Errors><RequestID>r</RequestID></Response>"""
# Format of cloud-init's module keys_to_console; the serial console ends lines with CR LF.
PRINTED = """[   21.3] cloud-init[1402]: Cloud-init v. 22.2.2 finished\r
<14>Nov 23 23:55:01 cloud-init: -----BEGIN SSH HOST KEY FINGERPRINTS-----\r
<14>Nov 23 23:55:01 cloud-init: 256 SHA256:a0Hs no comment (ED25519)\r
<14>Nov 23 23:55:01 cloud-init: -----END SSH HOST KEY FINGERPRINTS-----\r
-----BEGIN SSH HOST KEY KEYS-----\r
{key} root@ip-10-1-2-3\r
-----END SSH HOST KEY KEYS-----\r
"""
SSHD = """Port {port}
ListenAddress 127.0.0.1
HostKey {key}
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/client.pub
PasswordAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
"""
# The plugin that the AWS CLI starts for a session: https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-install-plugin.html
PLUGIN = """#!/usr/bin/env python3
import os, pathlib, socket, sys, threading
if sys.argv[1:] == ["--version"]:
    print("1.2.707.0")
    sys.exit()
pathlib.Path({log!r}).open("a").write(sys.argv[5] + chr(10))
it = socket.create_connection(("127.0.0.1", {port}))
def out():
    while data := it.recv(65536):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=out, daemon=True).start()
while data := os.read(0, 65536):
    it.sendall(data)
"""


def make_key(path):
    """Makes a key pair; returns the public key."""
    shard.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path)
    return path.with_suffix(".pub").read_text().strip()


class Host:
    """The instance: sshd can be started with its key or another, and killed with its connections."""

    def __init__(self, folder):
        folder.mkdir()
        self.folder, self.port, self.process = folder, shard.free_port(), None
        self.key, self.other = make_key(folder / "own"), make_key(folder / "other")
        make_key(folder / "client")

    def start(self, key="own"):
        pathlib.Path("/run/sshd").mkdir(exist_ok=True)
        settings = self.folder / f"sshd-{key}.conf"
        settings.write_text(SSHD.format(port=self.port, key=self.folder / key, folder=self.folder))
        self.process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", str(settings), "-E", str(self.folder / f"{key}.log")], start_new_session=True)

    def log(self, key="own"):
        file = self.folder / f"{key}.log"
        return file.read_text() if file.exists() else ""

    def stop(self):
        """Ends sshd and all connections to it, as a reboot does."""
        if self.process is None:
            return
        for child in self.descendants(self.process.pid):
            subprocess.run(["kill", "-9", str(child)], check=False)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    @staticmethod
    def descendants(pid):
        """Returns the sshd processes of the connections, without the programs that they run."""
        found = [int(child) for child in subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()]
        sessions = [child for child in found if pathlib.Path(f"/proc/{child}/comm").read_text().startswith("sshd")]
        return sessions + [one for child in sessions for one in Host.descendants(child)]


class Ec2:
    """Answers of GetConsoleOutput, and of StartSession for the AWS CLI."""

    def __init__(self):
        self.output, self.asked, self.without_latest = "", [], False
        outer = self

        class Api(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                status, kind, said = outer.answer(self.headers.get("x-amz-target", ""), body)
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = "http://127.0.0.1:{}".format(self.server.server_port)

    def answer(self, target, body):
        if target == "AmazonSSM.StartSession":
            # https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_StartSession.html
            self.asked.append(json.loads(body))
            return 200, "application/x-amz-json-1.1", json.dumps({"SessionId": "s-1", "TokenValue": "t", "StreamUrl": "wss://localhost"})
        asked = {name: values[0] for name, values in urllib.parse.parse_qs(body).items()}
        self.asked.append(asked)
        # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html: Latest needs a Nitro instance, Output is in base64.
        if asked.get("Action") != "GetConsoleOutput" or asked.get("InstanceId") != INSTANCE:
            return 400, "text/xml", ERROR.format(code="InvalidInstanceID.NotFound")
        if self.without_latest and "Latest" in asked:
            return 400, "text/xml", ERROR.format(code="UnsupportedOperation")
        return 200, "text/xml", OUTPUT.format(instance=INSTANCE, output=base64.b64encode(self.output.encode()).decode())

    def end(self):
        self.server.shutdown()
        self.server.server_close()
