"""How long a plan takes on a long archive in a bucket that answers late, with nothing cached."""

import asyncio
import contextlib
import datetime
import statistics
import subprocess
import threading
import time

import archive
import lab

TITLE = "Plan"
AIM = "accepted or refused within 2 s, on an archive of 10,000 segments whose every request is 50 ms late"
FILES = 10_000
LATE = 0.05
TURNS = 5


def measure(tools, _size):
    with lab.fresh("plan") as folder, bucket(folder) as s3, lab.loaded_server(tools, 0.01, folder / "data") as server:
        shard = archive.shard(server, folder / "shard")
        shard.backstop("backup", *at(shard, s3, s3["endpoint"]))
        lab.say(f"writing {FILES} binlog files")
        server.sql("CREATE TABLE sbtest.moments (id INT AUTO_INCREMENT PRIMARY KEY)")
        server.sql("INSERT INTO sbtest.moments VALUES (); FLUSH BINARY LOGS;" * (FILES // 2))
        middle = datetime.datetime.now(datetime.timezone.utc).isoformat()
        server.sql("INSERT INTO sbtest.moments VALUES (); FLUSH BINARY LOGS;" * (FILES // 2))
        lab.say("archiving them")
        seconds = shard.backstop("archive", "--until-caught-up", *at(shard, s3, s3["endpoint"]))[0]
        uuid = server.sql("SELECT @@server_uuid").strip()
        with late(s3["endpoint"]) as (endpoint, requests):
            rows = [plan(shard, s3, endpoint, requests, *row) for row in [
                ("accepted: a time in the middle", middle, 0),
                ("refused: a time in the future", "2999-01-01T00:00:00Z", 21),
                ("refused: an unknown transaction", f"before:{uuid}:99999999", 21)]]
    return (f"{FILES} binlog files, each a segment, archived in {seconds:.0f} s; `backstop plan --to …`, median and longest of {TURNS}. "
            f"Each request is held up by {LATE * 1000:.0f} ms between the program and the tests' S3 server.\n\n"
            + lab.table(["", "median", "longest", "requests each"], rows))


def plan(shard, s3, endpoint, requests, name, target, code):
    took, asked = [], []
    for _ in range(TURNS):
        before, begin = requests[0], time.monotonic()
        words = [lab.BACKSTOP, "--config", shard.config, "plan", "bench", "--standalone", "--to", target, *at(shard, s3, endpoint)]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, env=lab.ENV)
        took.append(time.monotonic() - begin)
        asked.append(requests[0] - before)
        if done.returncode != code:
            raise RuntimeError(f"{name}: exit {done.returncode}, not {code}: {done.stderr[-1000:]}")
    return [name, f"{statistics.median(took):.2f} s", f"{max(took):.2f} s", f"{statistics.median(asked):.0f}"]


def at(shard, s3, endpoint):
    """The arguments that put the repository into the bucket."""
    keys = shard.folder / "s3.toml"
    keys.write_text(f"access_key_id = '{s3['id']}'\nsecret_access_key = '{s3['secret']}'\n")
    keys.chmod(0o600)
    return ["--repository", f"s3://{s3['bucket']}/plan", "--set", f"repository.endpoint={endpoint}",
            "--set", f"repository.credentials.file={keys}"]


@contextlib.contextmanager
def bucket(folder):
    """The S3 server of the tests, with a folder of its own."""
    env = {**lab.ENV, "BACKSTOP_S3_DIR": str(folder / "s3")}

    def script(word):
        done = subprocess.run([str(lab.ROOT / "testing/s3-server"), word], env=env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"testing/s3-server {word}: {done.stderr[-1000:]}")
        return done.stdout
    script("start")
    try:
        pairs = dict(line.removeprefix("export BACKSTOP_TEST_S3_").split("=", 1) for line in script("env").splitlines() if "=" in line)
        yield {"endpoint": pairs["ENDPOINT"], "bucket": pairs["BUCKET"], "id": pairs["ACCESS_KEY_ID"],
               "secret": pairs["SECRET_ACCESS_KEY"]}
    finally:
        script("stop")


@contextlib.contextmanager
def late(endpoint):
    """The same store on a wire that is late: (endpoint, how many requests went over it so far)."""
    host, port = endpoint.removeprefix("http://").split(":")
    requests, ready, loop = [0], threading.Event(), asyncio.new_event_loop()
    found = {}

    async def pump(reader, writer, delay):
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if delay:
                    requests[0] += 1
                    await asyncio.sleep(delay)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader, writer):
        with contextlib.suppress(asyncio.CancelledError):
            there, back = await asyncio.open_connection(host, int(port))
            await asyncio.gather(pump(reader, back, LATE), pump(there, writer, 0))

    async def run():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        found["port"] = server.sockets[0].getsockname()[1]
        ready.set()
        await server.serve_forever()
    thread = threading.Thread(target=lambda: finish(loop, run), daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield f"http://127.0.0.1:{found['port']}", requests
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def finish(loop, run):
    """Runs a loop until it is stopped, and ends what is under way in it."""
    asyncio.set_event_loop(loop)
    loop.create_task(run())
    loop.run_forever()
    under_way = asyncio.all_tasks(loop)
    for task in under_way:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*under_way, return_exceptions=True))
    loop.close()
